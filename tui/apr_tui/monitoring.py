"""`apr monitor`: the screen of a training run, or of a few beside each other."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console

from apr_tui.app import AprApp
from apr_tui.commands import give_task, parser, run
from apr_tui.feed import Refused
from apr_tui.memory import Memory
from apr_tui.monitor import MonitorScreen
from apr_tui.plot import STROKES
from apr_tui.record import RunFeed
from apr_tui.snapshot import snapshot


def monitor(arguments: list[str]) -> int:
    """Watch a run that trains, has ended, or is yet to start."""
    made = parser(
        "monitor",
        "Watch a training run: curves, steps, rollouts, alarms. The run may be yet to start, and may be killed and "
        f"resumed under the screen. Others, up to {len(STROKES) - 1}, are drawn beside the first.",
        ["apr monitor runs/tiny", "apr monitor runs/tiny runs/rival", "apr monitor runs/seed-* --once"],
    )
    made.add_argument("run", type=Path, metavar="RUN", help="the run's directory")
    made.add_argument("beside", nargs="*", type=Path, metavar="RUN2", help="others to compare with")
    made.add_argument("--once", action="store_true", help="print how the runs stand now, without a screen")
    made.add_argument("--task", metavar="NAME", help="module:attribute of its task, if that is not an installed one")
    return run("monitor", arguments, made, _monitor)


def _monitor(options: argparse.Namespace, memory: Memory) -> AprApp | None:
    runs = [options.run, *options.beside]
    if len(runs) > len(STROKES):
        raise Refused(f"{len(runs)} runs: no more than {len(STROKES)} can be told apart")
    for path in runs:
        if path.exists() and not path.is_dir():
            raise Refused(f"{path} is not a directory")
    if options.task is not None:
        give_task(options.task)
    if options.once:
        if missing := next((path for path in runs if not path.exists()), None):
            raise Refused(f"{missing} is not there")
        console = Console()
        for part in snapshot([RunFeed(path) for path in runs], console.width, time.time()):
            console.print(part)
        return None
    return AprApp(MonitorScreen(runs), memory=memory)
