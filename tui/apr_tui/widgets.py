"""What draws a state: the list of threads, the text of one, the meters.

Each is told what to show as often as it changes, holds nothing but its last picture, and draws only what
differs from that.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Static, Tree
from textual.widgets.tree import TreeNode

from apr.tree import MAIN
from apr_tui.figures import Mark, Meters, Row, clean, name
from apr_tui.state import Span

MARKS: dict[Mark, tuple[str, str]] = {
    "running": ("●", "cyan"),
    "waiting": ("⋯", "cyan"),
    "found": ("✓", "green"),
    "wrong": ("✗", "red"),
    "nothing": ("–", "dim"),
    "stopped": ("■", "yellow"),
    "cancelled": ("⊘", "dim"),
    "failed": ("!", "bold red"),
}
"""The sign of each mark, one column wide, and its style."""


_GUIDE = 2
"""Columns a child's row stands further right than its parent's."""
_INDENT = 2
"""Columns that later lines of a paragraph stand further right than its first."""
_FORCED = Style(dim=True, italic=True)


class ThreadList(Tree[str]):
    """The threads of a rollout; a node's data is its thread's id."""

    ICON_NODE = "▸"
    ICON_NODE_EXPANDED = ""

    def __init__(self) -> None:
        super().__init__("", MAIN, id="threads")
        self.guide_depth = _GUIDE
        self.auto_expand = False
        self.root.expand()
        self._rollout: str | None = None
        self._by_thread: dict[str, TreeNode[str]] = {}
        self._rows: dict[str, Row] = {}

    def show(self, rollout: str | None, rows: Sequence[Row], selected: str) -> None:
        """Draw the rows and put the cursor on the selected one."""
        if rollout != self._rollout:
            self._rollout = rollout
            self._rows = {}
            self.clear()
            self._by_thread = {MAIN: self.root}
            self.root.data = MAIN
            self.root.set_label("")
            self.root.expand()
        for row in rows:
            if self._rows.get(row.thread) == row:
                continue
            self._rows[row.thread] = row
            node = self._by_thread.get(row.thread)
            if node is None:
                parent = self._by_thread[row.parent or MAIN]
                parent.allow_expand = True
                node = parent.add("", row.thread, expand=True, allow_expand=False)
                self._by_thread[row.thread] = node
            node.set_label(label(row))
        node = self._by_thread.get(selected)
        if node is not None and node is not self.cursor_node:
            self.move_cursor(node)


def label(row: Row) -> Text:
    """A row as it stands in the list."""
    sign, style = MARKS[row.mark]
    note = "dim" if row.mark in ("nothing", "cancelled") else ""
    # Deeper rows stand further right; the figures shall stand below each other.
    width = max(1, 6 - _GUIDE * row.thread.count("."))
    return Text.assemble(
        (sign, style), f" {name(row.thread):<{width}}", (f"{row.tokens:>6,}  ", "dim"), (clean(row.note), note)
    )


class ThreadText(ScrollView, can_focus=True):
    """A thread's text in lines as wide as there is room; what the thread did not sample is dim.

    `_spans[i]` is where line i stands in `_shown`. Text that grows leaves all lines but those of its last
    paragraph as they are, so a long thread costs a frame no more than a short one."""

    def __init__(self) -> None:
        super().__init__(id="text")
        self._key: tuple[str, str] | None = None
        self._shown = ""
        self._forced: tuple[Span, ...] = ()
        self._spans: list[Span] = []
        self._width = 0
        self._tail = False
        """Its end is to be seen; so until somebody scrolls up."""

    def show(self, key: tuple[str, str] | None, text: str, forced: tuple[Span, ...], *, tail: bool) -> None:
        """Draw the text of the thread `key`. One that is new on screen shows its end if `tail`, else its
        begin; one that was there keeps its place, which may be its end."""
        text = clean(text)
        if key == self._key and text == self._shown and forced == self._forced:
            return
        follow = tail if key != self._key else self._tail
        grown = key == self._key and text.startswith(self._shown)
        begin = self._shown.rfind("\n") + 1 if grown else 0
        self._key, self._shown, self._forced = key, text, forced
        self._wrap(begin)
        self._tail = follow
        if follow:
            # How far it scrolls is known only after the next layout.
            self.call_after_refresh(self._to_end)
        elif not grown:
            self.scroll_home(animate=False, immediate=True)
        self.refresh()

    def _to_end(self) -> None:
        self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)
        self._tail = True

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value != old_value:
            self._tail = new_value > old_value and new_value >= self.max_scroll_y

    def _wrap(self, begin: int) -> None:
        """Cut the text from here on, where a paragraph begins, in lines."""
        while self._spans and self._spans[-1][0] >= begin:
            self._spans.pop()
        width = self._width = max(1, self.scrollable_content_region.width)
        position = begin
        rest = self._shown[begin:]
        for paragraph in rest.removesuffix("\n").split("\n") if rest else ():
            self._spans += ((position + a, position + b) for a, b in _lines(paragraph, width))
            position += len(paragraph) + 1
        self.virtual_size = Size(width, len(self._spans))

    def on_resize(self) -> None:
        if self._width != self.scrollable_content_region.width:
            self._wrap(0)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        row = y + self.scroll_offset.y
        plain = self.rich_style
        if row >= len(self._spans):
            return Strip.blank(self.size.width, plain)
        segments: list[Segment] = []
        position, end = self._spans[row]
        if position > 0 and self._shown[position - 1] != "\n":
            segments.append(Segment(" " * _INDENT, plain))
        for a, b in (*self._forced, (end, end)):
            a, b = max(a, position), min(b, end)
            if a > b:
                continue
            segments.append(Segment(self._shown[position:a], plain))
            segments.append(Segment(self._shown[a:b], plain + _FORCED))
            position = b
        return Strip(segments).adjust_cell_length(self.size.width, plain)


def _lines(paragraph: str, width: int) -> list[Span]:
    """A paragraph cut at spaces, or within a word that is longer than a line; later lines are indented."""
    lines: list[Span] = []
    start = 0
    while len(paragraph) - start > width:
        space = paragraph.rfind(" ", start + 1, start + width + 1)
        end = space if space > start else start + width
        if not lines:
            width = max(1, width - _INDENT)
        lines.append((start, end))
        start = end + (1 if space > start else 0)
    return [*lines, (start, len(paragraph))]


class MeterLine(Static):
    """The figures, in as few lines as the width allows."""

    def __init__(self) -> None:
        super().__init__("", id="meters", markup=False)
        self._parts: list[str] = []

    def show(self, meters: Meters | None) -> None:
        self._parts = [] if meters is None else meters.parts()
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self.update("\n".join(pack(self._parts, " · ", max(1, self.size.width))))


def pack(parts: Sequence[str], between: str, width: int) -> list[str]:
    """Parts joined into as few lines as fit the width, each of about as many parts."""
    for count in range(1, len(parts) + 1):
        size = -(-len(parts) // count)
        lines = [between.join(parts[i : i + size]) for i in range(0, len(parts), size)]
        if all(len(line) <= width for line in lines):
            return lines
    return list(parts)
