"""The screen of a training run: its curves, steps, rollouts and alarms, alone or beside another run's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Footer, Static, TabbedContent, TabPane

from apr_tui.base import WatchScreen
from apr_tui.browser import Browser
from apr_tui.curves import Curves, Look
from apr_tui.lines import LineList
from apr_tui.pane import MeterLine
from apr_tui.plain import one_line
from apr_tui.record import RunFeed, overview
from apr_tui.steps import AlarmList, StepTable

_TABS = ("curves", "steps", "rollouts", "alarms")


class MonitorScreen(WatchScreen):
    """Watch a model learn."""

    AUTO_FOCUS = None
    ABOUT = (
        "A training run as its directory tells it, while it is written. Curves are moving averages; a second run's "
        "are dotted. Enter enlarges a chart. Rollouts are those of the watched group: of a step, a rollout with its "
        "reward and advantage, a thread, its text; the newest step is followed."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(i), f"tab('{t}')", t.capitalize(), tooltip=f"show the {t}") for i, t in enumerate(_TABS, 1)),
        Binding("s", "smooth", "Smooth", tooltip="average the curves over more steps, or not at all"),
        Binding("z", "range", "Range", tooltip="draw all steps or the last ones"),
        Binding("c", "colour", "Colour", tooltip="colour the text by origin, advantage, or engine-trainer gap"),
        Binding("v", "swap", "Swap", tooltip="put the other run first"),
        Binding("enter", "enlarge", "Enlarge", show=False, tooltip="enlarge the chart, or make it small again"),
        Binding("left_square_bracket", "turn(-1)", "Tab before", key_display="[", show=False),
        Binding("right_square_bracket", "turn(1)", "Tab after", key_display="]", show=False),
    ]

    def __init__(self, runs: Sequence[Path]) -> None:
        super().__init__()
        self.feeds = [RunFeed(run) for run in runs]
        self.look = Look()
        self._drawn = False
        self._entering = False
        """A tab was opened whose list has not got the focus yet."""

    def compose(self) -> ComposeResult:
        yield Static("", classes="title", markup=False)
        yield MeterLine()
        yield Static("", classes="alarm", markup=False)
        with TabbedContent(id="tabs"):
            with TabPane("Curves", id="curves"):
                yield Curves()
            with TabPane("Steps", id="steps-tab"):
                yield StepTable()
            with TabPane("Rollouts", id="rollouts-tab"):
                yield Static("this run keeps no watched groups (yet)", classes="none", markup=False)
                yield Browser(self.feeds[0].path)
            with TabPane("Alarms", id="alarms-tab"):
                yield AlarmList()
        yield Footer(show_command_palette=False)

    def tick(self, seconds: float) -> None:
        grown = [feed.take() for feed in self.feeds]
        if any(grown) or not self._drawn:
            self._drawn = True
            self._draw_runs()
        now = time.time()
        first = self.feeds[0]
        many = f" and {self.feeds[1].path.name}, dotted" if len(self.feeds) > 1 else ""
        kind = " ".join(part for part in (first.plan.trainer, first.plan.method) if part)
        self._say(".title", one_line(f"{first.path.name}{many} · {kind} · {self.look.said()}"))
        self.query_one(MeterLine).show(overview(first, now))
        alarms = first.run.alarms
        self._say(
            ".alarm", one_line(f"! step {alarms[-1][0]}: {alarms[-1][1]} ({len(alarms)} in all)" if alarms else "")
        )
        self.query_one(".alarm").display = bool(alarms)
        browser = self.query_one(Browser)
        if self._tab == "rollouts":
            browser.tick(seconds)
            browser.display = browser.track is not None
            self.query_one(".none").display = browser.track is None
        if self._entering:
            self._enter()

    def _draw_runs(self) -> None:
        run = self.feeds[0].run
        self.query_one(Curves).show([feed.run for feed in self.feeds], self.look)
        self.query_one(StepTable).show(run)
        self.query_one(AlarmList).show(run)

    def _say(self, where: str, text: str) -> None:
        widget = self.query_one(where, Static)
        if str(widget.content) != text:
            widget.update(Content(text))

    @property
    def _tab(self) -> str:
        return self.query_one(TabbedContent).active.removesuffix("-tab")

    def action_tab(self, name: str) -> None:
        tabs = self.query_one(TabbedContent)
        # A focus that is hidden goes to what stands beside it, which opens that tab again.
        self.set_focus(None)
        tabs.active = "curves" if name == "curves" else f"{name}-tab"
        self._entering = True

    def _enter(self) -> None:
        """Focus the open tab's list, once it is laid out."""
        pane = self.query_one(TabbedContent).active_pane
        lists = [] if pane is None else [item for item in pane.query(LineList) if item.display and item.region]
        if lists:
            lists[1 if self._tab == "rollouts" and len(lists) > 1 else 0].focus()
        self._entering = not lists and self._tab != "curves"

    def action_turn(self, by: int) -> None:
        self.action_tab(_TABS[(_TABS.index(self._tab) + by) % len(_TABS)])

    def action_smooth(self) -> None:
        self.look = self.look.smoother()
        self._draw_runs()

    def action_range(self) -> None:
        self.look = self.look.nearer()
        self._draw_runs()

    def action_colour(self) -> None:
        self.query_one(Browser).next_colouring()

    def action_swap(self) -> None:
        self.feeds.reverse()
        self.query_one(Browser).open_run(self.feeds[0].path)
        self._draw_runs()

    def action_enlarge(self) -> None:
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None and self.focused.allow_maximize:
            self.maximize(self.focused, container=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "swap":
            return len(self.feeds) > 1
        return True
