"""Waiting for a screen that is driven without a terminal."""

from __future__ import annotations

from collections.abc import Callable


async def until(pilot: object, holds: Callable[[], bool]) -> None:
    for _ in range(200):
        await pilot.pause(0.02)  # type: ignore[attr-defined]
        if holds():
            return
    raise AssertionError("it never came to hold")
