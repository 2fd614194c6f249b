"""Runs of reinforcement learning on a policy of noise: what they draw, where they stop, and how they go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from apr import solve_all
from apr.cli import main
from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.engine import load_engine
from apr.engine.checkpoint import load_model
from apr.engine.native import NativeEngine
from apr.policy import Policy
from apr.selection import selected
from apr.threads.events import RolloutStarted, read_events
from apr.train.optimizers import Diverged
from apr.train.processes import Processes
from apr.train.recipes import RlConfig, rl_recipe
from apr.train.rl.edge import Edge
from apr.train.rl.groups import Drawn, Group, draw, draw_groups, draw_validation, run_groups
from apr.train.rl.handover import directory_of_weights
from apr.train.rl.learner import Learner
from apr.train.rl.publish import Served
from apr.train.rl.trainer import GrpoTrainer
from apr.train.run import RunDirectory
from apr.train.run_recipe import RunRecipe
from apr.train.stop import Stop
from tiny import save_tiny_model
from tiny_runs import SFT

TIMES = ("seconds", "step_seconds", "tokens_per_second", "memory")
RECIPE = """
steps = 4
groups = 2
group_size = 2
numbers = [2, 2]
max_tokens = 40
tokens_per_batch = 512
autocast = "none"
validate_every = 2
validation_problems = 2

[loss]
# The rollouts of noise are all alike: what moves the weights is their decay, and the way back to where they began.
kl = 0.1

[optimizer]
learning_rate = 0.02
weight_decay = 0.5
warmup_steps = 1
decay_share = 0.0
"""


def config(**changes: Any) -> RlConfig:
    return rl_recipe(RECIPE, "apr", **changes)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("noise") / "model"
    return Path(save_tiny_model(directory, context_length=256))


def trainer(folder: Path, settings: RlConfig, start: Path | None = None, task: Countdown | None = None) -> GrpoTrainer:
    run = RunDirectory(folder)
    run.create("")
    torch.set_num_threads(1)
    return GrpoTrainer(
        settings,
        run,
        task or Countdown(),
        Traces(),
        lambda model, place: load_engine("native", place, cache_dtype="float32"),
        start_from=start,
    )


def train(folder: Path, settings: RlConfig, start: Path | None = None, **how: Any) -> GrpoTrainer:
    made = trainer(folder, settings, start)
    try:
        made.train(lambda line: None, **how)
    finally:
        made.close()
    return made


def told(folder: Path) -> list[dict[str, Any]]:
    """What must repeat of a run's log."""
    lines = RunDirectory(folder).entries()
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


@pytest.fixture(scope="module")
def unbroken(start: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, list[dict[str, Any]]]:
    """The log of a run that nobody disturbed; whether its steps overlap -> the lines."""
    folder = tmp_path_factory.mktemp("unbroken")
    for overlap in (False, True):
        train(folder / str(overlap), config(overlap=overlap), start)
    return {overlap: told(folder / str(overlap)) for overlap in (False, True)}


@pytest.mark.parametrize("overlap", [False, True])
def test_a_run_in_pieces_is_one_run(
    overlap: bool, start: Path, unbroken: dict[bool, list[dict[str, Any]]], tmp_path: Path
) -> None:
    settings = config(overlap=overlap)
    for until in (1, 3, 4):
        train(tmp_path, settings, start if until == 1 else None, until=until)
    assert told(tmp_path) == unbroken[overlap]
    assert [line["logprob_gap"]["main"] < 1e-4 for line in unbroken[overlap]] == [True, *[not overlap] * 3]


@pytest.mark.parametrize("overlap", [False, True])
def test_one_trainer_may_be_asked_again(
    overlap: bool, start: Path, unbroken: dict[bool, list[dict[str, Any]]], tmp_path: Path
) -> None:
    stop, made = Stop(), trainer(tmp_path, config(overlap=overlap), start)
    try:
        for until in (1, 3, 4):
            made.train(lambda line: None, until=until, stop=stop)
            assert made.validate() is not None
    finally:
        made.close()
    assert told(tmp_path) == unbroken[overlap]
    assert not stop.asked


class Few(Countdown):
    """There are no more problems."""

    def select(self, options: Any) -> Few:
        return Few(self.method, **options)

    def problems(self, split: Any, seed: int, start: int, count: int) -> list[Any]:
        return super().problems(split, seed, start, max(0, min(count, 5 - start)))


@pytest.mark.parametrize("overlap", [False, True])
def test_where_problems_end_the_steps_done_are_kept(overlap: bool, start: Path, tmp_path: Path) -> None:
    made = trainer(tmp_path, config(overlap=overlap, checkpoint_every=0, validate_every=0), start, Few())
    try:
        with pytest.raises(ValueError, match="the train split of countdown ends after 5 problems"):
            made.train(lambda line: None)
    finally:
        made.close()
    assert made.step == made.saved == 2
    assert RunDirectory(tmp_path).latest() is not None


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("where", ["apr.train.rl.groups", "apr.train.rl.trainer"])
def test_whatever_is_drawn_is_cut_short_and_drawn_again(
    where: str,
    overlap: bool,
    start: Path,
    unbroken: dict[bool, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rollouts of a step, and those of a validation: each waits for ever at the second call."""
    stop, calls = Stop(), []

    async def endless(*arguments: Any, **options: Any) -> list[Group]:
        calls.append(arguments)
        if len(calls) == (2 if where == "apr.train.rl.groups" else 1):
            stop.ask()
            await asyncio.Event().wait()
        return await run_groups(*arguments, **options)

    settings = config(overlap=overlap, checkpoint_every=0)
    with monkeypatch.context() as patched:
        patched.setattr(f"{where}.run_groups", endless)
        made = train(tmp_path, settings, start, stop=stop)
    assert made.step == made.saved == (1 if where == "apr.train.rl.groups" else 2)
    assert len(told(tmp_path)) == 1
    train(tmp_path, settings)
    assert told(tmp_path) == unbroken[overlap]


def test_a_last_validation_that_was_cut_short_is_told_once(
    start: Path, unbroken: dict[bool, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, calls = Stop(), []

    async def endless(*arguments: Any, **options: Any) -> list[Group]:
        calls.append(arguments)
        if len(calls) == 2:
            stop.ask()
            await asyncio.Event().wait()
        return await run_groups(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr("apr.train.rl.trainer.run_groups", endless)
        made = train(tmp_path, config(), start, stop=stop)
    assert (made.done, made.idle) == (True, False)
    assert told(tmp_path) == unbroken[False][:-1]
    words = ["train", "rl", "--out", str(tmp_path), "--device", "cpu", "--threads", "1"]
    (tmp_path / "recipe.toml").write_text(RunRecipe("rl", "apr", RECIPE).text())
    assert main(words) == 0
    assert told(tmp_path) == unbroken[False]
    # It has no checkpoint of its own, and is not told again.
    monkeypatch.setattr("apr.train.rl.trainer.run_groups", endless)
    assert main(words) == 0
    assert len(calls) == 2
    assert told(tmp_path) == unbroken[False]


def test_a_run_has_one_trainer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunDirectory(tmp_path).hold():
        assert main(["train", "rl", "--out", str(tmp_path), "--device", "cpu"]) == 2
    assert "is in use by another process" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_signal_ends_a_run_with_the_way_to_go_on(
    start: Path,
    unbroken: dict[bool, list[dict[str, Any]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from apr.cli.progress import Watch

    def watch(self: Watch[Any], line: dict[str, Any]) -> None:
        if line["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    (tmp_path / "noise.toml").write_text(RECIPE)
    run = tmp_path / "run"
    words = ["--recipe", str(tmp_path / "noise.toml"), "--start-from", str(start), "--out", str(run)]
    words = ["train", "rl", *words, "--device", "cpu", "--threads", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(Watch, "__call__", watch)
        assert main(words) == 130
    said = capsys.readouterr().err
    assert "stopped after step 2 of 4" in said
    assert f"saved: {run / 'checkpoints' / '2'}; `apr train rl" in said
    assert main(words) == 0
    assert told(run) == unbroken[False]


def everything(folder: Path, **changes: Any) -> RlConfig:
    """All that a checkpoint has to hold so that a run goes on as it began."""
    lessons = folder / "lessons.toml"
    lessons.write_text(SFT)
    return config(
        edge=2.0,
        credit={"children": 0.5, "choices": 0.5, "lines": 0.5, "corrections": 0.5},
        replay={"recipe": str(lessons), "weight": 0.5, "tokens": 300},
        loss={"kl": 0.1, "renew_reference": 2},
        **changes,
    )


@pytest.mark.parametrize("overlap", [False, True])
def test_a_run_with_everything_in_pieces_is_one_run(overlap: bool, start: Path, tmp_path: Path) -> None:
    settings = everything(tmp_path, overlap=overlap)
    train(tmp_path / "whole", settings, start)
    for until in (1, 3, 4):
        train(tmp_path / "pieces", settings, start if until == 1 else None, until=until)
    lines = told(tmp_path / "whole")
    assert told(tmp_path / "pieces") == lines
    # Lessons are learned, the reference is the policy of two steps before, and every problem is of a kind that fails.
    assert lines[-1]["replay"] < lines[0]["replay"]
    assert lines[1]["kl"] > lines[2]["kl"]
    assert all(0 < share < 0.5 for share in lines[-1]["edge"].values())
    assert lines[-1]["sampled_tokens"] == sum(line["tokens"] for line in lines)
    (tmp_path / "pieces" / "lessons.toml").write_text(SFT + "# changed")
    with pytest.raises(ValueError, match=r"lessons.toml is no longer what the run began with"):
        train(tmp_path / "pieces", settings)


def test_a_run_ends_with_the_tokens_that_it_may_sample(start: Path, tmp_path: Path) -> None:
    made = train(tmp_path, config(sampled_tokens=300), start)
    lines = told(tmp_path)
    assert lines[-1]["sampled_tokens"] >= 300 > lines[-2]["sampled_tokens"]
    assert made.done
    assert made.step == made.saved < made.config.steps
    assert "validation_accuracy" in lines[-1]
    train(tmp_path, config(sampled_tokens=300))
    assert told(tmp_path) == lines


def test_a_recipe_that_goes_on_from_a_model_has_the_same_lessons(start: Path, tmp_path: Path) -> None:
    whole, rest = tmp_path / "whole.toml", tmp_path / "rest.toml"
    whole.write_text(SFT)
    begin, end = SFT.index("[model]"), SFT.index("[optimizer]")
    rest.write_text("max_tokens = 512\n" + SFT[:begin] + SFT[end:])
    for recipe in (whole, rest):
        settings = config(replay={"recipe": str(recipe), "weight": 0.5, "tokens": 300})
        train(tmp_path / recipe.stem, settings, start, until=2)
    assert told(tmp_path / "rest") == told(tmp_path / "whole")


def test_a_run_keeps_its_lessons_whatever_becomes_of_their_file(start: Path, tmp_path: Path) -> None:
    lessons = tmp_path / "lessons.toml"
    settings = config(replay={"recipe": str(lessons), "weight": 0.5, "tokens": 300})
    lessons.write_text(SFT)
    train(tmp_path / "whole", settings, start, until=2)
    train(tmp_path / "pieces", settings, start, until=1)
    lessons.write_text("it is another's now")
    train(tmp_path / "pieces", settings, until=2)
    assert told(tmp_path / "pieces") == told(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"replay.recipe: "):
        train(tmp_path / "new", settings, start, until=1)


@pytest.mark.parametrize(
    ("replay", "said"),
    [({"recipe": "nothing"}, "no recipe nothing"), ({"recipe": "sudoku"}, "tokens of another language")],
)
def test_lessons_of_others_are_refused(replay: dict[str, Any], said: str, start: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"replay.recipe: .*{said}") as told:
        trainer(tmp_path, config(replay={"weight": 1.0, **replay}), start)
    assert len(str(told.value).splitlines()) == 1


def test_problems_are_taken_near_the_edge_and_drawn_again_alike() -> None:
    settings = config(numbers=[3, 4], edge=3.0)
    task = selected(Countdown(), settings.problem_options)
    stream = draw(task, settings, 0, 200)
    kinds = sorted({task.kind(drawn.problem) for drawn in stream})
    edge = Edge(3.0).after([*[(kinds[0], True)] * 30, *((kind, False) for kind in kinds[1:] for _ in range(30))])
    found = draw(task, settings, 0, 40, edge)
    assert {task.kind(drawn.problem) for drawn in found} != {kinds[0]}
    assert sum(task.kind(drawn.problem) == kinds[0] for drawn in found) > 20
    # Every problem of the best kind is taken, in order.
    best = [drawn for drawn in stream if task.kind(drawn.problem) == kinds[0] and drawn.index <= found[-1].index]
    assert [drawn for drawn in found if drawn in best] == best
    assert draw(task, settings, found[9].index + 1, 30, edge) == found[10:]


def test_what_is_known_of_kinds_is_of_the_groups_and_not_of_their_order() -> None:
    groups = [("a", True), ("b", False), ("a", False), ("c", True)]
    edge = Edge(1.0).after(groups)
    assert edge == Edge(1.0).after(reversed(groups))
    assert [edge.share(kind) for kind in "abcd"] == [1 / 2, 1 / 3, 2 / 3, 1 / 2]
    assert [edge.chance(kind) for kind in "bc"] == [1 / 2, 1.0]
    assert Edge(20.0, edge.kinds).chance("b") == 0.05
    later = edge
    for _ in range(200):
        later = later.after([])
    # What was long ago is as good as never seen.
    assert later.share("b") == pytest.approx(0.5, abs=1e-3)


def test_the_policy_version_is_the_steps_of_the_weights(
    unbroken: dict[bool, list[dict[str, Any]]], start: Path, tmp_path: Path
) -> None:
    assert [line["policy_version"] for line in unbroken[False]] == [0, 1, 2, 3]
    assert [line["policy_version"] for line in unbroken[True]] == [0, 0, 1, 2]
    train(tmp_path, config(), start, until=1)
    train(tmp_path, config(), until=2)
    run = RunDirectory(tmp_path)
    for line in run.entries():
        events = list(read_events(run.watched(line["step"])))
        # Children have no limit of their own, as with any command.
        assert {event.limits["children"] for event in events if isinstance(event, RolloutStarted)} == {None}
        versions = {getattr(event, "policy_version", line["policy_version"]) for event in events}
        assert versions == {line["policy_version"]}


def test_validation_has_problems_of_the_recipes_kind() -> None:
    held_out = list(range(10, 60))
    settings = config(numbers=[3, 4], held_out_targets=held_out, max_solutions=3, validation_problems=20)
    found = draw_validation(selected(Countdown(), settings.problem_options), settings)
    assert len(found) == 20
    assert not {drawn.problem.target for drawn in found} & set(held_out)
    assert max(len(solve_all(drawn.problem.numbers, drawn.problem.target)) for drawn in found) <= 3
    settings = config(numbers=[3, 4], validation_problems=20)
    plain = draw_validation(selected(Countdown(), settings.problem_options), settings)
    assert {drawn.problem.target for drawn in plain} & set(held_out)


def group(drawn: Drawn, *, signal: bool) -> Group:
    """Of two rollouts, one right and one wrong if there is a signal; else both right, at their costs."""
    trees: Any = tuple(SimpleNamespace(correct=right, total_tokens=9) for right in (True, not signal))
    return Group(drawn, trees, (0.99, 0.0) if signal else (0.99, 0.98))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("useful", [{1, 2, 5}, {0, 1, 2, 3}, set(), {0, 6, 7, 8, 9}, {3, 4}, {1, 2, 3, 4, 5}])
def test_refill_draws_what_is_missing_and_keeps_signal_first(
    useful: set[int], processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several processes, each draws its share and knows what all have."""
    settings = config(groups=4, refill=2)
    drawn: list[list[int]] = []

    async def play(wanted: Sequence[Drawn], *_: Any, **__: Any) -> list[Group]:
        drawn[-1] += [one.index for one in wanted]
        return [group(one, signal=one.index in useful) for one in wanted]

    monkeypatch.setattr("apr.train.rl.groups.run_groups", play)
    expected, next_ = list(range(4)), 4
    for _ in range(2):
        missing = 4 - len(useful & set(expected))
        expected += range(next_, next_ + missing)
        next_ += missing

    def take(part: Any) -> Any:
        drawn.append([])
        engine: Any = SimpleNamespace(policy_version=0)
        policy = Policy(engine, Countdown(), Traces(), "apr")
        return asyncio.run(draw_groups(policy, settings, 0, part))

    if processes == 1:
        found = take(Processes(torch.device("cpu")))
        kept = [g.drawn.index for g in found.groups]
        assert drawn == [expected]
    else:
        kept, found = _in_two(take)
        assert sorted(drawn[0] + drawn[1]) == expected
    assert found.position == next_
    wanted = sorted(expected, key=lambda index: (index not in useful, index))[:4]
    assert sorted(kept) == sorted(wanted)


def test_processes_that_are_stopped_meet_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One has done its share when a signal cuts the other's short."""
    settings = config(groups=2, refill=1)
    stops, done = [Stop(), Stop()], threading.Event()

    async def play(wanted: Sequence[Drawn], policy: Any, *_: Any, **__: Any) -> list[Group]:
        if policy.rank == 0:
            done.set()
            return [group(one, signal=True) for one in wanted]
        done.wait(20)
        stops[1].ask()
        await asyncio.Event().wait()
        raise AssertionError("it was stopped")

    monkeypatch.setattr("apr.train.rl.groups.run_groups", play)

    def take(part: Any) -> Any:
        policy: Any = SimpleNamespace(
            rank=part.rank, task=Countdown(), engine=SimpleNamespace(policy_version=0), language=Traces()
        )
        return asyncio.run(draw_groups(policy, settings, 0, part, stop=stops[part.rank]))

    first, second = _both(take)
    assert first is not None
    assert second is None


def _in_two(take: Callable[[Any], Any]) -> tuple[list[int], Any]:
    """What two processes keep together."""
    found = _both(take)
    return [g.drawn.index for draw in found for g in draw.groups], found[0]


def _both(take: Callable[[Any], Any]) -> list[Any]:
    """Two processes as threads that meet where they exchange."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    meet, shown = Barrier(2, timeout=20), [[], []]

    class Part:
        count = 2

        def __init__(self, rank: int) -> None:
            self.rank = rank

        def gather(self, own: list[Any]) -> list[Any]:
            shown[self.rank] = own
            meet.wait()
            found = shown[0] + shown[1]
            meet.wait()
            return found

    order = [Part(0), Part(1)]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(take, order))


def test_entropy_is_of_the_distribution_that_was_drawn_from(start: Path) -> None:
    """At a high temperature nearly every word is as likely as another."""
    from math import log

    from apr import Tokenizer
    from apr.train.rl.packs import judged_rollouts, rows_of

    settings = config(temperature=1000.0, max_tokens=20)
    processes = Processes(torch.device("cpu"))
    task = selected(Countdown(), settings.problem_options)
    policy = Policy(load_engine("native", start, cache_dtype="float32"), task, Traces(), "apr")
    found = asyncio.run(run_groups(draw(task, settings, 0, 1), policy, settings))
    learner = Learner(settings, load_model(start), load_model(start), Traces(), processes)
    rows = rows_of(judged_rollouts(found, settings.loss, share_trunks=True), settings.loss, processes)
    metrics, _ = learner.learn(rows, 0)
    assert metrics["entropy"] == pytest.approx(log(Tokenizer().vocab_size), abs=1e-3)


def test_a_gradient_that_is_not_finite_leaves_the_step_before(
    start: Path, unbroken: dict[bool, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = torch.nn.utils.clip_grad_norm_, []

    def third(*arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        return real(*arguments) * (float("nan") if len(calls) == 3 else 1.0)

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.utils, "clip_grad_norm_", third)
        with pytest.raises(Diverged, match=r"step 3: the gradient is not finite"):
            train(tmp_path, config(checkpoint_every=0), start)
    assert RunDirectory(tmp_path).steps() == [2]
    train(tmp_path, config(checkpoint_every=0))
    assert told(tmp_path) == unbroken[False]


@pytest.mark.parametrize("times", [1, 9])
def test_rollouts_of_an_engine_that_fails_are_done_again(
    times: int, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few times: an engine that fails for ever is no fault of the policy's."""
    from dataclasses import replace

    from apr.types import Completion

    monkeypatch.setattr("apr.train.rl.groups.REDONE_AFTER_S", (0.0, 0.0))
    native = load_engine("native", start, cache_dtype="float32")
    real, asked = native.generate, []

    async def fails(*arguments: Any, **options: Any) -> Completion:
        asked.append(arguments)
        dies = len(asked) <= times
        completion = await real(*arguments, **options)
        return replace(completion, finish_reason="error", error="died") if dies else completion

    monkeypatch.setattr(native, "generate", fails)
    settings = config(max_tokens=20)
    task = selected(Countdown(), settings.problem_options)
    [found] = asyncio.run(run_groups(draw(task, settings, 0, 1), Policy(native, task, Traces(), "apr"), settings))
    names = sorted(tree.started.rollout for tree in found.trees if tree.started is not None)
    if times == 1:
        assert None not in found.rewards
        assert sum(name.endswith("-1-1") or name.endswith("-0-1") for name in names) == 1
    else:
        assert found.rewards == (None, None)
        assert len(asked) == 6


def test_weights_that_are_not_finite_reach_no_engine(start: Path, tmp_path: Path) -> None:
    from apr import Tokenizer

    model = load_model(start)
    engine = load_engine("native", start, cache_dtype="float32")
    assert isinstance(engine, NativeEngine)
    served = Served(engine, model, Tokenizer(), (1, 2, 3), Processes(torch.device("cpu")))
    asyncio.run(served.publish(5))
    assert served.policy_version == 5
    with torch.no_grad():
        list(model.parameters())[-1][-1] = float("nan")
    with pytest.raises(Diverged, match="not finite"):
        asyncio.run(served.publish(6))
    assert served.policy_version == 5
    with pytest.raises(Diverged, match="weights are not finite"):
        train(tmp_path, config(optimizer={"learning_rate": 1e30, "weight_decay": 1e30}), start)
    assert RunDirectory(tmp_path).steps() == []


def test_a_full_disk_ends_a_draw_with_its_own_error(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("apr.threads.events.EventLog.append", full)
        with pytest.raises(OSError, match="No space left"):
            train(tmp_path, config(), start)
    train(tmp_path, config(), until=1)
    assert [line["step"] for line in told(tmp_path)] == [1]


def test_weights_that_a_killed_process_left_in_memory_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apr.train.rl.handover.MEMORY", tmp_path)
    left = tmp_path / "apr-weights-left"
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    (tmp_path / "apr-weights-left.lock").touch()
    with directory_of_weights(1000) as first, directory_of_weights(1000) as second:
        assert first != second
        assert sorted(path for path in tmp_path.iterdir() if path.is_dir()) == sorted([first, second])
    assert list(tmp_path.iterdir()) == []


def test_weights_that_memory_has_no_room_for_are_written_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    monkeypatch.setattr("apr.train.rl.handover.MEMORY", memory)
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    with directory_of_weights(1 << 60) as directory:
        assert directory.parent == disk
    with directory_of_weights(1000) as directory:
        assert directory.parent == memory


def test_a_hostile_log_is_no_obstacle(start: Path, tmp_path: Path) -> None:
    train(tmp_path, config(), start, until=1)
    run = RunDirectory(tmp_path)
    lines = run.log_path.read_text()
    run.log_path.write_text(lines + '5\n{}\n{"step": []}\n' + "[" * 100_000 + '\n{"step": 7}\n{"st')
    train(tmp_path, config(), until=2)
    assert [json.loads(line)["step"] for line in run.log_path.read_text().splitlines()] == [1, 2]
    assert not [name for name in os.listdir(run.checkpoints) if name.startswith(".")]
