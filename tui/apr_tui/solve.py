"""The screen of searches: one, or two side by side, that run now or were recorded.

`tracks` is all it shows. The screen owns them and takes events in once a frame; panes only draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from textual import events
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Footer, Input, Label, Static

from apr.form import draw, example, fill, form_of, read
from apr.task import Field, Task
from apr.threads.events import EventLog
from apr_tui.base import WatchScreen
from apr_tui.feed import Refused, Solve
from apr_tui.lines import LineList
from apr_tui.log import Library, Player
from apr_tui.pane import SearchPane
from apr_tui.settings import Models, Settings, after
from apr_tui.threads import ThreadList
from apr_tui.track import Track

_INVITATION = "Enter tries the example, r a random one"


class FieldInput(Input):
    """Takes the characters of its field; other keys are the screen's."""

    def __init__(self, field: Field, example: str) -> None:
        super().__init__(placeholder=example, id=f"ask-{field.name}", compact=True)
        self._keys = field.keys
        self.styles.width = "1fr" if field.width is None else field.width

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return character is not None and (character in self._keys if self._keys else character.isprintable())

    async def _on_key(self, event: events.Key) -> None:
        if event.is_printable and not self.check_consume_key(event.key, event.character):
            event.prevent_default()


class SearchScreen(WatchScreen):
    """Watch threads search: a recorded log, growing or replayed."""

    AUTO_FOCUS = "ThreadList"
    ABOUT = (
        "The threads of a search as a tree: each waits for its children, which run at once. Beside it the text of "
        "the selected one; its margin tells the prompt (│) and what a join put there (┃) from what was sampled. "
        "★ marks the threads the solution came through."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause", tooltip="pause or go on; a running search is paused on screen only"),
        Binding("escape", "stop", "Stop", tooltip="end the search, or skip to the end of a replay"),
        Binding("p", "replay", "Replay", tooltip="play the search from its start as it happened"),
        Binding("plus,equals_sign", "speed(1)", "Faster", key_display="+", show=False, tooltip="replay faster"),
        Binding("minus", "speed(-1)", "Slower", key_display="-", show=False, tooltip="replay slower"),
        Binding("left_square_bracket", "step(-1)", "Earlier", key_display="[", tooltip="the rollout before"),
        Binding("right_square_bracket", "step(1)", "Later", key_display="]", tooltip="the rollout after"),
        Binding("w", "save", "Save log", tooltip="write the events of the search to a file", show=False),
    ]

    def __init__(self, tracks: Sequence[Track], invitation: str = "") -> None:
        super().__init__()
        self.tracks = list(tracks)
        self.complaint: str | None = None
        """What is wrong with the form, in one sentence."""
        self._invitation = invitation
        self._active = 0

    def compose(self) -> ComposeResult:
        yield from self.compose_form()
        with Horizontal(id="panes"):
            for _ in self.tracks:
                yield SearchPane(self._invitation)
        yield Footer(show_command_palette=False)

    def compose_form(self) -> ComposeResult:
        """What stands above the searches."""
        yield from ()

    def tick(self, seconds: float) -> None:
        for track in self.tracks:
            track.tick(seconds)
        self.draw()

    def draw(self) -> None:
        shown = self._shown()
        for index, (track, pane) in enumerate(shown):
            pane.set_class(len(shown) > 1 and index == self._active, "-active")
            pane.draw(track, complaint=self.complaint if index == self._active else None, note=self.note(track))
        state = tuple(self.check_action(name, ()) for name in ("stop", "step"))
        if state != getattr(self, "_offered", None):
            self._offered = state
            self.refresh_bindings()

    def _shown(self) -> list[tuple[Track, SearchPane]]:
        """The searches with their panes; a pane goes a moment later than its search."""
        return list(zip(self.tracks, self.query(SearchPane), strict=False))

    def note(self, track: Track) -> str:
        """What stands behind the title of a search."""
        here, count = track.library.position(track.state.rollout)
        many = f"rollout {here:,} of {count:,}" if count > 1 and here and len(self.tracks) == 1 else ""
        unsaved = f"not logged: {track.unsaved}" if track.unsaved is not None else ""
        return " · ".join(part for part in (many, clock(track), unsaved) if part)

    @property
    def track(self) -> Track:
        """The search that keys are for."""
        return self.tracks[self._active]

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        inside = [index for index, (_, pane) in enumerate(self._shown()) if pane in event.widget.ancestors]
        self._active = inside[0] if inside else self._active

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        track = next((track for track, pane in self._shown() if pane in message.lines.ancestors), None)
        if track is not None and isinstance(message.lines, ThreadList) and message.lines.selected is not None:
            track.select(message.lines.selected)
            self.draw()

    def action_pause(self) -> None:
        paused = not self.track.paused
        for track in self.tracks:
            track.paused = paused

    def action_stop(self) -> None:
        for track in self.tracks:
            track.stop()

    def action_replay(self) -> None:
        for track in self.tracks:
            track.replay(track.player.speed if track.player is not None else 1.0)

    def action_speed(self, by: int) -> None:
        for track in self.tracks:
            if track.player is None:
                track.replay()
            if track.player is not None:
                track.player.faster(by)

    def action_step(self, by: int) -> None:
        self.track.step(by)

    def action_save(self) -> None:
        track = self.track
        if track.unsaved is not None:
            self.notify(f"nothing is kept: {track.unsaved}", severity="error", markup=False)
            return

        def write(path: Path) -> str:
            count = track.save(path)
            return f"{count:,} events are in {path}" if count else "there is nothing to save"

        self.keep(f"apr-{''.join(c for c in str(track.state.rollout) if c.isalnum())}", ".jsonl", write)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "stop":
                return any(track.searching or track.player is not None for track in self.tracks)
            case "step":
                return len(self.tracks) == 1 and len(self.track.library.starts) > 1
            case _:
                return True


class SolveScreen(SearchScreen):
    """Solve what the form says, and compare two ways to."""

    AUTO_FOCUS = "FieldInput"
    ABOUT = f"{SearchScreen.ABOUT} Keys that change how to search act on the active one of two searches."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "next_field", "Search", show=False, priority=True, tooltip="search for what the form says"),
        Binding("n", "new", "New", tooltip="type in another problem"),
        Binding("r", "random", "Random", tooltip="solve a random problem of the test split"),
        Binding("d", "difficulty", "Difficulty", tooltip="which problems are drawn at random", show=False),
        Binding("s", "again", "Again", tooltip="solve the same problem again"),
        Binding("c", "compare", "Compare", tooltip="two searches side by side, or one"),
        Binding("m", "setting('method')", "Method", tooltip="change the method: apr, sos+"),
        Binding("b", "setting('budget')", "Budget", tooltip="change the budget named in the prompt"),
        Binding("t", "setting('temperature')", "Temperature", tooltip="change the temperature", show=False),
        Binding("g", "setting('seed')", "Seed", tooltip="change the seed", show=False),
        Binding("j", "setting('join')", "Join", tooltip="wait for all children, or for the first solution", show=False),
        Binding("e", "setting('engine')", "Engine", tooltip="change the engine: native, torch, sglang", show=False),
    ]

    def __init__(self, models: Models, settings: Settings | None = None) -> None:
        self._folder = TemporaryDirectory(prefix="apr-solve-", ignore_cleanup_errors=True)
        self._log = EventLog(Path(self._folder.name) / "events.jsonl")
        self.asked: Task[Any] = models.task("apr" if settings is None else settings.method)
        rule = form_of(self.asked).rule
        super().__init__([Track(Library(self._log.path))], f"{rule}: {_INVITATION}" if rule else _INVITATION)
        self.models = models
        self.settings = [Settings.of("apr", models.form("apr")) if settings is None else settings]
        self.kind = next(iter(form_of(self.asked).kinds), None)
        """Which problems are drawn at random; None: all."""
        self._solves: list[Solve] = []

    def compose_form(self) -> ComposeResult:
        with Horizontal(id="form"):
            space = ""
            for field, text in zip(form_of(self.asked).fields, example(self.asked), strict=True):
                yield Label(f"{space}{field.name} ", markup=False)
                yield FieldInput(field, text)
                space = " "
            yield Static("", id="how", markup=False)

    async def on_unmount(self) -> None:
        for solve in self._solves:
            solve.stop()
        for solve in self._solves:
            await solve.wait()
        self._log.close()
        self._folder.cleanup()

    def draw(self) -> None:
        self.query_one("#how", Static).update(f" {' · '.join(self.settings[self._active].parts())}")
        super().draw()

    def note(self, track: Track) -> str:
        return super().note(track) if track.state.view is not None or track.searching else ""

    def action_next_field(self) -> None:
        """Enter in a field that is filled leads to the next one, unless that is filled, too.

        It is a priority binding, so that what is typed or pasted right after it already goes there. Any other Enter
        is the field's, which hands it in after what was typed before it."""
        fields = self._fields
        for field, after_it in pairwise(fields):
            if self.focused is field and field.value.strip() and not after_it.value.strip():
                self.set_focus(after_it)
                return
        raise SkipAction

    @property
    def _fields(self) -> list[FieldInput]:
        """The form's, in order."""
        return list(self.query(FieldInput))

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
        self.set_focus(list(self.query(ThreadList))[self._active])
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

    def action_setting(self, field: str) -> None:
        self.settings[self._active] = self.settings[self._active].next(field, self.models.form)
        self.draw()

    async def action_compare(self) -> None:
        panes = self.query_one("#panes")
        if any(track.searching for track in self.tracks):
            self.notify("a search is running; Esc stops it")
        elif len(self.tracks) == 1:
            other: Widget = SearchPane("c ends the comparison; keys change the search that has the focus")
            self.tracks.append(Track(Library(self._log.path)))
            self.settings.append(self.settings[0].next("method", self.models.form))
            await panes.mount(other)
            self.draw()
        else:
            self._active = 0
            self.tracks.pop()
            self.settings.pop()
            await list(self.query(SearchPane))[-1].remove()
            self.draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "difficulty" and self.kind is None:
            return False
        if action == "replay":
            return not any(track.searching for track in self.tracks)
        return super().check_action(action, parameters)


def clock(track: Track) -> str:
    """How a track plays: its speed and place, or that it is paused."""
    player: Player | None = track.player
    if player is None:
        return "paused, the search goes on" if track.paused and track.searching else "paused" if track.paused else ""
    sign = "paused" if track.paused else "ended" if player.ended else "playing"
    return f"{sign} {min(player.now, player.length):.1f} of {player.length:.1f} s, {player.speed:g}x"
