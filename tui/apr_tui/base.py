"""What all screens share: the pace they draw at, help, pictures, leaving."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from apr_tui.help import HelpScreen

FRAME = 1 / 15
"""Seconds from one picture to the next. A terminal that is slower is asked less often: nothing queues."""


class WatchScreen(Screen[object]):
    """A screen that looks for what has come, takes it in and draws, once a frame."""

    ABOUT = ""
    """What the help says of the screen."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "Next part", show=False, priority=True),
        Binding("x", "picture", "Picture", tooltip="write the screen to an SVG file", show=False),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="the keys of this screen"),
        Binding("ctrl+c,ctrl+q", "app.quit", "Quit", show=False, priority=True),
        Binding("q", "app.quit", "Quit", tooltip="leave"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._last = time.monotonic()

    def on_mount(self) -> None:
        self.set_interval(FRAME, self._frame)
        self.tick(0.0)

    def _frame(self) -> None:
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        self.tick(seconds)

    def tick(self, seconds: float) -> None:
        """Take in what has come in so many seconds, and draw it."""
        # Not by abc: the metaclass is Textual's.
        raise NotImplementedError

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self, self.ABOUT))

    def action_picture(self) -> None:
        path = free_path("apr", ".svg")
        path.write_text(self.app.export_screenshot(title="apr"))
        self.notify(f"the screen is in {path}")


def free_path(name: str, suffix: str) -> Path:
    """A file of this name in the working directory that is not there yet."""
    paths = (Path(f"{name}{f'-{i}' if i else ''}{suffix}") for i in range(10_000))
    return next(path for path in paths if not path.exists())
