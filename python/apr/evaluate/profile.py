"""Where a rollout's wall time went, along its critical path, from the timings of its events.

The main thread is followed from begin to end; while it waits at a join, the child that ended last is. The engine
says of each call how long it queued, prefilled and decoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from apr.threads.events import CallFinished, Event, RolloutFinished, ThreadClosed, ThreadJoined, ThreadSpawned
from apr.threads.tree import MAIN
from apr.types import Timing


@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds. The first five add up to the latency; the last three are parts of `waiting`."""

    queue: float
    """Before the engine began with a call of the main thread."""
    prefill: float
    """From there to the call's first token."""
    decode: float
    """From there to its last."""
    waiting: float
    """At joins, for the children."""
    other: float
    """Between calls: reading spawns, writing joins, telling the engine."""
    waiting_queue: float
    """Of the waiting: what the slowest children queued,"""
    waiting_prefill: float
    """prefilled"""
    waiting_decode: float
    """and decoded."""


@dataclass(slots=True)
class _Track:
    """One thread's timings."""

    calls: list[tuple[float, ...]] = field(default_factory=list)
    spawned: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)
    joined: list[float] = field(default_factory=list)
    closed: float = 0.0


def profile(events: Iterable[Event]) -> Profile | None:
    """The profile of a finished rollout; None if its engine does not tell where the time of its calls went."""
    tracks: dict[str, _Track] = {}
    end = None
    for event in events:
        if isinstance(event, RolloutFinished):
            end = event.time
        elif isinstance(event, CallFinished | ThreadSpawned | ThreadJoined | ThreadClosed):
            track = tracks.setdefault(event.thread, _Track())
            match event:
                case CallFinished():
                    track.calls.append(event.timing)
                case ThreadSpawned():
                    track.spawned.append((event.time, event.children))
                case ThreadJoined():
                    track.joined.append(event.time)
                case ThreadClosed():
                    track.closed = event.time
    if end is None or not all(timing for track in tracks.values() for timing in track.calls):
        return None
    main = tracks[MAIN]
    own = _sum(main.calls)
    slowest = _sum(_slowest(main, tracks))
    # A spawn that never joins waits until its thread is closed.
    ends = [*main.joined, *[main.closed] * (len(main.spawned) - len(main.joined))]
    waiting = sum(joined - spawned for (spawned, _), joined in zip(main.spawned, ends, strict=True))
    seconds = {
        "queue": own.queue,
        "prefill": own.prefill,
        "decode": own.decode,
        "waiting": waiting,
        "other": max(0.0, end - sum(own) - waiting),
        **{f"waiting_{name}": value for name, value in slowest._asdict().items()},
    }
    return Profile(**{name: round(value, 6) for name, value in seconds.items()})


def _slowest(parent: _Track, tracks: dict[str, _Track]) -> Iterable[tuple[float, ...]]:
    """The calls of the child that ended last in each round, and of its own slowest children."""
    for _, children in parent.spawned:
        known = [tracks[child] for child in children if child in tracks]
        if known:
            last = max(known, key=lambda track: track.closed)
            yield from last.calls
            yield from _slowest(last, tracks)


def _sum(timings: Iterable[tuple[float, ...]]) -> Timing:
    total = [0.0, 0.0, 0.0]
    for timing in timings:
        total = [a + b for a, b in zip(total, timing, strict=True)]
    return Timing(*total)
