"""Curves of one run, or of two over each other: a chart a group of figures, in as many columns as fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Grid, VerticalScroll
from textual.widget import Widget

from apr_tui.plain import cut, one_line, pad
from apr_tui.plot import Box, Points, draw, figure, smooth
from apr_tui.record import Run
from apr_tui.settings import after

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")
_LABEL = 8
"""Columns of the numbers beside a chart."""
_CHART = 38
"""Columns a chart needs."""
_SMOOTHINGS = (0.0, 0.6, 0.9, 0.97)
_RANGES: tuple[int | None, ...] = (None, 500, 100)


@dataclass(frozen=True, slots=True)
class Look:
    """How curves are shown."""

    smoothing: float = 0.6
    """Weight of the past in the moving average."""
    last: int | None = None
    """Steps shown; None: all."""

    def smoother(self) -> Look:
        return replace(self, smoothing=after(_SMOOTHINGS, self.smoothing))

    def nearer(self) -> Look:
        return replace(self, last=after(_RANGES, self.last))

    def said(self) -> str:
        return f"smoothing {self.smoothing:g}, {'all steps' if self.last is None else f'last {self.last} steps'}"


class Chart(Widget, can_focus=True):
    """The figures of one group, of all runs."""

    ALLOW_MAXIMIZE = True

    def __init__(self, group: str) -> None:
        super().__init__()
        self.group = group
        self._runs: tuple[Run, ...] = ()
        self._look = Look()

    def show(self, runs: Sequence[Run], look: Look) -> None:
        if len(runs) != len(self._runs) or look != self._look or any(
            new is not old for new, old in zip(runs, self._runs, strict=True)
        ):  # fmt: skip
            self._runs, self._look = tuple(runs), look
            self.refresh()

    def render(self) -> Text:
        width, height = self.content_size
        return chart(self.group, self._runs, self._look, width, height)


def chart(group: str, runs: Sequence[Run], look: Look, width: int, height: int) -> Text:
    """A group's curves with a legend of their last values; a second run is dotted."""
    curves: list[Points] = []
    legend = Text(pad(one_line(group), min(width, max(6, len(group)))), "bold", no_wrap=True)
    dotted: list[bool] = []
    for number, run in enumerate(runs):
        for name in run.groups().get(group, ()):
            points = run.curve(name)
            if look.last is not None:
                points = points[-look.last :]
            colour = _COLOURS[len(curves) % len(_COLOURS)]
            curves.append(smooth(points, look.smoothing))
            dotted.append(number > 0)
            label = name.partition(".")[2]
            sign = "┈" if number else "─"
            legend.append(f" {sign}{one_line(label)} {figure(curves[-1][-1][1])}", colour)
    legend.truncate(width, overflow="ellipsis")
    room = width - _LABEL - 1
    if room < 4 or height < 3 or not curves:
        return legend
    box = Box.around(curves)
    rows = draw(curves, box, room, height - 2, dotted)
    text = legend
    for index, row in enumerate(rows):
        value = box.top if index == 0 else box.bottom if index == len(rows) - 1 else None
        text.append(f"\n{'' if value is None else figure(value):>{_LABEL}}", "dim")
        text.append("┤" if value is not None else "│", "dim")
        for sign, owner in row:
            text.append(sign, "" if owner is None else _COLOURS[owner % len(_COLOURS)])
    ends = f"{figure(box.left)}{'step ' + figure(box.right):>{max(1, room - len(figure(box.left)))}}"
    text.append(f"\n{'':>{_LABEL + 1}}{cut(ends, room)}", "dim")
    return text


class Curves(VerticalScroll, can_focus=False):
    """A chart for each group of figures that any run has."""

    def compose(self) -> ComposeResult:
        yield Grid(id="charts")

    def on_resize(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        grid = self.query_one("#charts", Grid)
        columns = max(1, self.size.width // _CHART)
        grid.styles.grid_size_columns = columns
        rows = max(1, -(-len(self.query(Chart)) // columns))
        grid.styles.grid_rows = str(max(7, min(14, self.size.height // min(rows, 4))))

    def show(self, runs: Sequence[Run], look: Look) -> None:
        """Draw these runs, the first one solid."""
        groups = list(dict.fromkeys(group for run in runs for group in run.groups()))
        charts = {chart.group: chart for chart in self.query(Chart)}
        if fresh := [Chart(group) for group in groups if group not in charts]:
            self.query_one("#charts").mount(*fresh)
            self.call_after_refresh(self._arrange)
        for item in (*charts.values(), *fresh):
            item.show(runs, look)
