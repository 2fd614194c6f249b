"""One search on screen: what has come of it so far, and where more of it comes from."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from pathlib import Path

from apr.threads.lanes import moments
from apr_tui.feed import Solve
from apr_tui.log import RECENT, Batch, Library, LogFeed
from apr_tui.player import Player
from apr_tui.state import State, View, expect, fold_all, select_thread, show

Feed = Solve | LogFeed

_CLOSE = 1 / 250
"""Share of a rollout's time that nobody can see."""


class Track:
    """Takes events out of a feed and folds them; a player shows an earlier moment of a rollout. What it draws is
    `shown`."""

    def __init__(self, library: Library, feed: Feed | None = None) -> None:
        self.library = library
        """Finds rollouts that the state no longer holds."""
        self.feed = feed
        self.player: Player | None = None
        self.state = State()
        """All that has come."""
        self.capacity: int | None = None
        """Tokens that fit a thread, if known."""
        self.paused = False
        self.complaint: str | None = None
        """What went wrong, in one sentence."""
        self.unsaved: str | None = None
        """Why the log lacks the search on screen."""
        self.searched: str | None = None
        """The last rollout that was searched here: what was asked for is its answer, which stands at its end."""
        self._restarts = 0

    @classmethod
    def of_log(cls, path: Path, keep: int = RECENT) -> Track:
        """A log as it is and as it grows; of a long one, so many rollouts."""
        feed = LogFeed(path, keep)
        return cls(feed.library, feed)

    @property
    def shown(self) -> State:
        """What is to be seen: the moment of a replay, else all that has come."""
        return self.state if self.player is None else self.player.state

    @property
    def whole(self) -> View | None:
        """The rollout on screen as far as it is known."""
        return self.state.view if self.player is None else self.player.whole

    @property
    def searching(self) -> bool:
        """A rollout runs that can be stopped."""
        return isinstance(self.feed, Solve)

    @property
    def replaying(self) -> bool:
        """An earlier moment is shown than the last one there is."""
        return self.player is not None and not self.player.ended

    @property
    def moving(self) -> bool:
        """What is shown changes by itself, or would if it were not paused."""
        if self.player is not None:
            return self.replaying
        unfinished = self.state.view is not None and self.state.view.tree.finished is None
        return self.searching or (isinstance(self.feed, LogFeed) and unfinished)

    @property
    def loading(self) -> str | None:
        """What the search does before its first event, if one runs."""
        return self.feed.loading if isinstance(self.feed, Solve) else None

    def start(self, solve: Solve) -> None:
        """Show this search from now on."""
        self.feed, self.player, self.paused = solve, None, False
        self.complaint = self.unsaved = None
        self.state = expect(self.state)

    def tick(self, seconds: float) -> None:
        """Take in what has come while so many seconds passed."""
        if self.paused and self.player is None:
            return
        if self.player is not None and not self.paused:
            self.player.advance(seconds)
        match self.feed:
            case LogFeed() as feed:
                batch = feed.take()
                if feed.restarts != self._restarts:
                    self._restarts, self.state, self.player = feed.restarts, State(), None
                self.complaint = feed.complaint
                self.state = fold_all(self.state, batch)
            case Solve() as solve:
                batch = solve.take()
                self.state = fold_all(self.state, batch)
                if batch:
                    self.searched = batch[-1].rollout
                self.capacity, self.unsaved = solve.context, solve.unsaved
                if solve.ended:
                    self.feed, self.complaint = None, solve.failure

    def select(self, thread: str) -> None:
        self.state = select_thread(self.state, thread)
        if self.player is not None:
            self.player.select(thread)

    def step(self, by: int) -> None:
        """Show an earlier or a later rollout; from the log if the state has dropped it."""
        self.library.scan()
        there = self.library.neighbour(self.shown.rollout, by)
        if there is None:
            return
        last = there == next(reversed(self.library.starts))
        if there not in self.state.rollouts:
            self.state = fold_all(self.state, self._recorded(there))
        self.player, self.paused = None, False
        self.state = show(self.state, there, follow=last)

    def replay(self, speed: float = 1.0) -> None:
        """Play the rollout on screen from its start."""
        if self._open(speed):
            assert self.player is not None
            self.player.seek(0.0)
            self.paused = False

    def scrub(self, by: float) -> None:
        """Show the moment so many seconds later, or earlier, and stay there."""
        if (player := self._recording()) is not None:
            player.seek(player.now + by)

    def seek(self, seconds: float) -> None:
        """Show this moment, and stay there."""
        if (player := self._recording()) is not None:
            player.seek(seconds)

    def to_moment(self, by: int) -> None:
        """Show the last moment before this one, or the first after it, at which a thread opened, spawned, joined or
        closed."""
        player = self._recording()
        if player is None or player.whole is None:
            return
        times = moments(player.whole.lanes.values())
        # Children open one right after the other: what is as close as that is one moment.
        close = player.length * _CLOSE
        place = bisect_left(times, player.now - close) - 1 if by < 0 else bisect_right(times, player.now + close)
        if 0 <= place < len(times):
            player.seek(times[place])

    def _recording(self) -> Player | None:
        """A player that stays where it is set; None if there is nothing to play."""
        if self.player is None and not self._open(1.0):
            return None
        self.paused = True
        return self.player

    def live(self) -> None:
        """Show the end of what there is."""
        self.paused = False
        if self.player is not None and self.player.state.rollout in self.state.rollouts:
            self.state = show(self.state, str(self.player.state.rollout), follow=True)
            self.player = None
        elif self.player is not None:
            self.player.finish()

    def stop(self) -> None:
        """End the search that runs."""
        self.paused = False
        if isinstance(self.feed, Solve):
            self.feed.stop()

    @property
    def cancellable(self) -> bool:
        """The thread on screen is a child that runs."""
        if self.player is not None or not isinstance(self.feed, Solve) or self.state.view is None:
            return False
        thread = self.state.view.tree.threads.get(self.state.thread)
        return thread is not None and thread.parent is not None and thread.reason is None

    def cancel(self) -> None:
        """End the thread on screen and those below it; its parent goes on."""
        if isinstance(self.feed, Solve):
            self.feed.cancel(self.state.thread)

    def save(self, path: Path) -> int:
        """Write the rollout on screen to a log of its own; how many events it has. OSError if it cannot be."""
        self.library.scan()
        lines = self.library.lines(self.shown.rollout) if self.shown.rollout is not None else []
        if lines:
            path.write_bytes(b"".join(lines))
        return len(lines)

    def _open(self, speed: float) -> bool:
        """Have a player at the end of the rollout on screen; whether there is anything to play."""
        shown = self.shown
        self.library.scan()
        if shown.rollout is None or not (events := self._recorded(shown.rollout)):
            return False
        self.player = Player(events, speed)
        self.player.finish()
        self.player.select(shown.thread)
        return True

    def _recorded(self, rollout: str) -> Batch:
        try:
            return self.library.events(rollout)
        except (ValueError, OSError) as error:
            self.complaint = str(error)
            return ()
