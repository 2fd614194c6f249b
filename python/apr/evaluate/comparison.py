"""Methods beside each other, at equal cost: what tables, figures and the report's words are made of.

A result is one condition of an evaluation with its rows. Rollouts without a verdict (engine failures) are left out
everywhere; of several samples a problem counts with its mean.
"""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from apr.evaluate.metrics import summarise
from apr.evaluate.protocol import Condition
from apr.evaluate.rows import read_rows
from apr.evaluate.statistics import Difference, cumulative, paired_bootstrap, wilson

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """One condition and what came of it."""

    condition: Condition
    rows: tuple[Row, ...]
    """Those with a verdict, in order."""
    failures: int
    """Rollouts that an engine failure left without one."""

    @property
    def summary(self) -> dict[str, Any]:
        return summarise(self.rows)


@dataclass(frozen=True, slots=True)
class Claim:
    """One headline of the paper: two methods at equal cost."""

    name: str
    cost: str
    """The measure that is bounded."""
    limit: float
    unit: str
    each: bool
    """Whether each rollout must keep to the limit, to count as solved; else the mean over rollouts must."""
    paper: dict[str, float]
    """Method -> accuracy."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The best condition of a method within a claim's limit."""

    result: Result
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A claim, put to our results."""

    claim: Claim
    standings: dict[str, Standing]
    """By method; without those that have no condition within the limit."""
    lead: Difference | None
    """Of apr over sos+ on their common problems; None unless both stand."""


def paper() -> tuple[str, str, list[Claim]]:
    """The source, the model, and the claims of the paper."""
    values = tomllib.loads((resources.files("apr.evaluate") / "paper.toml").read_text())
    claims = [
        Claim(
            name=table["name"],
            cost=table["cost"],
            limit=table["limit"],
            unit=table["unit"],
            each=table["each"],
            paper={method: table[method] for method in ("apr", "sos+")},
        )
        for table in values["claims"]
    ]
    return values["source"], values["model"], claims


def results(directories: Sequence[str | Path]) -> list[Result]:
    """All conditions of some evaluations that have rows. ValueError for a directory that holds none."""
    found = []
    for directory in directories:
        protocol, rows = read_rows(directory)
        for place, condition in enumerate(protocol.conditions):
            own = [row for row in rows if row["condition"] == place]
            judged = tuple(row for row in own if row["correct"] is not None)
            if judged:
                found.append(Result(condition, judged, len(own) - len(judged)))
    return found


def diagnostics(rows: Sequence[Row]) -> dict[str, float]:
    """Shares and rates of some rollouts: of children, of tokens, per 1,000 steps, states or verdicts; and the share of
    rollouts that each cause lost, as `lost to CAUSE`. Empty without diagnostics in the rows."""
    told = [row["diagnostics"] for row in rows if "diagnostics" in row]
    if not told:
        return {}
    counts: Counter[str] = Counter()
    for one in told:
        counts.update(one)

    def rate(part: str, whole: str, scale: float = 1) -> float:
        return scale * counts[part] / counts[whole] if counts[whole] else 0.0

    causes = Counter(row["loss"] for row in rows if row["loss"] is not None)
    return {
        "hopeful children": rate("hopeful_children", "children"),
        "children that repeat a sibling": rate("duplicate_children", "children"),
        "child tokens spent on hopeless states": rate("hopeless_tokens", "child_tokens"),
        "joined claims that are false": rate("false_claims", "joined_claims"),
        "wrong results per 1,000 steps": rate("wrong_results", "steps", 1000),
        "invented numbers per 1,000 steps": rate("invented_numbers", "steps", 1000),
        "wrong lists per 1,000 steps": rate("wrong_numbers", "steps", 1000),
        "repeated steps per 1,000": rate("repeated_steps", "steps", 1000),
        "wrong states per 1,000": rate("wrong_states", "states", 1000),
        "wrong verdicts per 1,000": rate("wrong_verdicts", "verdicts", 1000),
        **{f"lost to {cause}": count / len(rows) for cause, count in sorted(causes.items())},
    }


def judge(claim: Claim, found: Sequence[Result]) -> Outcome:
    """Put a claim to our results: each method's most accurate condition within the limit."""
    standings: dict[str, Standing] = {}
    for result in found:
        standing = _standing(claim, result)
        best = standings.get(result.condition.method)
        if standing is not None and (best is None or standing.accuracy > best.accuracy):
            standings[result.condition.method] = standing
    lead = None
    if "apr" in standings and "sos+" in standings:
        first, second = (_by_problem(claim, standings[method].result) for method in ("apr", "sos+"))
        common = sorted(first.keys() & second.keys())
        if common:
            lead = paired_bootstrap([first[key] for key in common], [second[key] for key in common])
    return Outcome(claim, standings, lead)


def _standing(claim: Claim, result: Result) -> Standing | None:
    mean = sum(row[claim.cost] for row in result.rows) / len(result.rows)
    if not claim.each and mean > claim.limit:
        return None
    solved = sum(_solved(claim, row) for row in result.rows)
    return Standing(result, solved / len(result.rows), *wilson(solved, len(result.rows)))


def _solved(claim: Claim, row: Row) -> bool:
    return bool(row["correct"]) and (not claim.each or row[claim.cost] <= claim.limit)


def _by_problem(claim: Claim, result: Result) -> dict[tuple[tuple[int, ...], int], float]:
    solved: dict[tuple[tuple[int, ...], int], list[bool]] = defaultdict(list)
    for row in result.rows:
        solved[tuple(sorted(row["numbers"])), row["target"]].append(_solved(claim, row))
    return {problem: sum(values) / len(values) for problem, values in solved.items()}


@dataclass(frozen=True, slots=True)
class Point:
    """A condition in a figure of accuracy against mean cost."""

    label: str
    cost: float
    accuracy: float
    low: float
    high: float


def trade_off(found: Sequence[Result], cost: str) -> dict[str, list[Point]]:
    """For each method its conditions at temperature 0 as points, by cost (the paper's figures 4a and 6)."""
    points: dict[str, list[Point]] = defaultdict(list)
    for result in found:
        if result.condition.temperature == 0:
            summary = result.summary
            budget = result.condition.budget
            label = "free" if budget is None else str(budget)
            ends = summary["accuracy_low"], summary["accuracy_high"]
            points[result.condition.method].append(Point(label, summary[cost], summary["accuracy"], *ends))
    return {method: sorted(some, key=lambda point: point.cost) for method, some in points.items()}


def within(found: Sequence[Result], cost: str, limits: Sequence[float]) -> dict[str, list[float]]:
    """For each method and limit the best condition's share of rollouts solved within it (the paper's figure 4b)."""
    best: dict[str, list[float]] = {}
    for result in found:
        if result.condition.temperature == 0:
            costs = [row[cost] for row in result.rows]
            shares = cumulative(costs, [bool(row["correct"]) for row in result.rows], limits)
            before = best.get(result.condition.method, [0.0] * len(limits))
            best[result.condition.method] = [max(pair) for pair in zip(before, shares, strict=True)]
    return best
