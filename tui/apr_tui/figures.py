"""What is said of a rollout: a mark and a note for each thread, the meters, beside another one's. Pure, no terminal.

Everything derives from a `View`, so a live solve and a replayed log read alike.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from apr.shown import ending
from apr.threads.causes import end_of
from apr.threads.marks import Mark, mark_of
from apr.threads.tree import MAIN, Thread
from apr_tui.plain import one_line
from apr_tui.state import View

_LAST = 400
"""Characters of a text in which its last line is looked for."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thread in the list."""

    thread: str
    name: str
    mark: Mark
    tokens: int
    """Sampled so far."""
    rate: float
    """Tokens a second while it was open, waiting included."""
    context: int
    """Tokens of its sequence now."""
    label: str
    """Its part of the problem."""
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
    def parallelism(self) -> float:
        """Total over sequential tokens: how many threads sampled at once on average, were all equally fast. What it
        saved is measured against another search of the problem."""
        return self.total_tokens / self.sequential_tokens if self.sequential_tokens else 1.0

    def parts(self) -> list[str]:
        speed = self.total_tokens / self.seconds if self.seconds > 0 else 0.0
        running = f" ({self.running} running)" if self.running else ""
        return [
            f"threads {self.threads}{running}",
            f"tokens {self.total_tokens:,}, {self.sequential_tokens:,} in sequence",
            f"parallelism {self.parallelism:.1f}",
            f"{self.seconds:.2f} s",
            f"{speed:,.0f} tokens/s",
            f"context {self.longest_context:,}",
            f"cached {self.cached_tokens:,}",
        ]


def row(view: View, thread: Thread, sources: Collection[str] = ()) -> Row:
    """What the list says of a thread."""
    until = view.seconds if thread.closed_at is None else thread.closed_at
    passed = until - thread.opened_at
    return Row(
        thread.id,
        name(thread.id),
        mark(view, thread),
        thread.sampled_tokens,
        thread.sampled_tokens / passed if passed > 0 else 0.0,
        len(thread.token_ids),
        view.labels.get(thread.id, ""),
        _note(view, thread),
        thread.id in sources,
    )


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
        if (steps := _steps(view, child)) and finished.steps[-len(steps) :] == steps
    ]:
        chain.append(below[0])
    return tuple(chain)


def _steps(view: View, thread: str) -> tuple[str, ...]:
    """What a thread's claim is proved by; empty if it is false, or if nobody can tell."""
    verdict = view.verdicts.get(thread)
    return verdict.steps if verdict is not None and verdict.correct else ()


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
    asked = view.shown.title() if view.shown is not None else ""
    budget = "free budget" if started.budget is None else f"budget {started.budget:,}"
    heat = f"temperature {started.temperature:g}" if started.temperature else "greedy"
    return f"{asked} · {started.method}, {budget}, {heat}"


def compared(first: View, second: View) -> list[str]:
    """What was measured of two searches, the first one beside the second; empty until both have ended."""
    one, two = first.tree.finished, second.tree.finished
    if one is None or two is None:
        return []
    names = [view.tree.started.method if view.tree.started is not None else "" for view in (first, second)]
    measured = {
        "seconds": (one.time, two.time, "{:.2f}"),
        "tokens": (one.total_tokens, two.total_tokens, "{:,}"),
        "in sequence": (one.sequential_tokens, two.sequential_tokens, "{:,}"),
        "longest context": (one.longest_context, two.longest_context, "{:,}"),
    }
    return [
        f"measured, {names[0]} beside {names[1]}",
        *(
            f"{name} {form.format(a)} and {form.format(b)}{f' ({a / b:.1f}x)' if a > 0 and b > 0 else ''}"
            for name, (a, b, form) in measured.items()
        ),
    ]


def caption(thread: Thread, capacity: int | None = None) -> str:
    """What stands above a thread's text; `capacity` is how many tokens fit it."""
    of = "" if capacity is None else f" of {capacity:,}"
    end = "" if thread.reason is None else f", {end_of(thread.reason)}"
    return f"{name(thread.id)}: {thread.sampled_tokens:,} tokens, context {thread.context:,}{of}{end}"


def name(thread: str) -> str:
    """What a thread is called."""
    return "main" if thread == MAIN else thread


def mark(view: View, thread: Thread) -> Mark:
    """How a thread stands."""
    verdict = view.verdicts.get(thread.id)
    return mark_of(view.tree, thread, None if verdict is None else verdict.correct)


def _note(view: View, thread: Thread) -> str:
    if thread.waiting:
        children = thread.rounds[-1].children
        threads = view.tree.threads
        ended = sum(child in threads and threads[child].reason is not None for child in children)
        return f"{ended} of {len(children)} children ended"
    if thread.reason is None:
        end = thread.text[max(thread.begin, len(thread.text) - _LAST) :].rstrip()
        return end.rpartition("\n")[2] if end else "begins"
    if thread.result is not None:
        if steps := _steps(view, thread.id):
            return ", ".join(steps)
        told = mark(view, thread)
        claim = one_line(thread.result) if view.shown is None else view.shown.claim(thread.result)
        if told == "wrong":
            return f"claims a solution that is none: {claim}"
        return f"found {claim}" if told == "found" else f"claims {claim}"
    return ending(thread)
