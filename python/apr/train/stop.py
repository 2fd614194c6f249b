"""A wish to stop, which a signal may bring: whoever waits is woken, and whoever works ends where nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Stop:
    """Asked for once, from any thread or signal handler; it takes no lock."""

    def __init__(self) -> None:
        self.asked = False
        self._wake: list[Callable[[], object]] = []

    def ask(self) -> None:
        """Have what runs under `attempt` cancelled, and all that comes later."""
        self.asked = True
        for wake in tuple(self._wake):
            # A loop that has ended meanwhile waits for nothing.
            with suppress(RuntimeError):
                wake()

    @contextmanager
    def inner(self) -> Iterator[Stop]:
        """One that is asked when this is, and in any case in the end."""
        own = Stop()
        self._wake.append(own.ask)
        try:
            if self.asked:
                own.ask()
            yield own
        finally:
            own.ask()
            self._wake.remove(own.ask)

    async def attempt(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What the work comes to; None if it is cancelled, since this was asked."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)

        def wake() -> None:
            loop.call_soon_threadsafe(task.cancel)

        self._wake.append(wake)
        try:
            if self.asked:
                task.cancel()
            return await task
        except asyncio.CancelledError:
            if self.asked:
                return None
            raise
        finally:
            self._wake.remove(wake)
