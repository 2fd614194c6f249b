"""The judges against a slow and plain one over mutated solutions and traces: no verdict may differ.

APR_JUDGED is how many texts are judged; a few seconds' worth by default, a hundred thousand for the full run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import cache

import apr
from apr._core import check_claim, check_solution, check_trace, prompt
from judge import judge_claim, judge_solution, judge_trace

JUDGED = int(os.environ.get("APR_JUDGED", "12000"))

PIECES = (
    *("Goal Reached", "Exploring Operation: ", "Exploring Operation", "Current State: ", ", Resulting Numbers: [", "]"),
    *(" equal: Goal Reached\n", " unequal: No Solution\n", "27,27 equal: Goal Reached", "Moving to Node #0,1\n", "\n"),
    *("\r", "\r\n", "\x0b", "\x1c", "\x85", "\u2028", "\u0663", "\uff11", "\ud800", "\x00", " ", "\t", ",", "=", "-"),
    *("+5", "0", "00", "1_0", "1.0", "1e3", "-1", "**", "//", "(2)", "9" * 30, "9" * 31, "1" + "0" * 38, "2*3=6"),
)


@cache
def originals() -> list[tuple[str, str]]:
    """Prompts, each with a text that proves a solution or is a whole search."""
    found = []
    for problem in apr.problems(40, 11, numbers=(2, 5)):
        asked = prompt(problem, "sos")
        for known in apr.solve_all(problem.numbers, problem.target)[:4]:
            left, lines = list(problem.numbers), []
            for step in known.steps:
                sides, result = step.split("=")
                sign = next(c for c in sides if c in "+-*/")
                for number in sides.split(sign):
                    left.remove(int(number))
                left.append(int(result))
                lines.append(f"Exploring Operation: {step}, Resulting Numbers: {left}\n")
            lines.append(f"{problem.target},{problem.target} equal: Goal Reached\n")
            found.append((asked, "".join(lines)))
            found.append((asked, f"{asked}\n{problem.target},{problem.target} equal: Goal Reached\n{''.join(lines)}"))
    for problem in apr.problems(6, 12, numbers=3):
        for method in ("sos+", "apr"):
            trace = apr.search(problem, method, seed=2, beam_size=3)
            found.append((prompt(problem, method), trace.text))
    return found


def digit(draw: random.Random, text: str) -> str:
    places = [i for i, c in enumerate(text) if c.isdigit()]
    if not places:
        return text
    at = draw.choice(places)
    return text[:at] + draw.choice("0123456789") + text[at + 1 :]


def insert(draw: random.Random, text: str) -> str:
    at = draw.randint(0, len(text))
    return text[:at] + draw.choice(PIECES) + text[at:]


def cut(draw: random.Random, text: str) -> str:
    at = draw.randint(0, len(text))
    return text[:at] + text[at + draw.randint(1, 9) :]


def swap_lines(draw: random.Random, text: str) -> str:
    lines = text.split("\n")
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


def repeat_line(draw: random.Random, text: str) -> str:
    lines = text.split("\n")
    lines.insert(draw.randint(0, len(lines)), draw.choice(lines))
    return "\n".join(lines)


def drop_line(draw: random.Random, text: str) -> str:
    lines = text.split("\n")
    del lines[draw.randrange(len(lines))]
    return "\n".join(lines)


def swap_numbers(draw: random.Random, text: str) -> str:
    """Turn a list of numbers around, or an equation's operands."""
    start, end = text.find("[", draw.randint(0, len(text))), -1
    if start >= 0:
        end = text.find("]", start)
    return text if end < 0 else text[: start + 1] + ", ".join(reversed(text[start + 1 : end].split(", "))) + text[end:]


def leading_zero(draw: random.Random, text: str) -> str:
    places = [i for i, c in enumerate(text) if c.isdigit() and (i == 0 or not text[i - 1].isdigit())]
    if not places:
        return text
    at = draw.choice(places)
    return text[:at] + "0" * draw.randint(1, 29) + text[at:]


MUTATIONS: list[Callable[[random.Random, str], str]] = [
    *(digit, insert, cut, swap_lines, repeat_line, drop_line, swap_numbers, leading_zero)
]


def test_no_verdict_differs_from_the_slow_judges() -> None:
    draw = random.Random(2504_15466)
    accepted = 0
    for _ in range(JUDGED):
        asked, text = draw.choice(originals())
        for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
            text = draw.choice(MUTATIONS)(draw, text)
        if draw.random() < 0.1:
            asked = draw.choice(MUTATIONS)(draw, asked)
        pairs = (
            (check_solution(asked, text), judge_solution(asked, text)),
            (check_claim(asked, text), judge_claim(asked, text)),
            (check_trace(text), judge_trace(text)),
        )
        for verdict, slow in pairs:
            assert verdict.correct == (slow is not None), (asked, text, verdict)
            assert verdict.steps == (slow or []), (asked, text, verdict)
        accepted += any(slow is not None for _, slow in pairs)
    assert JUDGED * 0.2 < accepted < JUDGED * 0.9
