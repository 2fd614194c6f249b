"""The screen of searches: one, or two side by side, that run now or were recorded.

`tracks` is all it shows. The screen owns them and takes events in once a frame; panes only draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from apr_tui.base import WatchScreen
from apr_tui.dialogs import LeaveScreen
from apr_tui.figures import compared, sources
from apr_tui.keys import Keys
from apr_tui.lines import LineList
from apr_tui.pane import MeterLine, SearchPane
from apr_tui.text import ThreadText
from apr_tui.threads import ThreadList
from apr_tui.track import Track
from apr_tui.verdict import revealable


class SearchScreen(WatchScreen):
    """Watch threads search: a recorded log, growing or replayed."""

    AUTO_FOCUS = "ThreadList"
    ABOUT = (
        "The threads of a search as a tree: each waits for its children, which run at once. With it the text of "
        "the selected one; its margin tells the prompt (│) and what a join put there (┃) from what was sampled. "
        "★ marks the threads the solution came through. The bar of a thread is its time: in the engine's queue, in "
        "prefill, in decode, or waiting for children between a spawn and its join; the longest chain of dependent "
        "threads stands out. ← and → go through that time, and everything shows how it was then."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause", tooltip="pause or go on; a running search is paused on screen only"),
        Binding("escape", "stop", "Stop", tooltip="end the search that runs"),
        Binding("k", "cancel", "End thread", tooltip="end the selected thread and those below it; its parent goes on"),
        Binding("escape", "live", "To the end", tooltip="show the end of a replay, or what a search does now"),
        Binding("p", "replay", "Replay", tooltip="play the search from its start as it happened"),
        Binding("plus,equals_sign", "speed(1)", "Faster", key_display="+", tooltip="replay faster"),
        Binding("minus", "speed(-1)", "Slower", key_display="-", tooltip="replay slower"),
        Binding("left", "scrub(-1)", "In time", key_display="←→", tooltip="go back or forth in time"),
        Binding("right", "scrub(1)", "Forth", show=False),
        Binding("shift+left", "moment(-1)", "Moment before", show=False),
        Binding(
            "shift+right",
            "moment(1)",
            "Moment after",
            show=False,
            key_display="shift+←→",
            tooltip="to the spawn, join or end before or after",
        ),
        Binding("g", "source", "Source", tooltip="go to where the solution was found"),
        Binding("v", "reveal", "Solution", tooltip="show a solution that the search did not find"),
        Binding("left_square_bracket", "step(-1)", "Earlier", key_display="[", tooltip="the rollout before"),
        Binding("right_square_bracket", "step(1)", "Later", key_display="]", tooltip="the rollout after"),
        Binding("w", "save", "Save", tooltip="write the events of the search to a file"),
    ]

    def __init__(self, tracks: Sequence[Track], invitation: str = "") -> None:
        super().__init__()
        self.tracks = list(tracks)
        self.complaint: str | None = None
        """What is wrong with the form, in one sentence."""
        self._invitation = invitation
        self._active = 0
        self._revealed = False
        """A solution that was not found is told."""
        self._offered: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield from self.compose_form()
        with Horizontal(id="panes"):
            for _ in self.tracks:
                yield SearchPane(self._invitation)
        yield MeterLine("measured")
        yield Keys()

    def compose_form(self) -> ComposeResult:
        """What stands above the searches."""
        yield from ()

    def tick(self, seconds: float) -> None:
        for track in self.tracks:
            track.tick(seconds)
        self.draw()

    def draw(self) -> None:
        shown = self._shown()
        beside = len(shown) > 1
        # One scale and as much room for all, so that they compare.
        known = [track.whole for track, _ in shown if track.whole is not None]
        seconds = max((view.seconds for view in known), default=0.0)
        threads = max((len(view.tree.threads) for view in known), default=0) if beside else 0
        for index, (track, pane) in enumerate(shown):
            pane.set_class(beside, "-beside")
            pane.set_class(beside and index == self._active, "-active")
            complaint = self.complaint if index == self._active else None
            note = self.note(track)
            pane.draw(track, complaint=complaint, note=note, reveal=self._revealed, seconds=seconds, threads=threads)
        views = [track.shown.view for track, _ in shown]
        measured = self.query_one(".measured", MeterLine)
        measured.show(compared(views[0], views[1]) if beside and views[0] and views[1] else [])
        measured.display = beside
        offered = tuple(self.check_action(name, ()) for name in _LIVE)
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()

    def _shown(self) -> list[tuple[Track, SearchPane]]:
        """The searches with their panes; a pane goes a moment later than its search."""
        return list(zip(self.tracks, self.query(SearchPane), strict=False))

    def note(self, track: Track) -> str:
        """What stands behind the title of a search."""
        here, count = track.library.position(track.shown.rollout)
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

    def action_cancel(self) -> None:
        self.track.cancel()

    def action_live(self) -> None:
        for track in self.tracks:
            track.live()

    def action_replay(self) -> None:
        for track in self.tracks:
            track.replay(track.player.speed if track.player is not None else 1.0)

    def action_speed(self, by: int) -> None:
        for track in self.tracks:
            if track.player is not None:
                track.player.faster(by)

    def action_scrub(self, by: int) -> None:
        lanes = list(self.query(ThreadList))[self._active].lane_width
        seconds = max((track.whole.seconds for track in self.tracks if track.whole is not None), default=0.0)
        for track in self.tracks:
            track.scrub(by * seconds / max(20, lanes))
        self.draw()

    def action_moment(self, by: int) -> None:
        self.track.to_moment(by)
        self.draw()

    def on_thread_list_sought(self, message: ThreadList.Sought) -> None:
        track = next((track for track, pane in self._shown() if pane in message.threads.ancestors), None)
        if track is not None:
            track.seek(message.seconds)
            self.draw()

    @property
    def reading(self) -> ThreadText | None:
        return list(self.query(ThreadText))[self._active] if self.track.shown.view is not None else None

    def action_source(self) -> None:
        view, text = self.track.shown.view, self.reading
        if view is not None and text is not None and (found := sources(view)):
            self.track.select(found[-1])
            self.draw()
            text.to_last("found")

    def action_reveal(self) -> None:
        self._revealed = not self._revealed
        self.draw()

    async def action_quit(self) -> None:
        """Leave, once it is said that a search that runs may end."""
        if any(track.searching for track in self.tracks):
            self.app.push_screen(LeaveScreen(), lambda leave: self.app.exit() if leave else None)
        else:
            self.app.exit()

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

        self.keep(f"apr-{''.join(c for c in str(track.shown.rollout) if c.isalnum())}", ".jsonl", write)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        tracks = self.tracks
        match action:
            case "pause":
                return any(track.moving for track in tracks)
            case "stop":
                return any(track.searching for track in tracks) and not any(track.replaying for track in tracks)
            case "cancel":
                return self.track.cancellable
            case "live":
                return any(track.replaying for track in tracks)
            case "speed":
                # An ended replay is played again at its speed.
                return any(track.player is not None for track in tracks)
            case "replay" | "save" | "scrub" | "moment":
                return any(track.shown.view is not None for track in tracks)
            case "reveal":
                return any(revealable(track.shown.view) for track in tracks)
            case "step":
                return len(tracks) == 1 and len(self.track.library.starts) > 1
            case "source":
                return self.track.shown.view is not None and bool(sources(self.track.shown.view))
            case _:
                return super().check_action(action, parameters)


_LIVE = ("pause", "stop", "cancel", "live", "replay", "reveal", "step", "save", "scrub", "source")
"""Actions whose keys are shown only while they do something."""


def clock(track: Track) -> str:
    """How a track plays: its speed and place, or that it is paused."""
    player = track.player
    if player is None:
        return "paused, the search goes on" if track.paused and track.searching else "paused" if track.paused else ""
    sign = "ended" if player.ended else "paused" if track.paused else "playing"
    return f"{sign} {player.now:.1f} of {player.length:.1f} s, {player.speed:g}x"
