"""A step of reinforcement learning: tokens a second of each phase, what sharing trunks saves, how long it idles."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.engine import load_engine
from apr.policy import checkpoint
from apr.train.recipes import RlConfig, recipe_text, rl_recipe
from apr.train.rl.trainer import GrpoTrainer
from apr.train.run import RunDirectory
from benchmarks.measure import Result

GROUPS, SIZE = 4, 4


def rl(rounds: int) -> list[Result]:
    """The recipe `tiny` on the shipped model, with fewer rollouts; medians of `rounds` steps after the first."""

    def config(**changes: Any) -> RlConfig:
        small = {"groups": GROUPS, "group_size": SIZE, "validate_every": 1000, "validation_problems": 1}
        # With a KL term all rollouts are computed, those of no advantage too.
        return rl_recipe(recipe_text("tiny", "rl"), "apr", steps=rounds + 1, **small, loss={"kl": 0.01}, **changes)

    shared, apart = _steps(config()), _steps(config(share_trunks=False))
    overlapped = _steps(config(overlap=True))

    def seconds(steps: list[dict[str, Any]], name: str) -> float:
        return median(step["seconds"].get(name, 0.0) for step in steps)

    def whole(steps: list[dict[str, Any]]) -> float:
        return median(step["step_seconds"] for step in steps)

    def waiting(steps: list[dict[str, Any]]) -> float:
        return 100 * seconds(steps, "wait") / whole(steps)

    def rate(name: str, trained: bool = True) -> float:
        tokens = (step["trained_tokens"] if trained else step["tokens"] for step in shared)
        return median(count / max(1e-9, step["seconds"][name]) for count, step in zip(tokens, shared, strict=True))

    def result(what: str, value: float, unit: str, target: float, at_least: bool, detail: str = "") -> Result:
        return Result("rl", f"RL: {what}", value, unit, target, at_least, detail)

    padding = 100 * median(step["padding"] for step in shared)
    saved = seconds(apart, "train") / seconds(shared, "train")
    fewer = 100 * (1 - median(s["trained_tokens"] for s in shared) / median(s["trained_tokens"] for s in apart))
    gained, still = whole(shared) / whole(overlapped), f"{waiting(overlapped):.0f} % of it still waiting"
    return [
        result("sampled", rate("generate", trained=False), "/s", 0, True, "tokens a second"),
        result("scored, policy and reference", rate("score"), "/s", 0, True, "tokens a second"),
        result("trained", rate("train"), "/s", 0, True, "tokens a second"),
        result("padding", padding, "%", 10, False),
        result("sharing trunks, time of training", saved, "x", 1, True, f"{fewer:.0f} % fewer tokens"),
        result("share of a step that the trainer waits for rollouts", waiting(shared), "%", 100, False),
        result("overlapping steps, time of a step", gained, "x", 1, True, still),
    ]


def _steps(config: RlConfig) -> list[dict[str, Any]]:
    """The log of a run, but for the first step, which warms up."""
    with ExitStack() as stack:
        start = checkpoint(None, stack)
        run = RunDirectory(stack.enter_context(TemporaryDirectory()))
        run.create("")
        trainer = GrpoTrainer(
            config, run, Countdown("apr"), Traces("apr"),
            lambda model, directory: load_engine("native", directory, cache_dtype="float32"), start_from=start,
        )  # fmt: skip
        lines: list[dict[str, Any]] = []
        stack.callback(trainer.close)
        trainer.train(lines.append)
        return lines[1:]
