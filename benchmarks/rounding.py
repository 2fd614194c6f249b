"""What the native engine's rounding changes: greedy threads of whole rollouts, in each type of cache and products.

An engine that keeps and multiplies in float32 solves test problems, and what its threads asked for is asked of each
other engine, as many tokens of it. Nothing here is a time.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from rich.console import Console
from rich.table import Table

from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.engine.base import OnTokens
from apr.engine.native import CacheDtype, ComputeDtype, NativeEngine
from apr.policy import Policy
from apr.types import Completion, SamplingParams
from benchmarks.engine import checkpoint

AT_ONCE = 16
"""Rollouts; no token depends on it."""


@dataclass(frozen=True, slots=True)
class Thread:
    """What was asked for at one place of a thread, and the answer."""

    prompt: tuple[int, ...]
    answer: Completion


class Recorder(NativeEngine):
    """An engine that notes what was asked of it."""

    threads: list[Thread]

    async def generate(
        self, prompt: Sequence[int], params: SamplingParams, *, request_id: str, on_tokens: OnTokens | None = None
    ) -> Completion:
        answer = await super().generate(prompt, params, request_id=request_id, on_tokens=on_tokens)
        if answer.token_ids:
            self.threads.append(Thread(tuple(prompt), answer))
        return answer


@dataclass(slots=True)
class Found:
    """How an engine's answers differ from the exact one's."""

    same: int = 0
    """Answers that are the same tokens."""
    gaps: list[float] = field(default_factory=list)
    """Between log-probabilities of a token, of those up to the first that differs."""
    ties: list[float] = field(default_factory=list)
    """Between those of the first two tokens that differ."""

    def compare(self, exact: Completion, other: Completion) -> None:
        """Count one answer."""
        rows = zip(exact.token_ids, other.token_ids, exact.logprobs, other.logprobs, strict=True)
        for ours, theirs, a, b in rows:
            if ours != theirs:
                self.ties.append(abs(a - b))
                return
            self.gaps.append(abs(a - b))
        self.same += 1


async def recorded(engine: Recorder, problems: int) -> list[Thread]:
    """All that rollouts of the first test problems asked for."""
    engine.threads = []
    policy = Policy(engine, Countdown("apr"), Traces("apr"), "apr")
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(problem: object) -> None:
        async with turns:
            await policy.rollout(problem, params=SamplingParams(temperature=0))

    await asyncio.gather(*map(one, policy.task.problems("test", 0, 0, problems)))
    return engine.threads


async def compared(engine: NativeEngine, threads: Sequence[Thread]) -> Found:
    """The same asked of another engine."""
    found = Found()
    turns = asyncio.Semaphore(8 * AT_ONCE)

    async def one(place: int, thread: Thread) -> None:
        params = SamplingParams(temperature=0, max_tokens=len(thread.answer.token_ids))
        async with turns:
            answer = await engine.generate(thread.prompt, params, request_id=str(place))
        found.compare(thread.answer, answer)

    await asyncio.gather(*(one(*item) for item in enumerate(threads)))
    await engine.close()
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks rounding", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=200, metavar="N", help="default 200")
    options = parser.parse_args(arguments)
    table = Table(box=None, header_style="")
    for column in ("cache", "products", "answers", "the same", "tokens", "mean gap", "99 %", "most", "gaps at others"):
        table.add_column(column, justify="right" if column not in ("cache", "products") else "left")
    with checkpoint() as directory:
        exact = Recorder(directory, cache_dtype="float32")
        threads = asyncio.run(recorded(exact, options.problems))
        for cache in get_args(CacheDtype):
            for compute in get_args(ComputeDtype):
                if cache == compute == "float32":
                    continue
                engine = NativeEngine(directory, cache_dtype=cache, compute_dtype=compute)
                found = asyncio.run(compared(engine, threads))
                gaps = sorted(found.gaps)
                table.add_row(
                    cache,
                    compute,
                    f"{len(threads):,}",
                    f"{found.same:,}",
                    f"{len(gaps):,}",
                    f"{sum(gaps) / len(gaps):.2g}",
                    f"{gaps[len(gaps) * 99 // 100]:.2g}",
                    f"{gaps[-1]:.2g}",
                    ", ".join(f"{gap:.1g}" for gap in sorted(found.ties, reverse=True)[:5]),
                )
    Console(width=140).print(table)
    return 0
