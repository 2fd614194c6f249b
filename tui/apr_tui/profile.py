"""How many threads were at work over time, as it stands below their lanes."""

from __future__ import annotations

from rich.text import Text
from textual.widget import Widget

from apr.threads.lanes import at, average, busy
from apr_tui.plain import pad
from apr_tui.state import View
from apr_tui.timeline import area


class Profile(Widget):
    """Draws it as wide as the lanes above it, with its figures beside."""

    def __init__(self) -> None:
        super().__init__(classes="profile")
        self.border_title = "threads at work"
        self._whole: View | None = None
        self._now: float | None = None
        self._lanes = 0
        self._length = 0.0
        self._steps: list[tuple[float, int]] = []

    def show(self, whole: View | None, now: float | None, lanes: int, length: float) -> None:
        """Draw all that is known of a rollout, of which the moment `now` is shown; None: its end. The lanes above take
        so many columns, and so many seconds, or those of the rollout if they are more."""
        known = 0.0 if whole is None else whole.seconds
        length = max(length, known)
        if whole is self._whole and (now, lanes, length) == (self._now, self._lanes, self._length):
            return
        if whole is not self._whole:
            self._steps = [] if whole is None else busy(whole.lanes.values(), known)
        self._whole, self._now, self._lanes, self._length = whole, now, lanes, length
        self.refresh()

    def render(self) -> Text:
        width, height = self.content_size
        lanes = min(self._lanes, width)
        if self._whole is None or not self._steps or not lanes or not height:
            return Text("")
        told = [
            f"{average(self._steps, 0.0, self._whole.seconds):.1f} on average",
            f"{max(count for _, count in self._steps)} at most",
        ]
        if self._now is not None:
            told.insert(0, f"{at(self._steps, self._now)} at {self._now:.2f} s")
        text = Text(no_wrap=True, end="")
        for index, line in enumerate(area(self._steps, self._length, lanes, height, self._now)):
            said = told[index] if index < len(told) else ""
            text.append(("\n" if index else "") + pad(f" {said}", width - lanes), "dim").append_text(line)
        return text
