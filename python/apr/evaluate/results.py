"""What evaluations came to: each condition with its rows, read back from their directories.

Rollouts without a verdict (engine failures) are left out everywhere and counted apart; of several samples a problem
counts with its mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apr.evaluate.metrics import summarise
from apr.evaluate.protocol import FREE, Condition, Protocol
from apr.evaluate.rows import read_rows
from apr.evaluate.setting import Setting, read_setting
from apr.evaluate.statistics import Share, share

Row = dict[str, Any]
ProblemKey = tuple[tuple[int, ...], int]
"""Sorted numbers and target."""

NAMES = {"apr": "APR", "sos+": "SoS+", "sos": "SoS"}


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A method and a model: one curve of a figure."""

    method: str
    model: str


@dataclass(frozen=True, slots=True)
class Result:
    """One condition and what came of it."""

    condition: Condition
    rows: tuple[Row, ...]
    """Those with a verdict, in order; at least one."""
    failures: int = 0
    """Rollouts that an engine failure left without one."""
    concurrency: int = 32
    """Rollouts that were in flight."""

    @property
    def line(self) -> Line:
        return Line(self.condition.method, self.condition.model_name)

    @property
    def alone(self) -> bool:
        """Whether its latency is that of one problem at a time."""
        return self.concurrency == 1

    @property
    def greedy(self) -> bool:
        return self.condition.temperature == 0

    @property
    def budget(self) -> str:
        """The budget in words."""
        return FREE if self.condition.budget is None else str(self.condition.budget)

    @property
    def label(self) -> str:
        """What tells it from the others of its line, in words."""
        return f"budget {self.budget}" + ("" if self.greedy else f", temperature {self.condition.temperature:g}")

    @property
    def summary(self) -> dict[str, Any]:
        return summarise(self.rows)

    @property
    def accuracy(self) -> Share:
        return self.share(lambda row: bool(row["correct"]))

    def mean(self, name: str) -> float:
        """The mean of a measure over rollouts."""
        total: float = sum(row[name] for row in self.rows)
        return total / len(self.rows)

    def share(self, value: Callable[[Row], float]) -> Share:
        """The mean over problems of a value from 0 to 1."""
        return share(list(self.by_problem(value).values()))

    def by_problem(self, value: Callable[[Row], float]) -> dict[ProblemKey, float]:
        """For each problem the mean of a value over its samples."""
        return {key: sum(map(value, rows)) / len(rows) for key, rows in self.samples().items()}

    def samples(self) -> dict[ProblemKey, list[Row]]:
        """The rows of each problem."""
        samples: dict[ProblemKey, list[Row]] = defaultdict(list)
        for row in self.rows:
            samples[tuple(sorted(row["numbers"])), row["target"]].append(row)
        return samples


def at_pace(found: Sequence[Result], *, alone: bool) -> list[Result]:
    """The conditions that ran one problem at a time, or the others; where there are no others, all."""
    chosen = [result for result in found if result.alone == alone]
    return chosen if alone or chosen else list(found)


@dataclass(frozen=True, slots=True)
class Evaluations:
    """All results of some directories."""

    results: tuple[Result, ...]
    unfinished: tuple[str, ...] = ()
    """Conditions that lack rollouts, in words."""
    setting: Setting = field(default_factory=Setting)
    engines: tuple[str, ...] = ()


def load(directories: Sequence[str | Path]) -> Evaluations:
    """What some directories hold so far. ValueError for one that holds no evaluation."""
    results: list[Result] = []
    unfinished: list[str] = []
    machines: list[str] = []
    engines: list[str] = []
    parameters: dict[str, int | None] = {}
    for directory in directories:
        protocol, rows = read_rows(directory)
        setting = read_setting(directory)
        machines += setting.machines
        parameters.update(setting.parameters)
        engines.append(protocol.engine)
        for place, condition in enumerate(protocol.conditions):
            own = [row for row in rows if row["condition"] == place]
            judged = tuple(row for row in own if row["correct"] is not None)
            asked = condition.rollouts(_problems(protocol, rows))
            if len(own) < asked:
                unfinished.append(f"{condition} ({condition.model_name}): {len(own)} of {asked} rollouts")
            if judged:
                concurrency = condition.concurrency or protocol.concurrency
                results.append(Result(condition, judged, len(own) - len(judged), concurrency))
    setting = Setting(tuple(dict.fromkeys(machines)), parameters)
    return Evaluations(tuple(results), tuple(unfinished), setting, tuple(dict.fromkeys(engines)))


def _problems(protocol: Protocol, rows: Sequence[Row]) -> int:
    """How many problems it has: a file of them may be gone by now."""
    if protocol.problems.file is None:
        return protocol.problems.count
    try:
        return len(protocol.problems.load())
    except (OSError, ValueError):
        return max((row["index"] + 1 for row in rows), default=1)


def names(lines: Iterable[Line]) -> dict[Line, str]:
    """A short name for each line: its method, and the model where the method has several."""
    lines = list(dict.fromkeys(lines))
    alone = {line for line in lines if sum(other.method == line.method for other in lines) == 1}
    return {line: NAMES[line.method] + ("" if line in alone else f" {line.model}") for line in lines}
