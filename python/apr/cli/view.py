"""A thread tree as lines of text: a pure function of the tree, the clock and the room there is.

One line a thread, children below their parent in spawn order, each cut to the width. If the lines exceed the
height, threads that ended with nothing give way first, then the last ones; a line says how many are hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rich.text import Text

from apr.plain import one_line
from apr.shown import Shown, ending
from apr.threads.marks import SIGNS, Mark, mark_of
from apr.threads.tree import MAIN, Thread, ThreadTree

_QUIET = ("no_answer", "cancelled")
"""Ends of threads that may be hidden first."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The signs a terminal can show, each one column wide."""

    marks: Mapping[Mark, str]
    spinner: str
    branch: str
    last: str
    bar: str
    arrow: str
    dot: str
    more: str

    @classmethod
    def of(cls, encoding: str | None) -> Glyphs:
        """Those of an output encoding."""
        plain = "utf" not in (encoding or "").lower()
        marks = {mark: sign.ascii if plain else sign.sign for mark, sign in SIGNS.items()}
        return cls(marks, *(_ASCII if plain else _UNICODE))


_UNICODE = ("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "├─ ", "└─ ", "│  ", "→", "·", "…")
_ASCII = ("|/-\\", "|- ", "`- ", "|  ", "->", "|", "~")

Holds = Callable[[Thread], bool | None]
"""Whether what a closed thread claims is true, as its task's judge says; None: nobody can tell."""


@dataclass(frozen=True, slots=True)
class Meters:
    """The figures of a tree, at any moment."""

    tree: ThreadTree
    seconds: float

    def parts(self) -> list[str]:
        tree = self.tree
        speed = tree.total_tokens / self.seconds if self.seconds > 0 else 0.0
        return [
            f"threads {len(tree.threads)}",
            f"tokens {tree.total_tokens:,} ({tree.sequential_tokens:,} sequential)",
            f"context {tree.longest_context:,}",
            f"cached {tree.cached_tokens:,}",
            f"{self.seconds:.2f} s",
            f"{speed:,.0f} tokens/s",
        ]


def render(
    tree: ThreadTree,
    glyphs: Glyphs,
    shown: Shown,
    holds: Holds,
    *,
    seconds: float,
    width: int,
    height: int | None = None,
    frame: int = 0,
) -> list[Text]:
    """The tree and its meters as lines of at most `width` columns and, if given, at most `height` lines."""
    meters = wrap(Meters(tree, seconds).parts(), f" {glyphs.dot} ", width)
    if height is not None:
        meters = meters[: max(1, height - 2)]
    lines = []
    visible, hidden = _visible(tree, None if height is None else max(2, height - len(meters)))
    for prefix, thread in _walk(tree, glyphs, visible, width):
        mark = mark_of(tree, thread, None if thread.result is None else holds(thread))
        sign = glyphs.spinner[frame % len(glyphs.spinner)] if mark == "running" else glyphs.marks[mark]
        doing = _doing(tree, thread, mark, shown)
        lines.append(_line(thread, prefix, sign, SIGNS[mark].style, doing, glyphs, shown, width))
    if hidden:
        lines.append(Text(f"   {glyphs.more} {hidden} more", "dim"))
    return lines + [Text(line, "dim") for line in meters]


def wrap(parts: list[str], between: str, width: int) -> list[str]:
    """Parts joined into as few lines as the width allows, each of about as many parts."""
    for count in range(1, len(parts) + 1):
        size = -(-len(parts) // count)
        lines = [between.join(parts[i : i + size]) for i in range(0, len(parts), size)]
        if all(len(line) <= width for line in lines):
            return lines
    return [part[:width] for part in parts]


def _visible(tree: ThreadTree, room: int | None) -> tuple[set[str], int]:
    """Ids of the threads that get a line, and how many do not."""
    ids = list(tree.threads)
    if room is None or len(ids) <= room:
        return set(ids), 0
    # One line tells of the hidden ones.
    quiet = [i for i in ids if tree.threads[i].reason in _QUIET and not tree.threads[i].rounds and i != MAIN]
    surplus = len(ids) - room + 1
    gone = set(quiet[-surplus:] if surplus < len(quiet) else quiet)
    kept = [i for i in ids if i not in gone]
    # A parent opens before its children, so cutting the end leaves no child without its parent.
    return set(kept[: len(ids) - surplus]), surplus


def _walk(tree: ThreadTree, glyphs: Glyphs, shown: set[str], width: int) -> Iterator[tuple[str, Thread]]:
    """Threads in the order of their lines, each with what stands before it, at most as wide as the line."""
    left = [(MAIN, "", "")] if MAIN in shown else []
    while left:
        thread_id, prefix, below = left.pop()
        yield prefix, tree.threads[thread_id]
        children = [child for child in tree.threads[thread_id].children if child in shown]
        for child in reversed(children):
            sign, under = (glyphs.last, "   ") if child == children[-1] else (glyphs.branch, glyphs.bar)
            left.append((child, (below + sign)[:width], (below + under)[:width]))


def _line(
    thread: Thread, prefix: str, mark: str, style: str, doing: str, glyphs: Glyphs, shown: Shown, width: int
) -> Text:
    tokens = f"{thread.sampled_tokens:,} tok"
    name = "main" if thread.id == MAIN else thread.id
    label = shown.label(thread.prompt_text) if thread.id != MAIN and width >= 72 else ""
    line = Text(no_wrap=True)
    line.append(prefix, "dim")
    line.append(mark, style)
    line.append(f" {name:<7}", "bold" if thread.reason is None else "")
    if label:
        line.append(f"{label:<13}", "cyan" if thread.reason is None else "dim")
    room = width - len(line.plain) - len(tokens) - 1
    if len(doing) > room:
        doing = doing[: max(0, room - len(glyphs.more))] + glyphs.more
    line.append(doing.ljust(room), "" if thread.reason is None else style)
    line.append(f" {tokens}", "dim")
    line.truncate(width)
    return line


def _doing(tree: ThreadTree, thread: Thread, mark: Mark, shown: Shown) -> str:
    """What a thread does or came to."""
    if thread.waiting:
        return _waiting(tree, thread)
    if thread.reason is None:
        written = thread.written if thread.sampled_tokens else ""
        lines = [line for line in written.splitlines() if line.strip()]
        return one_line(lines[-1]) if lines else "begins"
    if thread.result is not None:
        claim = shown.claim(thread.result)
        if mark == "wrong":
            return f"claims a solution that is none: {claim}"
        return f"found {claim}" if mark == "found" else f"claims {claim}"
    return ending(thread)


def _waiting(tree: ThreadTree, thread: Thread) -> str:
    children = [tree.threads[child] for child in thread.rounds[-1].children if child in tree.threads]
    found = sum(child.result is not None for child in children)
    running = sum(child.reason is None for child in children)
    ended = len(children) - running
    total = len(thread.rounds[-1].children)
    some = f", {found} with a solution" if found else ""
    return f"waits for {total} thread{'' if total == 1 else 's'}: {ended} ended{some}"
