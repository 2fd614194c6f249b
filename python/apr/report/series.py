"""What figures and tables show: curves and cells of results, without any drawing."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, log10

from apr.evaluate.profile import Profile
from apr.evaluate.row import Row, problem_of
from apr.evaluate.schedule import WORKERS
from apr.evaluate.statistics import Share
from apr.plain import one_line
from apr.report.results import Line, Result, at_pace

TITLES = {
    "accuracy-total-tokens": "Accuracy against total tokens (figure 4a)",
    "accuracy-context": "Accuracy within a context window (figure 4b)",
    "solved-sequential-tokens": "Solved within so many sequential tokens, rollout by rollout",
    "accuracy-sequential-tokens": "Accuracy against sequential tokens (figure 6)",
    "accuracy-latency": "Accuracy against latency, one problem at a time (figure 6)",
    "accuracy-simulated-latency": "Accuracy against simulated latency, one processor a thread",
    "samples": "Many samples of a problem: cons@n and pass@n",
    "temperatures": "Accuracy at several temperatures (table 3)",
    "models": "Several models of a method, free and with enforced budgets (figures 5 and 7)",
    "efforts": "Children and rounds by the kind of problem: its numbers, and its distinct solutions up to so many",
    "losses": "What became of the problems",
    "profile": "Where the wall time of a rollout goes, one problem at a time",
}
"""What each figure shows, by its file's name."""


@dataclass(frozen=True, slots=True)
class Point:
    """A condition in a figure of accuracy against mean cost."""

    label: str
    cost: float
    accuracy: Share


def coldest(found: Sequence[Result], *, alone: bool | None = None) -> list[Result]:
    """Of each line the conditions at its lowest temperature; `alone`: those that ran one problem at a time, or the
    others. Where there are no others, all are."""
    chosen = found if alone is None else at_pace(found, alone=alone)
    lowest: dict[Line, float] = {}
    for result in chosen:
        temperature = result.condition.temperature
        lowest[result.line] = min(lowest.get(result.line, temperature), temperature)
    return [result for result in chosen if result.condition.temperature == lowest[result.line]]


def trade_off(found: Sequence[Result], cost: str, *, alone: bool = False) -> dict[Line, list[Point]]:
    """For each line its conditions as points, by cost (the paper's figures 4a and 6)."""
    points: dict[Line, list[Point]] = defaultdict(list)
    for result in coldest(found, alone=alone):
        points[result.line].append(Point(result.budget, result.mean(cost), result.accuracy))
    return {line: sorted(some, key=lambda point: point.cost) for line, some in points.items()}


def within(found: Sequence[Result], cost: str, limits: Sequence[float]) -> dict[Line, list[Share]]:
    """For each line and limit the best condition's share of rollouts solved within it (the paper's figure 4b)."""
    best: dict[Line, list[Share]] = {}
    for result in coldest(found, alone=False):
        shares = [result.share(_fits(cost, limit)) for limit in limits]
        before = best.get(result.line, shares)
        best[result.line] = [max(pair, key=lambda one: one.mean) for pair in zip(before, shares, strict=True)]
    return best


def sequential_limits(found: Sequence[Result], count: int) -> list[float]:
    """So many limits of sequential tokens, in round and even steps, the last of which nine rollouts of ten keep to."""
    spent = sorted(row["llama2_sequential_tokens"] for result in coldest(found, alone=False) for row in result.rows)
    step = max(1.0, spent[int(0.9 * (len(spent) - 1))] / count)
    unit = 10 ** int(log10(step)) / 2
    return [ceil(step / unit) * unit * (place + 1) for place in range(count)]


def _fits(cost: str, limit: float) -> Callable[[Row], bool]:
    return lambda row: bool(row["correct"]) and row[cost] <= limit


@dataclass(frozen=True, slots=True)
class Temperatures:
    """A budget at several temperatures (the paper's table 3)."""

    line: Line
    budget: str
    accuracy: dict[float, Share]


def temperatures(found: Sequence[Result]) -> list[Temperatures]:
    """Budgets that ran at two temperatures at least."""
    cells: dict[tuple[Line, str], dict[float, Share]] = defaultdict(dict)
    for result in found:
        if not result.alone:
            cells[result.line, result.budget].setdefault(result.condition.temperature, result.accuracy)
    return [
        Temperatures(line, budget, dict(sorted(row.items()))) for (line, budget), row in cells.items() if len(row) > 1
    ]


@dataclass(frozen=True, slots=True)
class Stage:
    """One of several models of a method, free or with an enforced budget (the paper's figures 5 and 7)."""

    result: Result
    enforced: bool

    @property
    def children(self) -> float:
        return self.result.mean("threads") - 1


def stages(found: Sequence[Result]) -> list[Stage]:
    """For each method with several models, in the order they were run: each model's free condition, and its largest
    budget that all models of the method ran with."""
    cold = coldest(found, alone=False)
    made = []
    for method in dict.fromkeys(result.line.method for result in cold):
        own = [result for result in cold if result.line.method == method]
        models = list(dict.fromkeys(result.line for result in own))
        budgets = [{r.condition.budget for r in own if r.line == model} for model in models]
        shared = budgets[0].intersection(*budgets)
        enforced = [budget for budget in shared if budget is not None]
        if len(models) > 1:
            wanted = [*([None] if None in shared else []), *([max(enforced)] if enforced else [])]
            made += [
                Stage(_usual(r for r in own if r.line == model and r.condition.budget == budget), budget is not None)
                for budget in wanted
                for model in models
            ]
    return made


def _usual(found: Iterable[Result]) -> Result:
    """Of several ways to join, the one where all children are waited for."""
    return min(found, key=lambda result: result.condition.join != "all")


@dataclass(frozen=True, slots=True)
class Simulation:
    """A condition's latency on more processors than there are."""

    result: Result
    per_token: float
    """Seconds a thread takes for a token when it runs by itself, as measured."""
    seconds: dict[int | None, float]
    """Processors -> mean latency; None: one for each thread."""


def simulations(found: Sequence[Result]) -> list[Simulation]:
    """The simulated latency of each condition of a line whose speed was measured one problem at a time."""
    speeds = {line: speed for line in {r.line for r in found} if (speed := _per_token(line, found)) is not None}
    made = []
    for result in coldest(found, alone=False):
        per_token = speeds.get(result.line)
        if per_token is not None:
            seconds: dict[int | None, float] = {
                workers: per_token * sum(row["makespan"][str(workers)] for row in result.rows) / len(result.rows)
                for workers in WORKERS
            }
            seconds[None] = per_token * result.mean("sequential_tokens")
            made.append(Simulation(result, per_token, seconds))
    return made


def _per_token(line: Line, found: Sequence[Result]) -> float | None:
    """Prefill and decoding of main threads that had the engine to themselves, over their tokens."""
    rows = [row for r in found if r.alone and r.line == line for row in r.rows if row["profile"] is not None]
    tokens = sum(row["main_tokens"] for row in rows)
    seconds = sum(row["profile"]["prefill"] + row["profile"]["decode"] for row in rows)
    return seconds / tokens if tokens else None


def profiles(found: Sequence[Result]) -> list[tuple[Result, Profile]]:
    """The mean profile of each condition that ran one problem at a time."""
    made = []
    for result in found:
        told = [row["profile"] for row in result.rows if row["profile"] is not None]
        if result.alone and told:
            means = {name: sum(one[name] for one in told) / len(told) for name in Profile.__dataclass_fields__}
            made.append((result, Profile(**means)))
    return made


def diagnostics(rows: Sequence[Row]) -> dict[str, float | None]:
    """Shares and rates of some rollouts: of children, of tokens, per 1,000 steps, states or verdicts; None where there
    is nothing to take a share of."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row["diagnostics"])

    def rate(part: str, whole: str, scale: float = 1) -> float | None:
        return scale * counts[part] / counts[whole] if counts[whole] else None

    return {
        "children that can reach the target": rate("hopeful_children", "children"),
        "children that repeat a sibling": rate("duplicate_children", "children"),
        "child tokens on hopeless states": rate("hopeless_tokens", "child_tokens"),
        "joined claims that are false": rate("false_claims", "joined_claims"),
        "wrong results per 1,000 steps": rate("wrong_results", "steps", 1000),
        "invented numbers per 1,000 steps": rate("invented_numbers", "steps", 1000),
        "wrong lists per 1,000 steps": rate("wrong_numbers", "steps", 1000),
        "repeated steps per 1,000": rate("repeated_steps", "steps", 1000),
        "wrong states per 1,000": rate("wrong_states", "states", 1000),
        "wrong verdicts per 1,000": rate("wrong_verdicts", "verdicts", 1000),
        "wrong lines of trials per 1,000": rate("wrong_trials", "trials", 1000),
    }


def losses(rows: Sequence[Row]) -> dict[str, float]:
    """The share of rollouts that each cause lost, the greatest first."""
    causes = Counter(one_line(row["loss"]) for row in rows if row["loss"] is not None)
    return {cause: count / len(rows) for cause, count in causes.most_common()}


@dataclass(frozen=True, slots=True)
class Effort:
    """What searches for problems of one kind took, in the mean."""

    kind: str
    problems: int
    children: float
    rounds: float


@dataclass(frozen=True, slots=True)
class Efforts:
    """Where a search's effort goes, kind by kind in the order of their numbers."""

    line: Line
    model: tuple[Effort, ...]
    teacher: tuple[Effort, ...]
    """On the same problems; none where a protocol names no teacher."""


def efforts(found: Sequence[Result]) -> list[Efforts]:
    """What models that spawn at their own choice do with problems of each kind."""
    made = []
    free = [one for one in found if one.condition.method == "apr" and one.condition.budget is None]
    for result in coldest(free, alone=False):
        rows = [row for row in result.rows if row["kind"] is not None]
        if rows:
            model = _by_kind(rows, lambda row: (row["threads"] - 1, row["rounds"]))
            taught = [row for row in rows if row["teacher_children"] is not None]
            teacher = _by_kind(taught, lambda row: (row["teacher_children"], row["teacher_rounds"]))
            made.append(Efforts(result.line, model, teacher))
    return made


def _by_kind(rows: Sequence[Row], effort: Callable[[Row], tuple[int, int]]) -> tuple[Effort, ...]:
    kinds: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        kinds[one_line(row["kind"])].append(row)
    made = []
    for kind, some in sorted(kinds.items(), key=lambda one: _in_order(one[0])):
        children, rounds = (sum(values) / len(some) for values in zip(*map(effort, some), strict=True))
        made.append(Effort(kind, len({problem_of(row) for row in some}), children, rounds))
    return tuple(made)


def _in_order(kind: str) -> list[tuple[int, str]]:
    """Numbers in a text by their size."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", kind)]


@dataclass(frozen=True, slots=True)
class Distance:
    """A model beside its teacher at the widths of its own searches."""

    result: Result
    teacher: Share
    """Problems that the teacher solves."""
    kept: Share | None
    """Of these, what the model solves."""


def distances(found: Sequence[Result]) -> list[Distance]:
    """How far the models are from their teachers, where a protocol names them."""
    made = []
    for result in coldest(found, alone=False):
        if all(row["teacher"] is not None for row in result.rows):
            able = tuple(row for row in result.rows if row["teacher"])
            kept = Result(result.condition, result.model, able).accuracy if able else None
            made.append(Distance(result, result.share(lambda row: row["teacher"]), kept))
    return made
