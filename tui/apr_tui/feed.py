"""Where events come from: a log that may still grow, or a rollout that runs in the caller's loop.

Either is an iterator of batches, at most one a frame, so whoever folds and draws them is never asked for more
than `FRAME` allows. Nothing here knows of a terminal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apr
from apr.events import Event, EventTail
from apr.limits import Limits
from apr.policy import Policy
from apr.types import SamplingParams

FRAME = 1 / 15
"""Seconds from one batch to the next."""
IDLE = 0.2
"""Seconds from one look at a log that brought nothing to the next."""
BUDGET = 10
"""Child threads the model is asked to use, as `apr solve` does."""
THREADS = 64
MIN_NUMBERS, MAX_NUMBERS = 2, 6

_READ_S = 0.04
_READ_EVENTS = 256

Batch = tuple[Event, ...]


class Refused(Exception):
    """Input that cannot be used: one sentence for people."""


def read_problem(numbers: str, target: str) -> Any:
    """The problem that two fields of a form name; Refused if they name none."""
    given = [_integer(word, "numbers") for word in numbers.replace(",", " ").split()]
    if not MIN_NUMBERS <= len(given) <= MAX_NUMBERS:
        many = f", not {len(given)}" if given else ""
        raise Refused(f"give {MIN_NUMBERS} to {MAX_NUMBERS} numbers, as in 22 26 31 53{many}")
    if not target.strip():
        raise Refused("give the target to reach")
    try:
        return apr.Problem(given, _integer(target.strip(), "target"))
    except OverflowError:
        raise Refused("a number is too large") from None
    except ValueError as error:
        raise Refused(str(error)) from None


def _integer(word: str, field: str) -> int:
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise Refused(f"{field}: {word[:20]!r} is not a whole number")
    # Python itself refuses to read very long ones, with a message of its own.
    if len(digits) > 40:
        raise Refused("a number is too large")
    return int(word)


async def follow(path: Path) -> AsyncIterator[Batch]:
    """What a log holds and what is appended to it, without end. ValueError at a line that is no event."""
    tail = EventTail(path)
    while True:
        batch = _read(tail)
        if batch:
            yield batch
        await asyncio.sleep(FRAME if batch else IDLE)


def _read(tail: EventTail) -> Batch:
    """As many events as a part of a frame allows, so that a long log does not hold up the keys."""
    events: list[Event] = []
    end = time.monotonic() + _READ_S
    while time.monotonic() < end:
        more = tail.poll(_READ_EVENTS)
        events += more
        if len(more) < _READ_EVENTS:
            break
    return tuple(events)


class Solve:
    """One rollout in this loop."""

    def __init__(self, policy: Policy, problem: Any, *, seed: int = 0, temperature: float = 0.0) -> None:
        self._fresh: list[Event] = []
        self._task = asyncio.create_task(
            apr.rollout(
                problem,
                policy.engine,
                Limits(threads=THREADS, children=THREADS),
                grammar=policy.grammar,
                params=SamplingParams(temperature=temperature, seed=seed),
                budget=BUDGET,
                emit=self._fresh.append,
            )
        )

    def stop(self) -> None:
        """End it soon; the batches still tell how."""
        # Cancelled twice, a rollout would not come to tell its end.
        if not self._task.cancelling():
            self._task.cancel()

    async def batches(self) -> AsyncIterator[Batch]:
        """Its events to the end. What the rollout raised comes out here; leaving early ends it."""
        try:
            while True:
                done = self._task.done()
                batch = tuple(self._fresh)
                self._fresh.clear()
                if batch:
                    yield batch
                if done:
                    break
                await asyncio.wait({self._task}, timeout=FRAME)
            if not self._task.cancelled():
                self._task.result()
        finally:
            self.stop()
            await asyncio.wait({self._task})
