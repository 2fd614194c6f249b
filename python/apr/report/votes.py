"""Many samples of one problem: the majority's answer, and any sample's (cons@n and pass@n).

One pool of samples serves every n. A vote is the solution a sample ends with; solutions that differ in the order of
their operations alone are one vote, samples that found none do not vote.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from apr.evaluate.row import ProblemKey, Row
from apr.evaluate.statistics import cons_at, pass_at
from apr.report.results import Result

MOST = 8
"""The largest n of the paper."""


@dataclass(frozen=True, slots=True)
class Votes:
    """A pool of samples, asked for n at a time."""

    n: int
    majority: dict[ProblemKey, float]
    """For each problem the probability that the majority of n is right."""
    any: dict[ProblemKey, float]
    """For each problem the probability that one of n is."""


def votes(result: Result) -> list[Votes]:
    """For each n the figures of a condition's pool; a problem that lost samples to engine failures counts up to what
    it has left."""
    pools = result.samples()
    found = []
    for n in range(1, min(MOST, max(map(len, pools.values()))) + 1):
        large = {problem: rows for problem, rows in pools.items() if len(rows) >= n}
        majority = {problem: _majority(n, rows) for problem, rows in large.items()}
        solved = {problem: pass_at(n, len(rows), _correct(rows)) for problem, rows in large.items()}
        found.append(Votes(n, majority, solved))
    return found


def _majority(n: int, rows: list[Row]) -> float:
    return cons_at(n, [_vote(row) for row in rows], [bool(row["correct"]) for row in rows])


def _vote(row: Row) -> Hashable | None:
    # The same steps may be told with a fault that the judge does not let pass.
    return None if row["vote"] is None else (row["vote"], bool(row["correct"]))


def _correct(rows: list[Row]) -> int:
    return sum(bool(row["correct"]) for row in rows)
