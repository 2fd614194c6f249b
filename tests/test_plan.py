"""`apr plan` is held to what torch counts, parameters, operations, kept activations, and to a trainer's batches."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import apr
from apr.cli import main
from apr.train.batches import batches
from apr.train.data import SftData, cost, loose, share
from apr.train.losses import sft_loss
from apr.train.model import new_model
from apr.train.plan import Llama, Work, activations, operations, shape_of, work_of
from apr.train.recipes import ModelConfig, recipe_text, sft_recipe

TOKENIZER = apr.Tokenizer()
SHAPES = [
    ModelConfig(hidden_size=128, layers=3, heads=4, mlp_size=320, context_length=512),
    ModelConfig(hidden_size=128, layers=2, heads=4, kv_heads=2, mlp_size=256, tied_embeddings=False),
]
ROWS, LENGTH = 4, 256
WORK = Work(1, ROWS * LENGTH, ROWS * LENGTH, ROWS * LENGTH**2)


@pytest.fixture(params=SHAPES, ids=["tied", "grouped"])
def llama(request: pytest.FixtureRequest) -> Llama:
    return Llama(request.param, TOKENIZER.vocab_size)


def step(model: Any) -> Tensor:
    ids = torch.randint(0, TOKENIZER.vocab_size, (ROWS, LENGTH))
    loss, _ = sft_loss(model(input_ids=ids, use_cache=False).logits, ids, torch.ones(ROWS, LENGTH))
    return loss


def test_parameters_are_those_of_the_model(llama: Llama) -> None:
    model = new_model(llama.shape, TOKENIZER, 0)
    assert llama.parameters == sum(parameter.numel() for parameter in model.parameters())
    alike: dict[torch.Size, int] = {}
    for parameter in model.model.layers.parameters():
        if parameter.ndim == 2:
            alike[parameter.shape] = alike.get(parameter.shape, 0) + parameter.numel()
    assert llama.most_alike == max(alike.values())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_operations_are_those_that_torch_counts(llama: Llama, checkpointing: bool) -> None:
    model = new_model(llama.shape, TOKENIZER, 0).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    # Fused attention is counted with what it computes twice.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step(model).backward()
    assert operations(llama, WORK, checkpointing=checkpointing) == pytest.approx(counter.get_total_flops(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_those_that_a_step_keeps(llama: Llama, dtype: torch.dtype) -> None:
    model = new_model(llama.shape, TOKENIZER, 0).to(dtype)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=torch.zeros(ROWS, LENGTH, dtype=torch.long), use_cache=False)
    found = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)
    assert activations(llama, ROWS * LENGTH, number=dtype.itemsize) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("processes", [1, 4])
def test_work_is_that_of_the_trainers_batches(processes: int, rounded: bool) -> None:
    config = sft_recipe(recipe_text("tiny"), "apr")
    samples = SftData(config).step(config.steps // 2)
    assert config.model is not None
    width = config.model.hidden_size
    shares = [share(samples, rank, processes, width) for rank in range(processes)]
    own = max(shares, key=lambda own: sum(cost(sample, width) for sample in own))
    made = batches(own, 0, config.tokens_per_batch, loose(width, rounded=rounded))
    most = [batch.token_ids_BT.numel() for batch in made]
    work = work_of(samples, processes, config.tokens_per_batch, width, rounded=rounded)
    assert (work.batches, work.largest, work.positions) == (len(most), max(most), sum(most))


@pytest.mark.parametrize("size", [25_000_000, 228_000_000, 7_000_000_000])
def test_a_shape_has_the_size_that_is_asked_for(size: int) -> None:
    shape = shape_of(size, SHAPES[0])
    model = Llama(shape, TOKENIZER.vocab_size)
    assert model.parameters - model.outside == pytest.approx(size, rel=0.01)
    assert list(shape.faults()) == []


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["plan", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_more_gpus_hold_and_compute_less_each(capsys: pytest.CaptureFixture[str]) -> None:
    one, eight, sixteen = (planned(capsys, "--recipe", "paper", "--gpus", str(count)) for count in (1, 8, 16))
    assert one["kept"]["weights"] == 8 * eight["kept"]["weights"] == 4 * one["parameters"]
    assert one["kept"]["computing"] > 7 * eight["kept"]["computing"]
    assert one["kept"]["exchanging"] == 0
    # Beyond a machine the network is the way.
    assert sixteen["kept"]["exchanging"] > eight["kept"]["exchanging"] > 0
    assert one["checkpointing"]["memory"] < one["kept"]["memory"]
    assert one["checkpointing"]["computing"] > one["kept"]["computing"]


def test_a_plan_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from apr.cli import main; sys.exit(main(['plan', '--gpus', '2']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_table_says_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", "7B", "--memory", "40"]) == 0
    shown = capsys.readouterr().out
    assert "does not fit" in shown
    assert "7,00" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "large"], "--model: 'large' is no size of a model, such as 228M or 7B"),
        (["--model", "3"], "too small to be planned"),
        (["--reached", "0"], "--reached: it is above 0"),
        (["--gpus", "0"], "--gpus: it is at least 1"),
        (["--recipe", "smal"], "did you mean small?"),
    ],
)
def test_what_cannot_be_planned_is_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == 1
