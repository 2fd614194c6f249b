"""The app around the screens: what they share is in the command palette."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import App, SystemCommand
from textual.screen import Screen

from apr_tui.base import WatchScreen
from apr_tui.help import commands
from apr_tui.settings import Models


class AprApp(App[None]):
    """One screen, and models that are closed at the end."""

    CSS_PATH = "apr.tcss"
    TITLE = "apr"

    def __init__(self, screen: WatchScreen, models: Models | None = None) -> None:
        super().__init__()
        self.first = screen
        self._models = models

    def on_mount(self) -> None:
        self.push_screen(self.first)

    async def on_unmount(self) -> None:
        if self._models is not None:
            await self._models.close()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield SystemCommand("Theme", "Change the colours: light, dark and others", self.action_change_theme)
        for name, what, action in commands(screen):
            yield SystemCommand(name, what, lambda action=action: self.run_action_of(screen, action))

    async def run_action_of(self, screen: Screen[object], action: str) -> None:
        """Do what a key of the screen does."""
        await self.run_action(action, screen)
