"""How a thread stands, as a mark and its sign: one vocabulary for terminals, notebooks, pictures and pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from apr.threads.tree import Thread, ThreadTree

Mark = Literal[
    "running",
    "waiting",  # for its children
    "found",  # claims a solution that holds
    "wrong",  # claims one that does not
    "claimed",  # claims one, and nobody can tell whether it holds
    "nothing",  # ended by itself without one
    "stopped",  # met a limit, was interrupted, or spawned what nobody can read
    "cancelled",
    "failed",  # the engine failed
]


class Sign(NamedTuple):
    """One column of a terminal."""

    sign: str
    ascii: str
    """Where there is nothing but ASCII."""
    style: str
    """As rich names styles."""


SIGNS: Mapping[Mark, Sign] = {
    "running": Sign("●", "*", "cyan"),
    "waiting": Sign("⋯", ":", "cyan"),
    "found": Sign("✓", "+", "bold green"),
    "wrong": Sign("✗", "x", "red"),
    "claimed": Sign("?", "?", ""),
    "nothing": Sign("–", "-", "dim"),
    "stopped": Sign("■", "#", "yellow"),
    "cancelled": Sign("⊘", "o", "dim"),
    "failed": Sign("!", "!", "bold red"),
}


def mark_of(tree: ThreadTree, thread: Thread, holds: bool | None = None) -> Mark:
    """A thread's mark. `holds` is whether what it claims is true, as its task's judge says; None: nobody can tell."""
    if thread.reason is None:
        return "waiting" if thread.waiting else "running"
    if thread.result is not None:
        if thread.parent is None and tree.finished is not None:
            # The main thread is judged by the rollout, which leaves it open where something failed.
            if tree.solved:
                return "found"
            return "claimed" if holds is None and tree.finished.correct is None else "wrong"
        return "claimed" if holds is None else "found" if holds else "wrong"
    match thread.reason:
        case "no_answer":
            return "nothing"
        case "cancelled":
            return "cancelled"
        case "engine_error":
            return "failed"
        case _:
            return "stopped"
