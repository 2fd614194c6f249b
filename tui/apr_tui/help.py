"""The keys of a screen, as its bindings tell them."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from apr_tui.keys import Keys

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
        for shown, what in [*rows(self._below).items(), *_LISTS]:
            keys.add_row(Text(shown, "bold"), Text(what))
        with VerticalScroll(id="help"):
            yield Static(self._about, markup=False, classes="about")
            yield Static(keys)
        yield Keys()


def rows(screen: Screen[object]) -> dict[str, str]:
    """What each key does, of the screen and of its parts, by how it is written."""
    told: dict[str, list[str]] = {}
    for binding in [*_told(screen), *_told_inside(screen)]:
        told.setdefault(screen.app.get_key_display(binding), []).append(binding.tooltip)
    return {shown: "; or ".join(does) for shown, does in told.items()}


def commands(screen: Screen[object]) -> list[tuple[str, str, str]]:
    """What can be done on a screen: name, explanation, action."""
    return [(binding.description, binding.tooltip, binding.action) for binding in _told(screen)]


def _told(node: DOMNode) -> list[Binding]:
    """The bindings that explain themselves, each action once."""
    return list({b.action: b for _, b in reversed(list(node._bindings)) if b.tooltip}.values())[::-1]


def _told_inside(screen: Screen[object]) -> list[Binding]:
    """Those of the parts of a screen, each kind of part once."""
    return [binding for part in {type(part): part for part in screen.query("*")}.values() for binding in _told(part)]
