"""What a step of reinforcement learning did, as the plain numbers of a log line: pure functions of its groups.

Alarms are warnings that a policy is about to collapse, in words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from apr.task import Grades, Task
from apr.threads.tree import ThreadTree
from apr.train.rl.groups import Group

_MEANS = ("reward", "solved", "children", "depth", "total_tokens", "sequential_tokens", "context", "truncated",
          "malformed", "limited")  # fmt: skip

_MEMORY = 10
"""Steps that what is usual is taken from."""


def records(task: Task[Any], groups: Sequence[Group]) -> list[dict[str, Any]]:
    """What counts of each rollout, plain values that processes may exchange."""
    found = []
    for group in groups:
        hardness = task.difficulty(group.drawn.problem) if isinstance(task, Grades) else None
        for tree, reward in zip(group.trees, group.rewards, strict=True):
            found.append({"difficulty": hardness, "signal": group.signal, "reward": reward, **_record(tree)})
    return found


def _record(tree: ThreadTree) -> dict[str, Any]:
    reasons = {thread.reason for thread in tree.threads.values()}
    return {
        "solved": bool(tree.correct),
        "children": tree.children,
        "depth": tree.depth,
        "copies": _copies(tree),
        "total_tokens": tree.total_tokens,
        "sequential_tokens": tree.sequential_tokens,
        "context": tree.longest_context,
        "prompt_tokens": tree.prompt_tokens,
        "cached_tokens": tree.cached_tokens,
        "truncated": bool(reasons & {"length", "limit_tokens"}),
        "malformed": "malformed_spawn" in reasons,
        "limited": bool(reasons & {"limit_threads", "limit_children", "limit_rounds"}),
    }


def summarise(rollouts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over all judged rollouts of a step; failures are counted apart."""
    judged = [r for r in rollouts if r["reward"] is not None]
    metrics: dict[str, Any] = {
        "rollouts": len(rollouts),
        "failures": len(rollouts) - len(judged),
        "zero_signal": _mean([not r["signal"] for r in rollouts]),
    }
    if not judged:
        return metrics
    spawning = [r for r in judged if r["children"]]
    solved: dict[str, list[bool]] = {}
    for r in judged:
        if r["difficulty"] is not None:
            solved.setdefault(r["difficulty"], []).append(r["solved"])
    return (
        metrics
        | {name: _mean([r[name] for r in judged]) for name in _MEANS}
        | {
            "accuracy": {name: _mean(of) for name, of in sorted(solved.items())},
            "spawning": len(spawning) / len(judged),
            "copies": _mean([r["copies"] for r in spawning]),
            "tokens": sum(r["total_tokens"] for r in judged),
            "cached": sum(r["cached_tokens"] for r in judged) / max(1, sum(r["prompt_tokens"] for r in judged)),
        }
    )


class Alarms:
    """Compares each step with what was usual before it."""

    def __init__(self) -> None:
        self._steps: deque[dict[str, Any]] = deque(maxlen=_MEMORY)

    def look(self, metrics: dict[str, Any]) -> list[str]:
        """Warnings about this step; it then counts as past."""
        found = [text for text in self._warnings(metrics) if text]
        self._steps.append(metrics)
        return found

    def _warnings(self, now: dict[str, Any]) -> list[str | None]:
        return [
            self._fell(now, "spawning", 0.25, "hardly any rollout spawns any more"),
            self._fell(now, "entropy", 0.2, "the policy has lost its entropy"),
            self._fell(now, "reward", 0.5, "the reward has collapsed"),
            "more than half of the siblings are copies" if now.get("copies", 0.0) > 0.5 else None,
            "most rollouts spawn as many children as they may" if now.get("limited", 0.0) > 0.5 else None,
            self._rose(now, "malformed", 0.2, "spawn blocks are malformed"),
            self._rose(now, "truncated", 0.3, "threads run into their limits"),
            "most rollouts had an engine failure" if now.get("failures", 0) > 0.5 * now.get("rollouts", 0) else None,
        ]

    def _usual(self, name: str) -> float | None:
        values = [step[name] for step in self._steps if name in step]
        return fmean(values) if len(values) == _MEMORY else None

    def _fell(self, now: dict[str, Any], name: str, share: float, text: str) -> str | None:
        usual = self._usual(name)
        if usual is None or name not in now or now[name] >= share * usual:
            return None
        return f"{text}: {name} {now[name]:.3g}, usually {usual:.3g}"

    def _rose(self, now: dict[str, Any], name: str, by: float, text: str) -> str | None:
        usual = self._usual(name)
        if usual is None or name not in now or now[name] <= usual + by:
            return None
        return f"{text}: {name} {now[name]:.3g}, usually {usual:.3g}"


def _copies(tree: ThreadTree) -> float:
    """Share of the children that have the prompt of an earlier sibling; 0 without any."""
    seen: set[tuple[str | None, str]] = set()
    copies = 0
    children = [thread for thread in tree.threads.values() if thread.parent is not None]
    for child in children:
        key = child.parent, child.prompt_text
        copies += key in seen
        seen.add(key)
    return copies / max(1, len(children))


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
