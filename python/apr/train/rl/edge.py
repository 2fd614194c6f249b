"""Problems near the edge of what a policy can do: of their kind some rollouts are solved and some are not.

What is kept of a kind is how many groups it had of late and how many of them were split, rather than how many rollouts
were solved: where half of a kind's problems are solved every time and half never, half of its rollouts are right, and
none of its groups teaches anything. An `Edge` is a value; what it holds after a step depends on the step's groups
alone, and whether a problem is taken on it, the run's seed and the problem's place in the stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from apr.limits import request_seed

_KEPT = 0.95
"""What is left after a step of what was known before it: a policy moves."""
_LEAST = 0.05
"""The least chance of a problem, so that every kind is tried now and then."""

Tried = tuple[str, bool]
"""The kind of a group's problem, and whether the group was split."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What is known of the kinds so far."""

    power: float
    """How strongly it counts, as in a recipe; 0: not at all."""
    kinds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By kind, its groups and how many of them were split, earlier ones counting less."""

    def after(self, groups: Iterable[Tried]) -> Edge:
        """What is known after a step with these groups, in any order."""
        seen = Counter(groups)
        names = sorted({*self.kinds, *(kind for kind, _ in seen)})

        def now(kind: str) -> tuple[float, float]:
            before, split = self.kinds.get(kind, (0.0, 0.0))
            new = seen[kind, True]
            return _KEPT * before + new + seen[kind, False], _KEPT * split + new

        return Edge(self.power, {kind: now(kind) for kind in names})

    def share(self, kind: str) -> float:
        """Share of a kind's groups that are split; a half, as long as there are none."""
        groups, split = self.kinds.get(kind, (0.0, 0.0))
        return (split + 1) / (groups + 2)

    def chance(self, kind: str) -> float:
        """That a problem of this kind is taken."""
        best = max((self.share(known) for known in self.kinds), default=0.0)
        return 1.0 if self.share(kind) >= best else float(max(_LEAST, (self.share(kind) / best) ** self.power))

    def takes(self, kind: str, seed: int, index: int) -> bool:
        """Whether problem `index` of a run's stream is taken."""
        return request_seed(seed, "edge", index) < self.chance(kind) * 2.0**63
