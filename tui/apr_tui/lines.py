"""A list of lines of which only those on screen are ever made, however many there are."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

_CURSOR = Style(reverse=True)
_RESTING = Style(bold=True)


class LineList(ScrollView, can_focus=True, inherit_bindings=False):
    """Lines with a cursor that keys and the mouse move; subclasses make a line when it is drawn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-1000000000)", "First", show=False),
        Binding("end", "move(1000000000)", "Last", show=False),
        Binding("enter", "choose", "Choose", show=False),
    ]

    class Moved(Message):
        """Somebody moved the cursor."""

        def __init__(self, lines: LineList) -> None:
            super().__init__()
            self.lines = lines

        @property
        def control(self) -> LineList:
            return self.lines

    class Chosen(Moved):
        """Somebody chose the line under the cursor."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.count = 0
        self.cursor = 0
        self._wanted = 0
        self.head: Text | None = None
        """A line above the others that does not scroll."""
        self.barred: int | None = None
        """Columns that the cursor's bar takes; None: all."""

    def line(self, index: int, width: int) -> Text:
        """Line `index`, of at most `width` columns."""
        # Not by abc: the metaclass is Textual's.
        raise NotImplementedError

    def fill(self, count: int, wanted: int | None = None) -> None:
        """There are so many lines now; draw them anew. The cursor goes to the wanted one when that is another than
        before: where somebody has just moved it, it stays until whoever fills the list has heard of that."""
        if count != self.count:
            self.count = count
            self.virtual_size = Size(0, count + self._above)
        before = self.cursor
        if wanted is not None and wanted != self._wanted:
            self._wanted = self.cursor = wanted
        self.cursor = max(0, min(count - 1, self.cursor))
        if self.cursor != before:
            self._reveal()
        self.refresh()

    @property
    def _above(self) -> int:
        return 0 if self.head is None else 1

    def _reveal(self) -> None:
        room = max(1, self.scrollable_content_region.height - self._above)
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True)
        elif self.cursor >= top + room:
            self.scroll_to(y=self.cursor - room + 1, animate=False, immediate=True, force=True)

    def on_resize(self) -> None:
        self._reveal()

    def action_move(self, by: int) -> None:
        there = max(0, min(self.count - 1, self.cursor + by))
        if there != self.cursor:
            self.cursor = there
            self._reveal()
            self.refresh()
            self.post_message(self.Moved(self))

    def action_page(self, by: int) -> None:
        self.action_move(by * max(1, self.scrollable_content_region.height - self._above - 1))

    def action_choose(self) -> None:
        if self.count:
            self.post_message(self.Chosen(self))

    def on_click(self, event: events.Click) -> None:
        place = event.get_content_offset(self)
        if place is not None and self.barred is not None and place.x >= self.barred:
            self.click_beside(place.x)
        elif place is not None and place.y >= self._above:
            index = self.scroll_offset.y + place.y - self._above
            if index < self.count:
                self.action_move(index - self.cursor)

    def click_beside(self, column: int) -> None:
        """Somebody clicked where the cursor's bar does not reach."""

    def render_line(self, y: int) -> Strip:
        style, width = self.rich_style, self.scrollable_content_region.width
        if self.head is not None and y == 0:
            made = self.head.copy()
            made.stylize("bold")
        else:
            index = self.scroll_offset.y + y - self._above
            if index >= self.count:
                return Strip.blank(width, style)
            made = self.line(index, width - 1)
            here = index == self.cursor
            made = Text("▸" if here else " ", no_wrap=True, end="").append_text(made)
            if here:
                made.pad_right(max(0, width - made.cell_len))
                barred = width if self.barred is None else self.barred
                bar, rest = made.divide([barred]) if barred < len(made) else (made, Text())
                if self.has_focus:
                    # One bar: colours of its parts, reversed, would be a patchwork.
                    bar = Text(bar.plain, no_wrap=True)
                bar.stylize(_CURSOR if self.has_focus else _RESTING)
                made = bar.append_text(rest)
        made.end = ""
        made.truncate(width)
        strip = Strip(made.render(self.app.console), made.cell_len)
        return strip.adjust_cell_length(width, style).apply_style(style)
