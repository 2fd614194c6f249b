"""A recorded rollout, shown as it happened: the first one of a log of events."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from apr.arguments import UsageError, in_words
from apr.cli.screen import LiveScreen, Screen
from apr.shown import Shown
from apr.task import Shows
from apr.threads.events import Event, RolloutFinished, RolloutStarted, read_events
from apr.threads.tree import ThreadTree


def replay(path: Path, screen: Screen) -> int:
    """Show a log, in a terminal at its own pace; the status its rollout had."""
    events = _first_rollout(path)
    interrupted = False
    try:
        asyncio.run(_play(events, screen, paced=isinstance(screen, LiveScreen)))
    except KeyboardInterrupt:
        interrupted = True
    screen.finish(interrupted=interrupted)
    return 0 if screen.tree.solved or screen.tree.unjudged else 130 if interrupted else 1


def _first_rollout(path: Path) -> list[Event]:
    """Its events. UsageError if they make no tree that can be shown."""
    events: list[Event] = []
    tree = ThreadTree()
    try:
        for event in read_events(path):
            if not events and not isinstance(event, RolloutStarted):
                break
            if not events or event.rollout == events[0].rollout:
                tree.apply(event)
                events.append(event)
            if isinstance(event, RolloutFinished) and event.rollout == events[0].rollout:
                break
    except OSError as error:
        raise UsageError(f"cannot replay {in_words(error)}") from None
    except ValueError as error:
        raise UsageError(f"cannot replay {path}: {error}") from None
    if not events:
        raise UsageError(f"cannot replay {path}: it does not begin with the start of a rollout")
    _check(path, tree)
    return events


def _check(path: Path, tree: ThreadTree) -> None:
    """UsageError if the task of the rollout can read no problem in it, or no solution in what is said to be one."""
    assert tree.started is not None
    shown = Shown.of(tree.started)
    fault = shown.fault
    if fault is None and tree.solved and isinstance(shown.task, Shows) and shown.answer(tree.steps) is None:
        fault = "its steps come to no solution"
    if fault is not None:
        raise UsageError(f"cannot replay {path}: it tells of no problem and its search: {fault}")


async def _play(events: list[Event], screen: Screen, *, paced: bool) -> None:
    painter = asyncio.create_task(screen.animate())
    begin = time.monotonic()
    try:
        for event in events:
            ahead = event.time - (time.monotonic() - begin)
            if paced and ahead > 0:
                await asyncio.sleep(ahead)
            screen.apply(event)
    finally:
        painter.cancel()
        await asyncio.gather(painter, return_exceptions=True)
