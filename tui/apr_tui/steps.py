"""The steps of a run as a table, newest first, and its alarms."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType

from apr_tui.labels import label, scale
from apr_tui.lines import LineList
from apr_tui.plain import cut, middle, one_line
from apr_tui.plot import figure
from apr_tui.record import Run

_WIDTH, _WIDEST = 12, 32
"""Columns of a figure: as many as its name, within these."""


class StepTable(LineList):
    """A line a step, a column a figure, as many as fit; keys left and right move on to others."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "shift(-1)", "Figures before"),
        Binding("right", "shift(1)", "Figures after"),
    ]

    def __init__(self) -> None:
        super().__init__("steps")
        self._run = Run()
        self._steps: list[int] = []
        self._names: tuple[str, ...] = ()
        self._first = 0

    def show(self, run: Run) -> None:
        if run is not self._run:
            # The newest step is followed; another one stays under the cursor.
            here = self._steps[self.cursor] if 0 < self.cursor < len(self._steps) else None
            self._run, self._names = run, run.names
            self._steps = sorted(run.figures, reverse=True)
            self._title()
            self.fill(len(self._steps), 0 if here is None or here not in run.figures else self._steps.index(here))

    def _title(self) -> None:
        names = "".join(f" {_title(name):>{_WIDTH}}" for name in self._names[self._first :])
        self.head = Text(f" {'step':>8}{names}", no_wrap=True)

    def action_shift(self, by: int) -> None:
        self._first = max(0, min(len(self._names) - 1, self._first + by))
        self._title()
        self.refresh()

    def line(self, index: int, width: int) -> Text:
        step = self._steps[index]
        entry = self._run.figures[step]
        alarm = any(at == step for at, _ in self._run.alarms)
        text = Text(f"{step:>7}{'!' if alarm else ' '}", "bold red" if alarm else "")
        for name in self._names[self._first :]:
            wide = max(_WIDTH, cell_len(_title(name)))
            if text.cell_len + wide >= width:
                break
            text.append(f" {figure(entry[name] * scale(name)) if name in entry else '':>{wide}}")
        return text


def _title(name: str) -> str:
    """A figure's name as it stands above its column."""
    return middle(one_line(label(name)), _WIDEST)


class AlarmList(LineList):
    """What was wrong in which step, newest first."""

    def __init__(self) -> None:
        super().__init__("alarms")
        self._run = Run()

    def show(self, run: Run) -> None:
        if run.alarms is not self._run.alarms:
            self._run = run
            self.fill(len(run.alarms))

    def line(self, index: int, width: int) -> Text:
        step, said = self._run.alarms[-1 - index]
        return Text.assemble((f"{step:>8}  ", "bold"), (cut(one_line(said), width - 10), "red"))
