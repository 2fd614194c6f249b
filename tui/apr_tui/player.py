"""A recorded rollout on a clock that can run at any speed, and be set to any moment of it."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from apr_tui.log import Batch
from apr_tui.state import State, View, fold_all, select_thread

_SNAPSHOTS = 64
"""States kept on the way through a rollout, at most: setting the clock back begins at the one before."""
_APART = 256
"""Events from one of them to the next, at least."""


class Player:
    """The rollout of some events, at the moment `now`."""

    SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)

    def __init__(self, events: Batch, speed: float = 1.0) -> None:
        self.speed = speed
        self.now = 0.0
        """Seconds of the rollout that have passed."""
        self._events = events
        # A log may come from anywhere: its clock may be set back.
        self._times = list(accumulate((event.time for event in events), max))
        self._apart = max(_APART, -(-len(events) // _SNAPSHOTS))
        self._snapshots = [State()]
        for begin in range(0, len(events), self._apart):
            self._snapshots.append(fold_all(self._snapshots[-1], events[begin : begin + self._apart]))
        self._thread: str | None = None
        self._place = 0
        self.state = State()
        """What was to be seen then."""
        self._go()

    @property
    def whole(self) -> View | None:
        """The rollout as it became."""
        return self._snapshots[-1].view

    @property
    def length(self) -> float:
        """Seconds from the first event to the last."""
        return self._times[-1] if self._times else 0.0

    @property
    def ended(self) -> bool:
        return self._place == len(self._events)

    def advance(self, seconds: float) -> None:
        """Let so many seconds of a watch pass."""
        if not self.ended:
            self.now = min(self.length, self.now + seconds * self.speed)
            self._go()

    def seek(self, now: float) -> None:
        """Go to this moment, as far as it is one of the rollout's."""
        self.now = max(0.0, min(self.length, now))
        self._go()

    def finish(self) -> None:
        self.seek(self.length)

    def select(self, thread: str) -> None:
        """Show this thread from now on, wherever it is there."""
        self._thread = thread
        self.state = select_thread(self.state, thread)

    def faster(self, by: int) -> None:
        """So many speeds up or down, as far as there are any."""
        here = min(range(len(self.SPEEDS)), key=lambda i: abs(self.SPEEDS[i] - self.speed))
        self.speed = self.SPEEDS[max(0, min(len(self.SPEEDS) - 1, here + by))]

    def _go(self) -> None:
        before, self._place = self._place, bisect_right(self._times, self.now)
        kept = self._place // self._apart
        if self._place < before or kept > before // self._apart:
            before = min(kept * self._apart, len(self._events))
            self.state = self._snapshots[kept]
        self.state = fold_all(self.state, self._events[before : self._place])
        if self._thread is not None:
            self.state = select_thread(self.state, self._thread)
