"""The line that a problem is typed in: a field of it, and what is pasted cut for its fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from apr.task import Field

_COMMAND = re.compile(r"^\s*[$%>]?\s*apr\s+solve\s+")


def spread(text: str, fields: Sequence[Field]) -> list[str]:
    """A text cut for the fields, at most one part for each: at an equals sign, an arrow, a line break, or the option of
    a later field, as in a command of `apr solve`. A form of one field takes the first line as it is."""
    text = _COMMAND.sub("", text.strip())
    if len(fields) == 1:
        return text.splitlines()[:1]
    options = "|".join(rf"--{re.escape(field.name)}[\s=]|-{field.name[0]}\s" for field in fields[1:])
    parts = re.split(rf"\s*(?:{options}|={{1,2}}|→|->|[\r\n]+)\s*", text)
    return [part for part in parts if part][: len(fields)]


class FieldInput(Input):
    """Takes the characters of its field, and keeps all other letters from being commands.

    Keys are handled in the order they come, those that edit too: a screen hears of what a field leaves to it after
    later letters were typed."""

    class Unwanted(Message):
        """Somebody typed a character that the field does not take."""

        def __init__(self, field: FieldInput) -> None:
            super().__init__()
            self.field = field

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.threads", "Leave the form", tooltip="leave the form; letters are commands then")
    ]

    def __init__(self, field: Field, example: str) -> None:
        super().__init__(placeholder=example, id=f"ask-{field.name}", compact=True)
        self.field = field
        self.heir: FieldInput | None = None
        """The field behind it."""
        self._handed_on = False
        """What is typed is for the field behind it, though the focus may still be here."""
        self.styles.width = "1fr" if field.width is None else field.width

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return character is not None and character.isprintable()

    def on_focus(self) -> None:
        self._handed_on = False

    async def _on_key(self, event: events.Key) -> None:
        if self._handed_on and self.heir is not None:
            event.prevent_default()
            event.stop()
            self.heir.post_message(events.Key(event.key, event.character))
        elif event.is_printable:
            if self.field.keys and (event.character or "") not in self.field.keys:
                event.prevent_default()
                event.stop()
                if event.character == "=" and self.heir is not None:
                    self._hand_on()
                else:
                    self.post_message(self.Unwanted(self))
        elif event.key == "enter" and self.value.strip() and self.heir is not None and not self.heir.value.strip():
            event.prevent_default()
            event.stop()
            self._hand_on()
        elif (bound := self._own(event.key)) is not None:
            event.prevent_default()
            event.stop()
            await self.run_action(bound.action)

    def _own(self, key: str) -> Binding | None:
        return next(iter(self._bindings.key_to_bindings.get(key, ())), None)

    def _hand_on(self) -> None:
        if self.heir is not None:
            self._handed_on = True
            self.screen.set_focus(self.heir)

    def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        fields = [self]
        while (heir := fields[-1].heir) is not None:
            fields.append(heir)
        texts = spread(event.text, [field.field for field in fields])
        for field, text in zip(fields, texts, strict=False):
            if field is self and len(texts) == 1:
                field.replace(text, *field.selection)
            else:
                field.value = text
                field.cursor_position = len(text)
        for field in fields[: len(texts) - 1]:
            field._hand_on()
