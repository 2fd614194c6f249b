"""What an evaluation runs: a set of problems and the conditions each of them is solved under.

In a recipe, a table of `conditions` may hold lists `models`, `budgets` ("free" is the model's choice) and
`temperatures`; it stands for one condition for each combination of them. A table `quick` says how few problems and
samples its quick form has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from apr.evaluate.problems import read_problems, split_problems
from apr.fields import Count, Natural, build, read_toml
from apr.policy import SHIPPED_MODELS, default_model
from apr.selection import selected
from apr.task import Compares, Method, Split, Task, load_task
from apr.threads.rollout import JoinPolicy
from apr.types import temperature_fault

FREE = "free"


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """The first distinct problems of a split, or those of a file."""

    split: Split = "test"
    seed: Natural = 0
    count: Count = 200
    numbers: tuple[int, int] | None = None
    """Fewest and most numbers, for tasks whose problems have any."""
    file: str | None = None
    """JSON lines, or a JSON list; the fields before are not used then."""
    first: Count | None = None
    """Of a file, only the first so many."""

    def shortened(self, count: int) -> ProblemSet:
        """The first so many of them."""
        return replace(self, count=count) if self.file is None else replace(self, first=count)

    def load(self, task: Task[Any]) -> list[Any]:
        """The problems. ValueError or OSError if they cannot be had."""
        if self.file is not None:
            return read_problems(task, self.file)[: self.first]
        wanted = selected(task, {} if self.numbers is None else {"numbers": self.numbers})
        return split_problems(wanted, self.count, self.split, self.seed)


@dataclass(frozen=True, slots=True)
class Condition:
    """How each problem is run."""

    method: Method = "apr"
    model: str | None = None
    """A directory, or the name of a model that ships or is on the hub; None: the one that ships for task and method."""
    budget: Natural | None = None
    """The condition in the prompt, child threads (apr) or tokens (sos+); None: the model's free choice."""
    temperature: float = 0.0
    join: JoinPolicy = "all"
    samples: Count = 1
    """Rollouts of each problem."""
    problems: Count | None = None
    """Only the first so many problems."""
    concurrency: Count | None = None
    """Rollouts in flight, on an engine of its own; None: the protocol's. One, to measure latency."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if (fault := temperature_fault(self.temperature)) is not None:
            yield "temperature", fault

    def rollouts(self, problems: int) -> int:
        """How many rollouts it takes for so many problems."""
        return self.samples * (problems if self.problems is None else min(problems, self.problems))

    def __str__(self) -> str:
        words = [self.method, f"budget {FREE if self.budget is None else self.budget}"]
        words += [f"temperature {self.temperature:g}"] if self.temperature else []
        words += [f"join {self.join}"] if self.join != "all" else []
        words += [f"{self.samples} samples"] if self.samples > 1 else []
        words += [f"{self.concurrency} at a time"] if self.concurrency else []
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Protocol:
    """An evaluation."""

    task: str = "countdown"
    """By name; models are asked for it, whatever they were trained for."""
    language: str | None = None
    """What they write; None: what they were trained to write."""
    conditions: tuple[Condition, ...] = (Condition(),)
    problems: ProblemSet = field(default_factory=ProblemSet)
    engine: str = "native"
    seed: Natural = 0
    """Each rollout's seed derives from it, the sample and the problem's index."""
    max_threads: Count = 64
    """Of a rollout."""
    max_tokens: Count | None = None
    """Sampled tokens of a rollout."""
    concurrency: Count = 32
    """Rollouts in flight."""
    teacher: dict[str, Any] | None = None
    """What the models learned from, in the task's own words, to measure how far they are from it."""

    def model_name(self, condition: Condition) -> str:
        """The model of a condition: the one that it names, or what ships for the task."""
        if condition.model is not None:
            return condition.model
        return default_model(self.task, condition.method) if condition.method in SHIPPED_MODELS else condition.method

    def at_once(self, condition: Condition) -> int:
        """How many rollouts of a condition are in flight."""
        return self.concurrency if condition.concurrency is None else condition.concurrency

    def rollouts(self, problems: int) -> int:
        """How many rollouts it takes for so many problems."""
        return sum(condition.rollouts(problems) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Quick:
    """How few problems and samples the quick form of a recipe has."""

    problems: Count
    samples: Count

    def shortened(self, protocol: Protocol) -> Protocol:
        """A protocol, cut down to it."""
        asked = protocol.problems
        most = asked.count if asked.file is None else asked.first or self.problems
        conditions = (
            replace(
                condition,
                samples=min(condition.samples, self.samples),
                problems=few if (few := condition.problems) is not None and few < self.problems else None,
            )
            for condition in protocol.conditions
        )
        problems = asked.shortened(min(most, self.problems))
        return replace(protocol, problems=problems, conditions=tuple(conditions))


def read_protocol(text: str, *, quick: bool = False, count: int | None = None, **changes: Any) -> Protocol:
    """A protocol from TOML, or its quick form; `count` is another number of problems, and `changes` replace top-level
    values. ValueError for anything it may not hold."""
    values = read_toml(text)
    tables = values.get("conditions")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ValueError("a protocol needs [[conditions]]")
    values["conditions"] = [condition for table in tables for condition in _expand(table)]
    short = values.pop("quick", None)
    protocol = build_protocol({**values, **changes})
    if quick:
        if not isinstance(short, dict):
            raise ValueError("the recipe has no quick form")
        protocol = build(Quick, short, "quick.").shortened(protocol)
    return protocol if count is None else replace(protocol, problems=protocol.problems.shortened(count))


def build_protocol(values: Any) -> Protocol:
    """A protocol from plain values. ValueError for anything it may not hold."""
    if not isinstance(values, dict):
        raise ValueError("a protocol is an object")
    protocol = build(Protocol, values)
    task = load_task(protocol.task)
    if protocol.teacher is not None:
        if not isinstance(task, Compares):
            raise ValueError(f"teacher: {task.name} has none to compare with")
        try:
            task.check_teacher(protocol.teacher)
        except ValueError as error:
            raise ValueError(f"teacher: {error}") from None
    if not protocol.conditions:
        raise ValueError("a protocol needs conditions")
    return protocol


def _expand(table: dict[str, Any]) -> list[dict[str, Any]]:
    rest = {key: value for key, value in table.items() if key not in ("models", "budgets", "temperatures")}
    axes: list[list[dict[str, Any]]] = []
    for many, one in (("models", "model"), ("budgets", "budget"), ("temperatures", "temperature")):
        if many not in table:
            continue
        if one in table or not isinstance(table[many], list) or not table[many]:
            raise ValueError(f"conditions.{many}: a list, in place of {one}")
        axes.append([{} if value == FREE else {one: value} for value in table[many]])
    return [{key: value for part in (rest, *parts) for key, value in part.items()} for parts in product(*axes)]
