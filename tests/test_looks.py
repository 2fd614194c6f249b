"""The screens as pictures, in their colours: with APR_WRITE_GOLDEN set, they are written anew, to be looked at."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("textual")

from textual.widgets import Input

from apr.train.run import RunDirectory
from apr_tui.app import AprApp
from apr_tui.browser import RolloutList
from apr_tui.commands import demo_app
from apr_tui.curves import Chart
from apr_tui.monitor import MonitorScreen
from apr_tui.search import SearchScreen
from apr_tui.threads import ThreadList
from apr_tui.track import Track
from pilots import until
from recorded import IN_THREADS, TWO_SEARCHES
from test_tui import screen, solving

GOLDEN = Path(__file__).parent / "golden" / "looks"
README = Path(__file__).parents[1] / "docs" / "tui.svg"
SIZES = {"80x24": (80, 24), "120x40": (120, 40), "200x60": (200, 60)}
THEMES = {"dark": "textual-dark", "light": "textual-light"}

Ready = Callable[[Any], Any]
"""Drives an app to where its picture is taken."""


def solver(_: Path) -> tuple[AprApp, Ready]:
    """Before the first problem."""
    app = solving()

    async def ready(_: Any) -> None:
        for field in app.first.query(Input):
            field.cursor_blink = False

    return app, ready


def timeline(folder: Path) -> tuple[AprApp, Ready]:
    """One search at its end: the sign of a thread that runs would turn, in a picture too."""
    log = folder / "events.jsonl"
    log.write_text("".join(IN_THREADS))
    track = Track.of_log(log)
    app = AprApp(SearchScreen([track]))

    async def ready(pilot: Any) -> None:
        threads = app.first.query_one(ThreadList)
        await until(pilot, lambda: threads.count == 11 and bool(threads.lane_width))
        await until(pilot, lambda: not getattr(track.feed, "behind", True))
        await pilot.press("down")

    return app, ready


def compare(_: Path) -> tuple[AprApp, Ready]:
    """The end of the demo."""
    # All at once: what a text shows of itself depends on whether it was seen to grow.
    app = demo_app(1e9)

    async def ready(pilot: Any) -> None:
        tracks = screen(app).tracks
        await until(pilot, lambda: all(track.player is not None and track.player.ended for track in tracks))
        await pilot.press("escape")

    return app, ready


def monitor(folder: Path) -> tuple[AprApp, Ready]:
    """A run at its end."""
    steps = 40
    run = RunDirectory(folder / "rewarded")
    run.create(f"# method: apr\n# trainer: rl\nsteps = {steps}\n")
    for step in range(1, steps + 1):
        run.log(figures(step, 1 - math.exp(-step / 15)))
    os.utime(run.log_path, (0, 0))
    app = AprApp(MonitorScreen([run.path]))

    async def ready(pilot: Any) -> None:
        await until(pilot, lambda: len(app.first.query(Chart)) > 3)

    return app, ready


def browser(folder: Path) -> tuple[AprApp, Ready]:
    """A watched group of a run, its text coloured by advantage."""
    app, _ = monitor(folder)
    run = RunDirectory(folder / "rewarded")
    run.watched(40).parent.mkdir()
    run.watched(40).write_text(TWO_SEARCHES.read_text())
    told = [{"rollout": "apr", "reward": 1.0, "advantage": 1.0}, {"rollout": "sos+", "reward": 0.9, "advantage": -1.0}]
    run.group(40).parent.mkdir()
    run.group(40).write_text(json.dumps({"rollouts": told}))

    async def ready(pilot: Any) -> None:
        await pilot.press("3")
        threads = app.first.query_one(ThreadList)
        await until(pilot, lambda: isinstance(app.focused, RolloutList) and app.focused.count == 2)
        await pilot.press("home")
        await until(pilot, lambda: threads.count == 11)
        await pilot.press("c")

    return app, ready


def figures(step: int, learned: float) -> dict[str, Any]:
    wave = math.sin(step)
    return {
        "step": step,
        "reward": round(0.5 + 0.3 * learned + 0.03 * wave, 4),
        "accuracy": {"10": round(0.55 + 0.3 * learned, 4), "free": round(0.6 + 0.3 * learned - 0.02 * wave, 4)},
        "loss": round(0.02 * wave, 4),
        "entropy": round(0.3 - 0.2 * learned, 4),
        "children": round(14 - 6 * learned + wave, 2),
        "seconds": {"generate": 30.0, "wait": 4.0, "train": 20.0},
        "step_seconds": 54.0,
        "tokens_per_second": {"generate": 8000, "train": 6000},
        "memory": 1 << 30,
        "alarms": ["half of the groups carry no signal"] if step == 7 else [],
    }


SCREENS = {
    "solver": ("apr solve", solver),
    "timeline": ("apr watch", timeline),
    "compare": ("apr demo", compare),
    "monitor": ("apr monitor", monitor),
    "browser": ("apr monitor", browser),
}
"""The command that shows each, and what makes it."""


def picture(name: str, size: tuple[int, int], theme: str, folder: Path) -> str:
    """The screen as SVG."""
    command, make = SCREENS[name]
    app, ready = make(folder)

    async def look() -> str:
        async with app.run_test(size=size) as pilot:
            app.theme = THEMES[theme]
            await ready(pilot)
            await pilot.pause(0.3)
            return app.export_screenshot(title=command)

    return asyncio.run(look())


def compared(shown: str, golden: Path, folder: Path) -> None:
    if os.environ.get("APR_WRITE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(shown)
    # Side by side in a browser they tell what changed.
    (new := folder / golden.name).write_text(shown)
    same = shown == golden.read_text()
    assert same, f"{new} differs from {golden}"


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SCREENS)
def test_the_screen_looks_as_it_did(name: str, size: str, theme: str, tmp_path: Path) -> None:
    compared(picture(name, SIZES[size], theme, tmp_path), GOLDEN / f"{name}-{size}-{theme}.svg", tmp_path)


def test_readme_shows_the_screen_as_it_is(tmp_path: Path) -> None:
    compared(picture("compare", (132, 40), "dark", tmp_path), README, tmp_path)
