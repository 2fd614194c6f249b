"""A recorded rollout, shown as it happened: the first one of a log of events."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from apr.cli.common import UsageError
from apr.cli.screen import LiveScreen, Screen
from apr.events import Event, RolloutStarted, read_events


def replay(path: Path, screen: Screen) -> int:
    """Show a log, in a terminal at its own pace; the status its rollout had."""
    events = _first_rollout(path)
    interrupted = False
    try:
        asyncio.run(_play(events, screen, paced=isinstance(screen, LiveScreen)))
    except KeyboardInterrupt:
        interrupted = True
    screen.finish(interrupted=interrupted)
    return 0 if screen.tree.solved else 130 if interrupted else 1


def _first_rollout(path: Path) -> list[Event]:
    try:
        events = list(read_events(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot replay {path}: {error}") from None
    if not events or not isinstance(events[0], RolloutStarted):
        raise UsageError(f"cannot replay {path}: it does not begin with the start of a rollout")
    return [event for event in events if event.rollout == events[0].rollout]


async def _play(events: list[Event], screen: Screen, *, paced: bool) -> None:
    painter = asyncio.create_task(screen.animate())
    begin = time.monotonic()
    try:
        for event in events:
            ahead = event.time - (time.monotonic() - begin)
            if paced and ahead > 0:
                await asyncio.sleep(ahead)
            try:
                screen.apply(event)
            except (ValueError, LookupError) as error:
                raise UsageError(f"the log is not of one whole rollout: {error}") from None
    finally:
        painter.cancel()
        await asyncio.gather(painter, return_exceptions=True)
