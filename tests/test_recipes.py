"""What a recipe may hold, and what a run keeps of it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from apr.countdown.task import Countdown
from apr.selection import selected
from apr.train.data import SftData
from apr.train.recipes import recipe_text, rl_recipe, sft_recipe
from apr.train.rl.groups import draw
from apr.train.run_recipe import RunRecipe
from noisy import RECIPE as RL
from tiny_runs import SFT

SFT_FAULTS = [
    ("steps = 0", "steps: 0 is not at least 1"),
    ("steps = -3", "steps"),
    ("steps = 9223372036854775807000", "steps"),
    ("tokens_per_step = 0", "tokens_per_step"),
    ("tokens_per_step = -1", "tokens_per_step"),
    ("tokens_per_batch = 0", "tokens_per_batch"),
    ("seed = -1", "seed"),
    ("seed = 9223372036854775807", "seed"),
    ("validate_every = -1", "validate_every"),
    ("validation_lessons = 0", "validation_lessons"),
    ("checkpoint_every = -1", "checkpoint_every"),
    ("keep_checkpoints = -1", "keep_checkpoints: -1 is not at least 0"),
    ("compile = 1", "compile"),
    ("autocast = 'fp8'", "autocast: 'fp8' is not 'auto' or 'bf16' or 'none'"),
    ("model.layers = 0", "model.layers"),
    ("model.heads = 3", "model.heads"),
    ("model.heads = 16", "model.heads: 16 heads of an even size"),
    ("model.kv_heads = 0", "model.kv_heads"),
    ("model.mlp_size = -4", "model.mlp_size"),
    ("model.context_length = 0", "model.context_length"),
    ("model.rope_theta = 0.0", "model.rope_theta"),
    ("model.rope_theta = nan", "model.rope_theta: nan is not a finite number"),
    ("model.rms_norm_eps = -1e-6", "model.rms_norm_eps"),
    ("optimizer.learning_rate = nan", "optimizer.learning_rate: nan is not a finite number"),
    ("optimizer.learning_rate = -1e-3", "optimizer.learning_rate: -0.001 is not above 0"),
    ("optimizer.muon_learning_rate = inf", "optimizer.muon_learning_rate"),
    ("optimizer.betas = [0.9, 1.0]", "optimizer.betas"),
    ("optimizer.betas = [0.9]", "optimizer.betas"),
    ("optimizer.weight_decay = -0.1", "optimizer.weight_decay"),
    ("optimizer.weight_decay = 1e300", r"optimizer.weight_decay: 1e\+300 is not finite in 32 bits"),
    ("optimizer.clip = 1e38", "optimizer.clip"),
    ("optimizer.clip = -1.0", "optimizer.clip"),
    ("optimizer.warmup_steps = -1", "optimizer.warmup_steps"),
    ("optimizer.decay_share = 1.5", "optimizer.decay_share: 1.5 is not from 0 to 1"),
    ("optimizer.final = -0.1", "optimizer.final"),
    ("sharding.replicas = 0", "sharding.replicas"),
    ("weights.results = -1.0", "weights.results"),
    ("weights.joined = nan", "weights.joined"),
    ("data.cancelled = -0.1", "data.cancelled"),
    ("data.children = -1", "data.children"),
    ("data.largest = 0", "data.largest"),
    ("data.slack = 0", "data.slack: 0 is not from 1 to 1000"),
    ("data.waves = [2, 0]", "data.waves"),
    ("data.ranking = 'best'", "data.ranking: 'best' is not 'paper' or"),
    ("data.held_out_targets = [-3]", r"data.held_out_targets\[0\]"),
    ("methods.apr.stages = []", "data.stages: there is none"),
    ("method = 'sos+'", "unknown key method"),
    ("methods.typo.steps = 9", "methods.typo: there is no such method"),
    ("model.mlp_size = 9223372036854775807", "model.mlp_size: 9223372036854775807 is not from 1 to"),
    ("model.layers = 5000", "model.layers"),
    ("optimizer.learning_rate = 1e38", "optimizer.learning_rate"),
    ("methods.apr.stages = [{ until = 1.0, parts = [] }]", r"data.stages\[0\].parts: there is none"),
]
STAGE_FAULTS = [
    ([0.5], r"stages\[0\].until: 0.5 is not 1"),
    ([7], r"stages\[0\].until: 7.0 is not from 0 to 1"),
    ([0.6, 0.4, 1.0], r"stages\[1\].until: 0.4 is not above 0.6"),
    ([0.0, 1.0], r"stages\[0\].until"),
]
PART_FAULTS = [
    ("conditioned = 1.2", "conditioned"),
    ("max_number = 0", "max_number"),
    ("target = [100, 10]", "target"),
    ("weight = 0.0", "weight"),
    ("weight = -1.0", "weight"),
    ("weight = nan", "weight"),
    ("beam_size = [6, 4]", r"beam_size: \[6, 4\] is no interval"),
    ("beam_size = [0, 4]", "beam_size"),
    ("child_beam_size = [3, 2]", "child_beam_size"),
    ("promising = 1.1", "promising"),
    ("numbers = [1, 2]", "numbers"),
    ("numbers = [2, 7]", "numbers"),
    ("numbers = [4, 3]", "numbers"),
]
RL_FAULTS = [
    ("steps = 0", "steps"),
    ("groups = 0", "groups"),
    ("group_size = 1", "group_size: 1 is not at least 2"),
    ("numbers = [3, 2]", "numbers"),
    ("held_out_targets = [0]", "held_out_targets"),
    ("max_solutions = 0", "max_solutions: 0 is not at least 1"),
    ("budgets = []", "budgets: there is none"),
    ("budgets = [-1]", r"budgets\[0\]: -1 is not at least 0"),
    ("budgets = ['much']", "budgets"),
    ("temperature = 0.0", "temperature"),
    ("temperature = nan", "temperature"),
    ("temperature = 1e-5", "temperature"),
    ("max_threads = 0", "max_threads"),
    ("max_tokens = 0", "max_tokens"),
    ("refill = -1", "refill"),
    ("tokens_per_batch = 0", "tokens_per_batch"),
    ("validate_every = -1", "validate_every"),
    ("validation_problems = 0", "validation_problems"),
    ("checkpoint_every = -1", "checkpoint_every"),
    ("keep_checkpoints = -1", "keep_checkpoints"),
    ("loss.weighting = 'sum'", "loss.weighting"),
    ("loss.constant = 0.0", "loss.constant"),
    ("loss.clip_low = 1.1", "loss.clip_low"),
    ("loss.clip_high = -0.1", "loss.clip_high"),
    ("loss.kl = nan", "loss.kl"),
    ("loss.kl = 1e300", "loss.kl"),
    ("loss.constant = 1e300", "loss.constant"),
    ("credit.lines = 1e300", "credit.lines"),
    ("edge = 1e300", "edge"),
    ("loss.updates = 0", "loss.updates"),
    ("loss.importance_cap = 0.0", "loss.importance_cap"),
    ("costs.per_thread = -0.1", "costs.per_thread"),
    ("costs.per_second = inf", "costs.per_second"),
    ("methods = 3", "methods: 3 is not a table"),
    ("methods.apr = 3", "methods.apr: 3 is not a table"),
    ("methods.apr.steps = 0", "steps"),
    ("methods.apr.loss.kl = -1", "loss.kl"),
]


def changed(recipe: str, line: str) -> dict[str, Any]:
    """The recipe's values, and what a line replaces of them; a key may lead through tables."""
    values = tomllib.loads(recipe)
    (path, value) = line.split(" = ", 1)
    table = values
    *outer, last = path.split(".")
    for key in outer:
        table = table.setdefault(key, {})
    table[last] = tomllib.loads(f"x = {value}")["x"]
    return values


def written(value: Any) -> str:
    """Plain values as TOML, without tables of their own."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {written(inner)}' for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def text(values: dict[str, Any]) -> str:
    return "".join(f'"{key}" = {written(value)}\n' for key, value in values.items())


@pytest.mark.parametrize(("line", "said"), SFT_FAULTS)
def test_values_of_supervised_training_are_checked(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sft_recipe(text(changed(SFT, line)), "apr")


def test_matrices_of_muon_stay_where_they_are_computed_with() -> None:
    values = changed(SFT, "sharding.offload = true")
    sft_recipe(text(values), "apr")
    values["optimizer"]["name"] = "muon"
    with pytest.raises(ValueError, match=r"sharding\.offload: Muon makes whole matrices"):
        sft_recipe(text(values), "apr")


@pytest.mark.parametrize(("ends", "said"), STAGE_FAULTS)
def test_stages_follow_each_other_to_the_end(ends: list[float], said: str) -> None:
    parts = [{"weight": 1.0, "beam_size": [1, 2]}]
    stages = written([{"until": end, "parts": parts} for end in ends])
    with pytest.raises(ValueError, match=said):
        sft_recipe(text(changed(SFT, f"methods.apr.stages = {stages}")), "apr")


@pytest.mark.parametrize(("line", "key"), PART_FAULTS)
def test_parts_of_a_mix_are_checked(line: str, key: str) -> None:
    part = tomllib.loads("weight = 1.0\nbeam_size = [1, 2]") | tomllib.loads(line)
    stages = written([{"until": 1.0, "parts": [part]}])
    with pytest.raises(ValueError, match=rf"data\.stages\[0\]\.parts\[0\]\.{key}"):
        sft_recipe(text(changed(SFT, f"methods.apr.stages = {stages}")), "apr")


@pytest.mark.parametrize(("line", "said"), RL_FAULTS)
def test_values_of_reinforcement_learning_are_checked(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rl_recipe(text(changed(RL, line)), "apr")


@pytest.mark.parametrize("line", ["validate_every = 0", "checkpoint_every = 0", "keep_checkpoints = 0", "seed = 0"])
def test_zero_is_off_where_that_is_said(line: str) -> None:
    sft_recipe(text(changed(SFT, line)), "apr")
    rl_recipe(text(changed(RL, line)), "apr")
    for other in ("optimizer.clip = 0.0", "optimizer.warmup_steps = 0", "weights.results = 0.0", "data.children = 0"):
        sft_recipe(text(changed(SFT, other)), "apr")


@pytest.mark.parametrize("length", [1, 10])
def test_a_context_that_no_lesson_fits_is_refused(length: int) -> None:
    config = sft_recipe(text(changed(SFT, f"model.context_length = {length}")), "apr")
    with pytest.raises(ValueError, match=rf"data\.stages\[0\]: .*model\.context_length, {length} tokens"):
        SftData(config)


def test_targets_that_are_all_held_out_are_refused() -> None:
    line = f"held_out_targets = {list(range(1, 200))}"
    with pytest.raises(ValueError, match="held_out_targets: no target is left"):
        selected(Countdown(), rl_recipe(text(changed(RL, line)), "apr").problem_options)
    with pytest.raises(ValueError, match=r"data\.stages\[0\]: no target is left"):
        SftData(sft_recipe(text(changed(SFT, f"data.{line}")), "apr"))


def test_problems_that_there_are_none_of_are_refused() -> None:
    class Picky(Countdown):
        def accepts(self, problem: Any) -> bool:
            return False

    with pytest.raises(ValueError, match="of 1000 problems in a row none is of the kind that the recipe wants"):
        draw(Picky(), rl_recipe(RL, "apr"), 0, 1)


def test_changes_replace_what_a_method_has_of_its_own() -> None:
    recipe = RL + "\n[methods.apr]\nsteps = 9\n"
    assert rl_recipe(recipe, "apr").steps == 9
    asked = RunRecipe("rl", "apr", recipe, steps=2, seed=5)
    assert (asked.rl().steps, asked.rl().seed) == (2, 5)
    assert RunRecipe.read(asked.text()) == asked
    assert RunRecipe.read(asked.text()).rl() == asked.rl()


@pytest.mark.parametrize("first", ["  steps = 7\n", "\tsteps=7 # steps = 3\n", "# steps: 3\n# seed: 4\nsteps = 7\n"])
def test_steps_are_replaced_however_they_are_written(first: str) -> None:
    recipe = SFT.replace("steps = 4\n", first)
    assert RunRecipe("sft", "apr", recipe).sft().steps == 7
    asked = RunRecipe("sft", "apr", recipe, steps=2)
    assert asked.sft().steps == 2
    assert RunRecipe.read(asked.text()) == asked


def test_a_recipe_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(b"\xef\xbb\xbf" + SFT.encode())
    assert sft_recipe(recipe_text(str(file)), "apr") == sft_recipe(SFT, "apr")
    file.write_bytes(SFT.encode("utf-16"))
    with pytest.raises(ValueError, match="not UTF-8"):
        recipe_text(str(file))
    with pytest.raises(ValueError, match="nested too deep"):
        sft_recipe("x = " + "[" * 100_000, "apr")


def test_what_is_missing_is_named() -> None:
    values = tomllib.loads(SFT)
    for name, value, says in (
        ("optimizer", None, "key optimizer"),
        ("model", {"layers": 2}, "keys model.hidden_size, "),
    ):
        lacking = {**values, name: value} if value else {key: held for key, held in values.items() if key != name}
        with pytest.raises(ValueError, match=f"^missing {says}"):
            sft_recipe(text(lacking), "apr")
