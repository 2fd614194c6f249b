"""`apr solve`: one problem, its threads live in the terminal, and an answer that the exact judge has seen.

What is shown comes from events only, folded in a `ThreadTree` of its own; so a recorded log looks the same.
"""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.cli import added
from apr.cli.common import (
    Parser,
    UsageError,
    add_model_arguments,
    integer,
    make_problem,
    natural,
    not_negative,
    open_policy,
    positive,
)
from apr.cli.screen import JsonScreen, LiveScreen, PlainScreen, QuietScreen, Screen

if TYPE_CHECKING:
    from apr.policy import Policy

DEFAULT_BUDGET = {"apr": 10, "sos+": 4096}
"""The condition named in the prompt: child threads, or tokens."""
FREE = "free"
_BUDGET = (
    f"child threads (apr, default {DEFAULT_BUDGET['apr']}) or tokens (sos+, default "
    f"{DEFAULT_BUDGET['sos+']}) to ask for; {FREE}: the model's choice"
)


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr solve",
        description="Solve a Countdown problem: reach the target using each number exactly once. Shows the "
        "threads of the search as they grow, then the solution. Without numbers, opens the interactive solver "
        "(extra tui), or asks for them.",
        epilog="example: apr solve 22 26 31 53 --target 27",
    )
    made.add_argument("numbers", nargs="*", type=integer, metavar="NUMBER", help="two to six numbers")
    made.add_argument("--target", "-t", type=integer, metavar="N", help="the number to reach")
    made.add_argument("--budget", type=_budget, metavar="N", help=_BUDGET)
    add_model_arguments(made)
    made.add_argument("--max-threads", type=positive, default=64, metavar="N", help="default 64")
    made.add_argument("--max-tokens", type=positive, metavar="N", help="sampled tokens of all threads")
    made.add_argument("--timeout", type=not_negative, metavar="SECONDS")
    made.add_argument("--show-solution", action="store_true", help="if the model fails, show a solution")
    made.add_argument("--replay", metavar="FILE", help="show a log that --json printed, solving nothing")
    output = made.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print the events, one JSON object a line")
    output.add_argument("--quiet", "-q", action="store_true", help="print the solution only")
    return made


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_intermixed_args(list(arguments))
    if options.replay is not None:
        from apr.cli.replay import replay

        return replay(Path(options.replay), _screen(options))
    if not options.numbers and options.target is None and _interactive(options):
        screens = None if os.environ.get("TERM") == "dumb" else added("watch")
        return _dialogue(options) if screens is None else screens(_settings(options))
    if not options.numbers:
        raise UsageError("give the numbers and a target, as in `apr solve 22 26 31 53 --target 27`")
    if options.target is None:
        raise UsageError("give the number to reach: --target N")
    problem = make_problem(options.numbers, options.target)
    return _solve(problem, options, _open(options))


def _solve(problem: Any, options: Any, policy: Policy) -> int:
    screen = _screen(options)
    interrupted = False
    try:
        asyncio.run(_run(problem, options, policy, screen))
    except KeyboardInterrupt:
        # The rollout has closed its threads and emitted its end before this came here.
        interrupted = True
    screen.finish(interrupted=interrupted)
    return 0 if screen.tree.solved else 130 if interrupted else 1


async def _run(problem: Any, options: Any, policy: Policy, screen: Screen) -> None:
    from apr.limits import Limits
    from apr.types import SamplingParams

    budget = DEFAULT_BUDGET[options.method] if options.budget is None else options.budget
    limits = Limits(threads=options.max_threads, total_tokens=options.max_tokens, seconds=options.timeout)
    painter = asyncio.create_task(screen.animate())
    try:
        await policy.rollout(
            problem,
            limits,
            params=SamplingParams(temperature=options.temperature, seed=options.seed),
            budget=None if budget == FREE else int(budget),
            join=options.join,
            emit=screen.apply,
        )
    finally:
        painter.cancel()
        await asyncio.gather(painter, policy.close(), return_exceptions=True)


def _open(options: Any) -> Policy:
    return open_policy(options.engine, options.model, options.method, options.server, task=options.task)


def _screen(options: Any) -> Screen:
    if options.json:
        return JsonScreen()
    if options.quiet:
        return QuietScreen()
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        if not console.is_dumb_terminal:
            return LiveScreen(console, reveal=options.show_solution)
    return PlainScreen(reveal=options.show_solution)


def _interactive(options: Any) -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and not options.json and not options.quiet


def _settings(options: Any) -> list[str]:
    """How to search, in the words of the solver that another package brings."""
    names = ("engine", "server", "model", "method", "budget", "join", "temperature", "seed")
    given = {f"--{name}": getattr(options, name) for name in names}
    return [f"{name}={value}" for name, value in given.items() if value is not None]


def _dialogue(options: Any) -> int:
    """Ask for problems until there is no answer; the status of the last one."""
    from rich.console import Console
    from rich.prompt import Prompt

    console = Console()
    console.print("Countdown: reach the target, using each number once. An empty line ends.", style="dim")
    status = 0
    while True:
        try:
            words = Prompt.ask("[bold]numbers[/]", console=console, default="", show_default=False)
            if not words.strip():
                return status
            target = Prompt.ask("[bold]target[/] ", console=console)
            numbers = [integer(word) for word in words.replace(",", " ").split()]
            problem = make_problem(numbers, integer(target.strip()))
        except (EOFError, KeyboardInterrupt):
            console.print()
            return status
        except (UsageError, ArgumentTypeError) as error:
            console.print(str(error), style="yellow", highlight=False)
            continue
        # The engine belongs to one loop; opening it again costs a few milliseconds.
        status = _solve(problem, options, _open(options))
        console.print()


def _budget(text: str) -> int | str:
    return FREE if text == FREE else natural(text)
