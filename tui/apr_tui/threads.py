"""The tree of threads as a list of lines: who runs, who found what, how much of its context each has used."""

from __future__ import annotations

from rich.text import Text

from apr_tui.figures import Mark, Row, order, row, sources
from apr_tui.lines import LineList
from apr_tui.plain import clean, pad
from apr_tui.state import View

MARKS: dict[Mark, tuple[str, str]] = {
    "running": ("●", "cyan"),
    "waiting": ("⋯", "cyan"),
    "found": ("✓", "bold green"),
    "wrong": ("✗", "red"),
    "claimed": ("?", ""),
    "nothing": ("–", "dim"),
    "stopped": ("■", "yellow"),
    "cancelled": ("⊘", "dim"),
    "failed": ("!", "bold red"),
}
"""The sign of each mark, one column wide, and its style."""
SOURCE = "★"
"""Stands at the threads a solution came through."""

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BAR = 6


class ThreadList(LineList):
    """The threads of a rollout, each under its parent."""

    def __init__(self, id: str = "threads") -> None:
        super().__init__(id)
        self._view: View | None = None
        self._order: list[str] = []
        self._sources: tuple[str, ...] = ()
        self._capacity = 0
        self._frame = 0

    def show(self, view: View | None, selected: str, capacity: int | None = None) -> None:
        """Draw these threads. `capacity`: tokens that fit one; None: bars compare with the longest."""
        wanted = self._order.index(selected) if selected in self._order else 0
        if view is self._view and (view is None or view.tree.finished is not None):
            if wanted != self._wanted:
                self.fill(self.count, wanted)
            return
        self._view = view
        self._frame += 1
        self._order = [] if view is None else order(view)
        self._sources = () if view is None else sources(view)
        longest = 0 if view is None else view.tree.longest_context
        self._capacity = max(1, longest if capacity is None else capacity)
        self.fill(len(self._order), self._order.index(selected) if selected in self._order else 0)

    @property
    def selected(self) -> str | None:
        """The thread under the cursor."""
        return self._order[self.cursor] if self.cursor < len(self._order) else None

    def line(self, index: int, width: int) -> Text:
        assert self._view is not None
        thread = self._view.tree.threads[self._order[index]]
        last = True
        if thread.parent is not None:
            siblings = self._view.tree.threads[thread.parent].children
            last = not siblings or siblings[-1] == thread.id
        return draw_row(row(self._view, thread, self._sources), width, self._capacity, last=last, frame=self._frame)


def draw_row(row: Row, width: int, capacity: int, *, last: bool = True, frame: int = 0) -> Text:
    """A row as it stands in the list; what there is no room for is left out, the note is cut."""
    sign, style = MARKS[row.mark]
    if row.mark == "running":
        sign = _SPINNER[frame % len(_SPINNER)]
    live = row.mark in ("running", "waiting")
    depth = row.thread.count(".")
    text = Text(no_wrap=True)
    text.append("   " * (depth - 1) + ("└─ " if last else "├─ ") if depth else "", "dim")
    text.append(sign, style)
    text.append(f" {pad(clean(row.name), 4)} ", "bold" if live or row.source else "")
    if width >= 62:
        text.append(pad(row.label, 12) + " ", "cyan" if live else "dim")
    end = Text(no_wrap=True)
    if width >= 48:
        end.append(f" {bar(row.context / capacity)}", "cyan" if live else "dim")
    if width >= 80:
        end.append(f"{row.rate:>6,.0f}/s", "" if live else "dim")
    end.append(f"{row.tokens:>6,}", "" if live else "dim")
    room = width - text.cell_len - end.cell_len
    note = clean(row.note)
    if row.source:
        text.append(pad(f"{SOURCE} {note}", room), "bold green")
    else:
        quiet = {"nothing": "dim", "cancelled": "dim", "found": "green", "wrong": "red", "failed": "red"}
        text.append(pad(note, room), quiet.get(row.mark, ""))
    return text.append_text(end)


def bar(share: float, width: int = _BAR) -> str:
    """A bar that fills this share of its width."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[part] if part else "")).ljust(width, "·")
