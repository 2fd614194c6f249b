"""What each thread of a rollout did when: a pure fold of events, and what is computed of it.

A lane is a thread's time from its opening on, cut into spans: its calls in the engine's queue, in prefill and in
decode, and its waits for children. Times are seconds since the rollout started. Between spans the machinery around the
engine is at work.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from apr.threads.events import (
    CallFinished,
    Event,
    ThreadClosed,
    ThreadJoined,
    ThreadOpened,
    ThreadSpawned,
    TokensForced,
    TokensSampled,
)
from apr.threads.tree import MAIN, Round, ThreadTree

Kind = Literal[
    "queue",  # the engine has not begun with the call
    "prefill",  # it computes the prompt
    "start",  # either: it has not told yet, or does not tell
    "decode",  # it samples
    "waiting",  # for the children
]
Span = tuple[float, float, Kind]
"""Begin, end, and what was done."""

_SHIFTS = (1.0, 2.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True, slots=True)
class Lane:
    """One thread so far."""

    opened: float
    closed: float | None = None
    spans: tuple[Span, ...] = ()
    """What is over, in order."""
    spawns: tuple[float, ...] = ()
    joins: tuple[float, ...] = ()
    calling: float | None = None
    """When its call under way began."""
    first: float | None = None
    """When the first tokens of that came."""
    streams: bool = False
    """More of them have come since: then the time before the first was not spent on decoding."""

    def until(self, now: float) -> list[Span]:
        """All spans, those under way up to now."""
        spans = list(self.spans)
        if self.calling is not None:
            spans += _untold(self.calling, self.first if self.first is not None else now, now)
        elif len(self.spawns) > len(self.joins) and self.closed is None:
            spans.append((self.spawns[-1], now, "waiting"))
        return spans


def follow(lanes: dict[str, Lane], event: Event) -> None:
    """Take in one more event, which can follow the ones before."""
    time = event.time
    if isinstance(event, ThreadOpened):
        lanes[event.thread] = Lane(time, calling=time)
        return
    lane = lanes.get(getattr(event, "thread", ""))
    if lane is None:
        return
    match event:
        case TokensSampled():
            if lane.streams:
                return
            lane = replace(lane, first=time) if lane.first is None else replace(lane, streams=time > lane.first)
        case CallFinished():
            lane = _ended(lane, time, event.timing)
        case TokensForced():
            lane = replace(lane, calling=time)
        case ThreadSpawned():
            lane = replace(lane, spawns=(*lane.spawns, time))
        case ThreadJoined():
            lane = replace(lane, joins=(*lane.joins, time), spans=(*lane.spans, (lane.spawns[-1], time, "waiting")))
        case ThreadClosed():
            # What was under way was ended with it.
            lane = replace(lane, spans=tuple(lane.until(time)), calling=None, closed=time)
        case _:
            return
    lanes[event.thread] = lane


def _ended(lane: Lane, time: float, timing: Sequence[float]) -> Lane:
    begin = time if lane.calling is None else lane.calling
    if len(timing) == 3:
        queued = min(time, begin + max(0.0, timing[0]))
        filled = min(time, queued + max(0.0, timing[1]))
        spans: list[Span] = [(begin, queued, "queue"), (queued, filled, "prefill"), (filled, time, "decode")]
    else:
        spans = _untold(begin, lane.first if lane.streams and lane.first is not None else begin, time)
    return replace(lane, spans=(*lane.spans, *spans), calling=None, first=None, streams=False)


def _untold(begin: float, first: float, end: float) -> list[Span]:
    return [(begin, first, "start"), (first, end, "decode")]


def critical(tree: ThreadTree, lanes: Mapping[str, Lane]) -> frozenset[str]:
    """The longest chain of dependent threads: from the main thread on, of each join the child that was waited for
    longest. While children still run, nobody knows which of them that will be."""
    path: list[str] = [MAIN] if MAIN in tree.threads else []
    for thread in path:
        told = tree.threads[thread]
        for spawn in told.rounds:
            last = _last(spawn, lanes, over=spawn.outcomes is not None or told.reason is not None)
            path += [] if last is None else [last]
    return frozenset(path)


def _last(spawn: Round, lanes: Mapping[str, Lane], *, over: bool) -> str | None:
    outcomes = spawn.outcomes or ("",) * len(spawn.children)
    # Nobody waited for a child that was cancelled.
    ended = {
        child: lane.closed
        for child, outcome in zip(spawn.children, outcomes, strict=True)
        if outcome != "cancelled" and (lane := lanes.get(child)) is not None and lane.closed is not None
    }
    return max(ended, key=lambda child: ended[child]) if over and ended else None


def busy(lanes: Iterable[Lane], now: float) -> list[tuple[float, int]]:
    """From when on how many threads were in the engine at once, in order of time."""
    changes: dict[float, int] = {}
    for lane in lanes:
        for begin, end, kind in lane.until(now):
            if kind != "waiting" and begin < end:
                changes[begin] = changes.get(begin, 0) + 1
                changes[end] = changes.get(end, 0) - 1
    count, steps = 0, []
    for time in sorted(changes):
        count += changes[time]
        steps.append((time, count))
    return steps


def average(steps: Sequence[tuple[float, int]], begin: float, end: float) -> float:
    """How many there were from `begin` to `end` on average."""
    if end <= begin:
        return 0.0
    area = 0.0
    for (time, count), (later, _) in pairwise([*steps, (end, 0)]):
        area += count * max(0.0, min(end, later) - max(begin, time))
    return area / (end - begin)


def at(steps: Sequence[tuple[float, int]], time: float) -> int:
    """How many there were at a moment."""
    place = bisect_right(steps, time, key=lambda step: step[0])
    return steps[place - 1][1] if place else 0


def columns(steps: Sequence[tuple[float, int]], length: float, count: int) -> list[float]:
    """The averages over so many equal parts of the time."""
    each = length / count
    if each <= sys.float_info.min:
        return [0.0] * count
    areas = [0.0] * count
    for (time, value), (later, _) in pairwise([*steps, (length, 0)]):
        begin, end = max(0.0, time), min(length, later)
        if not value or end <= begin:
            # Times beyond the length may be too many parts to count.
            continue
        first = min(count - 1, int(begin / each))
        for index in range(first, min(count - 1, int(end / each)) + 1):
            areas[index] += value * max(0.0, min(end, (index + 1) * each) - max(begin, index * each))
    return [area / each for area in areas]


def moments(lanes: Iterable[Lane]) -> list[float]:
    """When threads opened, spawned, joined and closed."""
    found: set[float] = set()
    for lane in lanes:
        found.update((lane.opened, *lane.spawns, *lane.joins))
        if lane.closed is not None:
            found.add(lane.closed)
    return sorted(found)


def round_step(length: float, count: int) -> float:
    """A round number of which there are about so many in a length, for an axis; 0 where there is none."""
    rough = length / count
    if not sys.float_info.min < rough < math.inf:
        return 0.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * shift for shift in _SHIFTS if power * shift >= rough * 0.999)
