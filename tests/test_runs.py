"""Run directories: one writer, the start kept, checkpoints that are whole, and words where something is wrong."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from apr import Tokenizer
from apr.cli import main
from apr.engine.checkpoint import load_model
from apr.train.model import new_model, save_model
from apr.train.recipes import ModelConfig, sft_recipe
from apr.train.run import RunDirectory
from apr.train.run_recipe import RunRecipe
from apr.train.sft import SftTrainer
from tiny_runs import SFT, sft

SHAPE = ModelConfig(hidden_size=16, layers=1, heads=2, mlp_size=32, context_length=512)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert sft(out) == 0
    return out


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the recipe's shape."""
    directory = tmp_path_factory.mktemp("start") / "model"
    directory.mkdir()
    save_model(new_model(SHAPE, Tokenizer(), seed=9), Tokenizer(), directory)
    return directory


@pytest.fixture(scope="module")
def begun_with(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from these weights that nobody disturbed."""
    out = tmp_path_factory.mktemp("begun") / "run"
    assert sft(out, "--start-from", str(start)) == 0
    return out


def losses(run: Path) -> dict[int, float]:
    entries = RunDirectory(run).entries()
    assert len({entry["step"] for entry in entries}) == len(entries)
    return {entry["step"]: entry["loss"] for entry in entries}


def at_step(source: Path, step: int, copy: Path) -> Path:
    """A run as a kill after some step would have left it, which it had logged."""
    shutil.copytree(source, copy)
    for later in RunDirectory(copy).steps():
        if later > step:
            shutil.rmtree(copy / "checkpoints" / str(later))
    return copy


def flip(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def drop_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, path, metadata={"format": "pt"})


def change(path: Path, key: str, value: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def exchange(newest: Path, name: str) -> None:
    shutil.copyfile(newest.with_name(str(int(newest.name) - 1)) / name, newest / name)


def replace_all(newest: Path) -> None:
    before = newest.with_name(str(int(newest.name) - 1))
    shutil.rmtree(newest)
    shutil.copytree(before, newest)


SHARE = "trainer/shard-00001-model-00001-of-00001.safetensors"
FILES = ("model.safetensors", SHARE, "trainer.json", "config.json", "tokenizer.json", "digests.json")
DAMAGE: dict[str, Callable[[Path], object]] = {
    **{f"a flipped bit in {name}": lambda d, name=name: flip(d / name) for name in FILES},
    **{f"half of {name}": lambda d, name=name: truncate(d / name) for name in FILES},
    **{f"no {name}": lambda d, name=name: (d / name).unlink() for name in FILES},
    "a missing tensor": lambda d: drop_a_tensor(d / "model.safetensors"),
    "another rope_theta": lambda d: change(d / "config.json", "rope_theta", 5.0),
    "another step's state": lambda d: exchange(d, SHARE),
    "another step's place": lambda d: exchange(d, "trainer.json"),
    "another step's weights": lambda d: exchange(d, "model.safetensors"),
    "a file too many": lambda d: (d / "model.safetensors.index.json").write_text("{}"),
    "empty weights": lambda d: (d / "model.safetensors").write_bytes(b""),
    "digests of nothing": lambda d: (d / "digests.json").write_text("[" * 100_000),
    "a directory in a file's place": lambda d: ((d / "config.json").unlink(), (d / "config.json").mkdir()),
    "no file": lambda d: (shutil.rmtree(d), d.mkdir()),
    "another step's whole checkpoint": replace_all,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over(kind: str, whole: Path, tmp_path: Path) -> None:
    run = RunDirectory(at_step(whole, 4, tmp_path / "run"))
    assert run.latest() == run.checkpoints / "4"
    DAMAGE[kind](run.checkpoints / "4")
    assert run.latest() == run.checkpoints / "3"
    assert list(run.damaged()) == [4]


def test_a_run_goes_on_from_the_checkpoint_before_with_a_word(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = at_step(whole, 4, tmp_path / "run")
    flip(out / "checkpoints" / "4" / "model.safetensors")
    assert sft(out) == 0
    said = capsys.readouterr().err
    assert (
        "warning: the checkpoint of step 4 is damaged and not used: model.safetensors is not what was written" in said
    )
    assert "going on from step 3" in said
    assert losses(out) == losses(whole)
    assert RunDirectory(out).damaged() == {}
    for step in (3, 4):
        flip(out / "checkpoints" / str(step) / "config.json")
    assert sft(out) == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_a_checkpoint_is_on_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    run = RunDirectory(tmp_path / "run")
    run.create(SFT)
    trainer = SftTrainer(sft_recipe(SFT, "apr"), run)
    synced.clear()
    trainer.step = 1
    trainer.save()
    draft = run.checkpoints / ".1.partial"
    names = {path.relative_to(draft) for path in synced if draft in path.parents}
    assert names == {path.relative_to(run.checkpoints / "1") for path in (run.checkpoints / "1").rglob("*")}
    assert draft in synced
    assert synced[-1] == run.checkpoints


def test_a_run_killed_before_its_first_checkpoint_begins_again(whole: Path, tmp_path: Path) -> None:
    out = at_step(whole, 0, tmp_path / "run")
    log = RunDirectory(out).log_path
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines[:2], "5", "{}", '{"step": "x"}', "[" * 100_000, lines[2][:20]]))
    assert sft(out, "--until", "2") == 0
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2]
    assert sft(out) == 0
    assert losses(out) == losses(whole)


def test_what_a_run_began_with_is_part_of_it(
    whole: Path, start: Path, begun_with: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert losses(begun_with) != losses(whole)
    # Killed before the first checkpoint, it needs no telling where it began.
    out = at_step(begun_with, 0, tmp_path / "run")
    assert sft(out, "--until", "1") == 0
    assert sft(out, "--start-from", str(start)) == 0
    assert losses(out) == losses(begun_with)
    other = tmp_path / "other"
    other.mkdir()
    save_model(new_model(SHAPE, Tokenizer(), seed=10), Tokenizer(), other)
    capsys.readouterr()
    for run in (out, at_step(begun_with, 0, tmp_path / "killed")):
        assert sft(run, "--start-from", str(other)) == 2
        assert "began with other weights" in capsys.readouterr().err
    assert sft(at_step(whole, 0, tmp_path / "random"), "--start-from", str(start)) == 2
    assert "began with random weights" in capsys.readouterr().err
    flip(at_step(begun_with, 0, tmp_path / "damaged") / "start" / "model.safetensors")
    assert sft(tmp_path / "damaged") == 2
    assert "start is damaged: model.safetensors is not what was written" in capsys.readouterr().err


def foreign_tokenizer(directory: Path) -> None:
    words = json.loads((directory / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    one, other = sorted(vocabulary, key=vocabulary.get)[-2:]  # type: ignore[arg-type]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (directory / "tokenizer.json").write_text(json.dumps(words))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing there": (shutil.rmtree, "is not a directory"),
    "no config": (lambda d: (d / "config.json").unlink(), "config.json is missing"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "holds no weights"),
    "truncated weights": (lambda d: os.truncate(d / "model.safetensors", 2000), "not fully covered"),
    "config of another kind": (lambda d: (d / "config.json").write_text("[]"), "is not a JSON object"),
    "deep config": (lambda d: (d / "config.json").write_text("[" * 100_000), "is not a JSON object"),
    "another architecture": (lambda d: change(d / "config.json", "model_type", "mistral"), 'model_type = "mistral"'),
    "another vocabulary": (lambda d: change(d / "config.json", "vocab_size", 32_000), "vocab_size 32000"),
    "exchanged words": (foreign_tokenizer, "a tokenizer of its own"),
    "no tokenizer of ours": (lambda d: (d / "tokenizer.json").write_text("{}"), "a tokenizer of its own"),
    "a sentencepiece model": (
        lambda d: (d / "tokenizer.json").rename(d / "tokenizer.model"),
        "a tokenizer of its own",
    ),
}


@pytest.mark.parametrize("trainer", ["sft", "rl"])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_start_that_cannot_be_is_refused_before_anything_is_made(
    kind: str,
    trainer: str,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(start, tmp_path / "model")
    spoil, said = REFUSED[kind]
    spoil(tmp_path / "model")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(SFT)
    words = ["--recipe", str(recipe)] if trainer == "sft" else []
    out = tmp_path / "run"
    assert main(["train", trainer, "--out", str(out), "--start-from", str(tmp_path / "model"), *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "loading torch" not in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mlp_size = 48", "mlp_size: the recipe says 48"),
        ("mlp_size = 32\nkv_heads = 1", "kv_heads: the recipe says 1"),
        ("mlp_size = 32\nrope_theta = 500.0", "rope_theta: the recipe says 500"),
        ("mlp_size = 32\nrms_norm_eps = 0.1", "rms_norm_eps: the recipe says 0.1"),
        ("mlp_size = 32\ntied_embeddings = false", "tied_embeddings: the recipe says False"),
    ],
)
def test_a_start_of_another_shape_is_refused(
    line: str, said: str, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = SFT.replace("mlp_size = 32", line)
    assert sft(tmp_path / "run", "--start-from", str(start), recipe=recipe) == 2
    assert f"model.{said}" in capsys.readouterr().err


def test_a_run_whose_recipe_is_gone_is_not_begun_anew(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = at_step(whole, 3, tmp_path / "run")
    (out / "recipe.toml").unlink()
    before = sorted(out.rglob("*"))
    assert sft(out) == 2
    assert "recipe.toml is gone" in capsys.readouterr().err
    assert sorted(out.rglob("*")) == before


def test_what_cannot_be_trained_leaves_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert sft(out, recipe=SFT.replace("context_length = 512", "context_length = 10")) == 2
    assert "model.context_length" in capsys.readouterr().err
    assert sft(out, "--device", "abacus") == 2
    assert sft(out, "--device", "meta") == 2
    assert "no device 'meta'" in capsys.readouterr().err
    assert sft(out, "--threads", "99999999999") == 2
    assert "--threads: it is at most 1024" in capsys.readouterr().err
    assert not out.exists()


def test_one_trainer_a_run(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = at_step(whole, 3, tmp_path / "run")
    with RunDirectory(out).hold():
        before = RunDirectory(out).log_path.read_text()
        assert sft(out) == 2
        assert "is in use by another process" in capsys.readouterr().err
        assert RunDirectory(out).log_path.read_text() == before
    assert sft(out) == 0
    assert losses(out) == losses(whole)


def test_steps_and_seed_replace_the_recipes_and_are_kept(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    recipe = SFT.replace("steps = 4\n", "  steps = 9\n")
    assert sft(out, "--steps", "2", "--seed", "7", "--method", "sos+", recipe=recipe) == 0
    assert sorted(losses(out)) == [1, 2]
    kept = RunRecipe.read(RunDirectory(out).recipe() or "")
    assert (kept.sft().steps, kept.sft().seed, kept.method, kept.recipe) == (2, 7, "sos+", recipe)
    # The run goes on with what it is of, without being told.
    shutil.rmtree(out / "checkpoints" / "2")
    assert main(["train", "sft", "--out", str(out), "--device", "cpu", "--threads", "1"]) == 0
    assert sorted(losses(out)) == [1, 2]
    assert main(["train", "sft", "--out", str(out), "--steps", "3", "--device", "cpu"]) == 2


def test_stopped_while_it_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is begun, and the line that says how to begin is there."""
    monkeypatch.setattr("apr.train.sft.SftTrainer", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert sft(tmp_path / "run") == 130
    words = f"--recipe {tmp_path / 'run.toml'} --out {tmp_path / 'run'} --device cpu --threads 1"
    assert f"stopped; `apr train sft {words}` goes on with what is saved" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_in_good_order(
    number: int,
    status: int,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from apr.cli.progress import Watch

    def watch(self: Watch[Any], told: Any) -> None:
        if told.step == 2:
            os.kill(os.getpid(), number)

    recipe = SFT.replace("checkpoint_every = 1", "checkpoint_every = 0")
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Watch, "__call__", watch)
        assert sft(out, recipe=recipe) == status
    said = capsys.readouterr().err
    assert "stopped after step 2 of 4" in said
    assert f"saved: {out / 'checkpoints' / '2'}; `apr train sft" in said
    assert RunDirectory(out).steps() == [2]
    assert sft(out, recipe=recipe) == 0
    assert losses(out) == losses(whole)


@contextmanager
def full_disk(most: int) -> Iterator[None]:
    """No file grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_loses_nothing(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {path.name: path.stat().st_size for path in (whole / "checkpoints" / "4").iterdir()}
    # Neither the weights nor the optimiser's state fits; the weights do.
    for place, most in enumerate((1000, sizes["model.safetensors"] + 100)):
        out = at_step(whole, 3, tmp_path / f"run{place}")
        with full_disk(most):
            assert sft(out) in (1, 2)
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "File too large" in said
        assert RunDirectory(out).latest() == out / "checkpoints" / "3"
        assert sft(out) == 0
        assert losses(out) == losses(whole)


@pytest.mark.parametrize("rate", [1e30, 3e-3])
def test_numbers_that_are_not_finite_end_a_run(
    rate: float, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are not finite after an update, or a gradient that is not before one."""
    recipe = SFT.replace("checkpoint_every = 1", "checkpoint_every = 3").replace("3e-3", str(rate))
    out = tmp_path / "run"
    if rate < 1:
        real = torch.nn.utils.clip_grad_norm_
        calls = iter(range(100))
        monkeypatch.setattr(
            torch.nn.utils, "clip_grad_norm_", lambda *a: real(*a) * (float("nan") if next(calls) == 2 else 1)
        )
    assert sft(out, recipe=recipe) == 1
    said = capsys.readouterr().err
    assert "not finite" in said
    assert "Traceback" not in said
    run = RunDirectory(out)
    if rate < 1:
        # The step before is whole, so it is saved; the run goes on from there.
        assert run.steps() == [2]
        monkeypatch.undo()
        assert sft(out, recipe=recipe) == 0
        assert losses(out) == losses(whole)
    for step in run.steps():
        model = load_model(run.checkpoints / str(step))
        assert all(parameter.isfinite().all() for parameter in model.parameters())
