"""The command line: one module a command, imported when it is called.

A command is a function that takes its arguments and returns the exit status: 0 solved or done, 1 not solved,
2 bad input. Data goes to stdout, progress to stderr. Other packages add commands through the entry-point
group `apr.commands`: a name and such a function.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from apr.cli.common import UsageError

COMMANDS = {
    "solve": "solve a problem and watch the threads search",
    "problems": "print problems of a split",
    "traces": "write problems with teacher traces, sharded and resumable",
    "train": "train a model on teacher traces",
    "eval": "measure a model: accuracy, tokens, context, latency",
    "report": "tables and figures of evaluations, beside the paper's",
    "serve": "serve a model: SGLang servers, or the threads behind an OpenAI-compatible address",
    "bench": "run the benchmarks of a checkout",
}
"""Name -> what it does; the module has the command's name."""

ENTRY_POINTS = "apr.commands"
INTERRUPTED = 130
BROKEN_PIPE = 141

Command = Callable[[list[str]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _believe_the_terminal()
    name = words[0] if words else "--help"
    try:
        status = _run(name, words[1:])
        sys.stdout.flush()
        return status
    except UsageError as error:
        where = f"apr {name}" if name in COMMANDS else "apr"
        print(f"{where}: {error}", file=sys.stderr)
        return 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough. The interpreter's own last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return BROKEN_PIPE


def _believe_the_terminal() -> None:
    """Forget sizes in the environment that are none: libraries would fail on them."""
    for name in ("COLUMNS", "LINES"):
        value = os.environ.get(name, "1")
        if not (value.isascii() and value.isdigit() and len(value) < 6 and int(value)):
            del os.environ[name]


def _run(name: str, arguments: list[str]) -> int:
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        from apr._core import __version__

        print(f"apr {__version__}")
        return 0
    return _command(name)(arguments)


def _command(name: str) -> Command:
    if name in COMMANDS:
        command: Command = import_module(f"apr.cli.{name}").run
        return command
    if (other := added(name)) is not None:
        return other
    raise UsageError(f"there is no command {name!r}; `apr --help` lists them")


def added(name: str) -> Command | None:
    """A command that another package brings, if it is installed."""
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS, name=name):
        command: Command = point.load()
        return command
    return None


def _help() -> str:
    from importlib.metadata import entry_points

    added = {point.name: f"from {point.value.split('.')[0]}" for point in entry_points(group=ENTRY_POINTS)}
    rows = [f"  {name:<10}{text}" for name, text in {**COMMANDS, **added}.items()]
    return "\n".join(
        [
            "apr: language models that search in threads they spawn and join themselves",
            "",
            "usage: apr COMMAND [OPTIONS]",
            "",
            *rows,
            "",
            "example: apr solve 22 26 31 53 --target 27",
            "`apr COMMAND --help` tells the options of one; `apr --version` the version.",
        ]
    )
