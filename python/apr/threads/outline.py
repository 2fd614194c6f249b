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
from apr.threads.causes import end_of
from apr.threads.marks import SIGNS, Mark, mark_of

if TYPE_CHECKING:
    from apr.threads.tree import Thread, ThreadTree

_LONGEST = 120
"""Characters of a problem in a headline."""
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
    return "engine failure" if tree.failed else f"unsolved: {end_of(tree.finished.reason)}"


@dataclass(frozen=True, slots=True)
class _Line:
    """A thread in a line."""

    thread: Thread
    mark: Mark
    words: str
    """What it does or came to."""

    def __str__(self) -> str:
        name = "main" if self.thread.parent is None else self.thread.id
        return f"{SIGNS[self.mark].sign} {name}  {self.words}  {self.thread.sampled_tokens:,} tokens"


def _lines(tree: ThreadTree) -> Iterator[_Line]:
    # Nobody here can judge a child's claim; the main thread's is the answer, which the rollout judged.
    return (_line(tree, thread) for thread in tree.ordered())


def _line(tree: ThreadTree, thread: Thread) -> _Line:
    mark = mark_of(tree, thread)
    return _Line(thread, mark, f"{_words(thread)}{', unjudged' if mark == 'claimed' else ''}")


def _words(thread: Thread) -> str:
    if thread.reason is None:
        return f"waits for {len(thread.rounds[-1].children)}" if thread.waiting else "runs"
    if thread.result is not None:
        return f"claims {one_line(thread.result)}"
    return end_of(thread.reason) if thread.detail is None else f"{end_of(thread.reason)}: {one_line(thread.detail)}"


def rich_lines(tree: ThreadTree, console: Any) -> Iterator[Any]:
    """The same as lines that a console of rich prints, each cut to its width."""
    threads = ((_indented(line), SIGNS[line.mark].style) for line in _lines(tree))
    for text, style in [(headline(tree), "bold"), *threads]:
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
