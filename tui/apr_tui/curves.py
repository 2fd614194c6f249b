"""Curves of runs over each other: a chart a group of figures, in as many columns as fit."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Grid, VerticalScroll
from textual.widget import Widget

from apr_tui.labels import label, scale, unit
from apr_tui.plain import cut, one_line
from apr_tui.plot import STROKES, Box, Points, Stroke, draw, figure, smooth
from apr_tui.record import Run
from apr_tui.settings import after

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")
_LABEL = 8
"""Columns of the numbers beside a chart."""
COLUMNS = 38
"""Columns a chart needs."""
_LOWEST = 8
"""Lines a chart needs."""
_PLACES = 50
_SHARES = ((0.0, 1.0), (0.0, 0.5, 1.0))
"""Where numbers stand on the axis of values, from the top; in a high chart in the middle, too."""
_SMOOTHINGS = (0.0, 0.6, 0.9, 0.97)
_RANGES: tuple[int | None, ...] = (None, 500, 100)


@dataclass(frozen=True, slots=True)
class Look:
    """How curves are shown."""

    smoothing: float = 0.6
    """Weight of the past in the moving average."""
    last: int | None = None
    """Steps shown; None: all."""
    cursor: float | None = None
    """The step whose values are read; None: the last ones."""

    def smoother(self) -> Look:
        return replace(self, smoothing=after(_SMOOTHINGS, self.smoothing))

    def nearer(self) -> Look:
        return replace(self, last=after(_RANGES, self.last))

    def moved(self, by: int, runs: Sequence[Run]) -> Look:
        """The cursor so many of fifty places further, at a step that there is."""
        steps = sorted({step for run in runs for step in run.figures})
        if self.last is not None:
            steps = steps[-self.last :]
        if not steps:
            return self
        here = len(steps) - 1 if self.cursor is None else bisect_left(steps, self.cursor)
        there = here + by * max(1, len(steps) // _PLACES)
        return replace(self, cursor=float(steps[max(0, min(len(steps) - 1, there))]))

    def said(self) -> str:
        shown = "all steps" if self.last is None else f"last {self.last} steps"
        read = "" if self.cursor is None else f", values at step {self.cursor:,.0f}"
        return f"smoothing {self.smoothing:g}, {shown}{read}"


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
    """A group's curves, below its name and unit and what was measured at the cursor, or last; each run has a stroke of
    its own. Figures of a validation are few, and drawn as they are."""
    curves: list[Points] = []
    measured = unit(group)
    title = one_line(label(group)) + (f", {one_line(measured)}" if measured else "")
    values = Text(no_wrap=True)
    colours: list[str] = []
    strokes: list[Stroke] = []
    for stroke, run in zip(STROKES, runs, strict=False):
        for name in run.groups().get(group, ()):
            points = run.curve(name)
            if look.last is not None:
                points = points[-look.last :]
            if factor := scale(name):
                points = [(step, value * factor) for step, value in points]
            colour = _COLOURS[len(curves) % len(_COLOURS)]
            curves.append(smooth(points, 0.0 if group.startswith("validation") else look.smoothing))
            colours.append(colour)
            strokes.append(stroke)
            part = one_line(name.partition(".")[2])
            value = read(points, look.cursor)
            words = [stroke.sign * (len(runs) > 1), part, "–" if value is None else figure(value)]
            values.append(" " + " ".join(filter(None, words)), colour)
    text = Text(cut(title, width), "bold", no_wrap=True)
    if text.cell_len + values.cell_len <= width:
        text.append_text(values)
    else:
        values.truncate(width, overflow="ellipsis")
        text.append("\n").append_text(values)
        height -= 1
    room = width - _LABEL - 1
    if room < 4 or height < 3 or not curves:
        return text
    box = Box.around(curves)
    if measured == "share" and box.bottom < 1:
        box = replace(box, top=min(box.top, 1.0))
    rows = draw(curves, box, room, height - 2, strokes)
    here = None if look.cursor is None else int((look.cursor - box.left) / (box.right - box.left) * room)
    last = len(rows) - 1
    ticks = {round(last * share): box.top - share * (box.top - box.bottom) for share in _SHARES[last >= 6]}
    for index, row in enumerate(rows):
        value = ticks.get(index)
        text.append(f"\n{'' if value is None else figure(value):>{_LABEL}}", "dim")
        text.append("┤" if value is not None else "│", "dim")
        for column, (sign, owner) in enumerate(row):
            style = "" if owner is None else colours[owner]
            text.append(*(("│", "dim") if owner is None and column == here else (sign, style)))
    text.append(f"\n{'':>{_LABEL + 1}}{steps_axis(box, room)}", "dim")
    return text


def read(curve: Points, step: float | None) -> float | None:
    """The value at a step, or at the last one before it; None: the last of all."""
    if not curve:
        return None
    if step is None:
        return curve[-1][1]
    place = bisect_right(curve, step, key=lambda point: point[0])
    return curve[place - 1][1] if place else None


def steps_axis(box: Box, width: int) -> str:
    """The steps at both ends and, where there is room, between."""
    ends = [figure(box.left), f"step {figure(box.right)}"]
    middle = figure(round((box.left + box.right) / 2))
    gap = width - sum(map(len, ends))
    if gap < len(middle) + 4:
        return cut(f"{ends[0]}{ends[1]:>{max(1, width - len(ends[0]))}}", width)
    begin = width // 2 - len(middle) // 2 - len(ends[0])
    return f"{ends[0]}{' ' * begin}{middle}{' ' * (gap - begin - len(middle))}{ends[1]}"


class Curves(VerticalScroll, can_focus=False):
    """A chart for each group of figures that any run has."""

    def compose(self) -> ComposeResult:
        yield Grid(id="charts")

    def on_resize(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        grid = self.query_one("#charts", Grid)
        count = max(1, len(self.query(Chart)))
        most = max(1, self.size.width // COLUMNS)
        # As few columns as let all charts be seen at once, so that each is wide.
        fit = (n for n in range(1, most + 1) if -(-count // n) * _LOWEST <= self.size.height)
        columns = next(fit, most)
        rows = -(-count // columns)
        grid.styles.grid_size_columns = columns
        grid.styles.grid_rows = str(max(_LOWEST, self.size.height // rows))

    def show(self, runs: Sequence[Run], look: Look) -> None:
        """Draw these runs, as many as there are strokes."""
        groups = list(dict.fromkeys(group for run in runs for group in run.groups()))
        charts = {chart.group: chart for chart in self.query(Chart)}
        if fresh := [Chart(group) for group in groups if group not in charts]:
            self.query_one("#charts").mount(*fresh)
            self.call_after_refresh(self._arrange)
        for item in (*charts.values(), *fresh):
            item.show(runs, look)
