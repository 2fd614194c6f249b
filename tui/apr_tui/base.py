"""What all screens share: the pace they draw at, help, pictures, leaving."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from apr_tui.dialogs import FindScreen
from apr_tui.help import HelpScreen
from apr_tui.text import ThreadText

FRAME = 1 / 15
"""Seconds from one picture to the next. A terminal that is slower is asked less often: nothing queues."""
_LATEST = 4 * FRAME
"""What a picture that comes late makes up for at most: a replay skips nothing that nobody saw."""


class WatchScreen(Screen[object]):
    """A screen that looks for what has come, takes it in and draws, once a frame."""

    ABOUT = ""
    """What the help says of the screen."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "Next part", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", "Part before", show=False, priority=True),
        Binding("x", "picture", "Picture", tooltip="write the screen to an SVG file", show=False),
        Binding("f", "fold", "Fold", tooltip="leave the steps out of the text, or show them again"),
        Binding(
            "slash",
            "find",
            "Find",
            key_display="/",
            tooltip="look for words in the text; n and N go on, esc forgets them",
        ),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="the keys of this screen"),
        Binding("f1", "help", "Help"),
        Binding("ctrl+c,ctrl+q", "app.quit", "Quit", show=False, priority=True),
        Binding("q", "quit", "Quit", tooltip="leave; asks while a search runs"),
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
        self.tick(min(seconds, _LATEST))

    def tick(self, seconds: float) -> None:
        """Take in what has come in so many seconds, and draw it."""
        # Not by abc: the metaclass is Textual's.
        raise NotImplementedError

    async def action_quit(self) -> None:
        self.app.exit()

    @property
    def reading(self) -> ThreadText | None:
        """The text on screen that keys are for, if there is one."""
        texts = [text for text in self.query(ThreadText) if text.region]
        return next((text for text in texts if text is self.focused), texts[0] if texts else None)

    def action_find(self) -> None:
        if (text := self.reading) is not None:
            self.app.push_screen(FindScreen(text))

    def action_fold(self) -> None:
        if (text := self.reading) is not None:
            text.fold()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "find":
                return self.reading is not None
            case "fold":
                return (text := self.reading) is not None and text.foldable
            case _:
                return True

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self, self.ABOUT))

    def action_picture(self) -> None:
        def write(path: Path) -> str:
            path.write_text(self.app.export_screenshot(title="apr"), encoding="utf-8")
            return f"the screen is in {path}"

        self.keep("apr", ".svg", write)

    def keep(self, name: str, suffix: str, write: Callable[[Path], str]) -> None:
        """Write a file that is not there yet, and say what `write` says of it, or why it could not be written."""
        path = None
        try:
            path = free_path(name, suffix)
            self.notify(write(path), markup=False)
        except OSError as error:
            self.notify(f"nothing is kept: {error.strerror or error}", severity="error", markup=False)
            if path is not None:
                with suppress(OSError):
                    path.unlink()


def free_path(name: str, suffix: str) -> Path:
    """A file of this name in the working directory that is not there yet. OSError if there are too many."""
    for i in range(10_000):
        path = Path(f"{name}{f'-{i}' if i else ''}{suffix}")
        if not path.exists():
            return path
    raise FileExistsError(f"all names from {name}{suffix} on are taken")
