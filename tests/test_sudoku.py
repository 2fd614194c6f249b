"""Sudoku against an independent solver, and through the task's own protocols."""

from __future__ import annotations

import pickle
import random
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from constraint import AllDifferentConstraint, ExactSumConstraint, Problem
from hypothesis import given, settings
from hypothesis import strategies as st

from apr._core import SudokuProblem, sudoku_inspect
from apr.languages.tags import InheritingTags, Tags
from apr.sudoku.task import Sudoku
from apr.sudoku.teacher import Data, written
from apr.task import Asks, Corrects, Diagnoses, Search, Selects, Shows, Solves, Teaches, Written, load_task
from apr.task import Fault as Wrong
from apr.testing.scripted import Fault, ScriptedEngine
from apr.threads.run import run_threads
from apr.threads.tree import ThreadTree
from apr.train.rl.credit import child_verdict
from apr.train.searches import search_samples

TASK = Sudoku("apr")
TAGS = Tags()
Cells = tuple[int, ...]
DIAGONAL = (0, 5, 10, 15)
GROUPS = (
    *(tuple(range(4 * row, 4 * row + 4)) for row in range(4)),
    *(tuple(range(column, 16, 4)) for column in range(4)),
    *((corner, corner + 1, corner + 4, corner + 5) for corner in (0, 2, 8, 10)),
)


def completions(problem: SudokuProblem) -> list[Cells]:
    """All solutions, by python-constraint."""
    asked = Problem()
    for cell, given_ in enumerate("".join(problem.rows)):
        asked.addVariable(cell, [1, 2, 3, 4] if given_ == "." else [int(given_)])
    for group in GROUPS:
        asked.addConstraint(AllDifferentConstraint(), group)
    if problem.sum is not None:
        asked.addConstraint(ExactSumConstraint(problem.sum), DIAGONAL)
    return [tuple(found[cell] for cell in range(16)) for found in asked.getSolutions()]


def line(cells: Cells) -> str:
    return "/".join("".join(map(str, cells[row : row + 4])) for row in range(0, 16, 4))


def damaged(cells: Cells, rng: random.Random) -> Iterator[Cells]:
    """Grids near a solution: other digits, and two cells, rows, columns or digits exchanged."""
    first, second = rng.sample(range(16), 2)
    changed = list(cells)
    changed[first] = rng.randint(1, 4)
    yield tuple(changed)
    changed = list(cells)
    changed[first], changed[second] = changed[second], changed[first]
    yield tuple(changed)
    rows = [cells[row : row + 4] for row in range(0, 16, 4)]
    row = rng.choice((0, 2))
    rows[row], rows[row + 1] = rows[row + 1], rows[row]
    yield tuple(cell for line_ in rows for cell in line_)
    a, b = rng.sample(range(1, 5), 2)
    yield tuple({a: b, b: a}.get(cell, cell) for cell in cells)


def test_problems_have_one_solution_and_the_judge_knows_it() -> None:
    rng = random.Random(0)
    verdicts = 0
    for split in ("train", "val", "test"):
        for problem in TASK.problems(split, 5, 0, 150):
            (solution,) = completions(problem)
            assert line(solution) == "/".join(problem.solution)
            assert TASK.judge(problem, line(solution), "").correct
            for cells in damaged(solution, rng):
                verdict = TASK.judge(problem, line(cells), "")
                assert verdict.correct == (cells == solution), (problem, cells)
                assert bool(verdict.steps) == verdict.correct
                verdicts += 1
    assert verdicts == 1800


def test_children_are_judged_by_their_own_grid() -> None:
    for problem in TASK.problems("val", 6, 0, 60):
        for child in spawned(written(problem.search(False, None))):
            assert TASK.label(child.prompt)[2] == "="
            alone = SudokuProblem if child.answer else None
            if alone is not None:
                assert completions(alone(child.prompt.partition(" ")[2])) == completions(problem)
            verdict = TASK.judge_child(problem, child.prompt, "/".join(problem.solution))
            assert verdict.correct == (child.answer is not None)


def test_streams_are_pure_and_splits_disjoint() -> None:
    assert TASK.problems("val", 1, 3, 4) == TASK.problems("val", 1, 0, 10)[3:7]
    keys = {split: {TASK.key(p) for p in TASK.problems(split, 2, 0, 400)} for split in ("train", "val", "test")}
    assert not keys["train"] & keys["val"]
    assert not keys["train"] & keys["test"]
    assert not keys["val"] & keys["test"]


def test_a_problem_survives_json_prompts_and_pickle() -> None:
    for problem in TASK.problems("test", 3, 0, 40):
        assert TASK.from_json(TASK.to_json(problem)) == problem
        assert pickle.loads(pickle.dumps(problem)) == problem
        for budget in (None, 0, 3):
            assert TASK.read_prompt(TASK.prompt(problem, budget)) == (problem, budget)
        steps = TASK.judge(problem, "/".join(problem.solution), "").steps
        assert TASK.answer(problem, steps) == "/".join(problem.solution)
        with pytest.raises(ValueError, match="no grid"):
            TASK.answer(problem, steps[:3])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "rows are no list of texts"),
        ({"rows": "1234"}, "rows are no list of texts"),
        ({"rows": [1234, 3412, 2143, 4321]}, "rows are no list of texts"),
        ({"rows": ["1234", "3412", "2143"]}, "not 4 rows of 4 cells"),
        ({"rows": ["1234", "3412", "2143", "43x1"]}, "no grid of 4 by 4 cells"),
        ({"rows": ["....", "....", "....", "...."]}, "one solution, not several"),
        ({"rows": ["1234", "3412", "2143", "4322"]}, "one solution, not none"),
        ({"rows": ["1234", "3412", "2143", "4321"], "sum": 9}, "one solution, not none"),
        ({"rows": ["1234", "3412", "2143", "4321"], "sum": True}, "sum is no integer"),
        ({"rows": ["1234", "3412", "2143", "4321"], "sum": -1}, "no sum from 0 to 16"),
        ({"rows": ["1234", "3412", "2143", "4321"], "sum": 10**30}, "no sum from 0 to 16"),
    ],
)
def test_what_is_no_problem_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TASK.from_json(values)


def test_the_task_is_found_and_brings_everything() -> None:
    task = load_task("sudoku", "sos+")
    assert isinstance(task, Sudoku)
    assert isinstance(task, Teaches)
    assert isinstance(task, Diagnoses)
    assert isinstance(task, Corrects)
    assert isinstance(task, Shows)
    assert isinstance(task, Asks)
    assert isinstance(task, Solves)
    assert isinstance(task, Selects)
    with pytest.raises(ValueError, match=r"apr or sos\+"):
        load_task("sudoku", "sos")


def spawned(search: Search) -> list[Search]:
    return [child for part in search.parts if isinstance(part, tuple) for child in part]


def lesson(task: Sudoku, index: int, data: dict[str, Any] | None = None, progress: float = 1.0) -> Search:
    return task.search(data or {}, split="train", seed=1, index=index, progress=progress)


def test_the_teacher_answers_right_and_writes_nothing_wrong() -> None:
    serial = Sudoku("sos+")
    budgets = set()
    for index in range(200):
        main = lesson(TASK, index)
        problem, budget = TASK.read_prompt(main.prompt)
        budgets.add(budget)
        assert TASK.judge(problem, main.answer, "").correct
        assert len(spawned(main)) <= (99 if budget is None else budget)
        assert bool(spawned(main)) == (problem.sum is not None and budget != 0)
        alone = lesson(serial, index)
        assert alone.prompt == main.prompt
        assert alone.answer == main.answer
        assert not spawned(alone)
        for thread in (main, alone, *spawned(main)):
            text = "".join(part.text for part in thread.parts if isinstance(part, Written))
            found = sudoku_inspect(thread.prompt, text)
            assert not any(count for name, count in found.items() if name.startswith(("wrong", "unread", "short")))
    assert budgets == {None, 0, 1, 2, 3}


def played(search: Search, *faults: Fault, language: Tags = TAGS) -> ThreadTree:
    """The teacher's search as a rollout."""
    texts = [language.text(sample.token_ids) for sample in search_samples(search, language, {})]
    problem, budget = TASK.read_prompt(search.prompt)
    engine = ScriptedEngine(texts, language.tokenizer, faults=faults)
    return run_threads(problem, engine, task=TASK, language=language, budget=budget)


@pytest.mark.parametrize("language", [TAGS, InheritingTags()], ids=lambda language: language.name)
def test_a_played_search_is_solved_and_has_no_faults(language: Tags) -> None:
    for index in range(30):
        search = lesson(TASK, index)
        tree = played(search, language=language)
        problem, _ = TASK.read_prompt(search.prompt)
        counts = TASK.diagnose(problem, tree)
        assert tree.correct
        assert TASK.failure_cause(problem, tree) is None
        assert counts["children"] == len(spawned(search))
        assert counts["hopeful_children"] == counts["joined_claims"]
        children = [thread for thread in tree.threads.values() if thread.parent is not None]
        assert [child_verdict(TASK, problem, child) for child in children] == [
            "nothing" if child.result is None else "found" for child in children
        ]
        assert counts["cells"] > 0
        assert not any(TASK.faults(problem, thread.text) for thread in tree.threads.values())
        assert not sum(
            count for name, count in counts.items() if name.startswith(("wrong", "unread", "short", "false"))
        )


def test_a_child_that_misses_the_solution_is_told_from_one_that_lies() -> None:
    search = next(found for index in range(99) if len(spawned(found := lesson(TASK, index))) == 2)
    problem, _ = TASK.read_prompt(search.prompt)
    (right,) = (child for child in spawned(search) if child.answer is not None)
    for said, verdict in (("", "missed"), ("<answer>1111/2222/3333/4444</answer>", "false")):
        tree = played(search, Fault("<join>", "text", ""), Fault(right.prompt, "text", said))
        (child,) = (t for t in tree.threads.values() if t.parent is not None and TASK.solvable(problem, t.prompt_text))
        assert child_verdict(TASK, problem, child) == verdict


def test_what_lost_a_rollout_is_told() -> None:
    search = next(found for index in range(99) if len(spawned(found := lesson(TASK, index))) == 2)
    problem, _ = TASK.read_prompt(search.prompt)
    (right,) = (child for child in spawned(search) if child.answer is not None)

    def lost(child: str, main: str) -> tuple[str | None, dict[str, float]]:
        """The child that has the solution writes this, and the main thread that after the join."""
        faults = Fault("<join>", "text", main), Fault(right.prompt, "text", child)
        tree = played(search, *faults)
        return TASK.failure_cause(problem, tree), TASK.diagnose(problem, tree)

    found = f"<answer>{right.answer}</answer>"
    assert lost(found, found)[0] is None
    assert lost(found, "")[0] == "join"
    assert lost("", "")[0] == "gave_up"
    assert lost("", "<answer>1234</answer>")[0] == "false_answer"
    cause, counts = lost("aw1234 what\n", "")
    assert (cause, counts["unreadable"]) == ("faults", 1)
    cause, counts = lost("<answer>1234</answer>", "")
    assert (cause, counts["false_claims"]) == ("faults", 1)


def test_a_fault_is_where_a_thread_leaves_the_teacher_s_way() -> None:
    serial = Sudoku("sos+")
    search = next(found for index in range(99) if len((found := lesson(serial, index)).parts) > 9)
    problem, _ = serial.read_prompt(search.prompt)
    (text,) = (TAGS.text(sample.token_ids) for sample in search_samples(search, TAGS, {}))
    assert serial.faults(problem, text) == []
    at = text.rindex("\n?") + 1
    line = text[at : text.index("\n", at) + 1]
    first = "?" + text.partition("\n?")[2].partition("\n")[0] + "\n"
    early = f"{text[:at]}<answer>1111/2222/3333/4444</answer>"
    assert serial.faults(problem, early) == [Wrong(at, line)]
    # Of several the first: the lines after it follow from wrong ones.
    assert serial.faults(problem, early.replace("\n?", "\n!")) == [Wrong(text.index("\n?") + 1, first)]
    # No line stands where a thread ends.
    end = text.index("<answer>")
    assert serial.faults(problem, f"{text[:end]}?aw12\n") == [Wrong(end, None)]
    assert serial.faults(problem, "é" + text) == []


def test_people_ask_for_it() -> None:
    (example,) = (field.example for field in TASK.form.fields)
    problem = TASK.parse([example])
    assert TASK.fill(problem) == (example,)
    for kind in TASK.form.kinds.values():
        assert TASK.select(kind.options).problems("test", 0, 0, 1)
    with pytest.raises(ValueError, match="givens"):
        TASK.select({"givens": [2]})
    with pytest.raises(ValueError, match="width"):
        TASK.select({"width": 2})


def test_lessons_follow_the_stages() -> None:
    data = {"stages": [{"until": 0.5, "plain": 1.0, "givens": [9]}, {"until": 1.0, "plain": 0.0, "givens": [5]}]}
    early, _ = TASK.read_prompt(lesson(TASK, 0, data, 0.4).prompt)
    late, _ = TASK.read_prompt(lesson(TASK, 0, data, 0.5).prompt)
    assert early.sum is None
    assert late.sum is not None
    assert ["".join(problem.rows).count(".") for problem in (early, late)] == [7, 11]


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"stage": []}, "data.stage"),
        ({"stages": []}, "data.stages"),
        ({"stages": [{"until": 0.5}]}, r"data\.stages\[0\]\.until"),
        ({"stages": [{"givens": [3]}]}, r"data\.stages\[0\]\.givens"),
        ({"stages": [{"plain": 2}]}, r"data\.stages\[0\]\.plain"),
        ({"stages": [{"budgets": [-1]}]}, r"data\.stages\[0\]\.budgets"),
    ],
)
def test_data_is_checked_by_key(data: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        lesson(TASK, 0, data)


def test_the_recipe_is_one() -> None:
    values = tomllib.loads(resources.files("apr.recipes").joinpath("sudoku.toml").read_text())
    assert values["task"] == TASK.name
    assert Data.read(values["data"]).stages[-1].until == 1


HOSTILE = st.text() | st.text("abcdwxyz01234.=?- \nsum<>/") | st.sampled_from(["\ud800", "\x00" * 99, "1" * 10**5])


@settings(max_examples=200)
@given(HOSTILE, HOSTILE)
def test_any_text_is_judged(prompt: str, text: str) -> None:
    (problem,) = TASK.problems("val", 1, 1, 1)
    assert not TASK.judge(problem, text, text).correct
    assert not TASK.judge_child(problem, prompt, text).correct
    assert TASK.vote(text) is None
    assert isinstance(TASK.label(prompt), str)
    assert sudoku_inspect(prompt, text)
    assert isinstance(TASK.faults(problem, f"{TASK.prompt(problem, None)}\n{text}"), list)
    with pytest.raises(ValueError, match=r"no grid|no sum|no budget|one solution"):
        TASK.read_prompt(text)
