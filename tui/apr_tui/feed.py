"""The rollout that runs on a problem in the caller's loop. Nothing here knows of a terminal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from apr.threads.events import Event, EventLog
from apr.types import SamplingParams
from apr_tui.log import Batch
from apr_tui.settings import Models, Settings


class Refused(Exception):
    """Input that cannot be used: one sentence for people."""


class Solve:
    """One rollout in this loop; its events go to a log and to whoever takes them."""

    def __init__(self, models: Models, problem: Any, settings: Settings, log: EventLog) -> None:
        self.context: int | None = None
        """Tokens that fit a thread, once the model is loaded."""
        self.unsaved: str | None = None
        """Why its events are no longer logged."""
        self._models, self._problem, self._settings, self._log = models, problem, settings, log
        self._fresh: list[Event] = []
        self._cancel: Callable[[str], bool] | None = None
        self._begun = time.monotonic()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        settings = self._settings
        policy = await self._models.policy(settings)
        self.context = policy.engine.context_length
        await policy.rollout(
            self._problem,
            self._models.limits,
            params=SamplingParams(temperature=settings.temperature, seed=settings.seed),
            budget=settings.budget,
            join=settings.join,
            emit=self._emit,
            started=self._started,
        )

    def _started(self, cancel: Callable[[str], bool]) -> None:
        self._cancel = cancel

    def _emit(self, event: Event) -> None:
        # A full disk ends the log, not the search. A log with a hole could not be folded.
        if self.unsaved is None:
            try:
                self._log.append(event)
            except OSError as error:
                self.unsaved = error.strerror or str(error)
        self._fresh.append(event)

    def take(self) -> Batch:
        """The events that have come since."""
        batch = tuple(self._fresh)
        self._fresh.clear()
        return batch

    @property
    def loading(self) -> str:
        """What it does before its first event, and for how long already."""
        what, said = "loading the model", self._models.heard
        if self._settings.engine == "sglang":
            what = "starting SGLang, which takes a minute or two"
        return f"{what}: {time.monotonic() - self._begun:.0f} s{f' · {said}' if said else ''}"

    @property
    def ended(self) -> bool:
        """Nothing is left to take and nothing will come."""
        return self._task.done() and not self._fresh

    @property
    def failure(self) -> str | None:
        """What kept it from coming to its end, in one line."""
        if not self._task.done() or self._task.cancelled() or (error := self._task.exception()) is None:
            return None
        return next(iter(str(error).splitlines()), type(error).__name__)

    def stop(self) -> None:
        """End it soon; its last events still tell how."""
        # Cancelled twice, a rollout would not come to tell its end.
        if not self._task.cancelling():
            self._task.cancel()

    def cancel(self, thread: str) -> None:
        """End a thread that is not the main one, and all below it, soon."""
        if self._cancel is not None:
            self._cancel(thread)

    async def wait(self) -> None:
        """Until it has ended."""
        await asyncio.wait({self._task})
