"""What clients may take of a thread server: values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field

from apr.limits import Limits


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """Bounds of a server, for all clients together where nothing else is said."""

    rollout: Limits = field(default_factory=lambda: Limits(seconds=300.0))
    body_bytes: int = 1 << 16
    running: int = 64
    """Rollouts at once; more wait."""
    waiting: int = 256
    """Rollouts that may wait; more are refused with 429."""
    newcomers: int = 8
    """Places beside those for clients who have none yet: nobody waits for the end of another's long requests."""
    connections: int = 800
    """Open connections; fewer than the files that a process may commonly have open."""
    head_seconds: float = 10.0
    """How long a connection may take to send a request's head."""
    body_seconds: float = 10.0
    """How long a request's body may take to come."""
    unread_seconds: float = 60.0
    """How long a client may leave what it is sent unread."""
