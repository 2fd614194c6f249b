"""One search on screen: what has come of it so far, and where more of it comes from."""

from __future__ import annotations

from pathlib import Path

from apr_tui.feed import Solve
from apr_tui.log import Batch, Library, LogFeed, Player
from apr_tui.state import State, expect, fold_all, select_thread, show

Feed = Solve | LogFeed


class Track:
    """Takes events out of a feed, or of a player, and folds them. What it draws is `state`."""

    def __init__(self, library: Library, feed: Feed | None = None) -> None:
        self.library = library
        """Finds rollouts that the state no longer holds."""
        self.feed = feed
        self.player: Player | None = None
        self.state = State()
        self.capacity: int | None = None
        """Tokens that fit a thread, if known."""
        self.paused = False
        self.complaint: str | None = None
        """What went wrong, in one sentence."""
        self.unsaved: str | None = None
        """Why the log lacks the search on screen."""
        self._restarts = 0

    @classmethod
    def of_log(cls, path: Path) -> Track:
        """A log as it is and as it grows."""
        feed = LogFeed(path)
        return cls(feed.library, feed)

    @property
    def searching(self) -> bool:
        """A rollout runs that can be stopped."""
        return isinstance(self.feed, Solve)

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
        if self.paused:
            return
        if self.player is not None:
            self.state = fold_all(self.state, self.player.advance(seconds))
            return
        match self.feed:
            case LogFeed() as feed:
                batch = feed.take()
                if feed.restarts != self._restarts:
                    self._restarts, self.state = feed.restarts, State()
                self.complaint = feed.complaint
                self.state = fold_all(self.state, batch)
            case Solve() as solve:
                self.state = fold_all(self.state, solve.take())
                self.capacity, self.unsaved = solve.context, solve.unsaved
                if solve.ended:
                    self.feed, self.complaint = None, solve.failure

    def select(self, thread: str) -> None:
        self.state = select_thread(self.state, thread)

    def step(self, by: int) -> None:
        """Show an earlier or a later rollout; from the log if the state has dropped it."""
        self.library.scan()
        there = self.library.neighbour(self.state.rollout, by)
        if there is None:
            return
        last = there == next(reversed(self.library.starts))
        if there not in self.state.rollouts:
            self.state = fold_all(self.state, self._recorded(there))
        self.player = None
        self.state = show(self.state, there, follow=last)

    def replay(self, speed: float = 1.0) -> None:
        """Play the rollout on screen from its start."""
        self.library.scan()
        if self.state.rollout is not None and (events := self._recorded(self.state.rollout)):
            self.player, self.paused = Player(events, speed), False
            self.state = fold_all(self.state, self.player.advance(0.0))

    def stop(self) -> None:
        """End what runs: a search, or a replay, which shows its end."""
        self.paused = False
        if self.player is not None:
            self.state = fold_all(self.state, self.player.finish())
            self.player = None
        elif isinstance(self.feed, Solve):
            self.feed.stop()

    def save(self, path: Path) -> int:
        """Write the rollout on screen to a log of its own; how many events it has. OSError if it cannot be."""
        self.library.scan()
        lines = self.library.lines(self.state.rollout) if self.state.rollout is not None else []
        if lines:
            path.write_bytes(b"".join(lines))
        return len(lines)

    def _recorded(self, rollout: str) -> Batch:
        try:
            return self.library.events(rollout)
        except (ValueError, OSError) as error:
            self.complaint = str(error)
            return ()
