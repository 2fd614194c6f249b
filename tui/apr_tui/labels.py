"""What figures of a run are called, and what they are measured in. No terminal."""

from __future__ import annotations

from collections.abc import Mapping

_LABELS: Mapping[str, tuple[str, str]] = {
    "loss": ("loss", "nats a token"),
    "validation_loss": ("validation loss", "nats a token"),
    "validation_results": ("validation: right results", "share"),
    "validation_accuracy": ("validation: solved", "share"),
    "accuracy": ("solved", "share"),
    "children": ("children", "a rollout"),
    "depth": ("depth", "levels"),
    "tokens": ("tokens", "a step"),
    "sequential_tokens": ("tokens in sequence", "a rollout"),
    "entropy": ("entropy", "nats a token"),
    "spawn_entropy": ("entropy at spawns", "nats"),
    "kl": ("KL to the start", "nats a token"),
    "clipped": ("clipped", "share of tokens"),
    "ratio": ("importance ratio", ""),
    "logprob_gap": ("engine-trainer gap", "nats a token"),
    "zero_signal": ("groups without signal", "share"),
    "truncated": ("truncated", "share of rollouts"),
    "failures": ("engine failures", ""),
    "gradient_norm": ("gradient norm", ""),
    "rate": ("learning rate", "of the recipe's"),
    "seconds": ("seconds", "a step"),
    "step_seconds": ("seconds of all", "a step"),
    "tokens_per_second": ("speed", "tokens/s"),
    "memory": ("memory", "MiB"),
}
"""Group of figures -> its name and its unit; empty: none."""
_SCALES = {"memory": 1 / 2**20}


def label(name: str) -> str:
    """A figure's or a group's name for people."""
    group, _, part = name.partition(".")
    known = _LABELS.get(group, (group.replace("_", " "), ""))[0]
    return f"{known}: {part.replace('_', ' ')}" if part else known


def unit(name: str) -> str:
    """What it is measured in; empty: in nothing."""
    return _LABELS.get(name.partition(".")[0], ("", ""))[1]


def scale(name: str) -> float:
    """What a logged value is multiplied with to be in that unit."""
    return _SCALES.get(name.partition(".")[0], 1.0)
