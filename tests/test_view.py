"""What people see of a search: the solution as an expression, the tree as lines that fit."""

from __future__ import annotations

import re

import pytest

import apr
from apr._core import solution
from apr.cli.view import Glyphs, render, wrap
from apr.countdown.show import steps as equations
from apr.shown import Shown
from apr.testing.scripted import Fault
from apr.threads.events import Event
from apr.threads.tree import ThreadTree
from tiny import SOLVED, teacher_policy

BUDGET = 10


def value(text: str) -> int:
    assert re.fullmatch(r"[0-9+*/()-]+", text)
    return eval(text)


def test_replayed_steps_give_the_solvers_expression() -> None:
    for problem in apr.problems(40, 5, numbers=(2, 5)):
        for known in apr.solve_all(problem.numbers, problem.target)[:40]:
            replayed = solution(problem, known.steps)
            assert replayed is not None
            assert replayed.expression == known.expression
            assert value(replayed.expression) == problem.target


@pytest.mark.parametrize(
    "steps",
    [
        [],
        ["53-22=31", "31/31=1"],
        ["53-22=31", "31/31=1", "26+1=28"],
        ["53-22=31", "31/31=1", "27+1=28"],
        ["53-22=31", "53-22=31", "31/31=1"],
        ["53-22=31", "31/0=1", "26+1=27"],
        ["26+1=27"],
        ["nonsense"],
    ],
)
def test_no_solution_without_proof(steps: list[str]) -> None:
    assert solution(SOLVED, steps) is None


def test_equations_of_a_search() -> None:
    trace = apr.search(SOLVED, "apr", seed=1, beam_size=6, promising=1.0)
    steps = equations(apr.search_result(trace.text.removesuffix("\n")) or "")
    assert solution(SOLVED, steps) is not None
    assert equations("") == ()


# The view


@pytest.fixture(scope="module")
def events() -> list[Event]:
    seen: list[Event] = []
    policy = teacher_policy(budget=BUDGET, beam_size=15, faults=[Fault("#0,4", "error", after=30)])
    apr.run_threads(SOLVED, policy.engine, emit=seen.append, budget=BUDGET, task=policy.task, language=policy.language)
    return seen


@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize("height", [3, 6, 10, 24, None])
def test_every_picture_fits(events: list[Event], width: int, height: int | None) -> None:
    tree, shown = ThreadTree(), Shown.of(events[0])  # type: ignore[arg-type]
    for index, event in enumerate(events):
        tree.apply(event)
        if index % 97 == 0 or index > len(events) - 30:
            lines = render(
                tree, Glyphs.of("utf-8"), shown, lambda _: True, seconds=1.5, width=width, height=height, frame=index
            )
            assert height is None or len(lines) <= height
            assert all(line.cell_len <= width and "\n" not in line.plain for line in lines)
    assert "scripted error" in "".join(line.plain for line in render(
        tree, Glyphs.of("utf-8"), shown, lambda _: True, seconds=1, width=120))  # fmt: skip


def test_hidden_threads_are_counted(events: list[Event]) -> None:
    tree = ThreadTree.fold(events)
    shown = Shown.of(events[0])  # type: ignore[arg-type]
    drawn = render(tree, Glyphs.of("ascii"), shown, lambda _: True, seconds=1, width=120, height=10)
    lines = [line.plain for line in drawn]
    assert len(lines) == 10
    hidden = re.search(r"(\d+) more", "\n".join(lines))
    assert hidden is not None
    shown = sum(" tok" in line and "threads" not in line for line in lines)
    assert shown + int(hidden[1]) == len(tree.threads)
    assert all(line.isascii() for line in lines)
    # What was found stays in sight.
    assert sum("found 5" in line for line in lines) == 2


def test_wrap_fills_lines_evenly() -> None:
    assert wrap(["aa", "bb", "cc", "dd"], "-", 11) == ["aa-bb-cc-dd"]
    assert wrap(["aa", "bb", "cc", "dd"], "-", 8) == ["aa-bb", "cc-dd"]
    assert wrap(["aaaa"], "-", 2) == ["aa"]
