"""`apr watch`: the search of a recorded or growing log, or of problems typed in.

Bad input is refused on stderr before a screen opens: 0 done, 2 bad input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from textual.app import App

from apr.policy import Policy, PolicyError, load_policy
from apr_tui.feed import Refused
from apr_tui.solve import SolveScreen


class WatchApp(App[None]):
    """One screen: of a log, or of what a policy solves."""

    CSS_PATH = "apr.tcss"
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, *, policy: Policy | None = None, log: Path | None = None) -> None:
        super().__init__()
        self.policy = policy
        self.log_path = log

    def on_mount(self) -> None:
        self.push_screen(SolveScreen(policy=self.policy, log=self.log_path))

    async def on_unmount(self) -> None:
        if self.policy is not None:
            await self.policy.close()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message} (see `{self.prog} --help`)")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = _Parser(
        prog="apr watch",
        allow_abbrev=False,
        description="Watch the threads of a search: of a recorded log of events, which may still grow, or, "
        "without one, of the problems you type in.",
        epilog="example: apr solve 22 26 31 53 --target 27 --json > events.jsonl; apr watch events.jsonl",
    )
    made.add_argument("log", nargs="?", type=Path, metavar="LOG", help="log of events, one JSON object a line")
    made.add_argument("--model", metavar="DIR", help="checkpoint directory (default: the shipped model)")
    made.add_argument("--engine", metavar="NAME", help="native (default), torch or sglang: what runs the model")
    return made


def main(arguments: list[str]) -> int:
    """Run the command; the exit status."""
    try:
        options = parser().parse_args(arguments)
        app = _app(options)
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Refused("this is a screen and needs a terminal")
    except (Refused, PolicyError) as refused:
        print(f"apr watch: {refused}", file=sys.stderr)
        return 2
    app.run()
    return app.return_code or 0


def _app(options: argparse.Namespace) -> WatchApp:
    if options.log is None:
        return WatchApp(policy=load_policy(options.engine or "native", options.model))
    if options.model is not None or options.engine is not None:
        raise Refused("a log is only read: --model and --engine go without one")
    if not options.log.is_file():
        raise Refused(f"there is no file {options.log}")
    return WatchApp(log=options.log)
