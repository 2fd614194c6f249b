"""What is said of a rollout: a mark and a note for each thread, a headline, the meters. Pure, no terminal.

Everything derives from a `View`, so a live solve and a replayed log read alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from apr.events import CloseReason
from apr.tree import MAIN, Thread
from apr_tui.state import View

Mark = Literal[
    "running",
    "waiting",  # for its children
    "found",  # claims a solution that holds
    "wrong",  # claims one that does not
    "nothing",  # ended by itself without one
    "stopped",  # met a limit or was interrupted
    "cancelled",
    "failed",  # the engine failed
]
Tone = Literal["plain", "good", "bad", "warning"]

_REASONS: dict[CloseReason, str] = {
    "answered": "answered",
    "no_answer": "nothing found",
    "length": "context full",
    "limit_threads": "limit of threads",
    "limit_children": "limit of children of a spawn",
    "limit_rounds": "limit of spawns of a thread",
    "limit_depth": "limit of depth",
    "limit_tokens": "limit of tokens",
    "limit_time": "out of time",
    "cancelled": "cancelled",
    "malformed_spawn": "unreadable spawn",
    "engine_error": "engine failure",
    "interrupted": "interrupted",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One thread in the list."""

    thread: str
    parent: str | None
    mark: Mark
    tokens: int
    """Sampled so far."""
    note: str
    """What it does or came to, in a few words."""


@dataclass(frozen=True, slots=True)
class Meters:
    """The figures of a rollout at any moment."""

    threads: int
    running: int
    """Open threads that do not wait for children."""
    total_tokens: int
    sequential_tokens: int
    longest_context: int
    cached_tokens: int
    seconds: float

    def parts(self) -> list[str]:
        speed = self.total_tokens / self.seconds if self.seconds > 0 else 0.0
        running = f" ({self.running} running)" if self.running else ""
        return [
            f"threads {self.threads}{running}",
            f"tokens {self.total_tokens:,} ({self.sequential_tokens:,} sequential)",
            f"context {self.longest_context:,}",
            f"cached {self.cached_tokens:,}",
            f"{self.seconds:.2f} s",
            f"{speed:,.0f} tokens/s",
        ]


def rows(view: View) -> list[Row]:
    """All threads, parents before their children."""
    return [
        Row(thread.id, thread.parent, _mark(view, thread), thread.sampled_tokens, _note(view, thread))
        for thread in view.tree.threads.values()
    ]


def meters(view: View) -> Meters:
    tree = view.tree
    running = sum(thread.reason is None and not thread.waiting for thread in tree.threads.values())
    return Meters(
        len(tree.threads),
        running,
        tree.total_tokens,
        tree.sequential_tokens,
        tree.longest_context,
        tree.cached_tokens,
        view.seconds,
    )


def title(view: View) -> str:
    """The problem and how it is searched."""
    started = view.tree.started
    if started is None:
        return ""
    problem = started.problem
    if {"numbers", "target"} <= problem.keys():
        asked = f"{' '.join(map(str, problem['numbers']))} → {problem['target']}"
    else:
        asked = ", ".join(f"{key} {value}" for key, value in problem.items())
    budget = "free budget" if started.condition is None else f"budget {started.condition:,}"
    heat = f"temperature {started.temperature:g}" if started.temperature else "greedy"
    return f"{asked}   {started.method}, {budget}, {heat}"


def headline(view: View) -> tuple[str, Tone]:
    """How the rollout stands."""
    finished = view.tree.finished
    if finished is None:
        return "searching", "plain"
    if finished.correct:
        return f"solved: {', '.join(finished.steps)}", "good"
    if finished.reason == "interrupted":
        return "stopped before a solution was found", "warning"
    if finished.failed:
        errors = [t.detail for t in view.tree.threads.values() if t.reason == "engine_error" and t.detail]
        return f"the engine failed: {_line(errors[0]) if errors else 'no reason given'}", "bad"
    if finished.reason in ("answered", "no_answer"):
        return f"unsolved: {finished.verdict}", "warning"
    return f"unsolved: {_REASONS.get(finished.reason, finished.reason)}", "warning"


def caption(thread: Thread) -> str:
    """What stands above a thread's text."""
    end = "" if thread.reason is None else f", {_REASONS.get(thread.reason, thread.reason)}"
    return f"{name(thread.id)}: {thread.sampled_tokens:,} tokens, context {thread.context:,}{end}"


def name(thread: str) -> str:
    """A thread's name for people."""
    return "main" if thread == MAIN else thread.removeprefix(f"{MAIN}.")


def clean(text: str) -> str:
    """The text with a dot for each character that would command the terminal; lines stay lines."""
    return text.translate(_CONTROLS)


_CONTROLS = {code: "·" for code in (*range(32), *range(127, 160)) if code != ord("\n")}


def _mark(view: View, thread: Thread) -> Mark:
    if thread.reason is None:
        return "waiting" if thread.waiting else "running"
    if thread.result is not None:
        # The main thread is judged by the rollout, which also knows the whole problem.
        finished = view.tree.finished
        judged = thread.id == MAIN and finished is not None
        holds = bool(finished.correct) if judged and finished else bool(view.proofs.get(thread.id))
        return "found" if holds else "wrong"
    match thread.reason:
        case "no_answer":
            return "nothing"
        case "cancelled":
            return "cancelled"
        case "engine_error":
            return "failed"
        case _:
            return "stopped"


def _note(view: View, thread: Thread) -> str:
    if thread.waiting:
        children = thread.rounds[-1].children
        threads = view.tree.threads
        ended = sum(child in threads and threads[child].reason is not None for child in children)
        return f"{ended} of {len(children)} children ended"
    if thread.reason is None:
        written = thread.text[len(thread.prompt_text) :].rstrip()
        return written.rpartition("\n")[2] if written else "begins"
    if thread.result is not None:
        steps = view.proofs.get(thread.id)
        return ", ".join(steps) if steps else "claims a false solution"
    why = _REASONS.get(thread.reason, thread.reason)
    return f"{why}: {_line(thread.detail)}" if thread.detail else why


def _line(text: str) -> str:
    return " ".join(text.split())
