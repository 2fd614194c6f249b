"""What figures of a run are called, and what they are measured in. No terminal."""

from __future__ import annotations

from collections.abc import Mapping

_LABELS: Mapping[str, tuple[str, str]] = {
    "loss": ("loss", "nats a token"),
    "validation_loss": ("validation loss", "nats a token"),
    "validation_accuracy": ("validation: solved", "share"),
    "accuracy": ("solved by difficulty", "share"),
    "solved": ("solved", "share"),
    "spawning": ("spawns at all", "share of rollouts"),
    "copies": ("copies of siblings", "share of children"),
    "children": ("children", "a rollout"),
    "depth": ("depth", "levels"),
    "tokens": ("tokens", "a step"),
    "trained_tokens": ("tokens trained on", "a step"),
    "sampled_tokens": ("tokens sampled so far", ""),
    "total_tokens": ("tokens of all threads", "a rollout"),
    "context": ("longest context", "tokens"),
    "cached": ("cached", "share of prompt tokens"),
    "sequential_tokens": ("tokens in sequence", "a rollout"),
    "entropy": ("entropy", "nats a token"),
    "spawn_entropy": ("entropy at spawns", "nats"),
    "kl": ("KL to the start", "nats a token"),
    "clipped": ("clipped", "share of tokens"),
    "ratio": ("importance ratio", ""),
    "logprob_gap": ("engine-trainer gap", "nats a token"),
    "zero_signal": ("groups without signal", "share"),
    "truncated": ("truncated", "share of rollouts"),
    "malformed": ("unreadable spawns", "share of rollouts"),
    "limited": ("met a limit of spawns", "share of rollouts"),
    "wrong_results": ("wrong results", "of 1,000 steps"),
    "wrong_states": ("wrong states", "of 1,000 states"),
    "wrong_trials": ("wrong trials", "of 1,000 lines"),
    "credit": ("what judges said", "shares, and wrong lines"),
    "edge": ("groups with signal", "share, expected"),
    "correction": ("corrected lines", "nats a token"),
    "replay": ("lessons replayed", "nats a token"),
    "importance": ("engine-trainer weight", ""),
    "padding": ("padding", "share of positions"),
    "rollouts": ("rollouts", "a step"),
    "failures": ("engine failures", ""),
    "gradient_norm": ("gradient norm", ""),
    "rate": ("learning rate", "of the recipe's"),
    "learning_rate": ("learning rate", ""),
    "seconds": ("seconds", "a step"),
    "step_seconds": ("seconds of all", "a step"),
    "tokens_per_second": ("speed", "tokens/s"),
    "memory": ("memory", "MiB"),
}
"""Group of figures -> its name and its unit; empty: none."""
_SCALES = {"memory": 1 / 2**20}


def _named(group: str) -> tuple[str, str]:
    """A group's name and unit; a kind of held-out tokens is named by its task."""
    if group in _LABELS:
        return _LABELS[group]
    kind = group.removeprefix("validation_")
    words = kind.replace("_", " ")
    return (words, "") if kind == group else (f"validation: right {words}", "share")


def label(name: str) -> str:
    """A figure's or a group's name for people."""
    group, _, part = name.partition(".")
    known = _named(group)[0]
    return f"{known}: {part.replace('_', ' ')}" if part else known


def unit(name: str) -> str:
    """What it is measured in; empty: in nothing."""
    return _named(name.partition(".")[0])[1]


def scale(name: str) -> float:
    """What a logged value is multiplied with to be in that unit."""
    return _SCALES.get(name.partition(".")[0], 1.0)
