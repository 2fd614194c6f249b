"""Where a rollout ends at the latest, and how its requests are seeded: values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one rollout. A thread that meets one closes with the reason of its name, and keeps what it found; where
    it is a spawn that may not be, it ends with that, and has found nothing."""

    threads: int = 64
    """Threads of the rollout, the main thread included."""
    children: int | None = None
    """Children of one spawn; None: as many as `threads` allows."""
    rounds: int = 32
    """Spawns of one thread. Four numbers have 24 first steps at most: waves of one are within it."""
    depth: int = 1
    """Depth of the deepest thread; 0: no spawns."""
    tokens_per_thread: int | None = None
    """Longest sequence of a thread, prompt and join blocks included; None: the engine's context length."""
    total_tokens: int | None = None
    """Sampled tokens of all threads. A spawn shares what is left equally among the parent and its children,
    and what children leave returns at the join: never exceeded, and independent of scheduling."""
    seconds: float | None = None
    """Wall clock."""

    @property
    def fault(self) -> str | None:
        """Why they are no bounds; None if they are."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name not in _ALWAYS:
                continue
            if type(value) is not int or value < least:
                return f"limits: {name} is a whole number from {least} on, not {value!r:.40}"
        seconds = self.seconds
        if seconds is None or (isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds >= 0):
            return None
        return f"limits: seconds is a number from 0 on, not {seconds!r:.40}"


_ALWAYS = ("threads", "rounds", "depth")
_LEAST = {"threads": 1, "children": 0, "rounds": 0, "depth": 0, "tokens_per_thread": 0, "total_tokens": 0}


def request_seed(seed: int, thread: str, call: int) -> int:
    """The seed of one request: 63 bits that depend on nothing but these."""
    digest = blake2b(f"{seed}/{thread}/{call}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
