"""Whose turn it is: a bounded queue in which clients take turns, however much one of them asks for.

`_waiting` holds the clients who wait, the one whose last turn is longest ago first. Of them the one with the fewest
rollouts under way is next. All changes happen between two awaits, so what is checked still holds when it is done.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable


class Full(Exception):
    """No more may wait."""


class Place:
    """One rollout's place, first in the queue, then among those that run."""

    def __init__(self, client: Hashable) -> None:
        self.client = client
        self.turn = asyncio.Event()
        """Set when it may run."""


class Turns:
    """Places for `running` rollouts at once and `waiting` more, and `newcomers` for clients who have none."""

    def __init__(self, running: int, waiting: int, newcomers: int) -> None:
        self._running, self._limit, self._newcomers = running, running + waiting, newcomers
        self._waiting: dict[Hashable, deque[Place]] = {}
        self._under_way: Counter[Hashable] = Counter()
        self._places: set[Place] = set()

    def join(self, client: Hashable, count: int) -> list[Place]:
        """Places for so many rollouts of a client. `Full` if there are not as many."""
        known = client in self._waiting or client in self._under_way
        extra = 0 if known or count > 1 else self._newcomers
        if len(self._places) + count > self._limit + extra:
            raise Full
        places = [Place(client) for _ in range(count)]
        self._places.update(places)
        self._waiting.setdefault(client, deque()).extend(places)
        self._give()
        return places

    def leave(self, place: Place) -> None:
        """The rollout has ended, or will never begin."""
        self._places.remove(place)
        if place.turn.is_set():
            self._under_way[place.client] -= 1
            if not self._under_way[place.client]:
                del self._under_way[place.client]
            self._give()
            return
        queue = self._waiting[place.client]
        queue.remove(place)
        if not queue:
            del self._waiting[place.client]

    def _give(self) -> None:
        while self._waiting:
            client = min(self._waiting, key=self._under_way.__getitem__)
            extra = self._newcomers if client not in self._under_way else 0
            if self._under_way.total() >= self._running + extra:
                return
            queue = self._waiting.pop(client)
            queue.popleft().turn.set()
            self._under_way[client] += 1
            if queue:
                self._waiting[client] = queue
