"""Supervised training: what carries loss, what attends to what, and that processes train as one."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apr import Tokenizer
from apr.engine.checkpoint import load_model
from apr.policy import checkpoint
from apr.train.ahead import Ahead
from apr.train.batches import batches, collate
from apr.train.data import SftData, loose, rounded, share
from apr.train.losses import sft_loss
from apr.train.model import new_model, save_model, token_logprobs
from apr.train.optimizers import rate_at
from apr.train.recipes import OptimizerConfig, SftConfig, recipe_text, sft_recipe
from apr.train.run import RunDirectory
from apr.train.sft import SftTrainer
from apr.types import Branch, Sample

RECIPE = """
steps = 12
tokens_per_step = 1500
tokens_per_batch = 1024
validate_every = 6
validation_lessons = 4
checkpoint_every = 3

[model]
hidden_size = 32
layers = 2
heads = 2
mlp_size = 64
context_length = 1024

[optimizer]
name = "muon"
learning_rate = 3e-3
warmup_steps = 4

[[methods.apr.stages]]
until = 0.5
parts = [{ weight = 1.0, numbers = [2, 2], beam_size = [4, 6] }]

[[methods.apr.stages]]
until = 1.0
parts = [
  { weight = 1.0, numbers = [3, 3], beam_size = [2, 4], child_beam_size = [4, 4], promising = 0.5 },
  { weight = 1.0, numbers = [4, 4], beam_size = [2, 3], child_beam_size = [2, 3], promising = 1.0 },
]

[[methods."sos+".stages]]
until = 1.0
parts = [{ weight = 1.0, numbers = [3, 3], beam_size = [1, 3], promising = 0.5 }]
"""


def config(method: str = "apr", **changes: object) -> SftConfig:
    return sft_recipe(RECIPE, method, **changes)  # type: ignore[arg-type]


def test_a_run_of_another_recipe_is_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create("a = 1\n")
    run.create("a = 1\n")
    with pytest.raises(ValueError, match="another recipe"):
        run.create("a = 2\n")


def test_a_half_written_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create("")

    def fail(directory: Path) -> None:
        (directory / "weights").write_text("half")
        raise OSError("disk full")

    run.save(3, lambda directory: None, keep=2)
    with pytest.raises(OSError, match="disk full"):
        run.save(6, fail, keep=2)
    assert run.steps() == [3]
    for step in (6, 9):
        run.save(step, lambda directory: None, keep=2)
    assert run.steps() == [6, 9]


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(RECIPE)
    seen = []
    SftTrainer(config(steps=30, checkpoint_every=30), run).train(lambda progress: seen.append(progress.loss))
    assert seen[-1] < 0.8 * seen[0]
    model = load_model(run.latest() or "")
    assert next(model.parameters()).dtype == torch.float32


def test_the_same_seed_gives_the_same_lessons_at_any_position() -> None:
    first, second = SftData(config()), SftData(config())
    steps = [first.step(s) for s in range(4)]
    assert [second.step(s) for s in range(4)] == steps
    resumed = SftData(config())
    resumed.position = first.position
    assert resumed.step(4) == first.step(4)
    assert SftData(config(seed=1)).step(0) != steps[0]


@pytest.mark.parametrize("method", ["apr", "sos+"])
def test_loss_is_on_what_the_model_writes(method: str) -> None:
    tokenizer = Tokenizer()
    samples = SftData(config(method)).step(11)
    assert samples
    ended = 0
    for sample in samples:
        ids, mask = list(sample.token_ids), list(sample.loss_mask)
        assert len(ids) == len(mask)
        assert ids[0] == tokenizer.bos
        assert not mask[0]
        # Prompt, trunk and join block come first; from there on the model writes to the end.
        start = mask.index(True)
        assert all(mask[start:])
        ended += ids[-1] == tokenizer.eos
    assert ended


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    tokenizer = Tokenizer()
    model = new_model(config().model, tokenizer, seed=3).eval()
    samples = sorted(SftData(config()).step(8), key=lambda s: len(s.token_ids))[:5]
    batch = collate(samples, tokenizer.pad)
    assert len({len(s.token_ids) for s in samples}) > 1
    with torch.no_grad():
        together = token_logprobs(model(input_ids=batch.token_ids_BT).logits, batch.token_ids_BT)
        for row, sample in enumerate(samples):
            alone = torch.tensor([sample.token_ids])
            expected = token_logprobs(model(input_ids=alone).logits, alone)[0]
            torch.testing.assert_close(together[row, : len(expected)], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [64, 256, 1024, 4096])
def test_a_gpu_has_no_more_batches_than_a_cpu(width: int) -> None:
    samples = SftData(config()).step(10)
    made = batches(samples, 0, 1024, loose(width, rounded=False))
    assert len(made) <= len(batches(samples, 0, 1024))
    assert sum(int(batch.loss_mask_BT.sum()) for batch in made) == sum(sum(s.loss_mask) for s in samples)


def test_shapes_that_are_recorded_are_few() -> None:
    padding = loose(64, rounded=True)
    sizes = {1, 2, 3} | {2**power for power in range(2, 20)} | {3 * 2**power for power in range(20)}
    samples = SftData(config()).step(10)
    made = batches(samples, 0, 1024, padding)
    assert sum(int(batch.loss_mask_BT.sum()) for batch in made) == sum(sum(s.loss_mask) for s in samples)
    for batch in made:
        rows, length = batch.token_ids_BT.shape
        assert rows % 2 == 0
        assert rows // 2 in sizes
        assert length % 64 == 0
        assert length // 64 in sizes
        assert rows * length <= 1024 or rows == 2
    (alone,) = batches(samples[:1], 0, 1024, padding)
    assert not alone.loss_mask_BT[1].any()
    assert not alone.codes_BT[1].any()


@given(st.integers(1, 100_000), st.integers(1, 64))
def test_shapes_are_rounded_to_less_than_half_as_much_again(count: int, least: int) -> None:
    size = rounded(count, least)
    assert max(count, least) <= size
    assert size == least or size < 1.5 * count + least
    assert rounded(size, least) == size


def ahead(settings: SftConfig, first: int = 3, rank: int = 0, count: int = 1) -> Ahead:
    return Ahead(settings, None, 0, first, rank, count, 32)


def test_steps_made_ahead_are_those_made_here() -> None:
    settings = config(steps=9)
    with closing(ahead(settings, rank=1, count=2)) as made:
        assert list(made) == list(SftData(settings).steps(3, 1, 2, 32))


def test_signals_to_all_processes_leave_lessons_to_the_trainer() -> None:
    with closing(ahead(config(steps=9))) as made:
        (process,) = multiprocessing.active_children()
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid or 0, number)
        assert len(list(made)) == 6
    assert not process.is_alive()


def test_what_goes_wrong_ahead_is_told_as_here() -> None:
    # Made by hand: a recipe that says so is refused.
    broken = replace(config(steps=9), data={"stages": []})
    with closing(ahead(broken)) as made, pytest.raises(ValueError, match=r"^data\.stages: [^\n]+$"):
        next(made)
    with closing(ahead(config(steps=9))) as made:
        (process,) = multiprocessing.active_children()
        process.kill()
        with pytest.raises(ChildProcessError, match=r"^the process that makes lessons has ended \(exit code -9\)$"):
            list(made)


def test_a_run_that_stopped_begins_its_lessons_anew(tmp_path: Path) -> None:
    def losses(place: str, *pieces: int) -> list[float]:
        seen: list[float] = []
        run = RunDirectory(tmp_path / place)
        run.create("")
        trainer = SftTrainer(config(), run)
        for until in pieces:
            trainer.train(lambda progress: seen.append(progress.loss), until=until)
            assert trainer._steps is None
        return seen

    assert losses("pieces", 2, 3, 6) == losses("whole", 6)


def test_batches_hold_every_sample_once_and_fit() -> None:
    samples = SftData(config()).step(10)
    made = batches(samples, 0, 1024)
    rows = [ids for batch in made for ids in batch.token_ids_BT.tolist()]
    padded = sorted(tuple(ids[: len(ids) - ids[::-1].index(next(i for i in ids[::-1] if i))]) for ids in rows)
    assert padded == sorted(s.token_ids for s in samples)
    for batch in made:
        assert batch.token_ids_BT.numel() <= 1024 or len(batch.token_ids_BT) == 1
    assert sum(int(b.loss_mask_BT[:, 1:].sum()) for b in made) == sum(sum(s.loss_mask[1:]) for s in samples)


def test_processes_have_as_much_to_do_as_each_other() -> None:
    def row(length: int, branches: tuple[Branch, ...] = (Branch(0, 0),)) -> Sample:
        return Sample((0,) * length, (True,) * length, branches=branches)

    short = [row(100) for _ in range(60)]
    # Of width 64, 768 tokens attend for as much as all else that is done with them; with a mask, 384.
    long = row(2000)
    joined = row(2000, (Branch(0, 0), Branch(1000, 500)))
    alone = [[len(s.token_ids) for s in share([*short, one], 0, 2, 64)] for one in (long, joined)]
    assert alone[0] == [2000]
    assert alone[1] == [2000]
    shares = [share([*short, long, joined], rank, 3, 64) for rank in range(3)]
    assert [len(own) for own in shares] == [1, 1, 60]
    # A wide one hardly notices that a row is long.
    wide = [sum(len(s.token_ids) for s in share([*short, long], rank, 2, 100_000)) for rank in range(2)]
    assert wide == [4000, 4000]
    assert sorted(map(id, [s for own in shares for s in own])) == sorted(map(id, [*short, long, joined]))


def test_unmasked_tokens_carry_no_loss() -> None:
    logits = torch.randn(2, 5, 7, requires_grad=True)
    ids = torch.randint(0, 7, (2, 5))
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 2] = mask[1, 4] = True
    weights = mask.float()
    weights[1, 4] = 3.0
    loss, metrics = sft_loss(logits, ids, weights)
    first = -logits[0, 1].log_softmax(-1)[ids[0, 2]]
    second = -logits[1, 3].log_softmax(-1)[ids[1, 4]]
    torch.testing.assert_close(loss, first + 3 * second)
    torch.testing.assert_close(metrics["loss"], (first + second).detach())
    loss.backward()
    assert logits.grad is not None
    touched = logits.grad.abs().sum(-1) > 0
    assert touched.nonzero().tolist() == [[0, 1], [1, 3]]


def test_schedule_warms_up_stays_and_falls() -> None:
    optimizer = OptimizerConfig(warmup_steps=10, decay_share=0.5, final=0.1)
    rates = [rate_at(step, 100, optimizer) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:49] == [1.0] * 39
    assert rates[99] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_saved_models_load_in_transformers_with_their_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = new_model(config().model, Tokenizer(), seed=0)
    save_model(model, Tokenizer(), tmp_path / "model")
    # Whoever may read one file may read them all.
    assert len({file.stat().st_mode for file in (tmp_path / "model").iterdir()}) == 1
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.encode("12+3=15") == Tokenizer().encode("12+3=15")
    assert tokenizer.bos_token_id == Tokenizer().bos
    ids = torch.tensor([tokenizer.encode("12+3=15")])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model.eval()(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny", "small", "paper", "waves"])
@pytest.mark.parametrize("method", ["apr", "sos+"])
def test_shipped_recipes_are_whole(name: str, method: str) -> None:
    recipe = sft_recipe(recipe_text(name), method)  # type: ignore[arg-type]
    assert recipe.data["stages"][-1]["until"] == 1.0
    with ExitStack() as files:
        start = None if recipe.model is not None else checkpoint(None, files, method)  # type: ignore[arg-type]
        assert SftData(recipe, start).step(0)


def test_unknown_and_wrong_keys_are_refused() -> None:
    for broken, key in [
        (RECIPE.replace("steps = 12", "stepps = 12"), "stepps"),
        (RECIPE.replace("layers = 2", 'layers = "two"'), "layers"),
        (RECIPE.replace('name = "muon"', 'name = "sgd"'), "name"),
        (RECIPE.replace("steps = 12", ""), "steps"),
    ]:
        with pytest.raises(ValueError, match=key):
            sft_recipe(broken, "apr")
    with pytest.raises(ValueError, match="shipped: "):
        recipe_text("huge")
