"""`apr solve`: one problem, its threads live in the terminal, and an answer that the exact judge has seen.

What is shown comes from events only, folded in a `ThreadTree` of its own; so a recorded log looks the same.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.arguments import Parser, UsageError
from apr.cli.commands import added
from apr.cli.common import (
    FREE,
    METHODS,
    add_model_arguments,
    add_search_arguments,
    asked,
    check_engine,
    not_negative,
    open_policy,
    open_task,
    said,
)
from apr.cli.screen import JsonScreen, LiveScreen, PlainScreen, QuietScreen, Screen
from apr.form import example, form_of, read, read_text
from apr.shown import give
from apr.task import Field, Form, Method

if TYPE_CHECKING:
    from apr.policy import Policy
    from apr.task import Task

Tasks = Mapping[Method, "Task[Any]"]
"""A task for each method."""
_HANDED_ON = (
    *("engine", "server", "model", "task", "language", "method"),
    *("budget", "join", "temperature", "seed", "max_threads", "max_tokens", "timeout"),
)
_OF_REPLAY = ("replay", "task", "show_solution", "json", "quiet")
"""Arguments that a recorded search is shown with; all others would change nothing."""


def parser(tasks: Tasks | None = None) -> Parser:
    """The command's arguments, with the form of a task."""
    task = next(iter(tasks.values())) if tasks else None
    form = Form((Field("word", "the problem", ""),)) if task is None else form_of(task)
    rule = _plain(f": {form.rule}" if form.rule else "")
    shown = "apr solve 22 26 31 53 --target 27" if task is None else _plain(_example(task))
    made = Parser(
        prog="apr solve",
        description=f"Solve a problem{rule}. Shows the threads of the search as they grow, then the solution. Without "
        "a problem, opens the interactive solver (extra tui), or asks for one.",
        examples=[
            shown,
            f"{shown} --budget 6 --join first --temperature 0.5",
            f"{shown} --json > events.jsonl; apr solve --replay events.jsonl",
        ],
    )
    first, *others = form.fields
    problem = made.add_argument_group("problem")
    problem.add_argument("words", nargs="*", metavar=first.name.upper(), help=_plain(first.says))
    for field in others:
        names = [f"--{field.name}", f"-{field.name[0]}"]
        problem.add_argument(*names, metavar="N" if field.keys else "TEXT", help=_plain(field.says))
    problem.add_argument("--problem", metavar="TEXT|JSON", help="the problem in one, as JSON or as a prompt")
    problem.add_argument("--replay", metavar="FILE", help="show a log that --json printed, solving nothing")
    add_model_arguments(made)
    limits = add_search_arguments(made, _units(tasks or {}))
    limits.add_argument("--timeout", type=not_negative, metavar="SECONDS", help="of the rollout (default: no limit)")
    output = made.add_argument_group("output")
    output.add_argument("--show-solution", action="store_true", help="if the model fails, show a solution")
    form_of_output = output.add_mutually_exclusive_group()
    form_of_output.add_argument("--json", action="store_true", help="print the events, one JSON object a line")
    form_of_output.add_argument("--quiet", "-q", action="store_true", help="print the solution only")
    return made


def _plain(text: str) -> str:
    """The text as it comes out of a help's formatting."""
    return text.replace("%", "%%")


def run(arguments: Sequence[str]) -> int:
    method, tasks = _asked(arguments)
    made = parser(tasks)
    options = made.parse_intermixed_args(list(arguments))
    if options.replay is not None:
        from apr.cli.replay import replay

        for name in said(made, arguments):
            if name not in _OF_REPLAY:
                what = "a problem" if name == "words" else f"--{name.replace('_', '-')}"
                raise UsageError(f"{what} goes without --replay, which solves nothing")
        return replay(Path(options.replay), _screen(options))
    options.method, task = method, tasks[method]
    check_engine(options.engine, options.server)
    texts = [" ".join(options.words), *(getattr(options, field.name) or "" for field in form_of(task).fields[1:])]
    if options.problem is None and not any(texts):
        if not _interactive(options):
            raise UsageError(f"give a problem, as in `{_example(task)}`")
        screens = None if os.environ.get("TERM") == "dumb" else added("watch")
        return _dialogue(task, options) if screens is None else screens(_settings(tasks, arguments))
    try:
        if options.problem is not None and any(texts):
            raise ValueError("--problem goes without another one")
        if options.problem is None:
            problem = read(task, texts)
        else:
            problem, named = read_text(task, options.problem)
            if "budget" not in said(made, arguments):
                options.budget = named
    except ValueError as error:
        raise UsageError(str(error)) from None
    return _solve(problem, options, _open(options))


def _asked(arguments: Sequence[str]) -> tuple[Method, dict[Method, Task[Any]]]:
    """The method that the arguments ask for, and their task for each; none where that cannot be told, and need not
    be."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--task", "--model", "--method", "--replay"):
        first.add_argument(name)
    try:
        options = first.parse_known_args(list(arguments))[0]
    except argparse.ArgumentError:
        # The command's own parser says it.
        return "apr", {}
    if options.replay is not None:
        return "apr", {} if options.task is None else {"apr": open_task(options.task)}
    if options.method not in METHODS:
        options.method = None
    try:
        name, method = asked(options)
    except UsageError:
        if {"-h", "--help"}.intersection(arguments):
            return "apr", {}
        raise
    return method, {each: open_task(name, each) for each in dict.fromkeys((method, *METHODS))}


def _units(tasks: Tasks) -> str:
    """What a budget counts, by method."""
    known = [f"{unit} ({method})" for method, task in tasks.items() if (unit := form_of(task).unit)]
    return " or ".join(known) or "what the search may cost"


def _example(task: Task[Any]) -> str:
    """A command that solves something."""
    first, *others = example(task)
    names = [field.name for field in form_of(task).fields[1:]]
    if not names:
        return f"apr solve --task {task.name} --problem {shlex.quote(first)}"
    return " ".join(["apr solve", first, *(f"--{name} {text}" for name, text in zip(names, others, strict=True))])


def _solve(problem: Any, options: Any, policy: Policy) -> int:
    give(policy.task)
    screen = _screen(options)
    interrupted = False
    try:
        asyncio.run(_run(problem, options, policy, screen))
    except KeyboardInterrupt:
        # The rollout has closed its threads and emitted its end before this came here.
        interrupted = True
    screen.finish(interrupted=interrupted)
    return 0 if screen.tree.solved or screen.tree.unjudged else 130 if interrupted else 1


async def _run(problem: Any, options: Any, policy: Policy, screen: Screen) -> None:
    from apr.limits import Limits
    from apr.types import SamplingParams

    limits = Limits(threads=options.max_threads, total_tokens=options.max_tokens, seconds=options.timeout)
    painter = asyncio.create_task(screen.animate())
    try:
        await policy.rollout(
            problem,
            limits,
            params=SamplingParams(temperature=options.temperature, seed=options.seed),
            budget=options.budget,
            join=options.join,
            emit=screen.apply,
        )
    finally:
        painter.cancel()
        await asyncio.gather(painter, policy.close(), return_exceptions=True)


def _open(options: Any) -> Policy:
    return open_policy(
        options.engine,
        options.model,
        options.method,
        options.server,
        task=options.task,
        language=options.language,
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


def _settings(tasks: Tasks, arguments: Sequence[str]) -> list[str]:
    """How to search, as far as it was said, in the words of the solver that another package brings. That one
    remembers the rest."""
    given = said(parser(tasks), arguments)
    told = {name: FREE if given[name] is None else given[name] for name in _HANDED_ON if name in given}
    return [f"--{name.replace('_', '-')}={value}" for name, value in told.items()]


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
        status = _solve(problem, options, _open(options))
        console.print()
