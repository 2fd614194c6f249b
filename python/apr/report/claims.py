"""The paper's claims, put to our results: two methods at equal cost."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from apr.evaluate.row import ProblemKey
from apr.evaluate.statistics import Difference, Share, paired_bootstrap, share
from apr.report.results import Evaluations, Line, Result, at_pace
from apr.report.votes import votes

OURS, RIVAL = "apr", "sos+"


@dataclass(frozen=True, slots=True)
class Claim:
    """One headline of the paper."""

    name: str
    cost: str
    """The measure that is bounded."""
    limit: float
    unit: str
    each: bool
    """Whether each rollout must keep to the limit, to count as solved; else the mean over rollouts must."""
    alone: bool
    """Whether only conditions that ran one problem at a time tell the cost."""
    paper: dict[str, float]
    """Method -> accuracy."""


@dataclass(frozen=True, slots=True)
class Paper:
    """What is quoted of it."""

    source: str
    task: str
    """What its models were asked."""
    model: str
    claims: tuple[Claim, ...]

    def outcomes(self, evaluations: Evaluations) -> list[Outcome]:
        """Its claims put to our results; none where models were asked something else."""
        if evaluations.task != self.task:
            return []
        return [judge(claim, evaluations.results) for claim in self.claims]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to use a model: a condition, or the majority of several of its samples."""

    line: Line
    label: str
    cost: float
    """In the mean."""
    solved: dict[ProblemKey, float]
    accuracy: Share


@dataclass(frozen=True, slots=True)
class Outcome:
    """A claim, put to our results."""

    claim: Claim
    standings: dict[str, Candidate]
    """By method the most accurate candidate within the limit; without those that have none."""
    lead: Difference | None
    """Of apr over sos+ on their common problems; None unless both stand."""


@dataclass(frozen=True, slots=True)
class Match:
    """A candidate of apr beside the best of sos+ that costs no more."""

    ours: Candidate
    rival: Candidate | None
    """None: each costs more."""
    lead: Difference | None


def paper() -> Paper:
    """The claims and where they stand."""
    values = tomllib.loads((resources.files("apr.report") / "paper.toml").read_text())
    claims = []
    for table in values["claims"]:
        accuracies = {method: table.pop(method) for method in (OURS, RIVAL)}
        claims.append(Claim(**table, paper=accuracies))
    return Paper(values["source"], values["task"], values["model"], tuple(claims))


def judge(claim: Claim, found: Sequence[Result]) -> Outcome:
    """Put a claim to our results."""
    within = claim.limit if claim.each else None
    standings: dict[str, Candidate] = {}
    for candidate in candidates(found, claim.cost, alone=claim.alone, within=within):
        best = standings.get(candidate.line.method)
        if claim.each or candidate.cost <= claim.limit:
            standings[candidate.line.method] = candidate if best is None else _better(best, candidate)
    lead = None
    if OURS in standings and RIVAL in standings:
        lead = _lead(standings[OURS], standings[RIVAL])
    return Outcome(claim, standings, lead)


def candidates(
    found: Sequence[Result], cost: str, *, alone: bool = False, within: float | None = None
) -> list[Candidate]:
    """All ways to use the models, by cost. `alone`: conditions that ran one problem at a time, else the others if there
    are any. `within`: what a rollout may cost at most to count as solved."""
    made = []
    for result in at_pace(found, alone=alone):
        label = result.label
        solved = result.by_problem(lambda row: bool(row["correct"]) and (within is None or row[cost] <= within))
        made.append(_candidate(result.line, label, result.mean(cost), solved))
        # Samples run beside each other: their tokens add up, their latency was not measured.
        if cost.endswith("total_tokens"):
            for pool in votes(result)[1:]:
                price = pool.n * result.mean(cost)
                made.append(_candidate(result.line, f"{label}, cons@{pool.n}", price, pool.majority))
    return sorted(made, key=lambda candidate: candidate.cost)


def matched(found: Sequence[Result], cost: str, *, alone: bool = False) -> list[Match]:
    """Each candidate of apr beside the most accurate one of sos+ that costs no more, by cost."""
    everyone = candidates(found, cost, alone=alone)
    matches = []
    for ours in everyone:
        if ours.line.method == OURS:
            rival = None
            for other in everyone:
                if other.line.method == RIVAL and other.cost <= ours.cost:
                    rival = other if rival is None else _better(rival, other)
            matches.append(Match(ours, rival, None if rival is None else _lead(ours, rival)))
    return matches


def _candidate(line: Line, label: str, cost: float, solved: dict[ProblemKey, float]) -> Candidate:
    return Candidate(line, label, cost, solved, share(list(solved.values())))


def _better(one: Candidate, other: Candidate) -> Candidate:
    """The more accurate one; the cheaper of equals."""
    return other if (other.accuracy.mean, -other.cost) > (one.accuracy.mean, -one.cost) else one


def _lead(ours: Candidate, rival: Candidate) -> Difference | None:
    common = sorted(ours.solved.keys() & rival.solved.keys())
    if not common:
        return None
    return paired_bootstrap([ours.solved[key] for key in common], [rival.solved[key] for key in common])
