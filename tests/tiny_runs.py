"""Recipes of runs that take a second, and the command that trains them in this process."""

from __future__ import annotations

import os
from pathlib import Path

from apr.cli import main

SFT = """
steps = 4
tokens_per_step = 300
tokens_per_batch = 512
validate_every = 0
checkpoint_every = 1
autocast = "none"

[model]
hidden_size = 16
layers = 1
heads = 2
mlp_size = 32
context_length = 512

[optimizer]
learning_rate = 3e-3
warmup_steps = 2
decay_share = 0.0

[[methods.apr.stages]]
until = 1.0
parts = [{ weight = 1.0, numbers = [2, 2], beam_size = [4, 6] }]

[[methods."sos+".stages]]
until = 1.0
parts = [{ weight = 1.0, numbers = [2, 2], beam_size = [4, 6] }]
"""


def sft(out: Path, *words: str, recipe: str = SFT) -> int:
    """`apr train sft` with a recipe, which is written beside the run's directory; the exit status."""
    file = out.parent / f"{out.name}.toml"
    # Processes of one run write it at once: none may read half of it, say so and leave the others waiting.
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(recipe)
    draft.replace(file)
    return main(["train", "sft", "--recipe", str(file), "--out", str(out), "--device", "cpu", "--threads", "1", *words])
