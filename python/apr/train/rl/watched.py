"""What the tokens of one group were worth, for whoever looks at a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from apr.files import write_atomically
from apr.task import Task
from apr.threads.tree import Thread
from apr.train.rl.groups import Group
from apr.train.rl.packs import Row


def write_group(path: Path, task: Task[Any], group: Group, rows: Sequence[Row], before: Mapping[int, Tensor]) -> None:
    """Write a group of rollouts; `rows` are its own, `before` has by their identity the log-probabilities of their loss
    tokens."""
    rollouts = []
    for member, (tree, reward) in enumerate(zip(group.trees, group.rewards, strict=True)):
        own = [row for row in rows if row.rollout.member == member]
        threads = {thread.id: _thread(thread, own, before) for thread in tree.threads.values()}
        advantage = own[0].rollout.advantage if own else 0.0
        told = {"reward": reward, "advantage": advantage, "threads": threads}
        rollouts.append({"rollout": tree.started.rollout if tree.started else "", **told})
    problem = task.to_json(group.drawn.problem)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps({"problem": problem, "rollouts": rollouts}, separators=(",", ":")))


def _thread(thread: Thread, rows: Sequence[Row], before: Mapping[int, Tensor]) -> dict[str, Any]:
    own = [row for row in rows if row.sample.thread == thread.id]
    return {
        "tokens": [token for call in thread.calls for token in call.sampled],
        "logprobs": [logprob for call in thread.calls for logprob in call.logprobs],
        "trainer": [p for row in own for p in before[id(row)].tolist()],
        "advantages": [advantage for row in own for advantage in row.advantages],
    }
