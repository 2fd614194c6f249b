"""What a finished rollout is worth, no torch."""

from __future__ import annotations

from collections.abc import Callable

from apr.plugins import find
from apr.threads.tree import ThreadTree
from apr.train.recipes import Costs

Reward = Callable[[ThreadTree, Costs], float | None]
"""What a finished rollout is worth; None: nothing can be said of it, as where the engine failed."""


def outcome(tree: ThreadTree, costs: Costs) -> float | None:
    """The judge's score of the main thread's answer, less the costs, and never below 0: of two that are as good, the
    cheaper is worth more. None if the engine failed."""
    if tree.failed or tree.correct is None:
        return None
    score = tree.score
    if not score:
        return 0.0
    cost = (
        costs.per_1000_tokens * tree.total_tokens / 1000
        + costs.per_thread * tree.children
        + costs.per_second * (tree.latency or 0.0)
    )
    return max(0.0, score - cost)


def load_reward(name: str | None) -> Reward:
    """The reward of a name of the entry-point group `apr.rewards`, or of `module:attribute`; None: the outcome.
    ValueError if there is none."""
    found: Reward = outcome if name is None else find("apr.rewards", name)
    return found
