"""What a screen asks: how to search, and whether to leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

from apr.task import Form, Method
from apr_tui.keys import Keys
from apr_tui.plain import one_line
from apr_tui.settings import METHODS, Settings, after, presets
from apr_tui.text import ThreadText

_MEANS = {
    "method": "threads that it spawns, or one after the other",
    "budget": "what the prompt asks for",
    "temperature": "0: greedy",
    "seed": "of what is sampled",
    "join": "wait for all children, or for the first solution",
    "engine": "what runs the model",
}


class SettingsScreen(ModalScreen[Settings | None]):
    """How to search, a line a setting; any value can be typed in."""

    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Accept", priority=True),
        Binding("escape", "dismiss", "Cancel"),
        Binding("up", "app.focus_previous", "Move", key_display="↑↓", priority=True),
        Binding("down", "app.focus_next", "Move", show=False, priority=True),
        Binding("ctrl+n,pagedown", "preset(1)", "Other value", key_display="PgUp PgDn"),
        Binding("ctrl+p,pageup", "preset(-1)", "Value before", show=False),
    ]

    def __init__(self, settings: Settings, form: Callable[[Method], Form], title: str) -> None:
        super().__init__()
        self._settings, self._form, self._title = settings, form, title

    def compose(self) -> ComposeResult:
        form = self._form(self._settings.method)
        with VerticalScroll(classes="dialog") as box:
            box.border_title = Content(one_line(self._title))
            box.can_focus = False
            for name, text in self._settings.texts().items():
                with Horizontal():
                    yield Label(name)
                    yield Input(text, id=f"set-{name}", compact=True, select_on_focus=True)
                    means = f"{form.unit or _MEANS[name]}" if name == "budget" else _MEANS[name]
                    yield Static(f"{', '.join(presets(name, form))} · {means}", markup=False, classes="means")
            yield Static("", id="fault", markup=False)
        yield Keys()

    def _texts(self) -> dict[str, str]:
        return {field.name: self.query_one(f"#set-{field.name}", Input).value for field in fields(Settings)}

    def action_preset(self, by: int) -> None:
        field = self.focused
        if isinstance(field, Input) and field.id is not None:
            method = self._texts()["method"]
            form = self._form("sos+" if method == METHODS[1] else "apr")
            field.value = after(presets(field.id.removeprefix("set-"), form), field.value.strip(), by)

    def action_accept(self) -> None:
        try:
            settings = Settings.read(self._texts())
        except ValueError as error:
            self.query_one("#fault", Static).update(Content(one_line(str(error))))
            return
        self.dismiss(settings)


class LeaveScreen(ModalScreen[bool]):
    """Whether to leave although a search runs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,y,enter", "dismiss(True)", "Leave", key_display="q"),
        Binding("escape,n", "dismiss(False)", "Stay", key_display="Esc"),
    ]

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title = "leave?"
            yield Static("A search is running. Leaving ends it; its log is lost unless it was saved (w).")
        yield Keys()


class FindScreen(ModalScreen[None]):
    """Asks what to look for in a text, and goes there while it is typed."""

    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "done", "Go on with n and N", priority=True),
        Binding("escape", "drop", "Look for nothing"),
    ]

    def __init__(self, text: ThreadText) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with Horizontal(id="find"):
            yield Label("/")
            yield Input(compact=True)
        yield Keys()

    def on_input_changed(self, message: Input.Changed) -> None:
        self._text.find(message.value)

    def action_done(self) -> None:
        self.dismiss()
        self._text.focus()

    def action_drop(self) -> None:
        self._text.find("")
        self.dismiss()
