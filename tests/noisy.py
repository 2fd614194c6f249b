"""A policy that has something to learn: the shipped one with noise on its weights."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch

from apr import Tokenizer
from apr.engine.checkpoint import load_model
from apr.policy import checkpoint
from apr.train.model import save_model

RECIPE = """
steps = 4
groups = 4
group_size = 4
numbers = [2, 2]
max_tokens = 120
tokens_per_batch = 2048
autocast = "none"
validate_every = 100
validation_problems = 4

[optimizer]
learning_rate = 3e-4
weight_decay = 0.0
betas = [0.9, 0.95]
decay_share = 0.0
warmup_steps = 1
"""


def save_noisy_model(directory: Path, noise: float = 0.27) -> Path:
    """Solves some four in ten of the two-number problems at temperature 1."""
    with ExitStack() as files:
        model = load_model(checkpoint(None, files))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = noise * parameter.std()
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    directory.mkdir(parents=True)
    save_model(model, Tokenizer(), directory)
    return directory
