"""What a rollout is worth: a right answer, and the more of it the fewer threads it took."""

from __future__ import annotations

from apr.threads.tree import ThreadTree
from apr.train.recipes import Costs


def sparing(tree: ThreadTree, costs: Costs) -> float | None:
    if tree.failed or tree.score is None:
        return None
    return tree.score / len(tree.threads)
