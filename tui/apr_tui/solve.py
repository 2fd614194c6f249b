"""The screen that asks for a problem and solves it, and compares two ways to."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Label, Static

from apr.form import draw, example, fill, form_of, read
from apr.task import Task
from apr.threads.events import EventLog
from apr_tui.changes import write
from apr_tui.dialogs import SettingsScreen
from apr_tui.feed import Refused, Solve
from apr_tui.form import FieldInput
from apr_tui.log import Library
from apr_tui.memory import Memory
from apr_tui.pane import SearchPane
from apr_tui.search import SearchScreen
from apr_tui.settings import Models, Settings, after
from apr_tui.threads import ThreadList
from apr_tui.track import Track

_INVITATION = "Enter tries the example, Ctrl+R a random one"


class SolveScreen(SearchScreen):
    """Solve what the form says, and compare two ways to."""

    AUTO_FOCUS = "FieldInput"
    ABOUT = f"{SearchScreen.ABOUT} Options and settings are of the active one of two searches."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", tooltip="type in another problem"),
        Binding("r,ctrl+r", "random", "Random", tooltip="solve a random problem of the test split"),
        Binding("d", "difficulty", "Kind", tooltip="which problems are drawn at random"),
        Binding("s", "again", "Again", tooltip="solve the same problem again"),
        Binding("o,ctrl+o", "options", "Options", tooltip="how to search: method, budget, temperature and others"),
        Binding("c", "compare", "Compare", tooltip="two searches side by side, or one"),
    ]

    def __init__(self, models: Models, settings: Settings | None = None, memory: Memory | None = None) -> None:
        self._folder = TemporaryDirectory(prefix="apr-solve-", ignore_cleanup_errors=True)
        self._log = EventLog(Path(self._folder.name) / "events.jsonl")
        self.asked: Task[Any] = models.task("apr" if settings is None else settings.method)
        rule = form_of(self.asked).rule
        super().__init__([Track(Library(self._log.path))], f"{rule}: {_INVITATION}" if rule else _INVITATION)
        self.models = models
        self.settings = [Settings.of("apr", models.form("apr")) if settings is None else settings]
        self.kind = next(iter(form_of(self.asked).kinds), None)
        """Which problems are drawn at random; None: all."""
        self._memory = Memory() if memory is None else memory
        self._solves: list[Solve] = []
        self._hint: str | None = None
        """What was said of a character that a field does not take."""
        self._awaited = False
        """The threads of a search that was begun are still to be shown."""

    def compose_form(self) -> ComposeResult:
        fields = form_of(self.asked).fields
        inputs = [FieldInput(field, text) for field, text in zip(fields, example(self.asked), strict=True)]
        for field, heir in pairwise(inputs):
            field.heir = heir
        with Horizontal(id="form"):
            for field in inputs:
                yield Label(f"{' ' * (field is not inputs[0])}{field.field.name} ", markup=False)
                yield field
            yield Static("", id="how", markup=False)

    async def on_unmount(self) -> None:
        for solve in self._solves:
            solve.stop()
        for solve in self._solves:
            await solve.wait()
        self._log.close()
        self._folder.cleanup()

    def draw(self) -> None:
        write(self.query_one("#how", Static), f" {' · '.join(self.settings[self._active].parts())}")
        super().draw()
        if not self._awaited or self.track.shown.view is None:
            return
        for threads in list(self.query(ThreadList))[self._active :][:1]:
            if threads.region:
                self._awaited = False
                if self.focused is None:
                    self.set_focus(threads)

    def note(self, track: Track) -> str:
        return super().note(track) if track.shown.view is not None or track.searching else ""

    @property
    def _fields(self) -> list[FieldInput]:
        """The form's, in order."""
        return list(self.query(FieldInput))

    def on_field_input_unwanted(self, message: FieldInput.Unwanted) -> None:
        field = message.field.field
        self._hint = self.complaint = f"{field.name} takes {field.says}; Esc leaves the form, and letters are keys then"
        self.draw()

    def on_input_changed(self) -> None:
        if self.complaint is not None and self.complaint == self._hint:
            self.complaint = None

    def on_input_submitted(self) -> None:
        self.action_again()

    def action_again(self) -> None:
        self.complaint = None
        try:
            if any(track.searching for track in self.tracks):
                raise Refused("a search is running; Esc stops it")
            problem = read(self.asked, self._entered())
        except (Refused, ValueError) as refused:
            self.complaint = str(refused)
            self.draw()
            return
        self._solves = [Solve(self.models, problem, settings, self._log) for settings in self.settings]
        for track, solve in zip(self.tracks, self._solves, strict=True):
            track.start(solve)
        # Threads are hidden until there are new ones, which then have the keys: not the form, which would take letters.
        self.set_focus(None)
        self._awaited = True
        self.draw()

    def _entered(self) -> list[str]:
        """What the form says: the example that an empty one shows."""
        fields = self._fields
        if not any(field.value.strip() for field in fields):
            for field in fields:
                field.value = field.placeholder
        return [field.value for field in fields]

    def action_new(self) -> None:
        first = self._fields[0]
        self.set_focus(first)
        first.action_end()

    def action_random(self) -> None:
        try:
            texts = fill(self.asked, draw(self.asked, self.kind))
        except ValueError as error:
            self.notify(str(error), markup=False)
            return
        for field, text in zip(self._fields, texts, strict=True):
            field.value = text
        self.action_again()

    def action_difficulty(self) -> None:
        kinds = form_of(self.asked).kinds
        if self.kind is not None:
            self.kind = after(list(kinds), self.kind)
            self.notify(f"random problems are {self.kind}: {kinds[self.kind].says}", markup=False)

    def action_options(self) -> None:
        index = self._active
        title = f"how to search{', ' + ('left' if index == 0 else 'right') if len(self.settings) > 1 else ''}"

        def take(settings: Settings | None) -> None:
            if settings is None or index >= len(self.settings):
                return
            self.settings[index] = settings
            if index == 0:
                # Each task has budgets of its own.
                kept = self._memory.get("settings")
                others = kept if isinstance(kept, dict) else {}
                self._memory.keep("settings", {**others, self.asked.name: settings.texts()})
            self.draw()

        self.app.push_screen(SettingsScreen(self.settings[index], self.models.form, title), take)

    def action_threads(self) -> None:
        self.set_focus(list(self.query(ThreadList))[self._active])

    async def action_compare(self) -> None:
        panes = self.query_one("#panes")
        if any(track.searching for track in self.tracks):
            self.notify("a search is running; Esc stops it")
        elif len(self.tracks) == 1:
            other = SearchPane(
                "s starts both; c ends the comparison; options are those of the search that has the focus"
            )
            self.tracks.append(Track(Library(self._log.path)))
            self.settings.append(self.settings[0].other(self.models.form))
            await panes.mount(other)
            self.draw()
        else:
            self._active = 0
            self.tracks.pop()
            self.settings.pop()
            await list(self.query(SearchPane))[-1].remove()
            self.draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "difficulty":
                return self.kind is not None
            case "stop" | "live" if isinstance(self.focused, FieldInput):
                return False
            case "replay" if any(track.searching for track in self.tracks):
                return False
            case "again" | "random" | "compare":
                return not any(track.searching for track in self.tracks)
            case _:
                return super().check_action(action, parameters)
