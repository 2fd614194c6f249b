"""The app around the screens: what they share is in the command palette."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from textual.app import App, SystemCommand
from textual.screen import Screen

from apr_tui.base import WatchScreen
from apr_tui.help import commands
from apr_tui.memory import Memory
from apr_tui.settings import Models

THEMES = {"light": "textual-light", "dark": "textual-dark"}
"""Short names of themes."""


class AprApp(App[None]):
    """One screen, and models that are closed at the end."""

    CSS_PATH = "apr.tcss"
    TITLE = "apr"

    def __init__(self, screen: WatchScreen, models: Models | None = None, memory: Memory | None = None) -> None:
        """`memory` holds the theme."""
        super().__init__()
        self.first = screen
        self._models = models
        self._memory = Memory() if memory is None else memory

    def on_mount(self) -> None:
        theme = self._memory.get("theme")
        if isinstance(theme, str) and theme in self.available_themes:
            self.theme = theme
        self.theme_changed_signal.subscribe(self, lambda theme: self._memory.keep("theme", theme.name))
        self.push_screen(self.first)

    async def on_unmount(self) -> None:
        if self._models is not None:
            await self._models.close()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield SystemCommand("Theme", "Change the colours: light, dark and others", self.action_change_theme)
        for name, theme in THEMES.items():
            yield SystemCommand(f"{name.capitalize()} theme", f"Colours for a {name} room", partial(self._paint, theme))
        for name, what, action in commands(screen):
            yield SystemCommand(name, what, lambda action=action: self.run_action_of(screen, action))

    def _paint(self, theme: str) -> None:
        self.theme = theme

    async def run_action_of(self, screen: Screen[object], action: str) -> None:
        """Do what a key of the screen does."""
        await self.run_action(action, screen)
