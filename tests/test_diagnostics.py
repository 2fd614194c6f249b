"""Diagnostics of rollouts: teachers make no mistakes, and what lost a problem is told apart."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import pytest

import apr
from apr import Problem
from apr._core import inspect
from apr.countdown.diagnostics import Diagnostics, diagnose, failure_cause
from apr.countdown.task import Countdown
from apr.evaluate.problems import split_problems
from apr.limits import Limits
from apr.testing.scripted import ScriptedEngine
from apr.threads.tree import ThreadTree
from tiny import SOLVED, teacher_policy, teacher_texts


def played(problem: Problem, texts: list[str], limits: Limits | None = None) -> ThreadTree:
    engine = ScriptedEngine(texts, apr.Tokenizer())
    return apr.run_threads(problem, engine, limits)


def played_alone(problem: Problem, text: str) -> ThreadTree:
    return apr.run_threads(problem, ScriptedEngine([text], apr.Tokenizer()), method="sos+")


def test_teachers_make_no_mistakes() -> None:
    problems = split_problems(Countdown(), 30, "test", 0)
    policy = teacher_policy(problems)
    causes = set()
    for problem in problems:
        tree = apr.run_threads(problem, policy.engine, task=policy.task, language=policy.language)
        found = diagnose(tree)
        for name in (
            "unreadable",
            "wrong_results",
            "invented_numbers",
            "wrong_numbers",
            "wrong_states",
            "wrong_verdicts",
        ):
            assert asdict(found)[name] == 0
        assert found.children == tree.children
        assert found.hopeful_children <= found.children
        assert found.hopeless_tokens <= found.child_tokens < tree.total_tokens
        assert found.steps > 0
        assert found.false_claims == 0
        cause = failure_cause(tree, problem)
        assert (cause is None) == tree.correct
        # A child that reached the target had hope.
        assert not tree.correct or found.hopeful_children > 0
        causes.add(cause)
    assert causes <= {None, "width", "child_width"}
    assert "width" in causes


def edited(old: str, new: str) -> ThreadTree:
    texts = teacher_texts(SOLVED)
    assert any(old in text for text in texts)
    return played(SOLVED, [text.replace(old, new) for text in texts])


def test_a_solved_rollout_lost_nothing() -> None:
    tree = played(SOLVED, teacher_texts(SOLVED))
    assert tree.correct
    assert failure_cause(tree, SOLVED) is None


def test_limits_are_told_apart() -> None:
    texts = teacher_texts(SOLVED)
    for limits, cause in (
        (Limits(tokens_per_thread=100), "context"),
        # The main thread fits, its children do not.
        (Limits(tokens_per_thread=600), "context"),
        (Limits(total_tokens=100), "limit"),
        (Limits(depth=0), "depth"),
    ):
        assert failure_cause(played(SOLVED, texts, limits), SOLVED) == cause


def test_a_search_without_children_is_lost_to_its_width_or_its_faults() -> None:
    problem = Problem([2, 3, 4], 10)
    text = (
        "Current State: 10:[2, 3, 4], Operations: []\n"
        "Exploring Operation: 2*3=6, Resulting Numbers: [4, 6]\nGenerated Node #0,0: 10:[4, 6] Operation: 2*3=6\n"
        "Moving to Node #0,0\nCurrent State: 10:[4, 6], Operations: ['2*3=6']\n"
        "Exploring Operation: 6-4=2, Resulting Numbers: [2]\n2,10 unequal: No Solution\nNo solution found.\n"
    )
    assert failure_cause(played_alone(problem, text), problem) == "width"
    wrong = text.replace("6-4=2, Resulting Numbers: [2]\n2,", "6-4=3, Resulting Numbers: [3]\n3,")
    assert failure_cause(played_alone(problem, wrong), problem) == "faults"


def test_unsolvable_problems_are_lost_to_width() -> None:
    problem = Problem([1, 1, 1, 1], 99)
    tree = played(problem, teacher_texts(problem))
    assert tree.correct is False
    assert failure_cause(tree, problem) == "width"
    assert diagnose(tree).hopeful_children == 0
    assert diagnose(tree).hopeless_tokens == diagnose(tree).child_tokens


def test_problems_that_no_solver_holds_are_judged_all_the_same() -> None:
    problem = Countdown().from_json({"numbers": [9999999999, 9999999998, 9999999997, 9999999996], "target": 27})
    tree = played_alone(problem, f"{Countdown('sos+').prompt(problem, None)}\n")
    assert failure_cause(tree, problem) == "width"
    task = Countdown("sos+")
    assert (task.kind(problem), task.difficulty(problem)) == ("4:unknown", "unknown")
    assert not Countdown(max_solutions=3).accepts(problem)
    for numbers in ((-1, 4), (1, 1 << 70)):
        with pytest.raises(ValueError, match="numbers: "):
            task.select({"numbers": numbers})


@pytest.mark.parametrize(
    "wrong", [{"child_beam_size": 0}, {"waves": [0]}, {"slack": -1}, {"trials": 0}, {"largest": 0}]
)
def test_a_teacher_that_cannot_search_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Countdown().check_teacher(wrong)


def test_a_budget_of_another_method_is_refused() -> None:
    problem = Problem([2, 3, 4], 10)
    for method, other in (("apr", "sos+"), ("sos+", "apr")):
        ours, theirs = Countdown(method), Countdown(other)
        assert ours.read_prompt(ours.prompt(problem, 512)) == (problem, 512)
        head = theirs.prompt(problem, 512).removesuffix(theirs.prompt(problem, None))
        with pytest.raises(ValueError, match=f"a budget of {re.escape(method)} begins with"):
            ours.read_prompt(head + ours.prompt(problem, None))


def test_a_trial_by_nothing_is_read() -> None:
    """Which a model may write; nothing is divided by it."""
    begin = "Current State: 10:[2, 3, 4], Operations: []\n"
    found = inspect(f"{begin}0*5=0\n5-0=5\n1*1=1\n")
    assert (found["trials"], found["wrong_trials"]) == (3, 2)


def test_equal_children_are_counted() -> None:
    parent = "Moving to Node #0\nCurrent State: 10:[2, 3, 4], Operations: []"
    trunk = "\nExploring Operation: 2*3=6, Resulting Numbers: [4, 6]\nGenerated Node #0,0: 10:[4, 6] Operation: 2*3=6\n"
    spawn = "<Calling Sub Searches>\n" + "".join(
        f"<Start Sub Search {i} at level 1> Moving to Node #0,0\n" for i in range(3)
    )
    join = "<Sub Searches>\n" + "".join(f"<No Solution in Sub Search {i} at level 1 at Node #0,0>\n" for i in range(3))
    child = "Moving to Node #0,0\nCurrent State: 10:[4, 6], Operations: ['2*3=6']"
    texts = [
        f"{parent}{trunk}{spawn}<End Calling Sub Searches>\n",
        f"{parent}{trunk}{join}<End Sub Searches>\nNo solution found.\n",
        f"{child}\nExploring Operation: 6-4=3, Resulting Numbers: [3]\n3,10 unequal: No Solution\nNo solution found.\n",
    ]
    problem = Problem([2, 3, 4], 10)
    tree = played(problem, texts)
    found = diagnose(tree)
    assert (found.children, found.hopeful_children, found.duplicate_children) == (3, 3, 2)
    assert (found.wrong_results, found.steps) == (3, 4)
    assert failure_cause(tree, problem) == "faults"
    sound = played(
        problem,
        [text.replace("6-4=3, Resulting Numbers: [3]\n3,", "6-4=2, Resulting Numbers: [2]\n2,") for text in texts],
    )
    assert diagnose(sound).wrong_results == 0
    assert failure_cause(sound, problem) == "child_width"


def test_an_unfinished_rollout_has_no_cause_of_failure() -> None:
    assert failure_cause(ThreadTree(), SOLVED) is None
    assert diagnose(ThreadTree()) == Diagnostics(**dict.fromkeys(asdict(diagnose(ThreadTree())), 0))


@pytest.mark.parametrize("text", ["", "\n", "x" * 100, "Current State: 1:[" + "9" * 40 + "], Operations: []"])
def test_hostile_texts_have_diagnostics(text: str) -> None:
    assert apr._core.inspect(text)["steps"] == 0
    assert apr._core.first_state(text) is None


def test_every_step_of_a_long_text_is_looked_up_once() -> None:
    """A text of megabytes: what was tried before is found without going through all of it."""
    lines = [f"Exploring Operation: {i}+2={i + 2}, Resulting Numbers: [{i + 2}]\n" for i in range(100_000)]
    found = apr._core.inspect(f"Current State: 5:[1, 2], Operations: []\n{''.join(lines)}{''.join(lines[:1000])}")
    assert (found["steps"], found["repeated_steps"]) == (101_000, 1000)
