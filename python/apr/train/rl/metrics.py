"""What a step of reinforcement learning did, as the plain numbers of a log line.

Alarms are warnings that a policy is about to collapse, in words.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from apr.task import Diagnoses, Grades, Task
from apr.threads.tree import ThreadTree
from apr.train.rl.groups import Group

_MEANS = ("reward", "solved", "children", "depth", "total_tokens", "sequential_tokens", "context", "truncated",
          "malformed", "limited")  # fmt: skip

_WRONG = {"wrong_results": "steps", "wrong_states": "states", "wrong_trials": "trials"}
"""Counts of a task's diagnosis that tell whether a policy forgets, and what they are a share of."""

_WATCHED = ("spawning", "entropy", "reward", "malformed", "truncated", *_WRONG)
"""What alarms compare with what was."""

_MEMORY = 10
"""Steps that what is usual is taken from."""
_RECENT = 3
"""Steps in a row that are no accident."""
_MARGIN = 3.0
"""Of a thousand, by which small numbers may rise: a step of a few rollouts has a few thousand lines."""


def records(task: Task[Any], groups: Sequence[Group]) -> list[dict[str, Any]]:
    """What counts of each rollout, plain values that processes may exchange."""
    found = []
    for group in groups:
        hardness = task.difficulty(group.drawn.problem) if isinstance(task, Grades) else None
        for tree, reward in zip(group.trees, group.rewards, strict=True):
            told = {"difficulty": hardness, "signal": group.signal, "reward": reward}
            wrong = {} if reward is None else _wrong(task, group.drawn.problem, tree)
            found.append({**told, **_record(tree), "wrong": wrong})
    return found


def _wrong(task: Task[Any], problem: Any, tree: ThreadTree) -> dict[str, float]:
    counts = task.diagnose(problem, tree) if isinstance(task, Diagnoses) else {}
    return {name: counts[name] for names in _WRONG.items() for name in names if name in counts}


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
            **{name: rate for name, of in _WRONG.items() if (rate := _per_1000(judged, name, of)) is not None},
            "tokens": sum(r["total_tokens"] for r in judged),
            "cached": sum(r["cached_tokens"] for r in judged) / max(1, sum(r["prompt_tokens"] for r in judged)),
        }
    )


def _per_1000(rollouts: Sequence[dict[str, Any]], name: str, of: str) -> float | None:
    """How many of a thousand are wrong; None if there are none."""
    count = sum(r["wrong"].get(of, 0) for r in rollouts)
    return 1000 * sum(r["wrong"].get(name, 0) for r in rollouts) / count if count else None


def credited(counts: Mapping[str, int]) -> dict[str, float]:
    """What judges said of a step's rollouts: shares of children by what they made of their parts, the share of choices
    that were good, and the number of wrong lines."""
    children = {name: counts[name] for name in ("found", "nothing", "missed", "false") if name in counts}
    shares = {name: count / sum(children.values()) for name, count in children.items()}
    if counts.get("choices"):
        shares["good_choices"] = counts["good_choices"] / counts["choices"]
    if "wrong_lines" in counts:
        shares["wrong_lines"] = float(counts["wrong_lines"])
    return shares


def timings(seconds: Mapping[str, float], begun: float, tokens: Mapping[str, int]) -> dict[str, Any]:
    """Where a step's time went, by phase, and how fast tokens went through those that have any. `begun` is by
    `time.monotonic`."""
    return {
        "seconds": {name: round(spent, 3) for name, spent in seconds.items()},
        "step_seconds": round(time.monotonic() - begun, 3),
        "tokens_per_second": {name: round(count / max(1e-3, seconds[name]), 1) for name, count in tokens.items()},
    }


class Alarms:
    """Compares each step with what was usual before it, and what is to stay as it was with the first steps."""

    def __init__(self) -> None:
        # By name, of the steps that tell it: one without signal tells no entropy.
        self._last: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_MEMORY + _RECENT))
        self._first: defaultdict[str, list[float]] = defaultdict(list)

    def look(self, metrics: dict[str, Any]) -> list[str]:
        """Warnings about this step; it then counts as past."""
        found = [text for text in self._warnings(metrics) if text]
        for name in _WATCHED:
            if name in metrics:
                self._last[name].append(metrics[name])
                if len(self._first[name]) < _MEMORY:
                    self._first[name].append(metrics[name])
        return found

    def _warnings(self, now: dict[str, Any]) -> list[str | None]:
        return [
            self._fell(now, "spawning", 0.25, "hardly any rollout spawns any more"),
            self._fell(now, "entropy", 0.2, "the policy has lost its entropy"),
            # A step of few problems may draw hard ones.
            self._fell(now, "reward", 0.5, "the reward has collapsed", steps=_RECENT),
            "more than half of the siblings are copies" if now.get("copies", 0.0) > 0.5 else None,
            "most rollouts spawn as many children as they may" if now.get("limited", 0.0) > 0.5 else None,
            self._rose(now, "malformed", 0.2, "spawn blocks are malformed"),
            self._rose(now, "truncated", 0.3, "threads run into their limits"),
            *(self._climbed(now, name) for name in _WRONG),
            "most rollouts had an engine failure" if now.get("failures", 0) > 0.5 * now.get("rollouts", 0) else None,
        ]

    def _climbed(self, now: dict[str, Any], name: str) -> str | None:
        """Well above the first steps for `_RECENT` steps in a row: what was taught is being lost."""
        first, late = self._first[name], [*self._last[name], *([now[name]] if name in now else [])][-_RECENT:]
        if len(first) < _MEMORY or min(late, default=0.0) <= 1.5 * fmean(first) + _MARGIN:
            return None
        return f"the policy forgets: {name} {fmean(late):.3g} a thousand, at first {fmean(first):.3g}"

    def _usual(self, name: str, *, before: int = 0) -> float | None:
        """The mean of what was told last, but for the latest `before`; None before there is enough of it."""
        values = list(self._last[name])[-_MEMORY - before :]
        return fmean(values[:_MEMORY]) if len(values) == _MEMORY + before else None

    def _fell(self, now: dict[str, Any], name: str, share: float, text: str, *, steps: int = 1) -> str | None:
        """To less than `share` of what is usual, for `steps` in a row."""
        usual = self._usual(name, before=steps - 1)
        if usual is None or name not in now:
            return None
        late = [*self._last[name], now[name]][-steps:]
        # A reward of somebody's own may be below zero.
        if max(late) >= usual - (1 - share) * abs(usual):
            return None
        return f"{text}: {name} {fmean(late):.3g}, usually {usual:.3g}"

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
