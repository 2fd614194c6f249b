"""The teacher beside the model: whether a search as wide as the model's finds a solution.

Whether a teacher's search succeeds depends on its widths alone, not on its random choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from apr._core import Problem, Trace, first_width
from apr.countdown.search import Ranking, search
from apr.fields import Count, Range
from apr.task import Method
from apr.threads.tree import ThreadTree

_WIDE = 1000
"""More steps than any state has."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """What a model's teacher does beside searching as wide as it."""

    child_beam_size: Count | None = None
    """Width of children (apr); None: in waves without a bound, else 12."""
    ranking: Ranking = "paper"
    """In which order it keeps steps, see `apr.search`."""
    largest: Count | None = None
    """Leaves out steps to a greater result."""
    slack: Annotated[int, Range(1, 1000)] | None = None
    """Leaves out steps that lead too far above the target, see `apr.search`."""
    trials: Count | None = None
    """Divides greater numbers after a trial, see `apr.search`."""
    waves: tuple[Count, ...] = ()
    """How many children it spawns at once (apr); none: all that it will."""

    def faults(self) -> Iterator[tuple[str, str]]:
        """Fields that do not agree."""
        if self.trials is not None and self.ranking != "kinds":
            yield "trials", 'they go with ranking = "kinds" only'

    def search(self, problem: Problem, method: Method, beam_size: int, promising: bool) -> Trace | None:
        """Its search of this width, with children or without; None where it cannot search, since targets below two and
        giant numbers have no heuristic."""
        spawns, waves = method == "apr", list(self.waves) or None
        narrow = self.child_beam_size if waves or self.child_beam_size else 12
        try:
            return search(
                problem,
                method,
                beam_size=beam_size,
                child_beam_size=narrow if spawns else None,
                promising=float(promising) if spawns else None,
                ranking=self.ranking,
                largest=self.largest,
                slack=self.slack,
                trials=self.trials,
                waves=waves if spawns else None,
            )
        except (ValueError, OverflowError):
            return None


def width(tree: ThreadTree) -> int:
    """How many children the main thread shows of the problem itself."""
    return first_width(tree.main.text)


def solves(teacher: Teacher, problem: Problem, method: Method, tree: ThreadTree) -> bool:
    """Whether the teacher solves the problem at the width of the rollout's main thread, spawning if it spawned."""
    beam_size = width(tree)
    found = teacher.search(problem, method, beam_size, tree.rounds > 0) if beam_size else None
    return found is not None and found.solved


def effort(teacher: Teacher, problem: Problem, method: Method) -> tuple[int, int]:
    """Children and rounds of a search that spawns what it can, until it has found a solution."""
    found = teacher.search(problem, method, _WIDE, True)
    rounds = [] if found is None else found.children
    return sum(map(len, rounds)), len(rounds)
