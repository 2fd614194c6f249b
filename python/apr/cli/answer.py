"""A solution for people: equations read out of a text, replayed exactly and written as one expression."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_EQUATION = re.compile(r"([0-9]{1,30})([-+*/])([0-9]{1,30})=([0-9]{1,30})")
_QUOTED = re.compile(r"'([0-9]+[-+*/][0-9]+=[0-9]+)'")


class _Part(NamedTuple):
    text: str
    sign: str
    """The operation on top; empty for a number."""


def equations(text: str) -> tuple[str, ...]:
    """The equations of the last path in a text: those of its last quoted list, then the last one of all."""
    listed: list[str] = []
    for line in text.splitlines():
        if quoted := _QUOTED.findall(line):
            listed = quoted
    last = [found.group() for found in _EQUATION.finditer(_QUOTED.sub("", text))][-1:]
    return (*listed, *last)


def expression(numbers: Sequence[int], target: int, steps: Sequence[str]) -> str | None:
    """The steps as one expression with few parentheses; None unless they use exactly these numbers, each
    once, and reach the target in exact arithmetic."""
    left = list(numbers)
    results: list[tuple[int, _Part]] = []

    def take(value: int) -> _Part | None:
        # Results first: every result but the last is used later, so this uses all of them.
        for index, (result, part) in enumerate(results):
            if result == value:
                del results[index]
                return part
        if value not in left:
            return None
        left.remove(value)
        return _Part(str(value), "")

    for step in steps:
        equation = _EQUATION.fullmatch(step)
        if equation is None:
            return None
        sign = equation[2]
        a, b, c = int(equation[1]), int(equation[3]), int(equation[4])
        first, second = take(a), take(b)
        if first is None or second is None or not _holds(a, sign, b, c):
            return None
        results.append((c, _join(first, sign, second)))
    if left or len(results) != 1 or results[0][0] != target:
        return None
    return results[0][1].text


def _holds(a: int, sign: str, b: int, c: int) -> bool:
    match sign:
        case "+":
            return a + b == c
        case "-":
            return a - b == c
        case "*":
            return a * b == c
        case _:
            return b != 0 and b * c == a


def _join(left: _Part, sign: str, right: _Part) -> _Part:
    if sign in "+*" and _brackets(right, sign, left) < _brackets(left, sign, right):
        left, right = right, left
    a = left.text if _bare_left(left, sign) else f"({left.text})"
    b = right.text if _bare_right(right, sign) else f"({right.text})"
    return _Part(f"{a}{sign}{b}", sign)


def _bare_left(part: _Part, sign: str) -> bool:
    return part.sign not in ("+", "-") or sign in "+-"


def _bare_right(part: _Part, sign: str) -> bool:
    return not part.sign or (part.sign in "*/" and sign in "+-")


def _brackets(left: _Part, sign: str, right: _Part) -> int:
    return (not _bare_left(left, sign)) + (not _bare_right(right, sign))
