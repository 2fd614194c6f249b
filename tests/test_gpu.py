"""What a GPU must do as the CPU does; without one there is nothing to test."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from apr.engine import load_engine
from apr.train.recipes import sft_recipe
from apr.train.run import RunDirectory
from apr.train.sft import SftTrainer
from apr.types import Completion, SamplingParams
from tiny import save_tiny_model
from tiny_runs import SFT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def losses(folder: Path, device: str, recipe: str, until: int | None = None) -> list[float]:
    run = RunDirectory(folder)
    run.create(recipe)
    SftTrainer(sft_recipe(recipe, "apr"), run, device=device).train(lambda progress: None, until=until)
    return [entry["loss"] for entry in run.entries()]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("recorded", ["true", "false"])
@pytest.mark.parametrize(("autocast", "apart"), [("none", 1e-3), ("bf16", 3e-2)])
def test_steps_are_those_of_the_cpu(autocast: str, apart: float, recorded: str, optimizer: str, tmp_path: Path) -> None:
    recipe = SFT.replace('autocast = "none"', f'autocast = "{autocast}"\ncuda_graphs = {recorded}')
    recipe = recipe.replace("[optimizer]", f'[optimizer]\nname = "{optimizer}"')
    expected = losses(tmp_path / "cpu", "cpu", recipe.replace('"bf16"', '"none"'))
    assert losses(tmp_path / "gpu", "cuda", recipe) == pytest.approx(expected, rel=apart)


@pytest.mark.parametrize("recorded", ["true", "false"])
def test_a_run_goes_on_from_its_checkpoint(recorded: str, tmp_path: Path) -> None:
    recipe = f"cuda_graphs = {recorded}\n{SFT}"
    whole = losses(tmp_path / "whole", "cuda", recipe)
    losses(tmp_path / "pieces", "cuda", recipe, until=2)
    assert losses(tmp_path / "pieces", "cuda", recipe) == pytest.approx(whole, rel=1e-5)


def test_the_torch_engine_samples_what_the_native_one_does(tmp_path: Path) -> None:
    directory = save_tiny_model(tmp_path / "model", context_length=96)
    engines = [load_engine("torch", directory, device="cuda"), load_engine("native", directory, cache_dtype="float32")]

    async def all_of_them() -> list[Completion]:
        params = SamplingParams(0.0, 60)
        return [await engine.generate((1, 28, 3), params, request_id="r") for engine in engines]

    ours, theirs = asyncio.run(all_of_them())
    assert ours.token_ids == theirs.token_ids
    assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)
