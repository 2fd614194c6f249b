"""A search as it is drawn: what is asked, how it stands, its threads, the text of one, its meters."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.geometry import Size
from textual.widgets import Static

from apr_tui.changes import entitle, write
from apr_tui.figures import caption, meters, title
from apr_tui.plain import clean, one_line
from apr_tui.profile import Profile
from apr_tui.text import ThreadText
from apr_tui.threads import ThreadList
from apr_tui.track import Track
from apr_tui.verdict import Tone, headline

_TONES: dict[Tone, str] = {
    "plain": "",
    "good": "bold $text-success",
    "bad": "bold $text-error",
    "warning": "bold $text-warning",
}
_ABOUT = "A search is shown as its threads, what each did when, and what it wrote."
_NARROW = 132
"""Columns below which text stands under the threads."""
_LOW = 30
"""Lines of threads and text below which there is no room for a profile where they stand over each other."""
_PROFILE = 6
"""Lines of one there, borders included."""


class SearchPane(Vertical):
    """Draws a track. `invitation` is said while there is nothing to draw."""

    def __init__(self, invitation: str = "") -> None:
        super().__init__(classes="search")
        self.invitation = invitation
        self._needed = 0
        """Lines for all threads, borders included."""

    def compose(self) -> ComposeResult:
        yield Static("", classes="title", markup=False)
        yield Static("", classes="headline", markup=False)
        yield Static(f"{self.invitation}\n\n{_ABOUT}" if self.invitation else "", classes="welcome", markup=False)
        with Container(classes="body"):
            with Vertical(classes="tree"):
                yield ThreadList()
                yield Profile()
            yield ThreadText()
        yield MeterLine()

    def on_resize(self) -> None:
        self.query_one(".body").set_class(self.size.width < _NARROW, "-narrow")
        self.call_after_refresh(self._arrange)

    @property
    def _whole(self) -> bool:
        """Its parts are there: a frame may come before them, or after they are gone."""
        return self.is_mounted and bool(self.children)

    def _arrange(self) -> None:
        """Give the threads the lines they need, as far as there are as many."""
        if not self._whole:
            return
        lines = self.query_one(".body").size.height
        tree, threads, profile = self.query_one(".tree"), self.query_one(ThreadList), self.query_one(Profile)
        narrow = self.size.width < _NARROW
        needed, room = self._needed, max(5, lines * 3 // 5)
        profile.display = threads.lane_width > 0 and (not narrow or (lines >= _LOW and needed + _PROFILE <= room))
        tree.styles.height = min(room, needed + _PROFILE * profile.display) if narrow else "1fr"
        threads.styles.height = "1fr" if narrow or not profile.display else min(max(5, lines - _PROFILE), needed)

    def draw(
        self,
        track: Track,
        *,
        complaint: str | None = None,
        note: str = "",
        reveal: bool = False,
        seconds: float = 0.0,
        threads: int = 0,
    ) -> None:
        """Draw it as it is now; `note` stands behind the title. With `reveal`, a solution it did not find is told.
        There is room for so many seconds and threads, as one beside it may need."""
        if not self._whole:
            return
        state, view = track.shown, track.shown.view
        asked = one_line(title(view)) if view is not None else ""
        write(self.query_one(".title", Static), " · ".join(part for part in (asked, note) if part))
        write(self.query_one(".headline", Static), _headline(track, complaint, reveal))
        self.query_one(".welcome").display = view is None
        self.query_one(".body").display = view is not None
        thread = None if view is None else view.tree.threads.get(state.thread)
        tree, text = self.query_one(ThreadList), self.query_one(ThreadText)
        now = track.player.now if track.player is not None and track.replaying else None
        tree.show(view, state.thread, track.capacity, whole=track.whole, now=now, length=seconds)
        needed = max(threads, tree.count) + (tree.head is not None) + 2
        if needed != self._needed:
            self._needed = needed
            self._arrange()
        self.query_one(Profile).show(track.whole, now, tree.lane_width, seconds)
        self.query_one(MeterLine).show([] if view is None else meters(view).parts())
        if view is None or thread is None:
            entitle(text, "")
            text.show(None, "", (), tail=False)
        else:
            entitle(text, one_line(caption(thread, track.capacity)))
            key = (str(state.rollout), thread.id)
            tell = None if view.shown is None else view.shown.line_kind
            # A quick search is over before it is first drawn.
            tail = thread.reason is None or (thread.parent is None and state.rollout == track.searched)
            text.show(key, thread.text, view.forced[thread.id], tail=tail, tell=tell)


def _headline(track: Track, complaint: str | None, reveal: bool) -> Content:
    tone: Tone
    state = track.shown
    problem = complaint or state.problem or track.complaint
    if problem is not None:
        said, tone = problem, "bad"
    elif state.view is None:
        said, tone = track.loading or "", "plain"
    else:
        said, tone = headline(state.view, reveal=reveal, past=track.replaying and track.paused)
    return Content.styled(one_line(said), _TONES[tone])


class MeterLine(Static):
    """Figures, in as few lines as the width allows."""

    def __init__(self, classes: str = "meters") -> None:
        super().__init__("", classes=classes, markup=False)
        self._parts: list[str] = []

    def show(self, parts: Sequence[str]) -> None:
        if list(parts) != self._parts:
            self._parts = list(parts)
            self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width))

    def render(self) -> str:
        return "\n".join(self._lines(self.content_size.width))

    def _lines(self, width: int) -> list[str]:
        return pack([clean(part) for part in self._parts], " · ", max(1, width))


def pack(parts: Sequence[str], between: str, width: int) -> list[str]:
    """Parts joined into lines that fit the width, in order, each as full as it gets."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(between) + len(part) <= width:
            lines[-1] += between + part
        else:
            lines.append(part)
    return lines
