"""Interrupt and termination: they end a command at once, with the status that says so, but where it has said that it
can stop in good order."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from apr.train.stop import Stop


class Signals:
    """Handles both."""

    def __init__(self) -> None:
        self.came: int | None = None
        """The one that asked to stop."""
        self._stop: Stop | None = None

    @contextmanager
    def asking(self) -> Iterator[Stop]:
        """What a signal asks instead of ending the command."""
        self._stop = Stop()
        try:
            yield self._stop
        finally:
            self._stop = None

    def __call__(self, number: int, _: object) -> None:
        # A launcher that was interrupted sends SIGTERM after the terminal's SIGINT; a second Ctrl-C is impatient.
        if self._stop is None or (self.came is not None and number == signal.SIGINT):
            self._end(number)
        if self.came is None:
            self.came = number
            self._stop.ask()
            # Not by `print`, which may be what was interrupted; in a terminal behind the line that it has begun.
            os.write(2, b"\nstopping\n" if os.isatty(2) else b"stopping\n")

    def _end(self, number: int) -> NoReturn:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)


@contextmanager
def signals() -> Iterator[Signals]:
    """Both signals are handled in here, where this thread may do so."""
    handler = Signals()
    before: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handler)
    except ValueError:
        # Not the main thread: whoever started it sees to that.
        pass
    try:
        yield handler
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
