"""Weights in shares: 2 and 4 processes train as one, hold a share each, and go on from each other's checkpoints."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import apr
from apr.train.plan import Gpus, Llama, Work, estimate
from apr.train.processes import Processes
from apr.train.recipes import sft_recipe
from apr.train.run import RunDirectory
from apr.train.sft import SftTrainer
from test_rl_runs import RECIPE as RL
from tiny import save_tiny_model
from tiny_runs import SFT, sft
from together import together

MUON = SFT.replace("[optimizer]", '[optimizer]\nname = "muon"').replace("layers = 1", "layers = 2")
WIDER = MUON.replace("hidden_size = 16", "hidden_size = 64")
FIGURES = ("loss", "gradient_norm")


def figures(run: Path, names: tuple[str, ...] = FIGURES) -> dict[int, list[float]]:
    return {entry["step"]: [entry[name] for name in names] for entry in RunDirectory(run).entries()}


def same(run: Path, other: Path, names: tuple[str, ...] = FIGURES, apart: float = 1e-4) -> None:
    one, two = figures(run, names), figures(other, names)
    assert sorted(one) == sorted(two)
    for step, told in two.items():
        assert one[step] == pytest.approx(told, rel=apart, abs=1e-6), step


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert sft(out, recipe=MUON) == 0
    return out


def trained(out: Path, recipe: str, *words: str) -> int:
    return sft(out, *words, recipe=recipe)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_train_as_one(count: int, alone: Path, tmp_path: Path) -> None:
    assert together(count, trained, tmp_path / "run", MUON) == [0] * count
    same(tmp_path / "run", alone)


def test_processes_train_as_one_in_bfloat16(tmp_path: Path) -> None:
    """To its rounding, which falls otherwise where other sequences share a batch."""
    rounded = MUON.replace('autocast = "none"', 'autocast = "bf16"')
    assert sft(tmp_path / "alone", recipe=rounded) == 0
    assert together(2, trained, tmp_path / "run", rounded) == [0, 0]
    same(tmp_path / "run", tmp_path / "alone", apart=1e-2)
    with pytest.raises(AssertionError):
        same(tmp_path / "run", tmp_path / "alone", apart=1e-6)


HYBRID = MUON + "\n[sharding]\nreplicas = 2\n"


def test_groups_that_hold_all_weights_each_train_as_one(alone: Path, tmp_path: Path) -> None:
    """Two groups of two processes, by Muon beside AdamW; they go on as one group, and as one process."""
    out = tmp_path / "run"
    for until, count in ((2, 4), (3, 2), (4, 1)):
        assert together(count, trained, out, HYBRID, "--until", str(until)) == [0] * count
    same(out, alone)


def refused(out: Path, recipe: str) -> str:
    """What is said of it in the end."""
    with redirect_stderr(io.StringIO()) as said:
        assert sft(out, recipe=recipe) == 2
    return said.getvalue().splitlines()[-1]


def test_groups_are_of_one_size(tmp_path: Path) -> None:
    why = "apr train: sharding.replicas: 3 processes make no 2 groups of one size"
    assert together(3, refused, tmp_path / "run", HYBRID) == [why] * 3


def test_shares_in_the_memory_of_the_cpu_train_as_one(tmp_path: Path) -> None:
    """With blocks that compute twice. On a CPU what is tested is the way, not the room that it makes."""
    assert sft(tmp_path / "alone") == 0
    kept = "gradient_checkpointing = true" + SFT + "\n[sharding]\noffload = true\n"
    assert together(2, trained, tmp_path / "run", kept) == [0, 0]
    same(tmp_path / "run", tmp_path / "alone")


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no compiler")
def test_blocks_are_compiled_in_shares(tmp_path: Path) -> None:
    compiled = MUON.replace("steps = 4", "steps = 2\ncompile = true")
    assert sft(tmp_path / "plain", recipe=compiled.replace("compile = true", "")) == 0
    assert together(2, trained, tmp_path / "run", compiled) == [0, 0]
    same(tmp_path / "run", tmp_path / "plain")


@pytest.mark.parametrize("path", [(2, 1), (1, 4), (4, 2, 1)])
def test_a_run_goes_on_with_another_number_of_processes(path: tuple[int, ...], alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for until, count in enumerate(path, 4 - len(path) + 1):
        assert together(count, trained, out, MUON, "--until", str(until)) == [0] * count
    same(out, alone)


def held(folder: Path, recipe: str) -> tuple[int, int]:
    """Bytes of parameters, and of what optimisers remember, in this process after a step."""
    import torch.distributed as dist

    from apr.train.shards import own

    if int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group("gloo")
    run = RunDirectory(folder)
    config = sft_recipe(recipe, "apr")
    if int(os.environ["RANK"]) == 0:
        run.create(recipe)
    Processes(torch.device("cpu")).wait()
    trainer = SftTrainer(config, run)
    trainer.train(lambda progress: None, until=1)
    weights = [own(parameter.detach()) for parameter in trainer.model.parameters()]
    state = [own(value) for value in trainer.optimizers.state().values()]
    sizes = [sum(tensor.untyped_storage().nbytes() for tensor in tensors) for tensors in (weights, state)]
    if dist.is_initialized():
        dist.destroy_process_group()
    return sizes[0], sizes[1]


def test_four_processes_hold_a_quarter_each(tmp_path: Path) -> None:
    [whole] = together(1, held, tmp_path / "one", WIDER)
    parts = together(4, held, tmp_path / "four", WIDER)
    for kind in range(2):
        # Rows that four does not divide go to the first.
        assert max(part[kind] for part in parts) < 0.27 * whole[kind]
        assert sum(part[kind] for part in parts) == pytest.approx(whole[kind], rel=0.02)


@pytest.mark.parametrize(("count", "replicas"), [(1, 1), (2, 1), (4, 2)])
def test_what_processes_hold_is_what_was_planned(count: int, replicas: int, tmp_path: Path) -> None:
    recipe = WIDER + f"\n[sharding]\nreplicas = {replicas}\n"
    config = sft_recipe(recipe, "apr")
    assert config.model is not None
    model, gpus = Llama(config.model, apr.Tokenizer().vocab_size), Gpus(count, flops=1.0, link=1.0, network=1.0)
    planned = estimate(config, model, Work(1, 1, 1, 1), gpus)
    for found in together(count, held, tmp_path / "run", recipe):
        assert found == pytest.approx((planned.weights, planned.optimizer), rel=0.05)


BIG = SFT.replace("hidden_size = 16", "hidden_size = 1024").replace("mlp_size = 32", "mlp_size = 8192")


def taken(folder: Path) -> int:
    """Bytes that this process takes at most to begin a run."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    run, processes = RunDirectory(folder), Processes(torch.device("cpu"))
    if processes.rank == 0:
        run.create(BIG)
    processes.wait()
    before = memory("VmRSS")
    SftTrainer(sft_recipe(BIG, "apr"), run)
    dist.destroy_process_group()
    return memory("VmHWM") - before


def memory(what: str) -> int:
    [kilobytes] = re.findall(rf"^{what}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kilobytes) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_one_process_alone_has_all_weights_in_memory(tmp_path: Path) -> None:
    config = sft_recipe(BIG, "apr")
    assert config.model is not None
    whole = 4 * Llama(config.model, apr.Tokenizer().vocab_size).parameters
    first, second = together(2, taken, tmp_path / "run")
    # Beside it each has its half, and what it loads to compute with.
    assert first - second > 0.6 * whole, (first, second, whole)


def killed_while_saving(out: Path, recipe: str, step: int) -> int:
    """The second process dies with its part of a checkpoint half written."""
    from apr.train import state

    real = state.state_dict_saver.save

    def save(tensors: Any, *, storage_writer: Any) -> None:
        if os.environ["RANK"] == "1" and f".{step}.partial" in str(storage_writer.path):
            os.kill(os.getpid(), signal.SIGKILL)
        real(tensors, storage_writer=storage_writer)

    state.state_dict_saver.save = save  # type: ignore[assignment]
    return sft(out, recipe=recipe)


def test_a_run_whose_process_is_killed_goes_on(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert together(2, killed_while_saving, out, MUON, 3) == [1, None]
    assert RunDirectory(out).steps() == [1, 2]
    assert together(2, trained, out, MUON) == [0, 0]
    same(out, alone)


def former(checkpoint: Path) -> None:
    """A checkpoint as they were before several processes wrote them, of AdamW: parameters numbered, one file."""
    import json

    from apr.engine.checkpoint import load_model
    from apr.train.seal import seal

    [part] = (checkpoint / "trainer").iterdir()
    tensors, values = load_file(part), json.loads((checkpoint / "trainer.json").read_text())
    names = [name for name, _ in load_model(checkpoint).named_parameters()]
    kinds = ("step", "exp_avg", "exp_avg_sq")
    numbered = {n: {kind: tensors[f"{kind}/{name}"] for kind in kinds} for n, name in enumerate(names)}
    torch.save(
        {**values, "optimizers": [{"state": numbered, "param_groups": []}], "random": tensors["random"]},
        checkpoint / "trainer.pt",
    )
    shutil.rmtree(checkpoint / "trainer")
    (checkpoint / "trainer.json").unlink()
    seal(checkpoint, checkpoint.name)


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_goes_on_from_a_checkpoint_of_the_former_kind(count: int, tmp_path: Path) -> None:
    assert sft(tmp_path / "whole") == 0
    out = tmp_path / "run"
    assert sft(out, "--until", "2") == 0
    former(out / "checkpoints" / "2")
    assert together(count, trained, out, SFT) == [0] * count
    same(out, tmp_path / "whole")


EVERYTHING = """
overlap = true
gradient_checkpointing = true

[credit]
children = 0.5
lines = 0.5
corrections = 0.5

[replay]
recipe = "LESSONS"
weight = 0.5
tokens = 300

[loss]
renew_reference = 2
updates = 2
"""


def rl(out: Path, recipe: Path, start: Path, *words: str) -> int:
    from apr.cli import main

    options = ["--recipe", str(recipe), "--start-from", str(start), "--device", "cpu", "--threads", "1"]
    return main(["train", "rl", "--out", str(out), *options, *words])


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A recipe of two groups with all that a step may hold, weights to begin with, and a run of one process."""
    folder = tmp_path_factory.mktemp("rl")
    start = Path(save_tiny_model(folder / "model", context_length=256))
    (folder / "lessons.toml").write_text(SFT)
    text = RL.replace("[loss]\n", EVERYTHING.replace("LESSONS", str(folder / "lessons.toml")))
    (folder / "recipe.toml").write_text(text)
    assert rl(folder / "run", folder / "recipe.toml", start) == 0
    return folder / "recipe.toml", start, folder / "run"


NAMES = ("loss", "gradient_norm", "kl", "replay", "entropy", "sampled_tokens")


@pytest.mark.parametrize("count", [2, 4])
def test_processes_learn_by_reinforcement_as_one(count: int, policy: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Of four processes two have no rollouts, and run along."""
    recipe, start, alone = policy
    assert together(count, rl, tmp_path / "run", recipe, start) == [0] * count
    same(tmp_path / "run", alone, NAMES)


def test_an_engine_of_torch_gets_whole_weights(policy: tuple[Path, Path, Path], tmp_path: Path) -> None:
    recipe, start, _ = policy
    recipe = Path(shutil.copy(recipe, tmp_path / "recipe.toml"))
    recipe.write_text(recipe.read_text().replace("overlap = true", "overlap = false"))
    assert together(2, rl, tmp_path / "run", recipe, start, "--engine", "torch") == [0, 0]
    assert all(entry["logprob_gap"]["main"] < 1e-4 for entry in RunDirectory(tmp_path / "run").entries())


def test_reinforcement_learning_goes_on_with_another_number_of_processes(
    policy: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    recipe, start, alone = policy
    for until, count in ((1, 2), (3, 1), (4, 4)):
        assert together(count, rl, tmp_path / "run", recipe, start, "--until", str(until)) == [0] * count
    same(tmp_path / "run", alone, NAMES)
