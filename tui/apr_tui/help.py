"""The keys of a screen, as its bindings tell them."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

_LISTS = (
    ("↑ ↓ PgUp PgDn Home End", "move in a list or a text"),
    ("Tab  Shift+Tab", "go to the next or the last part of the screen"),
    ("Ctrl+P", "command palette: everything by its name, and the theme, light or dark"),
)


class HelpScreen(ModalScreen[None]):
    """Lists the keys of the screen below."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "Close")]

    def __init__(self, screen: Screen[object], about: str) -> None:
        super().__init__()
        self._below = screen
        self._about = about

    def compose(self) -> ComposeResult:
        keys = Table.grid(padding=(0, 2))
        for binding in _told(self._below):
            keys.add_row(Text(self.app.get_key_display(binding), "bold"), Text(binding.tooltip))
        for shown, what in _LISTS:
            keys.add_row(Text(shown, "bold"), Text(what))
        with VerticalScroll(id="help"):
            yield Static(self._about, markup=False, classes="about")
            yield Static(keys)


def commands(screen: Screen[object]) -> list[tuple[str, str, str]]:
    """What can be done on a screen: name, explanation, action."""
    return [(binding.description, binding.tooltip, binding.action) for binding in _told(screen)]


def _told(screen: Screen[object]) -> list[Binding]:
    """The bindings that explain themselves, each action once."""
    return list({b.action: b for _, b in reversed(list(screen._bindings)) if b.tooltip}.values())[::-1]
