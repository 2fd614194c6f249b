"""`apr solve`: one problem, its threads live in the terminal, and an answer that the exact judge has seen.

What is shown comes from events only, folded in a `ThreadTree` of its own; so a recorded log looks the same.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.cli import added
from apr.cli.common import (
    METHODS,
    Parser,
    UsageError,
    add_model_arguments,
    asked_task,
    natural,
    not_negative,
    open_policy,
    open_task,
    positive,
)
from apr.cli.screen import JsonScreen, LiveScreen, PlainScreen, QuietScreen, Screen
from apr.form import example, form_of, read, read_text
from apr.shown import give
from apr.task import Field, Form

if TYPE_CHECKING:
    from apr.policy import Policy
    from apr.task import Task

FREE = "free"


def parser(tasks: Sequence[Task[Any]] = ()) -> Parser:
    """The command's arguments, with the form of a task; `tasks` is that task for each method."""
    form = form_of(tasks[0]) if tasks else Form((Field("word", "the problem", ""),))
    rule = _plain(f": {form.rule}" if form.rule else "")
    made = Parser(
        prog="apr solve",
        description=f"Solve a problem{rule}. Shows the threads of the search as they grow, then the solution. Without "
        "a problem, opens the interactive solver (extra tui), or asks for one.",
        epilog=f"example: {_plain(_example(tasks[0]))}" if tasks else None,
    )
    first, *others = form.fields
    made.add_argument("words", nargs="*", metavar=first.name.upper(), help=_plain(first.says))
    for field in others:
        names = [f"--{field.name}", f"-{field.name[0]}"]
        made.add_argument(*names, metavar="N" if field.keys else "TEXT", help=_plain(field.says))
    made.add_argument("--problem", metavar="TEXT|JSON", help="the problem, as JSON or as a prompt")
    made.add_argument("--budget", type=_budget, metavar="N", help=_budgets(tasks))
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


def _plain(text: str) -> str:
    """The text as it comes out of a help's formatting."""
    return text.replace("%", "%%")


def run(arguments: Sequence[str]) -> int:
    tasks = _tasks(arguments)
    options = parser(tasks).parse_intermixed_args(list(arguments))
    if options.replay is not None:
        from apr.cli.replay import replay

        return replay(Path(options.replay), _screen(options))
    task = tasks[METHODS.index(options.method)]
    texts = [" ".join(options.words), *(getattr(options, field.name) or "" for field in form_of(task).fields[1:])]
    if options.problem is None and not any(texts):
        if not _interactive(options):
            raise UsageError(f"give a problem, as in `{_example(task)}`")
        screens = None if os.environ.get("TERM") == "dumb" else added("watch")
        return _dialogue(task, options) if screens is None else screens(_settings(options))
    try:
        if options.problem is not None and any(texts):
            raise ValueError("--problem goes without another one")
        problem = read(task, texts) if options.problem is None else read_text(task, options.problem)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return _solve(problem, task, options, _open(options))


def _tasks(arguments: Sequence[str]) -> list[Task[Any]]:
    """The task that the arguments ask for, with each method; none where that cannot be told, and need not be."""
    first = Parser(prog="apr solve", add_help=False)
    for name in ("--task", "--model", "--replay"):
        first.add_argument(name)
    options = first.parse_known_args(list(arguments))[0]
    if options.replay is not None:
        return [] if options.task is None else [open_task(options.task)]
    try:
        name = asked_task(options)
    except UsageError:
        if {"-h", "--help"}.intersection(arguments):
            return []
        raise
    return [open_task(name, method) for method in METHODS]


def _budgets(tasks: Sequence[Task[Any]]) -> str:
    """What a budget is, by method."""
    known = []
    for method, task in zip(METHODS, tasks, strict=False):
        form = form_of(task)
        if form.unit:
            known.append(f"{form.unit} ({method}, default {FREE if form.budgets[0] is None else form.budgets[0]})")
    return f"{' or '.join(known) or 'what the search may cost'} to ask for; {FREE}: the model's choice"


def _example(task: Task[Any]) -> str:
    """A command that solves something."""
    first, *others = example(task)
    names = [field.name for field in form_of(task).fields[1:]]
    if not names:
        return f"apr solve --task {task.name} --problem {shlex.quote(first)}"
    return " ".join(["apr solve", first, *(f"--{name} {text}" for name, text in zip(names, others, strict=True))])


def _solve(problem: Any, task: Task[Any], options: Any, policy: Policy) -> int:
    give(policy.task)
    screen = _screen(options)
    interrupted = False
    try:
        asyncio.run(_run(problem, task, options, policy, screen))
    except KeyboardInterrupt:
        # The rollout has closed its threads and emitted its end before this came here.
        interrupted = True
    screen.finish(interrupted=interrupted)
    return 0 if screen.tree.solved or screen.tree.unjudged else 130 if interrupted else 1


async def _run(problem: Any, task: Task[Any], options: Any, policy: Policy, screen: Screen) -> None:
    from apr.limits import Limits
    from apr.types import SamplingParams

    budget = form_of(task).budgets[0] if options.budget is None else options.budget
    limits = Limits(threads=options.max_threads, total_tokens=options.max_tokens, seconds=options.timeout)
    painter = asyncio.create_task(screen.animate())
    try:
        await policy.rollout(
            problem,
            limits,
            params=SamplingParams(temperature=options.temperature, seed=options.seed),
            budget=None if budget in (None, FREE) else int(budget),
            join=options.join,
            emit=screen.apply,
        )
    finally:
        painter.cancel()
        await asyncio.gather(painter, policy.close(), return_exceptions=True)


def _open(options: Any) -> Policy:
    return open_policy(
        options.engine, options.model, options.method, options.server, None, options.task, options.language
    )


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
    names = ("engine", "server", "model", "task", "language", "method", "budget", "join", "temperature", "seed")
    given = {f"--{name}": getattr(options, name) for name in names}
    return [f"{name}={value}" for name, value in given.items() if value is not None]


def _dialogue(task: Task[Any], options: Any) -> int:
    """Ask for problems until there is no answer; the status of the last one."""
    from rich.console import Console
    from rich.markup import escape
    from rich.prompt import Prompt

    console = Console()
    form = form_of(task)
    rule = f": {form.rule}" if form.rule else ""
    console.print(f"{task.name.capitalize()}{rule}. An empty line ends.", style="dim", markup=False, highlight=False)
    width = max(len(field.name) for field in form.fields)
    status = 0
    while True:
        try:
            texts: list[str] = []
            for field in form.fields:
                name = f"[bold]{escape(field.name)}[/]{' ' * (width - len(field.name))}"
                texts.append(Prompt.ask(name, console=console, default="", show_default=False))
                if not texts[0].strip():
                    return status
            problem = read(task, texts)
        except (EOFError, KeyboardInterrupt):
            console.print()
            return status
        except ValueError as error:
            console.print(str(error), style="yellow", highlight=False, markup=False)
            continue
        # The engine belongs to one loop; opening it again costs a few milliseconds.
        status = _solve(problem, task, options, _open(options))
        console.print()


def _budget(text: str) -> int | str:
    return FREE if text == FREE else natural(text)
