"""Countdown as a task: reach a target from some numbers with + - * /, each used once (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from apr import _core
from apr._core import Problem
from apr.countdown import ask, credit, diagnostics, show
from apr.countdown.language import Traces
from apr.countdown.lessons import Lessons
from apr.countdown.teacher import Teacher, effort, solves, width
from apr.fields import build
from apr.task import Choice, Fault, Form, LineKind, Method, Split, Verdict
from apr.threads.tree import ThreadTree

DIFFICULTIES = (("hard", 4), ("medium", 16))
"""Names of problems with at most so many distinct solutions; the others are easy."""


class Countdown:
    """Countdown for one method: what a main thread's prompt and text look like depends on it."""

    name = "countdown"
    checked = "every number used once"

    def __init__(
        self,
        method: Method = "apr",
        *,
        numbers: tuple[int, int] = (4, 4),
        held_out_targets: Sequence[int] = (),
        max_solutions: int | None = None,
    ) -> None:
        """`numbers` is the fewest and the most that a problem has; `max_solutions` the most distinct solutions of those
        that are accepted."""
        self.method: Method = method
        self._numbers = numbers
        self._held_out = list(held_out_targets)
        self._most = max_solutions

    def problems(self, split: Split, seed: int, start: int, count: int) -> list[Problem]:
        stream = _core.ProblemStream(seed, numbers=self._numbers, split=split, held_out_targets=self._held_out)
        return stream.get(start, count)

    def select(self, options: Mapping[str, Any]) -> Countdown:
        chosen = Countdown(self.method, **options)
        try:
            chosen.problems("train", 0, 0, 1)
        except (ValueError, OverflowError) as error:
            name = "held_out_targets" if "held_out_targets" in options else "numbers"
            raise ValueError(f"{name}: {error}") from None
        return chosen

    def accepts(self, problem: Problem) -> bool:
        return self._most is None or ((count := _solutions(problem)) is not None and count <= self._most)

    def to_json(self, problem: Problem) -> dict[str, Any]:
        return {"numbers": list(problem.numbers), "target": problem.target}

    def from_json(self, values: Mapping[str, Any]) -> Problem:
        # The authors' data call them nums.
        numbers, target = values.get("nums", values.get("numbers")), values.get("target")
        if not isinstance(numbers, list | tuple) or not all(type(number) is int for number in numbers):
            raise ValueError("its numbers are no list of integers")
        if type(target) is not int:
            raise ValueError("its target is no integer")
        try:
            return Problem(list(numbers), target)
        except OverflowError as error:
            raise ValueError(str(error)) from None

    def key(self, problem: Problem) -> str:
        return f"{' '.join(map(str, sorted(problem.numbers)))} = {problem.target}"

    def prompt(self, problem: Problem, budget: int | None) -> str:
        return _core.prompt(problem, self.method, budget)

    def read_prompt(self, prompt: str) -> tuple[Problem, int | None]:
        state = _core.first_state(prompt)
        if state is None:
            raise ValueError("no state of a problem in it")
        target, numbers = state
        budget = _core.prompt_budget(prompt)
        problem = Problem(numbers, target)
        if budget is not None:
            whole, bare = self.prompt(problem, budget), self.prompt(problem, None)
            head = whole.removesuffix(bare).removesuffix(f"{budget} ")
            if not prompt.startswith(head):
                raise ValueError(f'a budget of {self.method} begins with "{head}"')
        return problem, budget

    def judge(self, problem: Problem, answer: str | None, text: str) -> Verdict:
        if self.method != "apr":
            return _verdict(_core.check_trace(text))
        if answer is None:
            return Verdict(False, "no solution claimed")
        return _verdict(_core.check_solution(_core.prompt(problem, self.method), answer))

    def judge_child(self, problem: Problem, prompt: str, claim: str) -> Verdict:
        return _verdict(_core.check_solution(prompt, claim))

    def vote(self, answer: str) -> str | None:
        return "\n".join(_core.claimed_steps(answer))

    @property
    def lessons_language(self) -> str:
        return Traces.name

    def lessons(self, data: Mapping[str, Any], weights: Mapping[str, Any], *, seed: int, max_tokens: int) -> Lessons:
        """Fresh traces of the teacher, written and cut in Rust; tokens of theirs have kinds."""
        return Lessons(self.method, data, weights, seed=seed, max_tokens=max_tokens)

    def difficulty(self, problem: Problem) -> str:
        """By the number of its distinct solutions."""
        count = _solutions(problem)
        return "unknown" if count is None else next((name for name, most in DIFFICULTIES if count <= most), "easy")

    def kind(self, problem: Problem) -> str:
        """How many numbers it has, and how many distinct solutions, up to the next power of two."""
        count = _solutions(problem)
        return f"{len(problem.numbers)}:{'unknown' if count is None else 1 << max(0, count - 1).bit_length()}"

    def solvable(self, problem: Problem, prompt: str) -> bool:
        return diagnostics.hopeful(prompt)

    def decisions(self, text: str) -> list[tuple[int, int]]:
        return _core.decisions(text)

    def choices(self, problem: Problem, text: str, prompts: Sequence[str]) -> list[Choice | None]:
        return credit.choices(problem, text, prompts)

    def faults(self, problem: Problem, text: str) -> list[Fault]:
        return [Fault(at, right) for at, right in _core.faults(text)]

    def diagnose(self, problem: Problem, tree: ThreadTree) -> dict[str, float]:
        return asdict(diagnostics.diagnose(tree))

    def failure_cause(self, problem: Problem, tree: ThreadTree) -> str | None:
        return diagnostics.failure_cause(tree, problem)

    def check_teacher(self, teacher: Mapping[str, Any]) -> None:
        build(Teacher, dict(teacher))

    def width(self, tree: ThreadTree) -> int:
        return width(tree)

    def teacher_solves(self, teacher: Mapping[str, Any], problem: Problem, tree: ThreadTree) -> bool:
        return solves(build(Teacher, dict(teacher)), problem, self.method, tree)

    def teacher_effort(self, teacher: Mapping[str, Any], problem: Problem) -> tuple[int, int]:
        return effort(build(Teacher, dict(teacher)), problem, self.method)

    def solve(self, problem: Problem) -> list[str] | None:
        found = _core.solve(list(problem.numbers), problem.target)
        return None if found is None else list(found.steps)

    def title(self, problem: Problem) -> str:
        return show.title(problem)

    def label(self, prompt: str) -> str:
        return show.label(prompt)

    def answer(self, problem: Problem, steps: Sequence[str]) -> str:
        return show.answer(problem, steps)

    def line_kind(self, line: str) -> LineKind | None:
        return _core.line_kind(line)

    def steps(self, claim: str) -> tuple[str, ...]:
        return show.steps(claim)

    def solution(self, problem: Problem, answer: str) -> str:
        return f"{answer} = {problem.target}"

    @property
    def form(self) -> Form:
        return ask.FORMS[self.method]

    def parse(self, texts: Sequence[str]) -> Problem:
        return ask.parse(*texts)

    def fill(self, problem: Problem) -> tuple[str, ...]:
        return ask.fill(problem)


def countdown(method: Method) -> Countdown:
    """The task, as its entry point gives it."""
    return Countdown(method)


def _solutions(problem: Problem) -> int | None:
    """How many distinct ones there are; None where numbers may grow beyond what the solver holds."""
    try:
        return len(_core.solve_all(list(problem.numbers), problem.target))
    except OverflowError:
        return None


def _verdict(verdict: _core.Verdict) -> Verdict:
    return Verdict(verdict.correct, verdict.reason, tuple(verdict.steps))
