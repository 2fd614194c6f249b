"""What happens in a rollout, as frozen values that are one JSON line each.

A log is only ever appended to; each line names its rollout, so many rollouts may share one file. Every field
holds JSON scalars, tuples of them, or (`problem`, `limits`) a plain JSON object: `from_json(to_json(event))
== event`. A line without its newline is half-written: readers leave it for later, a writer that resumes the
file cuts it off. A log may come from anywhere: what is read has the types that are written here, numbers are
finite and of 64 bits.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType, TracebackType, UnionType
from typing import Any, BinaryIO, Literal, TypeAlias, get_args, get_origin, get_type_hints

from apr.jsonl import parse, write
from apr.types import FinishReason

CloseReason = Literal[
    "answered",  # ended by itself and claims a solution
    "no_answer",  # ended by itself without one
    "length",  # its sequence reached the context length or the limit of tokens a thread
    "limit_threads",  # its spawn would exceed the rollout's threads
    "limit_children",  # its spawn would exceed the children of one spawn
    "limit_rounds",  # its spawn would exceed the spawns of one thread
    "limit_depth",  # its spawn would exceed the depth
    "limit_tokens",  # its share of the rollout's tokens is used up
    "limit_time",  # the rollout's time is used up
    "cancelled",  # a sibling's verified solution, or whoever ended it or its parent, made it needless
    "malformed_spawn",  # its spawn block cannot be read
    "engine_error",  # the engine failed; never to be taken for a wrong answer
    "interrupted",  # somebody stopped the rollout
]
Outcome = Literal["found", "failed", "cancelled"]
ForcedCause = Literal["replace", "join"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    rollout: str
    """The rollout this belongs to."""
    time: float
    """Seconds since that rollout started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStarted(_Base):
    """The first event of a rollout."""

    problem: dict[str, Any]
    """The problem as its task describes it."""
    method: str
    """How the model was asked to search."""
    budget: int | None
    """The one that the prompt names; None: the model's free choice."""
    limits: dict[str, Any]
    """The fields of `Limits`."""
    join: str
    """The join policy, "all" or "first"."""
    temperature: float
    seed: int
    """Seed of the rollout; every request's seed derives from it."""
    policy_version: int
    """Version of the weights that sample all threads."""
    task: str = "countdown"
    """By name; older logs have Countdown's rollouts only."""
    language: str = "traces"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadOpened(_Base):
    """A thread begins, with a fresh context or with its parent's."""

    thread: str
    parent: str | None
    depth: int
    """0 for the main thread."""
    token_ids: tuple[int, ...]
    """The prompt as the engine gets it."""
    text: str
    """What the thread's text begins with: the same as text, without what its parent holds as well."""
    prompt: str | None = None
    """Its part as people and the task read it; None: the text."""
    temperature: float | None = None
    """Its own; None: the rollout's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensSampled(_Base):
    """A chunk the engine sampled; the chunks of a call concatenate to its completion."""

    thread: str
    token_ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensForced(_Base):
    """Tokens put into a thread by the orchestrator; the next call's prompt ends in them."""

    thread: str
    cause: ForcedCause
    """"replace": in place of the last sampled tokens, which are dropped; "join": results in place of a spawn
    block."""
    kept: int
    """Tokens of the thread's sequence that stay before these."""
    kept_text: int
    """Characters of the thread's text that stay before these."""
    token_ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished(_Base):
    """One engine request came to its end; its tokens were emitted before."""

    thread: str
    finish_reason: FinishReason
    logprobs: tuple[float, ...]
    """One for each token of the completion, or empty when the engine did not tell."""
    cached_tokens: int
    """Prompt tokens the engine did not compute."""
    error: str | None = None
    timing: tuple[float, ...] = ()
    """Seconds in the engine's queue, until the first token and since; empty when the engine did not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadSpawned(_Base):
    """A thread waits for the children of one spawn; they open next."""

    thread: str
    children: tuple[str, ...]
    """Their ids in the order of the spawn block; may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadJoined(_Base):
    """All children of the last spawn have ended; the thread goes on with the forced tokens that follow."""

    thread: str
    outcomes: tuple[Outcome, ...]
    """What the parent is told of each child, in spawn order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadClosed(_Base):
    """A thread ended."""

    thread: str
    reason: CloseReason
    result: str | None = None
    """The solution the thread claims, unverified."""
    detail: str | None = None
    """More about the reason: what was malformed, how the engine failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutFinished(_Base):
    """The last event of a rollout; `time` is its latency."""

    reason: CloseReason
    """Why the main thread ended."""
    failed: bool
    """An engine failure happened in some thread."""
    correct: bool | None
    """The judge's verdict; None when an engine failure or an interruption leaves nothing fair to judge."""
    verdict: str
    """The judge's reason."""
    steps: tuple[str, ...]
    """The answer's equations in order; empty unless the judge accepts it, which may be so beside an engine failure."""
    total_tokens: int
    sequential_tokens: int
    longest_context: int
    cached_tokens: int
    score: float | None = None
    """From 0 to 1, the judge's; None as `correct` is, and in older logs."""


Event: TypeAlias = (
    RolloutStarted
    | ThreadOpened
    | TokensSampled
    | TokensForced
    | CallFinished
    | ThreadSpawned
    | ThreadJoined
    | ThreadClosed
    | RolloutFinished
)

_KINDS: dict[str, Callable[..., Event]] = {
    "rollout_started": RolloutStarted,
    "thread_opened": ThreadOpened,
    "tokens_sampled": TokensSampled,
    "tokens_forced": TokensForced,
    "call_finished": CallFinished,
    "thread_spawned": ThreadSpawned,
    "thread_joined": ThreadJoined,
    "thread_closed": ThreadClosed,
    "rollout_finished": RolloutFinished,
}
_NAMES: dict[object, str] = {kind: name for name, kind in _KINDS.items()}


def to_json(event: Event) -> str:
    """One line, without its newline."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    return write({"event": _NAMES[type(event)], **values})


def from_json(line: str | bytes) -> Event:
    """The event of one line; ValueError if it is none."""
    try:
        values = parse(line)
    except ValueError as error:
        raise ValueError(f"not an event: {error}") from None
    name = values.pop("event", None) if isinstance(values, dict) else None
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"not an event: {_begin(line)}")
    holds = _holds(kind)
    for key, value in values.items():
        if isinstance(value, list):
            values[key] = value = tuple(value)
        if key in holds and not holds[key](value):
            raise ValueError(f"not an event: {key} of {name} cannot be {_begin(repr(value))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"not an event: {error}") from error


def _begin(line: str | bytes) -> str:
    return ascii(line[:80])


@cache
def _holds(kind: Callable[..., Event]) -> dict[str, Callable[[Any], bool]]:
    """Field -> whether it may hold a value."""
    return {name: _check(hint) for name, hint in get_type_hints(kind).items()}


def _check(hint: Any) -> Callable[[Any], bool]:
    if hint is int:
        return lambda value: type(value) is int and -(1 << 63) <= value < 1 << 63
    if hint is float:
        return lambda value: type(value) in (int, float) and -(2.0**63) <= value <= 2.0**63 and math.isfinite(value)
    if hint in (str, bool, NoneType):
        return lambda value: type(value) is hint
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return lambda value: isinstance(value, str) and value in inner
    if origin is UnionType:
        checks = [_check(one) for one in inner]
        return lambda value: any(check(value) for check in checks)
    if origin is tuple:
        check = _check(inner[0])
        return lambda value: type(value) is tuple and all(map(check, value))
    assert origin is dict, hint
    return lambda value: type(value) is dict


class EventLog:
    """Appends events to a file, whole lines only. One writer a file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)
        whole = _end_of_last_line(self.path)
        if whole != self._file.tell():
            self._file.truncate(whole)

    def append(self, event: Event) -> None:
        """Write one event; readers see it when this returns. OSError if there is no room for it; nothing of it stays
        then."""
        line = to_json(event).encode() + b"\n"
        before, written = os.fstat(self._file.fileno()).st_size, 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError:
            self._file.truncate(before)
            raise

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_log(path: str | Path) -> BinaryIO:
    """Open a log to read it. OSError if it is no regular file: a pipe would be waited for, a device has no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_events(path: str | Path) -> Iterator[Event]:
    """The events of a log as it is now. ValueError for a line that is none, with its number."""
    with open_log(path) as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                event = from_json(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            yield event


def _end_of_last_line(path: Path, block: int = 1 << 16) -> int:
    with path.open("rb") as file:
        end = file.seek(0, 2)
        while end > 0:
            start = max(0, end - block)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
