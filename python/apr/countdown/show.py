"""Countdown in words: for screens, which know no task."""

from __future__ import annotations

import re
from collections.abc import Sequence

from apr._core import Problem, first_state, solution

_EQUATION = re.compile(r"[0-9]{1,30}[-+*/][0-9]{1,30}=[0-9]{1,30}")
_QUOTED = re.compile(r"'([0-9]+[-+*/][0-9]+=[0-9]+)'")


def title(problem: Problem) -> str:
    """The numbers and the target."""
    return f"{' '.join(map(str, problem.numbers))} → {problem.target}"


def label(prompt: str) -> str:
    """The numbers that a child has to reach the target with."""
    state = first_state(prompt)
    return "" if state is None else " ".join(map(str, state[1]))


def steps(claim: str) -> tuple[str, ...]:
    """The equations of the last path in a text: those of its last quoted list, then the last one of all."""
    listed: list[str] = []
    for line in claim.splitlines():
        if quoted := _QUOTED.findall(line):
            listed = quoted
    last = _EQUATION.findall(_QUOTED.sub("", claim))[-1:]
    return (*listed, *last)


def answer(problem: Problem, steps: Sequence[str]) -> str:
    """The expression that some steps come to. ValueError if they do not reach the target."""
    whole = solution(problem, list(steps))
    if whole is None:
        raise ValueError("its steps do not reach the target")
    return whole.expression
