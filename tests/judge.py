"""The strict judge once more, slow and plain, from its rules and not from its code.

A state gives a target and numbers. Each line about a tried operation must be one to the letter, take its two numbers
out of those that are left, be true in whole numbers from 0 on, and list what is then left in any order. The first other
line about a goal decides: it names the target twice, while nothing but the target is left. Numbers have 1 to 30 ASCII
digits; lines end at a line feed; whatever else is written says nothing.
"""

from __future__ import annotations

STATE, TRIED, GOAL = "Current State", "Exploring Operation", "Goal Reached"


class Wrong(Exception):
    """The text proves nothing."""


def judge_solution(prompt: str, text: str) -> list[str] | None:
    """The equations of an accepted solution; None if it is not accepted."""
    try:
        return _judge(*_state(prompt), text.split("\n"))
    except Wrong:
        return None


def judge_claim(prompt: str, text: str) -> list[str] | None:
    """What a thread claims: all that follows its second-to-last mention of a goal, without blanks around."""
    parts = text.split(GOAL)
    return None if len(parts) < 3 else judge_solution(prompt, GOAL.join(parts[-2:]).strip())


def judge_trace(text: str) -> list[str] | None:
    """A whole trace: what follows the line with the second-to-last mention, against the text's own first state."""
    parts = text.split(GOAL)
    return None if len(parts) < 3 else judge_solution(text, GOAL.join(parts[-2:]).partition("\n")[2])


def _judge(target: int, left: list[int], lines: list[str]) -> list[str]:
    steps = []
    for line in lines:
        if TRIED in line:
            equation, result_list = _between(line, f"{TRIED}: ", ", Resulting Numbers: [", "]")
            a, sign, b, result = _equation(equation)
            for used in (a, b):
                if used not in left:
                    raise Wrong
                left.remove(used)
            if _calculate(a, sign, b) != result:
                raise Wrong
            left.append(result)
            if sorted(_numbers(result_list)) != sorted(left):
                raise Wrong
            steps.append(f"{a}{sign}{b}={result}")
        elif GOAL in line:
            first, second = _between(line, "", ",", f" equal: {GOAL}")
            if _number(first) == _number(second) == target and left == [target]:
                return steps
            raise Wrong
    raise Wrong


def _state(text: str) -> tuple[int, list[int]]:
    start = text.find(STATE)
    head, opening, rest = text[max(0, start) :].partition(":[")
    inside, closing, _ = rest.partition("]")
    if start < 0 or not opening or not closing or not head.startswith(f"{STATE}: "):
        raise Wrong
    return _number(head[len(STATE) + 2 :]), _numbers(inside)


def _between(line: str, begin: str, middle: str, end: str) -> tuple[str, str]:
    """What stands between begin and middle, and between middle and end."""
    if not line.startswith(begin) or not line.endswith(end) or middle not in line:
        raise Wrong
    left, _, right = line[len(begin) :].partition(middle)
    if not right.endswith(end):
        raise Wrong
    return left, right[: len(right) - len(end)]


def _equation(text: str) -> tuple[int, str, int, int]:
    sides = text.split("=")
    signs = [c for c in sides[0] if c in "+-*/"]
    if len(sides) != 2 or len(signs) != 1:
        raise Wrong
    a, b = sides[0].split(signs[0])
    return _number(a), signs[0], _number(b), _number(sides[1])


def _calculate(a: int, sign: str, b: int) -> int:
    if sign == "+":
        return a + b
    if sign == "*":
        return a * b
    if sign == "-":
        return a - b
    if b == 0 or a % b:
        raise Wrong
    return a // b


def _numbers(text: str) -> list[int]:
    return [_number(word) for word in text.split(", ")]


def _number(word: str) -> int:
    if not 1 <= len(word) <= 30 or any(c not in "0123456789" for c in word):
        raise Wrong
    return int(word)
