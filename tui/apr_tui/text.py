"""The text of a thread in lines as wide as there is room, its parts told apart by style and in the margin."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from apr.task import LineKind
from apr_tui.changes import subtitle
from apr_tui.plain import clean, one_line

_INDENT = 2
"""Columns that later lines of a paragraph stand further right than its first."""
_MARGIN = 2

Part = tuple[int, int, str]
"""Where a part of a text begins and ends, by characters, and the name of its style."""

Tell = Callable[[str], LineKind | None]
"""What a line tells, if anybody can say."""

STYLES: Mapping[str, Style] = {
    "prompt": Style(dim=True, italic=True),
    "join": Style(color="cyan"),
    "replace": Style(color="magenta"),
    "good2": Style(color="green", bold=True),
    "good1": Style(color="green"),
    "bad1": Style(color="red"),
    "bad2": Style(color="red", bold=True),
    "near": Style(dim=True),
    "off1": Style(color="yellow", underline=True),
    "off2": Style(color="red", bold=True, underline=True),
}
"""Name -> how a part looks. What a thread sampled has no part, or one of how it was judged."""
KINDS: Mapping[LineKind, Style] = {
    "state": Style(bold=True),
    "step": Style(),
    "dead": Style(color="red"),
    "found": Style(color="green", bold=True),
    "spawn": Style(color="yellow"),
    "join": Style(color="cyan"),
}
"""How a line looks by what it tells."""
_DETAILS: tuple[LineKind | None, ...] = ("step", "dead", None)
"""What a folded text leaves out."""
_ORIGINS = ("join", "replace")
_FOUND, _HERE = Style(reverse=True), Style(reverse=True, bold=True, color="yellow")
_SIGNS = {"prompt": "│ ", "join": "┃ ", "replace": "┃ "}
"""In the margin, so that the parts are told apart without colour."""


class ThreadText(ScrollView, can_focus=True, inherit_bindings=False):
    """A thread's text, in which words can be looked for.

    `_spans[i]` is where line i stands in `_shown`. Text that grows leaves all lines but those of its last
    paragraph as they are, so a long thread costs a frame no more than a short one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", "Up", show=False),
        Binding("down", "scroll_down", "Down", show=False),
        Binding("pageup", "page_up", "Page up", show=False),
        Binding("pagedown", "page_down", "Page down", show=False),
        Binding("home", "scroll_home", "Begin", show=False),
        Binding("end", "scroll_end", "End", show=False),
        Binding("n", "hit(1)", "Next hit", tooltip="in a text, go to the next of the words that were looked for"),
        Binding("N", "hit(-1)", "Hit before", show=False),
        Binding("escape", "forget", "Forget the words"),
    ]

    def __init__(self, id: str = "text") -> None:
        super().__init__(id=id)
        self._key: tuple[str, ...] | None = None
        self._source = ""
        self._shown = ""
        self._parts: tuple[Part, ...] = ()
        self._spans: list[tuple[int, int]] = []
        self._width = self._height = 0
        self._tail = False
        """Its end is to be seen; so until somebody scrolls up."""
        self.coloured = ""
        """By what its parts are coloured, in words."""
        self._tell: Tell | None = None
        self._kinds: list[LineKind | None] = []
        """What each line's paragraph tells."""
        self._folded = False
        self._hidden: list[int] = []
        """How many paragraphs each line stands for that are left out; 0: it is one of the text."""
        self._wanted = ""
        """What is looked for; empty: nothing."""
        self._hits: list[tuple[int, int]] = []
        self._hit = 0
        """The place of the hit that was gone to."""

    def show(
        self,
        key: tuple[str, ...] | None,
        text: str,
        parts: Sequence[Part],
        *,
        tail: bool,
        tell: Tell | None = None,
    ) -> None:
        """Draw the text of the thread `key`. One that is new on screen, or is shown at an earlier moment, shows its end
        if `tail`, else its begin; one that was there keeps its place, which may be its end. Parts ascend and do not
        overlap; `tell` says what a line tells, by which it is coloured where it is given."""
        self._count()
        if (key, text, tuple(parts), tell is None) == (self._key, self._source, self._parts, self._tell is None):
            return
        earlier = len(text) < len(self._source) and self._source.startswith(text)
        follow = tail if key != self._key or earlier else self._tail
        grown = key == self._key and text.startswith(self._source) and (tell is None) == (self._tell is None)
        begin = self._source.rfind("\n") + 1 if grown else 0
        self._shown = self._shown[:begin] + clean(text[begin:])
        self._key, self._source, self._parts, self._tell = key, text, tuple(parts), tell
        self._wrap(begin)
        self._look()
        self._tail = follow
        if follow:
            # How far it scrolls is known only after the next layout.
            self.call_after_refresh(self._to_end)
        elif not grown:
            self.scroll_home(animate=False, immediate=True)
        self.refresh()

    def _to_end(self) -> None:
        if self._tail:
            self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)
            self._tail = True

    def _to_place(self, position: int) -> None:
        """Have the line on top that this place of the text is in."""
        line = bisect_right(self._spans, position, key=lambda span: span[0]) - 1
        self.scroll_to(y=max(0, line), animate=False, immediate=True, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        # A pane that gets another size scrolls by itself, before it hears of that.
        if new_value != old_value and (self._width, self._height) == self.scrollable_content_region.size:
            self._tail = new_value >= self.max_scroll_y

    def _wrap(self, begin: int) -> None:
        """Cut the text from here on, where a paragraph begins, in lines."""
        # What the last line stands for may go on.
        while self._spans and (self._spans[-1][0] >= begin or self._hidden[-1]):
            begin = min(begin, self._spans.pop()[0])
            self._kinds.pop()
            self._hidden.pop()
        self._width = self.scrollable_content_region.width
        width = max(_INDENT + 2, self._width - _MARGIN)
        position = begin
        rest = self._shown[begin:]
        for paragraph in rest.removesuffix("\n").split("\n") if rest else ():
            tells = None if self._tell is None else self._tell(self._source[position : position + len(paragraph)])
            end = position + len(paragraph)
            if self._folded and tells in _DETAILS:
                self._leave_out(position, end)
            else:
                lines = wrap(paragraph, width)
                self._spans += ((position + a, position + b) for a, b in lines)
                self._kinds += [tells] * len(lines)
                self._hidden += [0] * len(lines)
            position = end + 1
        self.virtual_size = Size(0, len(self._spans))

    def _leave_out(self, begin: int, end: int) -> None:
        """Let one line stand for this paragraph and those before it that are left out."""
        if self._hidden and self._hidden[-1]:
            self._spans[-1] = (self._spans[-1][0], end)
            self._hidden[-1] += 1
        else:
            self._spans.append((begin, end))
            self._kinds.append(None)
            self._hidden.append(1)

    @property
    def foldable(self) -> bool:
        """Somebody can say what is a detail."""
        return self._tell is not None

    def fold(self) -> None:
        """Leave out what happens within a state, or show all again."""
        self._folded = not self._folded
        self._cut_anew()

    def on_resize(self) -> None:
        self._height = self.scrollable_content_region.height
        if self._width != self.scrollable_content_region.width:
            self._cut_anew()
        elif self._tail:
            self.call_after_refresh(self._to_end)

    def _cut_anew(self) -> None:
        """Cut the whole text in lines again; its end, or what stood on top, stays in sight."""
        top = self._top
        self._wrap(0)
        self.call_after_refresh(self._to_end if self._tail else partial(self._to_place, top))
        self.refresh()

    @property
    def _top(self) -> int:
        """The place of the text that the line on top begins with."""
        line = self.scroll_offset.y
        return self._spans[line][0] if line < len(self._spans) else 0

    def find(self, wanted: str) -> None:
        """Look for this from now on, whatever its case, and go to the first place from the top line on."""
        self._wanted = wanted
        self._look()
        top = self._top
        self._hit = next((index for index, (begin, _) in enumerate(self._hits) if begin >= top), 0)
        self._to_hit()

    def action_hit(self, by: int) -> None:
        if self._hits:
            self._hit = (self._hit + by) % len(self._hits)
            self._to_hit()

    def action_forget(self) -> None:
        self.find("")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "hit":
                return bool(self._hits)
            case "forget":
                return bool(self._wanted)
            case _:
                return True

    def to_last(self, kind: LineKind) -> None:
        """Go to the last line that tells this; to the end if none does."""
        lines = [index for index, tells in enumerate(self._kinds) if tells == kind]
        self._tail = not lines
        self.call_after_refresh(self._centre, lines[-1] if lines else len(self._spans))

    def _look(self) -> None:
        shown = self._shown
        hits = re.finditer(re.escape(self._wanted), shown, re.IGNORECASE) if self._wanted else ()
        self._hits = [hit.span() for hit in hits]
        self._hit = min(self._hit, max(0, len(self._hits) - 1))
        self._count()

    def _count(self) -> None:
        if self._wanted:
            here = f"{self._hit + 1} of {len(self._hits):,}" if self._hits else "nowhere"
            subtitle(self, f"“{one_line(self._wanted)}”: {here}")
        else:
            subtitle(self, self.coloured)

    def _to_hit(self) -> None:
        self._count()
        if self._hits:
            self._tail = False
            self._centre(bisect_right(self._spans, self._hits[self._hit][0], key=lambda span: span[0]) - 1)
        self.refresh()
        self.screen.refresh_bindings()

    def _centre(self, line: int) -> None:
        top = line - self.scrollable_content_region.height // 2
        self.scroll_to(y=max(0, top), animate=False, immediate=True, force=True)

    def render_line(self, y: int) -> Strip:
        index = y + self.scroll_offset.y
        plain, width = self.rich_style, self.scrollable_content_region.width
        if index >= len(self._spans):
            return Strip.blank(width, plain)
        position, end = self._spans[index]
        if count := self._hidden[index]:
            found = any(a < end and b > position for a, b in self._hits)
            line = f"  ⋯ {count:,} line{'s' * (count > 1)}"
            return Strip([Segment(line, plain + (_FOUND if found else STYLES["prompt"]))]).adjust_cell_length(
                width, plain
            )
        tells = self._kinds[index]
        base = plain if tells is None else plain + KINDS[tells]
        inside = [part for part in self._parts if part[0] < end and part[1] > position]
        sign = next((_SIGNS[name] for a, b, name in inside if a <= position < b and name in _SIGNS), "  ")
        segments = [Segment(sign, plain + STYLES["join" if sign[0] == "┃" else "prompt"])]
        if position > 0 and self._shown[position - 1] != "\n":
            segments.append(Segment(" " * _INDENT, plain))
        if not inside and not self._hits:
            segments.append(Segment(self._shown[position:end], base))
            return Strip(segments).adjust_cell_length(width, plain)
        text = Text(self._shown[position:end], base, end="")
        for a, b, name in inside:
            if tells is None or name not in _ORIGINS:
                text.stylize(STYLES[name], max(0, a - position), b - position)
        for a, b in self._hits[bisect_right(self._hits, position, key=lambda hit: hit[1]) :]:
            if a >= end:
                break
            here = (a, b) == self._hits[self._hit]
            text.stylize(_HERE if here else _FOUND, max(0, a - position), b - position)
        # What has no styles of its own comes out without the text's.
        segments += (Segment(part, base + style if style else base) for part, style, _ in text.render(self.app.console))
        return Strip(segments).adjust_cell_length(width, plain)


def wrap(paragraph: str, width: int) -> list[tuple[int, int]]:
    """A paragraph cut at spaces, or within a word that is longer than a line; later lines are indented."""
    lines: list[tuple[int, int]] = []
    start = 0
    while (fits := _fit(paragraph, start, width)) < len(paragraph):
        space = paragraph.rfind(" ", start + 1, fits + 1)
        end = space if space > start else fits
        if not lines:
            width = max(2, width - _INDENT)
        lines.append((start, end))
        start = end + (1 if space > start else 0)
    return [*lines, (start, len(paragraph))]


def _fit(text: str, start: int, width: int) -> int:
    """Where the characters that fit so many columns end; at least one does."""
    end = min(len(text), start + width)
    if text.isascii():
        return end
    used = 0
    for place in range(start, end):
        used += cell_len(text[place])
        if used > width:
            return max(place, start + 1)
    return end
