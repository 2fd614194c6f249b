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


def request_seed(seed: int, thread: str, call: int) -> int:
    """The seed of one request: 63 bits that depend on nothing but these."""
    digest = blake2b(f"{seed}/{thread}/{call}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
