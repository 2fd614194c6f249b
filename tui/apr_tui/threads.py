"""The tree of threads as a list of lines: who runs, who found what, and what each did when."""

from __future__ import annotations

from rich.text import Text
from textual.message import Message

from apr.threads.lanes import critical
from apr.threads.marks import SIGNS
from apr_tui.changes import subtitle
from apr_tui.figures import Row, row, sources
from apr_tui.lines import LineList
from apr_tui.plain import clean, pad
from apr_tui.state import View
from apr_tui.timeline import axis, lane_cells, legend

SOURCE = "★"
"""Stands at the threads a solution came through."""

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BAR = 6


class ThreadList(LineList):
    """The threads of a rollout, each under its parent, and beside it what it did when."""

    class Sought(Message):
        """Somebody chose a moment of the rollout."""

        def __init__(self, threads: ThreadList, seconds: float) -> None:
            super().__init__()
            self.threads = threads
            self.seconds = seconds

        @property
        def control(self) -> ThreadList:
            return self.threads

    def __init__(self, id: str = "threads") -> None:
        super().__init__(id)
        self._view: View | None = None
        self._whole: View | None = None
        self._now: float | None = None
        self._length = 0.0
        self._order: list[str] = []
        self._sources: tuple[str, ...] = ()
        self._critical: frozenset[str] = frozenset()
        self._capacity = 0
        self._frame = 0

    def show(
        self,
        view: View | None,
        selected: str,
        capacity: int | None = None,
        *,
        whole: View | None = None,
        now: float | None = None,
        length: float = 0.0,
    ) -> None:
        """Draw these threads. `capacity`: tokens that fit one; None: bars compare with the longest. `whole` is the
        rollout as far as it is known, of which `now` is the moment that is shown; None: its end. Lanes are as long as
        that takes, or `length`, so that those of several searches compare."""
        wanted = self._order.index(selected) if selected in self._order else 0
        whole = view if whole is None else whole
        length = max(length, 0.0 if whole is None else whole.seconds)
        same = view is self._view and whole is self._whole and (now, length) == (self._now, self._length)
        if same and (view is None or view.tree.finished is not None):
            if wanted != self._wanted:
                self.fill(self.count, wanted)
            return
        if whole is not self._whole:
            self._critical = frozenset() if whole is None else critical(whole.tree, whole.lanes)
        self._view, self._whole, self._now, self._length = view, whole, now, length
        self._frame += 1
        self._order = [] if view is None else [thread.id for thread in view.tree.ordered()]
        self._sources = () if view is None else sources(view)
        longest = 0 if view is None else view.tree.longest_context
        self._capacity = max(1, longest if capacity is None else capacity)
        self._title()
        self.fill(len(self._order), self._order.index(selected) if selected in self._order else 0)

    @property
    def selected(self) -> str | None:
        """The thread under the cursor."""
        return self._order[self.cursor] if self.cursor < len(self._order) else None

    @property
    def lane_width(self) -> int:
        """Columns of the lanes."""
        return 0 if self._view is None else lane_width(self.scrollable_content_region.width - 1)

    def _title(self) -> None:
        width, lanes = self.scrollable_content_region.width, self.lane_width
        self.barred = width - lanes if lanes else None
        self.head = None
        if lanes and self._whole is not None:
            self.head = Text(" " * (width - lanes), no_wrap=True).append_text(axis(self._length, lanes, self._now))
        subtitle(self, legend(width - 4) if self.head is not None else "")

    def on_resize(self) -> None:
        self._title()
        super().on_resize()

    def click_beside(self, column: int) -> None:
        share = (column - (self.barred or 0) + 0.5) / max(1, self.lane_width)
        self.post_message(self.Sought(self, share * self._length))

    def line(self, index: int, width: int) -> Text:
        assert self._view is not None
        thread = self._view.tree.threads[self._order[index]]
        last = True
        if thread.parent is not None:
            siblings = self._view.tree.threads[thread.parent].children
            last = not siblings or siblings[-1] == thread.id
        told = row(self._view, thread, self._sources)
        lanes = lane_width(width)
        text = draw_row(told, width - lanes, self._capacity, last=last, frame=self._frame)
        if lanes and self._whole is not None and (lane := self._whole.lanes.get(thread.id)) is not None:
            longest = thread.id in self._critical
            text.append_text(
                lane_cells(lane, self._length, lanes, self._now, critical=longest, known=self._whole.seconds)
            )
        return text


def lane_width(width: int) -> int:
    """Columns of a line that a lane takes."""
    if width < 34:
        return 0
    return width // 2 if width >= 56 else width - 18


def draw_row(row: Row, width: int, capacity: int, *, last: bool = True, frame: int = 0) -> Text:
    """A row as it stands in the list; what there is no room for is left out, the note is cut."""
    sign, _, style = SIGNS[row.mark]
    if row.mark == "running":
        sign = _SPINNER[frame % len(_SPINNER)]
    live = row.mark in ("running", "waiting")
    depth = row.thread.count(".")
    text = Text(no_wrap=True)
    text.append("   " * (depth - 1) + ("└─ " if last else "├─ ") if depth else "", "dim")
    text.append(sign, style)
    # A name is what tells one thread from another: it is never cut.
    text.append(f" {clean(row.name):<4} ", "bold" if live or row.source else "")
    if width >= 40:
        text.append(pad(row.label, 12) + " ", "cyan" if live else "dim")
    end = Text(no_wrap=True)
    if width >= 60:
        end.append(f" {bar(row.context / capacity)}", "cyan" if live else "dim")
    if width >= 80:
        end.append(f"{row.rate:>6,.0f}/s", "" if live else "dim")
    end.append(f"{row.tokens:>6,} ", "" if live else "dim")
    room = max(0, width - text.cell_len - end.cell_len)
    note = clean(row.note)
    if row.source:
        text.append(pad(f"{SOURCE} {note}", room), "bold green")
    else:
        quiet = {"nothing": "dim", "cancelled": "dim", "found": "green", "wrong": "red", "failed": "red"}
        text.append(pad(note, room), quiet.get(row.mark, ""))
    text.append_text(end)
    text.truncate(width)
    return text


def bar(share: float, width: int = _BAR) -> str:
    """A bar that fills this share of its width."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[part] if part else "")).ljust(width, "·")
