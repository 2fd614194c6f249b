"""The teacher beside the model: whether a search as wide as the model's finds a solution.

Whether a teacher's search succeeds depends on its widths alone, not on its random choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import apr
from apr import Ranking
from apr._core import Problem, first_width
from apr.task import Method
from apr.threads.tree import ThreadTree


@dataclass(frozen=True, slots=True)
class Teacher:
    """What a model's teacher does beside searching as wide as it."""

    child_beam_size: int = 12
    """Width of children (apr)."""
    ranking: Ranking = "paper"
    """In which order it keeps steps, see `apr.search`."""
    largest: int | None = None
    """Leaves out steps to a greater result."""
    slack: int | None = None
    """Leaves out steps that lead too far above the target, see `apr.search`."""


def width(tree: ThreadTree) -> int:
    """How many children the main thread shows of the problem itself."""
    return first_width(tree.main.text)


def solves(teacher: Teacher, problem: Problem, method: Method, tree: ThreadTree) -> bool:
    """Whether the teacher solves the problem at the width of the rollout's main thread, spawning if it spawned."""
    beam_size = width(tree)
    if beam_size == 0:
        return False
    try:
        return apr.search(
            problem,
            method,
            beam_size=beam_size,
            child_beam_size=teacher.child_beam_size if method == "apr" else None,
            promising=float(tree.rounds > 0) if method == "apr" else None,
            ranking=teacher.ranking,
            largest=teacher.largest,
            slack=teacher.slack,
        ).solved
    except (ValueError, OverflowError):
        # Targets below two and giant numbers have no heuristic.
        return False
