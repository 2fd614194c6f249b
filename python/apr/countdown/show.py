"""Countdown in words: for screens, which know no task."""

from __future__ import annotations

from collections.abc import Sequence

from apr._core import Problem, first_state, solution, solve


def title(problem: Problem) -> str:
    """The numbers and the target."""
    return f"{' '.join(map(str, problem.numbers))} → {problem.target}"


def label(prompt: str) -> str:
    """The numbers that a child has to reach the target with."""
    state = first_state(prompt)
    return "" if state is None else " ".join(map(str, state[1]))


def answer(problem: Problem, steps: Sequence[str]) -> str:
    """The expression that some steps come to. ValueError if they do not reach the target."""
    whole = solution(problem, list(steps))
    if whole is None:
        raise ValueError("its steps do not reach the target")
    return whole.expression


def known(problem: Problem) -> str:
    """What the exhaustive solver finds."""
    found = solve(list(problem.numbers), problem.target)
    return "none" if found is None else f"{found.expression} = {problem.target}"
