"""What is said of a rollout: a mark and a note for each thread, a headline, the meters. Pure, no terminal.

Everything derives from a `View`, so a live solve and a replayed log read alike.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from apr._core import Problem, first_state, solution
from apr.threads.events import CloseReason
from apr.threads.tree import MAIN, Thread
from apr_tui.plain import one_line
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


_LAST = 400
"""Characters of a text in which its last line is looked for."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thread in the list."""

    thread: str
    mark: Mark
    tokens: int
    """Sampled so far."""
    rate: float
    """Tokens a second while it was open, waiting included."""
    context: int
    """Tokens of its sequence now."""
    numbers: str
    """The numbers it has to reach the target with."""
    note: str
    """What it does or came to, in a few words."""
    source: bool
    """The solution of the rollout comes from here."""


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

    @property
    def speed_up(self) -> float:
        """How many times as long the longest chain would be if the same tokens were sampled one after the
        other."""
        return self.total_tokens / self.sequential_tokens if self.sequential_tokens else 1.0

    def parts(self) -> list[str]:
        speed = self.total_tokens / self.seconds if self.seconds > 0 else 0.0
        running = f" ({self.running} running)" if self.running else ""
        return [
            f"threads {self.threads}{running}",
            f"tokens {self.total_tokens:,}, {self.sequential_tokens:,} in sequence",
            f"speed-up {self.speed_up:.1f}x over serial",
            f"{self.seconds:.2f} s",
            f"{speed:,.0f} tokens/s",
            f"context {self.longest_context:,}",
            f"cached {self.cached_tokens:,}",
        ]


def order(view: View) -> list[str]:
    """All threads, each below its parent, in spawn order."""
    threads, found = view.tree.threads, []
    left = [MAIN] if MAIN in threads else []
    while left:
        thread = left.pop()
        found.append(thread)
        left += [child for child in reversed(threads[thread].children) if child in threads]
    return found


def row(view: View, thread: Thread, sources: Collection[str] = ()) -> Row:
    """What the list says of a thread."""
    until = view.seconds if thread.closed_at is None else thread.closed_at
    passed = until - thread.opened_at
    return Row(
        thread.id,
        _mark(view, thread),
        thread.sampled_tokens,
        thread.sampled_tokens / passed if passed > 0 else 0.0,
        len(thread.token_ids),
        "" if thread.parent is None else _numbers(thread.prompt_text),
        _note(view, thread),
        thread.id in sources,
    )


@lru_cache(maxsize=4096)
def _numbers(prompt: str) -> str:
    state = first_state(prompt)
    return "" if state is None else " ".join(map(str, state[1]))


def sources(view: View) -> tuple[str, ...]:
    """The threads a verified solution came through, from the main thread down to where it was found."""
    finished = view.tree.finished
    if finished is None or not finished.steps:
        return ()
    # A child proves the rest of the way from its own numbers; of equal ones the first was told of.
    chain = [MAIN]
    while below := [
        child
        for child in view.tree.threads[chain[-1]].children
        if (steps := view.proofs.get(child)) and finished.steps[-len(steps) :] == steps
    ]:
        chain.append(below[0])
    return tuple(chain)


def expression(view: View) -> str:
    """The verified solution of a rollout as one expression; empty if there is none."""
    finished, started = view.tree.finished, view.tree.started
    if finished is None or started is None or not finished.steps:
        return ""
    try:
        problem = Problem(started.problem["numbers"], started.problem["target"])
        whole = solution(problem, finished.steps)
    except (LookupError, TypeError, ValueError, OverflowError):
        return ""
    return "" if whole is None else f"{whole.expression} = {started.problem['target']}"


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
    if isinstance(problem.get("numbers"), list | tuple) and "target" in problem:
        asked = f"{' '.join(map(str, problem['numbers']))} → {problem['target']}"
    else:
        asked = ", ".join(f"{key} {value}" for key, value in problem.items())
    budget = "free budget" if started.condition is None else f"budget {started.condition:,}"
    heat = f"temperature {started.temperature:g}" if started.temperature else "greedy"
    return f"{asked} · {started.method}, {budget}, {heat}"


def headline(view: View) -> tuple[str, Tone]:
    """How the rollout stands."""
    finished = view.tree.finished
    if finished is None:
        return "searching" if view.tree.threads else "begins", "plain"
    if finished.steps:
        return f"solved: {expression(view) or ', '.join(map(str, finished.steps))}, checked exactly", "good"
    if finished.reason == "interrupted":
        return "stopped before a solution was found", "warning"
    if finished.failed:
        errors = [t.detail for t in view.tree.threads.values() if t.reason == "engine_error" and t.detail]
        return f"the engine failed: {one_line(errors[0]) if errors else 'no reason given'}", "bad"
    if finished.reason in ("answered", "no_answer"):
        return f"unsolved: {finished.verdict}", "warning"
    return f"unsolved: {_REASONS.get(finished.reason, finished.reason)}", "warning"


def caption(thread: Thread, capacity: int | None = None) -> str:
    """What stands above a thread's text; `capacity` is how many tokens fit it."""
    of = "" if capacity is None else f" of {capacity:,}"
    end = "" if thread.reason is None else f", {_REASONS.get(thread.reason, thread.reason)}"
    return f"{name(thread.id)}: {thread.sampled_tokens:,} tokens, context {thread.context:,}{of}{end}"


def name(thread: str) -> str:
    """A thread's name for people."""
    return "main" if thread == MAIN else thread.removeprefix(f"{MAIN}.")


def _mark(view: View, thread: Thread) -> Mark:
    if thread.reason is None:
        return "waiting" if thread.waiting else "running"
    if thread.result is not None:
        # The main thread is judged by the rollout, which also knows the whole problem.
        finished = view.tree.finished
        judged = thread.id == MAIN and finished is not None
        holds = bool(finished.steps) if judged and finished else bool(view.proofs.get(thread.id))
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
        end = thread.text[max(len(thread.prompt_text), len(thread.text) - _LAST) :].rstrip()
        return end.rpartition("\n")[2] if end else "begins"
    if thread.result is not None:
        steps = view.proofs.get(thread.id)
        return ", ".join(steps) if steps else "claims a false solution"
    why = _REASONS.get(thread.reason, thread.reason)
    return f"{why}: {one_line(thread.detail)}" if thread.detail else why
