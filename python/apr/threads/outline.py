"""A thread tree as it prints itself, told by its events alone: one line, lines for rich, or HTML for notebooks.

What a model wrote is hostile: signs that would command a terminal are replaced, and those of HTML escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from apr.jsonl import write
from apr.plain import clean, one_line

if TYPE_CHECKING:
    from apr.threads.tree import Thread, ThreadTree

_LONGEST = 120
"""Characters of a problem in a headline."""
_STYLES = {"✓": "green", "✗": "red", "–": "dim", "…": "cyan"}
_HTML = """<div style="font-family: monospace">
<div><b>{head}</b></div>
{threads}
</div>"""
_THREAD = """<details style="margin-left: {indent}em"><summary>{line}</summary>
<pre style="white-space: pre-wrap; margin-left: 2em">{text}</pre></details>"""


def headline(tree: ThreadTree) -> str:
    """The problem, how it was searched, what came of it and what it cost, in one line."""
    started = tree.started
    if started is None:
        return "without events"
    problem = one_line(write(started.problem))
    parts = [
        f"{started.task} {problem[:_LONGEST]}{'…' if len(problem) > _LONGEST else ''}, {started.method}: {_end(tree)}",
        f"{len(tree.threads)} thread{'' if len(tree.threads) == 1 else 's'}",
        f"{tree.total_tokens:,} tokens ({tree.sequential_tokens:,} sequential)",
    ]
    return one_line(", ".join([*parts, *([] if tree.latency is None else [f"{tree.latency:.2f} s"])]))


def _end(tree: ThreadTree) -> str:
    if tree.finished is None:
        return "running"
    if tree.solved:
        return "solved"
    if tree.unjudged:
        return "answered"
    return "engine failure" if tree.failed else f"unsolved, {tree.finished.reason}"


@dataclass(frozen=True, slots=True)
class _Line:
    """A thread in a line."""

    thread: Thread
    mark: str
    words: str
    """What it does or came to."""

    def __str__(self) -> str:
        return f"{self.mark} {self.thread.id}  {self.words}  {self.thread.sampled_tokens:,} tokens"


def _lines(tree: ThreadTree) -> Iterator[_Line]:
    """The threads, each before its children, those in spawn order."""
    left = ["0"] if "0" in tree.threads else []
    while left:
        thread = tree.threads[left.pop()]
        yield _line(tree, thread)
        left += [child for child in reversed(thread.children) if child in tree.threads]


def _line(tree: ThreadTree, thread: Thread) -> _Line:
    if thread.reason is None:
        return _Line(thread, "…", f"waits for {len(thread.rounds[-1].children)}" if thread.waiting else "runs")
    if thread.result is not None:
        # A child's claim is judged by nobody here; the main thread's is the answer.
        wrong = thread.parent is None and tree.correct is False
        return _Line(thread, "✗" if wrong else "✓", f"claims {one_line(thread.result)}")
    why = "" if thread.detail is None else f": {one_line(thread.detail)}"
    mark = "✗" if thread.reason in ("engine_error", "malformed_spawn") else "–"
    return _Line(thread, mark, f"{thread.reason}{why}")


def rich_lines(tree: ThreadTree, console: Any) -> Iterator[Any]:
    """The same as lines that a console of rich prints, each cut to its width."""
    for text, style in [(headline(tree), "bold"), *((_indented(line), _STYLES[line.mark]) for line in _lines(tree))]:
        line = console.render_str(text, style=style, markup=False, emoji=False, highlight=False)
        line.no_wrap, line.overflow = True, "ellipsis"
        yield line


def _indented(line: _Line) -> str:
    return f"{'   ' * line.thread.depth}{line}"


def html(tree: ThreadTree) -> str:
    """The same as HTML; a click on a thread shows its text."""
    threads = [
        _THREAD.format(indent=2 * line.thread.depth, line=escape(str(line)), text=escape(clean(line.thread.text)))
        for line in _lines(tree)
    ]
    return _HTML.format(head=escape(headline(tree)), threads="\n".join(threads))
