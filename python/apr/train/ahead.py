"""Lessons of the next step, made by a process of their own while this one trains, no torch.

A step on a GPU takes no longer than its lessons take to be made. They come in the same order, and one step ahead: the
process waits in its pipe until a step is taken.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from apr.train.data import SftData, Step
from apr.train.recipes import SftConfig

_PATIENCE_S = 10.0


class Ahead:
    """An iterator over a run's steps. It has to be closed."""

    def __init__(
        self, config: SftConfig, start: Path | None, position: int, first: int, rank: int, count: int, width: int
    ) -> None:
        """As `SftData(config, start).steps`, from the lesson at `position` on. Scripts that train so need
        `if __name__ == "__main__":`, since the process is a new one, not a copy that holds this one's GPU."""
        spawn = multiprocessing.get_context("spawn")
        self._link, theirs = spawn.Pipe(duplex=False)
        work = (theirs, config, start, position, first, rank, count, width)
        self._process = spawn.Process(target=_work, args=work, name="lessons", daemon=True)
        # A signal to all of a terminal's or a job's processes is for the trainer, which still has to save.
        with _blocked():
            self._process.start()
        theirs.close()
        # Before multiprocessing asks it to end by a signal.
        atexit.register(self.close)

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        """The next step. What went wrong in making it is raised here; ChildProcessError if its process is gone."""
        try:
            found: Step | Exception | None = self._link.recv()
        except (EOFError, OSError):
            self._process.join(_PATIENCE_S)
            code = self._process.exitcode
            raise ChildProcessError(f"the process that makes lessons has ended (exit code {code})") from None
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise StopIteration
        return found

    def close(self) -> None:
        """End the process; what it has made ahead is lost, and is made again by whoever begins at that step."""
        atexit.unregister(self.close)
        self._link.close()
        self._process.join(_PATIENCE_S)
        self._process.kill()


def _work(
    link: Connection,
    config: SftConfig,
    start: Path | None,
    position: int,
    first: int,
    rank: int,
    count: int,
    width: int,
) -> None:
    try:
        data = SftData(config, start)
        data.position = position
        for step in data.steps(first, rank, count, width):
            link.send(step)
        link.send(None)
    except BrokenPipeError:
        # Whoever closes the other end wants no more.
        return
    except Exception as error:
        link.send(error)


@contextmanager
def _blocked() -> Iterator[None]:
    """What is started meanwhile hears no interrupt and no request to end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
