"""The keys that do something now, in as many lines as they need."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget

_BETWEEN = "  "


class Keys(Widget):
    """A screen's footer: each action once, by its first key; a click does what the key does."""

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        if screen is self.screen:
            self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width))

    def render(self) -> Text:
        return Text("\n").join(self._lines(self.content_size.width))

    def _lines(self, width: int) -> list[Text]:
        lines = [Text(no_wrap=True, end="")]
        for key, shown, does in self._told():
            item = Text(f"{shown} {does}", Style(meta={"@click": f"app.simulate_key('{key}')"}), end="")
            item.stylize("bold", 0, len(shown))
            if lines[-1] and lines[-1].cell_len + len(_BETWEEN) + item.cell_len > width:
                lines.append(Text(no_wrap=True, end=""))
            lines[-1].append(_BETWEEN if lines[-1] else "").append_text(item)
        return lines

    def _told(self) -> list[tuple[str, str, str]]:
        """Key, how it is written, and what it does."""
        told: dict[str, tuple[str, str, str]] = {}
        for key, active in self.screen.active_bindings.items():
            binding = active.binding
            if binding.show and active.enabled and binding.action not in told:
                told[binding.action] = (key, self.app.get_key_display(binding), binding.description)
        return list(told.values())
