"""Rollouts of a log, each folded: its tree, and what its threads did when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from apr.threads.events import Event, RolloutStarted
from apr.threads.lanes import Lane, follow
from apr.threads.tree import ThreadTree


@dataclass(slots=True)
class Recorded:
    """One rollout as far as it is known."""

    tree: ThreadTree = field(default_factory=ThreadTree)
    lanes: dict[str, Lane] = field(default_factory=dict)
    """By thread."""
    seconds: float = 0.0
    """Time of its last event."""

    def take(self, event: Event) -> None:
        """One more event. ValueError if it cannot follow those before."""
        self.tree.apply(event)
        follow(self.lanes, event)
        self.seconds = event.time


def rollouts(events: Iterable[Event]) -> list[Recorded]:
    """All of them, in order of starting; one that starts again takes the place of what it was. ValueError for events
    that cannot follow one another."""
    found: dict[str, Recorded] = {}
    for event in events:
        if isinstance(event, RolloutStarted) or event.rollout not in found:
            found[event.rollout] = Recorded()
        found[event.rollout].take(event)
    return list(found.values())
