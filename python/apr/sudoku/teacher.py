"""What a recipe's `[data]` may say of sudoku, and the teacher's searches as a trainer takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from apr import _core
from apr.fields import Filled, Range, Share, build
from apr.sudoku.ask import GIVENS, PLAIN, Givens
from apr.task import Method, Search, Split, Written


@dataclass(frozen=True, slots=True)
class Stage:
    """What is taught up to a point of the run."""

    until: Share = 1.0
    """Share of the run's steps at which the stage ends; the last is 1."""
    givens: Givens = GIVENS
    """How many cells of problems are given: one of these, and one that stands here twice comes twice as often."""
    plain: Share = PLAIN
    """The share of problems without a sum, which need no search."""
    budgeted: Share = 0.4
    """The share of prompts that name a budget of children."""
    budgets: Annotated[tuple[int, ...], Range(0, 999_999), Filled()] = (0, 1, 2, 3)
    """The budgets: one of these."""


@dataclass(frozen=True, slots=True)
class Data:
    """Fresh searches, a pure function of seed and position."""

    stages: Annotated[tuple[Stage, ...], Filled()] = (Stage(),)

    def faults(self) -> Iterator[tuple[str, str]]:
        ends = [stage.until for stage in self.stages]
        for place, (before, end) in enumerate(pairwise([0.0, *ends])):
            if end <= before:
                yield f"stages[{place}].until", f"{end:g} is not above {before:g}, where the stage begins"
        if ends[-1] != 1:
            yield f"stages[{len(ends) - 1}].until", f"{ends[-1]:g} is not 1, and it is the last stage's"

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Data:
        """Of a recipe's table. ValueError, by key."""
        return build(cls, dict(data), "data.")

    def stage(self, progress: float) -> Stage:
        """The stage at a share of the run; at its end, the last."""
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])


def search(data: Data, method: Method, *, split: Split, seed: int, index: int, progress: float) -> Search:
    """Search `index` of an endless stream."""
    stage = data.stage(progress)
    thread = _core.sudoku_lesson(
        method != "apr",
        split,
        seed,
        index,
        givens=stage.givens,
        plain=stage.plain,
        budgets=stage.budgets,
        budgeted=stage.budgeted,
    )
    return written(thread)


def written(thread: _core._SudokuThread) -> Search:
    """A thread of Rust's as a search."""
    prompt, parts, answer = thread
    return Search(
        prompt,
        tuple(Written(*part) if isinstance(part, tuple) else tuple(map(written, part)) for part in parts),
        answer,
    )
