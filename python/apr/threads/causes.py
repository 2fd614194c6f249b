"""What ended threads, as far as nobody has to know the task to tell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from apr.plain import one_line
from apr.threads.events import CloseReason

if TYPE_CHECKING:
    from apr.threads.tree import Thread

Bound = Literal["context", "depth", "limit"]

_NAMES: dict[CloseReason | None, Bound] = {"length": "context", "limit_depth": "depth"}

_ENDS: dict[CloseReason, str] = {
    "answered": "answered",
    "no_answer": "nothing found",
    "length": "stopped: context full",
    "limit_threads": "stopped: limit of threads",
    "limit_children": "stopped: limit of children a spawn",
    "limit_rounds": "stopped: limit of spawns a thread",
    "limit_depth": "stopped: limit of depth",
    "limit_tokens": "stopped: limit of tokens",
    "limit_time": "stopped: out of time",
    "cancelled": "cancelled",
    "malformed_spawn": "failed: unreadable spawn",
    "engine_error": "engine failure",
    "interrupted": "interrupted",
}

_LINE = re.compile(r"\bline ([0-9]{1,9})\b")
"""How a fault names the line of a text that it is about."""


def end_of(reason: CloseReason) -> str:
    """How a thread or a rollout ended, in words."""
    return _ENDS[reason]


def unreadable(thread: Thread) -> str | None:
    """What could not be read in a thread that ended so, with the line that it is about; None: it ended otherwise."""
    if thread.reason != "malformed_spawn":
        return None
    said = one_line(thread.detail or "no reason given")
    lines = thread.text.splitlines()
    if (found := _LINE.search(said)) is not None and 0 < int(found[1]) <= len(lines):
        said += f': "{one_line(lines[int(found[1]) - 1])}"'
    elif lines:
        said += f', behind "{one_line(lines[-1])}"'
    return said


def bound_met(threads: Sequence[Thread]) -> Bound:
    """The bound that most of these threads met, each of which met one: the context's end, the depth, or another."""
    met: Counter[Bound] = Counter(_NAMES.get(thread.reason, "limit") for thread in threads)
    return met.most_common(1)[0][0]


def main_failure(main: Thread) -> Literal["false_answer", "format"] | Bound | None:
    """What lost a wrong rollout where its main thread's own end says so; None where it ended without an answer."""
    if main.reason == "answered":
        return "false_answer"
    if main.reason == "malformed_spawn":
        return "format"
    return None if main.reason == "no_answer" else bound_met([main])
