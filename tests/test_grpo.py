"""Reinforcement learning end to end: real rollouts, real updates, processes that train as one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import apr
from apr import Tokenizer, solve_all
from apr.cli import main
from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.engine import load_engine
from apr.engine.base import EngineError
from apr.engine.checkpoint import load_model
from apr.engine.native import NativeEngine
from apr.policy import Policy
from apr.selection import selected
from apr.task import load_task
from apr.train.model import CAUSAL
from apr.train.processes import Processes
from apr.train.recipes import Costs, CreditConfig, RlConfig, recipe_text, rl_recipe
from apr.train.rl.groups import Group, draw, draw_groups, run_groups
from apr.train.rl.learner import Learner
from apr.train.rl.metrics import Alarms, records, summarise
from apr.train.rl.packs import judged_rollouts, packs_of, rows_of
from apr.train.rl.rewards import outcome
from apr.train.rl.trainer import GrpoTrainer
from apr.train.run import RunDirectory
from noisy import RECIPE, save_noisy_model
from tiny import teacher_policy
from together import together

RECIPES = Path(apr.__file__).parent / "recipes" / "rl"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_noisy_model(tmp_path_factory.mktemp("policy") / "noisy")


@pytest.fixture(scope="module")
def groups(start: Path) -> list[Group]:
    """Rollouts with children, of which some failed: two groups that are split and two that are not."""
    import asyncio

    settings = config(numbers=[3, 3], budgets=[3], max_tokens=2000, groups=12)
    task = selected(Countdown(), settings.problem_options)
    policy = Policy(load_engine("native", start, cache_dtype="float32"), task, Traces(), "apr")
    drawn = asyncio.run(run_groups(draw(task, settings, 0, 12), policy, settings))
    found = [group for signal in (True, False) for group in [g for g in drawn if g.signal is signal][:2]]
    assert len(found) == 4
    assert any(tree.children for group in found for tree in group.trees)
    return found


def config(**changes: Any) -> RlConfig:
    return rl_recipe(RECIPE, "apr", **changes)


def native(model: Any, directory: Path) -> Any:
    return load_engine("native", directory, cache_dtype="float32")


def with_torch(model: Any, directory: Path) -> Any:
    return load_engine("torch", model)


def train(
    folder: Path,
    start: Path,
    settings: RlConfig,
    open_engine: Callable[[Any, Path], Any] = native,
    until: int | None = None,
) -> list[dict[str, Any]]:
    run = RunDirectory(folder)
    run.create("")
    trainer = GrpoTrainer(settings, run, Countdown(), Traces(), open_engine, start_from=start)
    lines: list[dict[str, Any]] = []
    try:
        trainer.train(lines.append, until=until)
    finally:
        trainer.close()
    return lines


def gradient(groups: list[Group], start: Path, settings: RlConfig) -> torch.Tensor:
    """What one step hands to the optimiser."""
    processes = Processes(torch.device("cpu"))
    model = load_model(start, attention=CAUSAL)
    learner = Learner(settings, model, None, Traces(), processes)
    rollouts = judged_rollouts(groups, settings.loss, share_trunks=settings.share_trunks)
    found: list[torch.Tensor] = []

    def keep(step: int, steps: int) -> float:
        found.extend(p.grad.flatten() for p in model.parameters() if p.grad is not None)
        return 0.0

    learner.optimizers.update = keep  # type: ignore[method-assign]
    learner.learn(rows_of(rollouts, settings.loss, processes), 0)
    return torch.cat(found)


def test_a_policy_learns(start: Path, tmp_path: Path) -> None:
    lines = train(tmp_path, start, config(steps=14, groups=8, group_size=8))
    rewards = [line["reward"] for line in lines]
    assert sum(rewards[-3:]) / 3 >= rewards[0] + 0.2, rewards
    assert all(line["logprob_gap"]["main"] < 1e-4 for line in lines)
    assert all(abs(line["importance"] - 1) < 1e-3 for line in lines)


def test_trunks_shared_or_not_and_batches_of_any_size_give_one_gradient(groups: list[Group], start: Path) -> None:
    for weighting, size in (("rollout_mean", 2048), ("tinyrl", 300)):
        loss = {"weighting": weighting, "advantage": "std"}
        whole = gradient(groups, start, config(loss=loss, share_trunks=False))
        shared = gradient(groups, start, config(loss=loss, share_trunks=True, tokens_per_batch=size))
        torch.testing.assert_close(shared, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


def test_groups_without_signal_change_no_gradient(groups: list[Group]) -> None:
    settings = config()
    rollouts = judged_rollouts(groups, settings.loss, share_trunks=True)
    rows = rows_of(rollouts, settings.loss, Processes(torch.device("cpu")))
    assert {row.rollout.group for row in rows} == {g for g, group in enumerate(groups) if group.signal}
    with_kl = config(loss={"kl": 0.1})
    assert len(rows_of(rollouts, with_kl.loss, Processes(torch.device("cpu")))) > len(rows)


def test_padding_is_little(groups: list[Group]) -> None:
    settings, cpu = config(), torch.device("cpu")
    rows = rows_of(judged_rollouts(groups, settings.loss, share_trunks=True), settings.loss, Processes(cpu))
    packs = packs_of(rows, Tokenizer().pad, 8192, cpu)
    assert sum(len(pack.rows) for pack in packs) == len(rows)
    positions = sum(pack.batch.token_ids_BT.numel() for pack in packs)
    assert sum(len(row.sample.token_ids) for row in rows) >= 0.9 * positions


def test_several_updates_with_a_reference(start: Path, tmp_path: Path) -> None:
    gentle = {"learning_rate": 1e-5, "warmup_steps": 1, "decay_share": 0.0}
    loss = {"updates": 2, "kl": 0.01, "old_logprobs": "trainer"}
    twice = train(tmp_path / "twice", start, config(steps=2, loss=loss, optimizer=gentle))
    assert all(step["kl"] > 0 for step in twice)
    assert twice[0]["ratio"] != 1.0
    # Before its first update a policy is its own reference.
    once = train(tmp_path / "once", start, config(steps=2, loss=loss | {"updates": 1}, optimizer=gentle))
    assert once[0]["kl"] == pytest.approx(0, abs=1e-9)
    assert once[1]["kl"] > 0


def test_overlapping_steps_use_rollouts_one_update_old(start: Path, tmp_path: Path) -> None:
    lines = train(tmp_path, start, config(steps=3, groups=8, overlap=True))
    assert [line["step"] for line in lines] == [1, 2, 3]
    # What sampled step 2 are the weights of step 1: the trainer's have moved on.
    assert lines[0]["logprob_gap"]["main"] < 1e-4 < lines[1]["logprob_gap"]["main"]
    # Sampling took its time, whoever waited for it.
    for line in lines:
        took, speed = line["seconds"]["generate"], line["tokens_per_second"]["generate"]
        assert took > 0
        assert speed == pytest.approx(line["tokens"] / took, rel=0.1)
    assert lines[0]["seconds"]["wait"] >= lines[0]["seconds"]["generate"]
    with pytest.raises(ValueError, match="overlap"):
        train(tmp_path / "shared", start, config(overlap=True), with_torch)


def test_refilled_groups_have_signal(start: Path, tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", start, config(steps=1))
    refilled = train(tmp_path / "refilled", start, config(steps=1, refill=3))
    assert refilled[0]["rollouts"] == plain[0]["rollouts"]
    assert refilled[0]["zero_signal"] < plain[0]["zero_signal"]


def test_groups_that_are_all_right_are_refilled_whatever_they_cost(start: Path) -> None:
    import asyncio

    costs = {"per_1000_tokens": 0.01}
    settings = config(numbers=[2, 2], max_tokens=2000, groups=12, group_size=2, costs=costs)
    processes = Processes(torch.device("cpu"))
    task = selected(Countdown(), settings.problem_options)

    def drawn(**changes: Any) -> list[Group]:
        policy = Policy(load_engine("native", start, cache_dtype="float32"), task, Traces(), "apr")
        found = asyncio.run(draw_groups(policy, replace(settings, **changes), 20, processes))
        assert found is not None
        return list(found.groups)

    once, often = drawn(), drawn(refill=20)
    assert any(group.signal and not group.split for group in once), "no group differs by its costs alone"
    assert [group.split for group in often] == [True] * 12


def test_the_torch_engine_shares_the_trainers_weights(start: Path, tmp_path: Path) -> None:
    lines = train(tmp_path, start, config(steps=3), with_torch)
    gaps = [line["logprob_gap"]["main"] for line in lines if "logprob_gap" in line]
    assert gaps
    assert max(gaps) < 1e-4


def test_what_a_run_leaves(start: Path, tmp_path: Path) -> None:
    from apr.threads.events import read_events
    from apr.threads.tree import ThreadTree

    train(tmp_path, start, config(steps=1, numbers=[3, 3], max_tokens=3000, seed=7))
    run = RunDirectory(tmp_path)
    group = json.loads(run.group(1).read_text())
    rollouts = {told["rollout"]: told for told in group["rollouts"]}
    events = list(read_events(run.watched(1)))
    assert {event.rollout for event in events} == set(rollouts)
    trained = []
    for name, rollout in rollouts.items():
        tree = ThreadTree.fold(event for event in events if event.rollout == name)
        assert rollout["reward"] == float(bool(tree.correct))
        for thread in tree.threads.values():
            kept = rollout["threads"][thread.id]
            assert kept["tokens"] == [token for call in thread.calls for token in call.sampled]
            assert kept["logprobs"] == [p for call in thread.calls for p in call.logprobs]
            told = kept["trainer"], kept["advantages"]
            if any(told):
                assert kept["trainer"] == pytest.approx(kept["logprobs"], abs=1e-3)
                assert kept["advantages"] == [rollout["advantage"]] * len(kept["tokens"])
                trained.append(thread.id)
    assert trained
    assert load_model(run.start).num_parameters() == load_model(run.checkpoints / "1").num_parameters()


def test_problems_with_many_solutions_are_passed_over() -> None:
    settings = config(numbers=[4, 4], max_solutions=2)
    chosen, plain = (selected(Countdown(), kind.problem_options) for kind in (settings, config(numbers=[4, 4])))
    found = draw(chosen, settings, 0, 6)
    whole = draw(plain, settings, 0, found[-1].index + 1)
    rare = [drawn for drawn in whole if len(solve_all(drawn.problem.numbers, drawn.problem.target)) <= 2]
    assert rare == found
    assert len(whole) > len(found)
    assert draw(chosen, settings, found[2].index + 1, 3) == found[3:]
    with pytest.raises(ValueError, match="max_solutions"):
        config(max_solutions=0)


def test_failed_rollouts_are_left_out_and_a_dead_engine_ends_the_run(start: Path, tmp_path: Path) -> None:
    import asyncio

    from apr.testing.scripted import Fault

    settings = config(numbers=[4, 4], groups=2, max_tokens=None, max_threads=64)
    wanted = draw(Countdown(), settings, 0, 2)
    policy = teacher_policy([drawn.problem for drawn in wanted], faults=[Fault("Node #0,0", "error", after=3)])
    found = asyncio.run(run_groups(wanted, policy, settings, size=1))
    assert [group.rewards for group in found if any(tree.failed for tree in group.trees)]
    for group in found:
        assert all((r is None) == tree.failed for r, tree in zip(group.rewards, group.trees, strict=True))
    metrics = summarise(records(policy.task, found))
    assert metrics["failures"] == sum(tree.failed for group in found for tree in group.trees)

    def closed(model: Any, directory: Path) -> Any:
        engine = load_engine("native", directory, cache_dtype="float32")
        asyncio.run(engine.close())
        return engine

    with pytest.raises(EngineError, match="closed"):
        train(tmp_path, start, config(steps=1), closed)


@pytest.mark.parametrize("error", [EngineError("gone"), KeyError("somebody's own")])
def test_a_step_is_kept_whatever_becomes_of_the_engine_after_it(
    error: Exception, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", start, config(steps=2))
    handed = NativeEngine.update_weights

    def update(self: NativeEngine, state: Any) -> int:
        if self.policy_version:
            raise error
        return handed(self, state)

    monkeypatch.setattr(NativeEngine, "update_weights", update)
    with pytest.raises(type(error)):
        train(tmp_path / "cut", start, config(steps=2))
    monkeypatch.undo()
    run = RunDirectory(tmp_path / "cut")
    assert run.steps() == [1]
    lines = train(run.path, start, config(steps=2))
    assert [line["step"] for line in lines] == [1, 2]
    assert [line["loss"] for line in lines] == [line["loss"] for line in whole]


def test_costs_are_taken_from_correct_answers_alone(groups: list[Group]) -> None:
    costs = Costs(per_1000_tokens=0.1, per_thread=0.01)
    for group in groups:
        for tree in group.trees:
            paid = outcome(tree, costs)
            if tree.correct:
                assert paid == pytest.approx(1 - 0.1 * tree.total_tokens / 1000 - 0.01 * tree.children)
            else:
                assert paid == 0.0


def test_alarms_tell_of_collapse() -> None:
    usual = {
        "spawning": 0.9,
        "entropy": 0.1,
        "reward": 0.5,
        "copies": 0.0,
        "failures": 0,
        "rollouts": 8,
        "limited": 0.0,
    }
    alarms = Alarms()
    assert not any(alarms.look(usual) for _ in range(12))
    assert any("spawns any more" in text for text in alarms.look(usual | {"spawning": 0.1}))
    assert any("entropy" in text for text in alarms.look(usual | {"entropy": 0.001}))
    assert any("copies" in text for text in alarms.look(usual | {"copies": 0.8}))
    assert any("as many children" in text for text in alarms.look(usual | {"limited": 0.9}))


def test_steps_that_tell_nothing_of_a_number_silence_no_alarm() -> None:
    """One without signal tells no entropy, and one without trials none that are wrong."""
    alarms = Alarms()
    for step in range(12):
        quiet = step == 3
        assert not alarms.look({} if quiet else {"entropy": 0.3, "wrong_trials": 2.0})
    assert alarms.look({"entropy": 0.0001}) == ["the policy has lost its entropy: entropy 0.0001, usually 0.3"]
    found = [alarms.look({"wrong_trials": 200.0}) for _ in range(3)]
    assert found == [[], [], ["the policy forgets: wrong_trials 200 a thousand, at first 2"]]


def test_a_reward_below_zero_is_usual_where_it_always_was() -> None:
    alarms = Alarms()
    assert not any(alarms.look({"reward": -1.0}) for _ in range(12))
    found = [alarms.look({"reward": reward}) for reward in (-1.6, -1.7, -1.8)]
    assert found == [[], [], ["the reward has collapsed: reward -1.7, usually -1"]]


def test_a_step_of_hard_problems_is_no_collapse() -> None:
    alarms = Alarms()
    for step in range(40):
        assert not alarms.look({"reward": 0.1 if step % 12 > 9 else 0.8})
    assert [bool(alarms.look({"reward": 0.1})) for _ in range(3)] == [False, False, True]


def test_alarms_tell_of_forgetting() -> None:
    """Of what rises well above the first steps, and stays there."""
    alarms = Alarms()
    assert not any(alarms.look({"wrong_results": 8.0, "wrong_states": 2.0}) for _ in range(15))
    assert not alarms.look({"wrong_results": 30.0, "wrong_states": 5.0})
    assert not any(alarms.look({"wrong_results": 14.0, "wrong_states": 5.0}) for _ in range(12))
    risen = [alarms.look({"wrong_results": 16.0, "wrong_states": 7.0}) for _ in range(3)]
    assert risen[:2] == [[], []]
    assert risen[2] == [
        "the policy forgets: wrong_results 16 a thousand, at first 8",
        "the policy forgets: wrong_states 7 a thousand, at first 2",
    ]


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
@pytest.mark.parametrize("method", ["apr", "sos+"])
def test_shipped_recipes_are_whole(name: str, method: Any) -> None:
    recipe = rl_recipe(recipe_text(name, "rl"), method)
    task = load_task("sudoku" if name == "sudoku" else "countdown", method)
    assert len(draw(selected(task, recipe.problem_options), recipe, 0, recipe.groups)) == recipe.groups


def test_the_papers_recipe_is_the_papers() -> None:
    ours, sos = (rl_recipe(recipe_text("paper", "rl"), method) for method in ("apr", "sos+"))
    assert (ours.groups, ours.group_size, ours.steps, ours.loss.updates, ours.loss.weighting) == (
        64,
        5,
        150,
        2,
        "tinyrl",
    )
    assert (ours.loss.kl, sos.loss.kl) == (0.001, 0.01)
    for recipe in (ours, sos):
        assert (recipe.credit, recipe.costs, recipe.replay, recipe.edge) == (CreditConfig(), Costs(), None, 0.0)


def test_wrong_recipes_are_refused() -> None:
    for broken, word in [
        (RECIPE.replace("group_size = 4", "group_size = 1"), "group_size"),
        (RECIPE.replace("groups = 4", "groups = 0"), "groups"),
        (RECIPE + "\n[loss]\nweighting = 'sum'", "weighting"),
        (RECIPE.replace("steps = 4", "steps = 4\ntemperature = 0.0"), "temperature"),
        (RECIPE.replace("steps = 4", "steps = 4\nbudgets = []"), "budgets"),
    ]:
        with pytest.raises(ValueError, match=word):
            rl_recipe(broken, "apr")


EVERYTHING = """
edge = 2.0

[credit]
children = 0.5
choices = 0.5
lines = 0.5
corrections = 0.1

[replay]
recipe = "tiny"
weight = 0.1
tokens = 300

[optimizer]
"""


def test_two_processes_take_the_same_steps(start: Path, tmp_path: Path) -> None:
    recipe = RECIPE.replace("[optimizer]", EVERYTHING)
    (tmp_path / "recipe.toml").write_text(recipe)
    alone = train(tmp_path / "alone", start, rl_recipe(recipe, "apr"), until=2)
    words = ["--recipe", str(tmp_path / "recipe.toml"), "--start-from", str(start), "--out", str(tmp_path / "run")]
    words += ["--until", "2", "--device", "cpu", "--threads", "1"]
    assert together(2, main, ["train", "rl", *words]) == [0, 0]
    shared = RunDirectory(tmp_path / "run").entries()
    for name in ("reward", "sampled_tokens", "credit", "edge"):
        assert [line[name] for line in shared] == [line[name] for line in alone]
    for name in ("loss", "replay", "gradient_norm", "entropy", "children", "tokens"):
        assert [line[name] for line in shared] == pytest.approx([line[name] for line in alone], rel=1e-2, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--start-from", "nowhere"], "nowhere is not a directory"),
        (["--recipe", "huge"], "no recipe huge; shipped: ablation-children, ablation-corrections, ablation-cost, "),
        (["--server", "http://127.0.0.1:1"], "--server is for --engine sglang"),
        (["--engine", "sglang", "--server", "http://127.0.0.1:1"], "no server at http://127.0.0.1:1"),
        (["--servers", "2"], "--servers and --hand-over are for --engine sglang, not native"),
        (["--hand-over", "tensors", "--engine", "torch"], "are for --engine sglang, not torch"),
        (["--engine", "sglang", "--servers", "2", "--server", "http://127.0.0.1:1"], "give one of the two"),
        (["--steps", "0"], "at least 1"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "rl", "--out", str(tmp_path / "run"), "--device", "cpu", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_line(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "recipe.toml").write_text(RECIPE)
    words = ["--recipe", str(tmp_path / "recipe.toml"), "--start-from", str(start), "--out", str(tmp_path / "run")]
    monkeypatch.setattr("apr.threads.events.EventLog.append", full)
    assert main(["train", "rl", *words, "--device", "cpu", "--threads", "1"]) == 1
    said = capsys.readouterr().err
    assert "apr train: No space left on device" in said.splitlines()
    assert "Traceback" not in said


def test_a_run_of_another_recipe_is_not_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunDirectory(tmp_path).create("something else")
    assert main(["train", "rl", "--out", str(tmp_path), "--device", "cpu"]) == 2
    assert "another recipe" in capsys.readouterr().err
