"""Waiting for a screen that is driven without a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

_PATIENCE_S = 120.0
"""A bound for what never comes; a busy machine takes its time."""


async def until(pilot: object, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        await pilot.pause(0.02)  # type: ignore[attr-defined]
        if holds():
            return
    raise AssertionError("it never came to hold")
