"""What a teacher's schedule solves and what it would cost a model, before any model is trained on it.

Two tables: how soon an order of the root's steps comes to one that leads on, and what whole searches cost under
schedules of order, bound and waves. Searches are exact and deterministic, so nothing here is a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean

from rich.console import Console
from rich.table import Table

import apr

CUTS = (1, 3, 5, 8, 10, 15)
"""Of the first table: so many children from the first on."""
LLAMA2_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class Schedule:
    """One row of the second table."""

    ranking: apr.Ranking
    waves: tuple[int, ...]
    """Sizes that waves are drawn from."""
    largest: int | None = None
    slack: int | None = None
    trials: int | None = None
    budget: int | None = None

    def search(self, problem: apr.Problem, seed: int) -> apr.Trace:
        """The schedule's search of a problem."""
        return apr.search(
            problem,
            "apr",
            seed=seed,
            ranking=self.ranking,
            waves=self.waves,
            largest=self.largest,
            slack=self.slack,
            trials=self.trials,
            beam_size=self.budget,
        )


ALL = (99,)
"""More than any problem has steps: one wave of all."""
DRAWN = (1, 2, 3, *[4] * 9, 6, 8)
"""As recipes draw them: mostly fours, and others that a policy may choose."""
SCHEDULES = (
    Schedule("sums_last", ALL, largest=200),
    Schedule("sums_last", (5,), largest=200),
    Schedule("sums_last", (5,), largest=5000),
    Schedule("sums_last", (5,)),
    Schedule("heuristic", (5,)),
    Schedule("smallest", (5,)),
    Schedule("kinds", (5,)),
    Schedule("kinds", (5,), slack=4),
    Schedule("kinds", (5,), slack=2),
    Schedule("kinds", ALL, slack=2),
    Schedule("kinds", (3,), slack=2),
    Schedule("kinds", (4,), slack=2),
    Schedule("kinds", DRAWN, slack=2),
    Schedule("kinds", DRAWN, slack=3),
    Schedule("kinds", DRAWN, largest=1000),
    Schedule("kinds", DRAWN, largest=1000, slack=2, trials=100),
    Schedule("kinds", DRAWN, slack=2, trials=100),
    Schedule("smallest", (4,), slack=2),
    Schedule("kinds", (4,), slack=2, budget=10),
    Schedule("sums_last", ALL, largest=200, budget=10),
)
"""What `checkpoints/apr-tiny-rl` was taught comes first."""


@dataclass(slots=True)
class Tally:
    """What a schedule came to."""

    solved: list[bool] = field(default_factory=list)
    children: list[int] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    own: list[tuple[int, int, int]] = field(default_factory=list)
    """Total, sequential, context; in our tokens."""
    llama2: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, trace: apr.Trace) -> None:
        self.solved.append(trace.solved)
        self.children.append(sum(map(len, trace.children)))
        self.rounds.append(len(trace.children))
        self.own.append(trace.cost())
        self.llama2.append(trace.cost(llama2=True))

    def within(self, context: int) -> float:
        """The share of problems solved with every sequence within so many of Llama-2's tokens."""
        return mean(good and cost[2] <= context for good, cost in zip(self.solved, self.llama2, strict=True))


def run(schedule: Schedule, problems: Sequence[apr.Problem]) -> Tally:
    tally = Tally()
    for seed, problem in enumerate(problems):
        tally.add(schedule.search(problem, seed))
    return tally


def first_to_lead_on(ranking: apr.Ranking, problems: Sequence[apr.Problem]) -> list[int]:
    """For each problem the place, from 1, of the first of the root's steps that leads on to the target."""
    places = []
    for problem in problems:
        (children,) = apr.search(problem, "apr", waves=ALL, ranking=ranking).children
        places.append(1 + [child.solved for child in children].index(True))
    return places


def orders_table(problems: Sequence[apr.Problem]) -> Table:
    table = Table("order of the root's steps", *(f"first {k}" for k in CUTS), "mean place", box=None)
    for ranking in ("sums_last", "heuristic", "smallest", "kinds"):
        places = first_to_lead_on(ranking, problems)
        cells = [f"{mean(place <= k for place in places):.0%}" for k in CUTS]
        table.add_row(ranking, *cells, f"{mean(places):.1f}")
    return table


def schedules_table(problems: Sequence[apr.Problem]) -> Table:
    names = ("order", "bound", "waves", "budget", "solved", "in 4k", "children", "rounds")
    costs = ("total", "sequential", "longest")
    table = Table(*names, *costs, *(f"L2 {name}" for name in costs), box=None)
    for schedule in SCHEDULES:
        tally = run(schedule, problems)
        bounds = ("<=", schedule.largest), ("slack", schedule.slack), ("/ >", schedule.trials)
        bound = ", ".join(f"{sign} {value}" for sign, value in bounds if value) or "none"
        waves = {ALL: "all at once", DRAWN: "drawn"}.get(schedule.waves, f"of {schedule.waves[0]}")
        cells = [
            f"{mean(tally.solved):.1%}",
            f"{tally.within(LLAMA2_CONTEXT):.1%}",
            f"{mean(tally.children):.1f}",
            f"{mean(tally.rounds):.2f}",
        ]
        for found in (tally.own, tally.llama2):
            total, sequential, context = zip(*found, strict=True)
            cells += [f"{mean(total):,.0f}", f"{mean(sequential):,.0f}", f"{max(context):,}"]
        table.add_row(schedule.ranking, bound, waves, str(schedule.budget or "-"), *cells)
    return table


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks teacher", description=__doc__)
    parser.add_argument("--problems", type=int, default=1500, metavar="N")
    parser.add_argument("--numbers", type=int, default=4, metavar="N", help="how many a problem has (default 4)")
    parser.add_argument("--max-number", type=int, default=99, metavar="N")
    parser.add_argument("--target", type=int, nargs=2, default=(10, 100), metavar=("LOW", "HIGH"))
    options = parser.parse_args(arguments)
    low, high = options.target
    problems = list(
        apr.problems(
            options.problems,
            0,
            numbers=options.numbers,
            max_number=options.max_number,
            min_target=low,
            max_target=high,
            split="test",
        )
    )
    console = Console(width=160)
    console.print(f"{len(problems)} test problems; a child searches to its end; L2: in Llama-2's tokens\n")
    console.print(orders_table(problems))
    console.print()
    console.print(schedules_table(problems))
    return 0
