"""What evaluations came to: each condition with its rows, read back from their directories.

Rollouts that an engine failed are left out everywhere and counted apart; of several samples a problem counts with its
mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apr.evaluate.metrics import summarise
from apr.evaluate.protocol import FREE, Condition, Protocol
from apr.evaluate.row import ProblemKey, Row, judged, problem_of
from apr.evaluate.rows import read_rows
from apr.evaluate.setting import SETTING_FILE, Setting, read_setting
from apr.evaluate.statistics import Share, share
from apr.plain import one_line
from apr.task import load_task

NAMES = {"apr": "APR", "sos+": "SoS+", "sos": "SoS"}


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A method and a model: one curve of a figure."""

    method: str
    model: str
    identity: str = ""
    """Tells models of one name apart; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class Result:
    """One condition and what came of it."""

    condition: Condition
    model: str
    """By name."""
    rows: tuple[Row, ...]
    """Those with a verdict, in order; at least one."""
    failures: int = 0
    """Rollouts that an engine failure left without one."""
    concurrency: int = 32
    """Rollouts that were in flight."""
    identity: str = ""
    """Of the model, see `Line`."""

    @property
    def line(self) -> Line:
        return Line(self.condition.method, self.model, self.identity)

    @property
    def alone(self) -> bool:
        """Whether its latency is that of one problem at a time, on an engine that had cached nothing before."""
        return self.concurrency == 1 and not self.warm

    @property
    def warm(self) -> bool:
        """Whether the cache of a server could not be emptied."""
        return any(row.get("warm") for row in self.rows)

    @property
    def greedy(self) -> bool:
        return self.condition.temperature == 0

    @property
    def budget(self) -> str:
        """The budget in words, and the join where it is not the usual one."""
        budget = FREE if self.condition.budget is None else str(self.condition.budget)
        return budget if self.condition.join == "all" else f"{budget}, join {self.condition.join}"

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
            samples[problem_of(row)].append(row)
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
    machines: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    parameters: dict[Line, int | None] = field(default_factory=dict)
    """Weights of each model."""
    task: str = "countdown"
    """What the models were asked."""


def load(directories: Sequence[str | Path]) -> Evaluations:
    """What some directories hold so far. ValueError for one that holds no evaluation, or nothing that can be read."""
    results: list[Result] = []
    unfinished: list[str] = []
    machines: list[str] = []
    engines: list[str] = []
    tasks: list[str] = []
    parameters: dict[Line, int | None] = {}
    for directory in dict.fromkeys(Path(directory).resolve() for directory in directories):
        protocol, rows = read_rows(directory)
        setting = read_setting(directory)
        if not setting.holds(load_task(protocol.task), rows):
            raise ValueError(f"{directory} has rows of other problems than {SETTING_FILE} names")
        tasks.append(protocol.task)
        machines += setting.machines
        engines.append(protocol.engine)
        for place, condition in enumerate(protocol.conditions):
            own = [row for row in rows if row["condition"] == place]
            counted = tuple(row for row in own if judged(row))
            model = protocol.model_name(condition)
            asked = condition.rollouts(_problems(protocol, setting, rows))
            if len(own) < asked:
                unfinished.append(f"{condition} ({model}): {len(own)} of {asked} rollouts")
            if counted:
                failures, at_once = sum(row["failed"] for row in own), protocol.at_once(condition)
                identity = setting.identity(model)
                results.append(Result(condition, model, counted, failures, at_once, identity))
                parameters[results[-1].line] = setting.parameters.get(model)
    if len(set(tasks)) > 1:
        raise ValueError(f"evaluations of several tasks in one report: {', '.join(dict.fromkeys(tasks))}")
    once = tuple(dict.fromkeys(machines)), tuple(dict.fromkeys(engines))
    return Evaluations(tuple(results), tuple(unfinished), *once, parameters, tasks[0])


def _problems(protocol: Protocol, setting: Setting, rows: Sequence[Row]) -> int:
    """How many problems it has; where that was not noted, a file of them may be gone by now."""
    if protocol.problems.file is None:
        return protocol.problems.count
    return setting.count or max((row["index"] + 1 for row in rows), default=1)


def names(lines: Iterable[Line]) -> dict[Line, str]:
    """A short name for each line: its method, and the model where the method has several."""
    lines = list(dict.fromkeys(lines))
    alone = {line for line in lines if sum(other.method == line.method for other in lines) == 1}
    models = model_names(lines)
    return {line: NAMES[line.method] + ("" if line in alone else f" {models[line]}") for line in lines}


def model_names(lines: Iterable[Line]) -> dict[Line, str]:
    """What the model of each line is called: by its name, and by its identity where several have one name."""
    identities: dict[str, set[str]] = defaultdict(set)
    lines = list(lines)
    for line in lines:
        identities[line.model].add(line.identity)
    return {
        line: one_line(line.model) + (f" ({line.identity or 'not known'})" if len(identities[line.model]) > 1 else "")
        for line in lines
    }
