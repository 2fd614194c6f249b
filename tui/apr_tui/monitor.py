"""The screen of a training run: its curves, steps, rollouts and alarms, alone or beside other runs'."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static, TabbedContent, TabPane

from apr_tui.base import WatchScreen
from apr_tui.browser import Browser
from apr_tui.changes import write
from apr_tui.curves import Chart, Curves, Look
from apr_tui.keys import Keys
from apr_tui.lines import LineList
from apr_tui.machine import machine
from apr_tui.pane import MeterLine
from apr_tui.plain import middle, one_line
from apr_tui.plot import STROKES
from apr_tui.record import RunFeed, overview
from apr_tui.steps import AlarmList, StepTable
from apr_tui.text import ThreadText

_TABS = ("curves", "steps", "rollouts", "alarms", "recipe")


_NEVER = "a supervised run has no rollouts; reinforcement learning watches a group of them at each step"
_NOT_YET = "no group of rollouts is watched yet: the first one begins with step 1"


class MonitorScreen(WatchScreen):
    """Watch a model learn."""

    AUTO_FOCUS = None
    ALLOW_IN_MAXIMIZED_VIEW = "Keys"
    ABOUT = (
        "A training run as its directory tells it, while it is written. Curves are moving averages; of several "
        "runs each has its stroke. Enter enlarges a chart; ← and → read the values of a step in all of them. "
        "Rollouts are those of the watched group: of a step, a rollout with its reward and advantage, a thread, "
        "its text; the newest step is followed."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(i), f"tab('{t}')", t.capitalize(), tooltip=f"show the {t}") for i, t in enumerate(_TABS, 1)),
        Binding("s", "smooth", "Smooth", tooltip="average the curves over more steps, or not at all"),
        Binding("z", "range", "Range", tooltip="draw all steps or the last ones"),
        Binding("left", "cursor(-1)", "Read", key_display="←→", tooltip="read the values of an earlier step"),
        Binding("right", "cursor(1)", "Read later", show=False),
        Binding("escape", "drop", "Last values", tooltip="read the last values again"),
        Binding("c", "colour", "Colour", tooltip="colour the text by origin, advantage, or engine-trainer gap"),
        Binding("v", "next", "Next run", tooltip="put the next run first"),
        Binding("enter", "enlarge", "Enlarge", tooltip="enlarge the chart, or make it small again"),
        Binding("left_square_bracket", "turn(-1)", "Tab before", key_display="[", show=False),
        Binding("right_square_bracket", "turn(1)", "Tab after", key_display="]", show=False),
    ]

    def __init__(self, runs: Sequence[Path]) -> None:
        super().__init__()
        self.feeds = [RunFeed(run) for run in runs]
        self.look = Look()
        self._drawn = False
        self._entering: str | None = "curves"
        """The tab that was asked for, while its list has not got the focus yet."""

    def compose(self) -> ComposeResult:
        yield Static("", classes="title", markup=False)
        yield MeterLine("legend")
        yield MeterLine()
        yield Static("", classes="alarm", markup=False)
        with TabbedContent(id="tabs"):
            with TabPane("Curves", id="curves"):
                yield Curves()
            with TabPane("Steps", id="steps-tab"):
                yield StepTable()
            with TabPane("Rollouts", id="rollouts-tab"):
                yield Static("", classes="none", markup=False)
                yield Browser(self.feeds[0].path)
            with TabPane("Alarms", id="alarms-tab"):
                yield Static("no alarms so far", id="calm", markup=False)
                yield AlarmList()
            with TabPane("Recipe", id="recipe-tab"):
                yield Static("", id="machine", markup=False)
                yield ThreadText("recipe-text")
        yield Keys()

    def tick(self, seconds: float) -> None:
        grown = [feed.take() for feed in self.feeds]
        if any(grown) or not self._drawn:
            self._drawn = True
            self._draw_runs()
        now = time.time()
        first = self.feeds[0]
        write(
            self.query_one(".title", Static),
            one_line(f"{middle(first.path.name, max(12, self.size.width // 2))} · {first.plan.kind}"),
        )
        self.query_one(".legend", MeterLine).show(self._legend())
        self.query_one(".meters", MeterLine).show(overview(first, now))
        alarms = first.run.alarms
        write(
            self.query_one(".alarm", Static),
            one_line(f"! step {alarms[-1][0]}: {alarms[-1][1]} ({len(alarms)} in all)" if alarms else ""),
        )
        self.query_one(".alarm").display = bool(alarms)
        self.query_one("#calm").display = not alarms
        self.query_one(AlarmList).display = bool(alarms)
        if self._tab == "recipe":
            write(self.query_one("#machine", Static), machine())
            text = first.plan.text or "the run has no recipe yet"
            self.query_one("#recipe-text", ThreadText).show((str(first.path),), text, (), tail=False)
        browser = self.query_one(Browser)
        if self._tab == "rollouts":
            browser.tick(seconds)
            browser.display = browser.track is not None
            self.query_one(".none").display = browser.track is None
            watches = first.plan.trainer == "rl"
            write(self.query_one(".none", Static), _NOT_YET if watches else _NEVER)
        if self._entering is not None:
            self._enter(self._entering)

    def _legend(self) -> list[str]:
        """Which curves are whose, where there are several runs, and how they are shown."""
        names = [one_line(feed.path.name) for feed in self.feeds]
        room = max(8, (self.size.width - 8) // max(1, len(names)) - 16)
        runs = [
            f"{stroke.sign * 2} {middle(name, room)} ({feed.plan.kind})"
            for stroke, name, feed in zip(STROKES, names, self.feeds, strict=False)
        ]
        return [*(runs if len(runs) > 1 else []), self.look.said()]

    def _draw_runs(self) -> None:
        run = self.feeds[0].run
        self.query_one(Curves).show([feed.run for feed in self.feeds], self.look)
        self.query_one(StepTable).show(run)
        self.query_one(AlarmList).show(run)

    @property
    def _tab(self) -> str:
        return self.query_one(TabbedContent).active.removesuffix("-tab")

    def action_tab(self, name: str) -> None:
        tabs = self.query_one(TabbedContent)
        # A focus that is hidden goes to what stands beside it, which opens that tab again.
        self.set_focus(None)
        self._entering = tabs.active = "curves" if name == "curves" else f"{name}-tab"

    def on_mouse_down(self) -> None:
        """Whoever clicks goes elsewhere."""
        self._entering = None

    def _enter(self, tab: str) -> None:
        """Focus a tab's list, once it is laid out."""
        tabs = self.query_one(TabbedContent)
        # The focus of the tab before may have been on its way still, and have opened that again.
        tabs.active = tab
        pane = tabs.active_pane
        parts = [] if pane is None else [*pane.query(LineList), *pane.query(Chart), *pane.query("#recipe-text")]
        seen = [part for part in parts if part.display and part.region]
        if seen:
            seen[1 if self._tab == "rollouts" and len(seen) > 1 else 0].focus()
        if seen or (self._tab == "alarms" and not self.feeds[0].run.alarms):
            self._entering = None
        self.refresh_bindings()

    def action_turn(self, by: int) -> None:
        self.action_tab(_TABS[(_TABS.index(self._tab) + by) % len(_TABS)])

    def action_smooth(self) -> None:
        self.look = self.look.smoother()
        self._draw_runs()

    def action_range(self) -> None:
        self.look = self.look.nearer()
        self._draw_runs()

    def action_cursor(self, by: int) -> None:
        self.look = self.look.moved(by, [feed.run for feed in self.feeds])
        self._draw_runs()

    def action_drop(self) -> None:
        if self.maximized is not None:
            self.minimize()
        else:
            self.look = replace(self.look, cursor=None)
            self._draw_runs()

    def action_colour(self) -> None:
        self.query_one(Browser).next_colouring()

    def action_next(self) -> None:
        self.feeds.append(self.feeds.pop(0))
        self.query_one(Browser).open_run(self.feeds[0].path)
        self._draw_runs()

    def action_enlarge(self) -> None:
        if self.maximized is not None:
            self.minimize()
        elif isinstance(self.focused, Chart):
            self.maximize(self.focused, container=False)

    @property
    def reading(self) -> ThreadText | None:
        return super().reading if self._tab in ("rollouts", "recipe") else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "next":
                return len(self.feeds) > 1
            case "smooth" | "range":
                return self._tab == "curves"
            case "enlarge":
                return self._tab == "curves" and (self.maximized is not None or isinstance(self.focused, Chart))
            case "cursor":
                return self._tab == "curves" and any(feed.run.figures for feed in self.feeds)
            case "drop":
                return self._tab == "curves" and (self.look.cursor is not None or self.maximized is not None)
            case "colour":
                return self._tab == "rollouts"
            case _:
                return super().check_action(action, parameters)
