"""What a rollout is worth: the judge's score, and rewards of others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("torch")

from apr.policy import Policy
from apr.task import Verdict
from apr.testing.scripted import Fault, ScriptedEngine
from apr.threads.events import Event, RolloutFinished, from_json, to_json
from apr.threads.run import run_threads
from apr.threads.tree import ThreadTree
from apr.train.recipes import Costs, RlConfig, rl_recipe
from apr.train.rl.groups import Drawn, Group, draw, run_groups
from apr.train.rl.rewards import load_reward, outcome
from noisy import RECIPE
from toy import Characters, ToyLanguage, ToyTask

NO_COSTS = Costs()


class Graded(ToyTask):
    """Gives points for letters that are right."""

    def judge(self, problem: str, answer: str | None, text: str) -> Verdict:
        same = sum(a == b for a, b in zip(problem, answer or "", strict=False))
        whole = super().judge(problem, answer, text)
        return Verdict(whole.correct, "letters", whole.steps, same / len(problem))


def by_threads(tree: ThreadTree, costs: Costs) -> float | None:
    """A reward of one's own."""
    return None if tree.failed else 1.0 / len(tree.threads) - costs.per_thread


def config(**changes: Any) -> RlConfig:
    return rl_recipe(RECIPE.replace("numbers = [2, 2]\n", ""), "apr", **changes)


def played(*texts: str, task: ToyTask | None = None, faults: Any = ()) -> ThreadTree:
    engine = ScriptedEngine(texts, Characters(), faults=faults)
    return run_threads("win", engine, task=task or ToyTask(), language=ToyLanguage())


def groups(*texts: str, task: ToyTask | None = None, faults: Any = (), **changes: Any) -> list[Group]:
    engine = ScriptedEngine(texts, Characters(), faults=faults)
    policy = Policy(engine, task or ToyTask(), ToyLanguage(), "apr")
    wanted = [Drawn(0, "win", None), Drawn(1, "won", None)]
    return asyncio.run(run_groups(wanted, policy, config(**changes), size=2))


def test_a_partial_score_reaches_the_events_and_the_reward() -> None:
    events: list[Event] = []
    engine = ScriptedEngine(("?!wit",), Characters())
    tree = run_threads("win", engine, emit=events.append, task=Graded(), language=ToyLanguage())
    end = events[-1]
    assert isinstance(end, RolloutFinished)
    assert (end.correct, end.score) == (False, pytest.approx(2 / 3))
    assert tree.score == end.score
    assert ThreadTree.fold(from_json(to_json(event)) for event in events).score == end.score
    assert outcome(tree, NO_COSTS) == pytest.approx(2 / 3)
    assert outcome(tree, Costs(per_1000_tokens=100.0)) == pytest.approx(2 / 3 - 0.1 * tree.total_tokens)
    assert outcome(tree, Costs(per_1000_tokens=1000.0)) == 0.0


@pytest.mark.parametrize(("answer", "score"), [("win", 1.0), ("lose", 0.0)])
def test_without_a_score_right_is_one_and_wrong_is_nothing(answer: str, score: float) -> None:
    tree = played(f"?!{answer}")
    assert (tree.score, outcome(tree, NO_COSTS)) == (score, score)


def test_an_engine_failure_has_no_score_and_no_reward() -> None:
    tree = played("?!wit", task=Graded(), faults=[Fault("", "error", after=2)])
    assert tree.failed
    assert (tree.correct, tree.score, outcome(tree, NO_COSTS)) == (None, None, None)


def test_partial_scores_are_rewards_of_groups() -> None:
    found = groups("?!wit", task=Graded())
    assert [group.rewards for group in found] == [(pytest.approx(2 / 3),) * 2, (pytest.approx(1 / 3),) * 2]


def test_a_reward_of_others_is_found_by_name() -> None:
    assert load_reward(None) is outcome
    assert load_reward("test_rewards:by_threads") is not outcome
    plain = groups("?[a,b]", "?{-,-}!win", "a", "b")
    own = groups("?[a,b]", "?{-,-}!win", "a", "b", reward="test_rewards:by_threads", costs={"per_thread": 0.1})
    assert [group.rewards for group in plain] == [(1.0, 1.0), (0.0, 0.0)]
    assert [group.rewards for group in own] == [(pytest.approx(1 / 3 - 0.1),) * 2] * 2
    assert own[0].trees[0].correct


def test_a_reward_that_says_nothing_leaves_its_rollout_out() -> None:
    (group, _) = groups("?!win", faults=[Fault("", "error", after=2)], reward="test_rewards:by_threads")
    assert group.rewards == (None, None)
    assert (group.judged, group.signal) == ((), False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "unknown reward 'nothing'"),
        ("no_such_package:reward", "the reward 'no_such_package:reward' needs no_such_package"),
        ("test_rewards:nothing", "the reward 'test_rewards:nothing' cannot be found"),
    ],
)
def test_a_reward_that_is_not_there_is_told_in_one_line(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as told:
        load_reward(name)
    assert len(str(told.value).splitlines()) == 1


def test_any_tasks_problems_are_drawn() -> None:
    settings = config(groups=3, budgets=[2])
    found = draw(ToyTask(), settings, 5, 3)
    seed = found[0].problem.split("-")[1]
    assert found == [Drawn(i, f"train-{seed}-{i}", 2) for i in (5, 6, 7)]
    # Lessons of the run's seed begin with the problems of that one.
    assert int(seed) != settings.seed


def test_a_split_that_ends_is_told() -> None:
    class Few(ToyTask):
        def problems(self, *where: Any) -> list[str]:
            return super().problems(*where)[:2]

    with pytest.raises(ValueError, match="the train split of toy:ToyTask ends after 7 problems"):
        draw(Few(), config(), 5, 3)
