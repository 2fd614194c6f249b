"""Sudoku as a task: 4 by 4 cells; each row, column and box of 2 by 2 holds the digits 1 to 4.

A grid of this size that has one solution is solved without any search. So most problems have several completions, and
name the sum of the falling diagonal that one of them has: completions have to be tried. How threads write is in
`rust/sudoku/src/text.rs`.

A budget is how many children the main thread may spawn; what they leave over it tries itself, with 0 all of it. None:
a child for each digit that is tried. Serial searches name budgets too, and do not heed them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apr import _core
from apr._core import SudokuProblem
from apr.fields import build
from apr.sudoku import diagnostics
from apr.sudoku.ask import FORM, Wanted
from apr.sudoku.teacher import Data, search
from apr.task import Fault, Form, LineKind, Method, Search, Split, Verdict
from apr.threads.tree import ThreadTree


class Sudoku:
    """The task for one method, which the teacher's searches depend on, and nothing else."""

    name = "sudoku"

    def __init__(self, method: Method = "apr", wanted: Wanted | None = None) -> None:
        """ValueError for a method that the teacher does not know."""
        if method == "sos":
            raise ValueError("sudoku is searched by apr or sos+, not by sos")
        self.method: Method = method
        self._wanted = Wanted() if wanted is None else wanted

    def problems(self, split: Split, seed: int, start: int, count: int) -> list[SudokuProblem]:
        return _core.sudoku_problems(split, seed, start, count, self._wanted.givens, self._wanted.plain)

    def select(self, options: Mapping[str, Any]) -> Sudoku:
        return Sudoku(self.method, build(Wanted, dict(options)))

    def accepts(self, problem: SudokuProblem) -> bool:
        return True

    def to_json(self, problem: SudokuProblem) -> dict[str, Any]:
        return {"rows": problem.rows} | ({} if problem.sum is None else {"sum": problem.sum})

    def from_json(self, values: Mapping[str, Any]) -> SudokuProblem:
        rows, total = values.get("rows"), values.get("sum")
        if not isinstance(rows, list | tuple) or not all(isinstance(row, str) for row in rows):
            raise ValueError("its rows are no list of texts")
        if len(rows) != 4 or any(len(row) != 4 for row in rows):
            raise ValueError("it has not 4 rows of 4 cells")
        if total is not None and type(total) is not int:
            raise ValueError("its sum is no integer")
        return SudokuProblem("/".join(rows) + ("" if total is None else f" sum={total}"))

    def key(self, problem: SudokuProblem) -> str:
        return problem.text

    def prompt(self, problem: SudokuProblem, budget: int | None) -> str:
        return problem.prompt(budget)

    def read_prompt(self, prompt: str) -> tuple[SudokuProblem, int | None]:
        return _core.sudoku_read_prompt(prompt)

    def judge(self, problem: SudokuProblem, answer: str | None, text: str) -> Verdict:
        return _verdict(problem.judge(answer))

    def judge_child(self, problem: SudokuProblem, prompt: str, claim: str) -> Verdict:
        """By the child's own grid and the problem's sum."""
        return _verdict(problem.judge_child(prompt, claim))

    def vote(self, answer: str) -> str | None:
        return _core.sudoku_vote(answer)

    def search(self, data: Mapping[str, Any], *, split: Split, seed: int, index: int, progress: float) -> Search:
        return search(Data.read(data), self.method, split=split, seed=seed, index=index, progress=progress)

    def solvable(self, problem: SudokuProblem, prompt: str) -> bool:
        return diagnostics.hopeful(problem, prompt)

    def faults(self, problem: SudokuProblem, text: str) -> list[Fault]:
        """The first alone: each line follows from those before it, and after a fault from wrong ones."""
        found = _core.sudoku_fault(text, self.method != "apr")
        return [] if found is None else [Fault(*found)]

    def diagnose(self, problem: SudokuProblem, tree: ThreadTree) -> dict[str, float]:
        return diagnostics.diagnose(problem, tree)

    def failure_cause(self, problem: SudokuProblem, tree: ThreadTree) -> diagnostics.Cause | None:
        return diagnostics.failure_cause(problem, tree)

    def title(self, problem: SudokuProblem) -> str:
        total = "" if problem.sum is None else f", diagonal {problem.sum}"
        return f"4x4 sudoku {'/'.join(problem.rows)}{total}"

    def label(self, prompt: str) -> str:
        return _core.sudoku_label(prompt) or ""

    def line_kind(self, line: str) -> LineKind | None:
        return _core.sudoku_line_kind(line)

    def answer(self, problem: SudokuProblem, steps: Sequence[str]) -> str:
        rows = "/".join(steps)
        correct, reason, _ = problem.judge(rows)
        if not correct:
            raise ValueError(reason)
        return rows

    def solve(self, problem: SudokuProblem) -> list[str]:
        return problem.solution

    @property
    def form(self) -> Form:
        return FORM

    def parse(self, texts: Sequence[str]) -> SudokuProblem:
        return SudokuProblem(texts[0])

    def fill(self, problem: SudokuProblem) -> tuple[str]:
        total = "" if problem.sum is None else f" sum={problem.sum}"
        return ("/".join(problem.rows) + total,)


def sudoku(method: Method) -> Sudoku:
    """The task, as its entry point gives it."""
    return Sudoku(method)


def _verdict(judged: tuple[bool, str, list[str]]) -> Verdict:
    correct, reason, rows = judged
    return Verdict(correct, reason, tuple(rows))
