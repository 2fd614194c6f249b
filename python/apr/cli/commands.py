"""The commands, by what people come for, and how one is found.

A command is a function that takes its arguments and returns the exit status. Those of this package are modules beside
this one, named as they are and imported when they are called; other packages add theirs through the entry-point group
`apr.commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points

from apr.arguments import UsageError
from apr.plain import hint
from apr.policy import install

Command = Callable[[list[str]], int]

ENTRY_POINTS = "apr.commands"
GROUPS: Mapping[str, Mapping[str, str]] = {
    "search": {
        "solve": "solve a problem and watch the threads search",
        "demo": "two recorded searches side by side, without a model",
        "watch": "a search in a screen: recorded, or of problems you type in",
        "serve": "SGLang, or thread trees behind an OpenAI-compatible address",
    },
    "train": {
        "problems": "print problems of a split",
        "traces": "write problems with the teacher's traces, in shards",
        "plan": "what a supervised run needs of GPUs, estimated",
        "train": "train a model: supervised, or by reinforcement learning",
        "monitor": "a training run in a screen: curves, steps, rollouts, alarms",
    },
    "measure": {
        "eval": "measure a model: accuracy, tokens, context, latency",
        "report": "tables and figures of evaluations, beside the paper's",
        "bench": "run the benchmarks of a checkout",
    },
    "shell": {
        "completion": "print a shell's script that completes commands and options",
    },
}
"""Group -> name -> what it does."""
EXTRAS = {"demo": "tui", "watch": "tui", "monitor": "tui"}
"""Commands that another package of the project brings, and the extra that installs it."""


def own() -> dict[str, str]:
    """The commands that this package holds, and what they do."""
    return {name: text for group in GROUPS.values() for name, text in group.items() if name not in EXTRAS}


def find(name: str) -> Command:
    """A command by its name. UsageError if there is none."""
    if name in own():
        command: Command = import_module(f"apr.cli.{name}").run
        return command
    if (other := added(name)) is not None:
        return other
    if name in EXTRAS:
        raise UsageError(f"`apr {name}` is not installed: {install(EXTRAS[name])}")
    known = [*own(), *EXTRAS, *others(), "help"]
    raise UsageError(f"there is no command {name!r:.40}{hint(name, known)} (see `apr --help`)")


def added(name: str) -> Command | None:
    """A command that another package brings, if it is installed."""
    for point in entry_points(group=ENTRY_POINTS, name=name):
        command: Command = point.load()
        return command
    return None


def others() -> dict[str, str]:
    """Installed commands that nobody here knows, and the packages that bring them."""
    known = {name for group in GROUPS.values() for name in group}
    points = entry_points(group=ENTRY_POINTS)
    return {point.name: f"from {point.value.split('.')[0]}" for point in points if point.name not in known}


def summary() -> str:
    """All commands, as `apr --help` lists them."""
    groups = {**GROUPS, **({"others": found} if (found := others()) else {})}
    lines = [
        "usage: apr COMMAND [OPTIONS]",
        "",
        "Language models that search in threads they spawn and join themselves.",
    ]
    for group, commands in groups.items():
        lines += ["", f"{group}:"]
        lines += [f"  {name:<12}{text}" for name, text in commands.items()]
    return "\n".join(
        [
            *lines,
            "",
            "examples:",
            "  apr solve 22 26 31 53 --target 27",
            "  apr eval --problems 50",
            "  apr train sft --recipe tiny --out runs/tiny",
            "",
            "`apr help COMMAND` tells the options of one, `apr --version` the version.",
        ]
    )
