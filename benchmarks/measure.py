"""How things are timed: both sides in one run, in turns, the median of the ratios.

Work on one core is measured in processor time, which other programs on the machine do not add to; work on several in
wall-clock time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Result:
    """One figure and what it should be."""

    name: str
    """The benchmark it belongs to."""
    what: str
    value: float
    unit: str
    """"x" for a ratio."""
    target: float
    at_least: bool
    """True: the value should reach the target; False: stay below it."""
    detail: str = ""
    """The absolute figures behind a ratio."""

    @property
    def passed(self) -> bool:
        return self.value >= self.target if self.at_least else self.value < self.target

    def row(self) -> str:
        """In a table for people."""
        mark = "pass" if self.passed else "MISS"
        aim = f"{'>=' if self.at_least else '<'} {self.target:g}"
        return f"{mark}  {self.what:<64} {self.value:>8.4g} {self.unit:<2} {aim:>7}  {self.detail}".rstrip()


@dataclass(frozen=True, slots=True)
class Spent:
    """Processor and wall-clock seconds."""

    processor: float
    wall: float


class Clock:
    """Counts both while it is entered."""

    def __enter__(self) -> Clock:
        self._begun = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        processor, wall = self._begun
        self.spent = Spent(time.process_time() - processor, time.perf_counter() - wall)


Side = Callable[[], int]
"""Does a piece of work and returns how many items it made."""


@contextmanager
def one_core() -> Iterator[None]:
    """Keeps this process and the threads it starts on one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rate(side: Side, clock: Callable[[], float], seconds: float = 0.0) -> float:
    """Items a second; the side is called again until the time is over."""
    start, items = clock(), 0
    while True:
        items += side()
        spent = clock() - start
        if spent >= seconds and spent > 0:
            return items / spent


def compare(
    slow: Side,
    fast: Side,
    rounds: int,
    seconds: float = 0.2,
    clock: Callable[[], float] = time.process_time,
) -> tuple[float, float, float]:
    """The median ratio of the two rates, and the median rates."""
    slow(), fast()
    pairs = [(rate(slow, clock, seconds), rate(fast, clock, seconds)) for _ in range(rounds)]
    return (
        median(fast / slow for slow, fast in pairs),
        median(slow for slow, _ in pairs),
        median(fast for _, fast in pairs),
    )
