"""The command line: one module a command, imported when it is called.

A command is a function that takes its arguments and returns the exit status: 0 solved or done, 1 not solved,
2 bad input. Data goes to stdout, progress to stderr. Other packages add commands through the entry-point
group `apr.commands`: a name and such a function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

from apr.cli.common import UsageError
from apr.cli.surroundings import give_up, prepare
from apr.plain import clean

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
    prepare()
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else "--help"
    where = f"apr {name}" if name in COMMANDS else "apr"
    try:
        status, complaint = _run(name, words[1:]), ""
        sys.stdout.flush()
    except UsageError as error:
        status, complaint = 2, str(error)
    except KeyboardInterrupt:
        status, complaint = INTERRUPTED, ""
    except BrokenPipeError:
        # Whoever read has enough.
        status, complaint = BROKEN_PIPE, ""
    except OSError as error:
        # A disk is full, a file is gone or not ours: nothing that a traceback would explain.
        status, complaint = 1, _said(error)
    if complaint:
        with suppress(OSError):
            print(clean(f"{where}: {complaint}"), file=sys.stderr)
    give_up()
    return status


def _said(error: OSError) -> str:
    if error.strerror is None:
        return str(error) or type(error).__name__
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _run(name: str, arguments: list[str]) -> int:
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        from apr._core import __version__

        print(f"apr {__version__}")
        return 0
    try:
        return _command(name)(arguments)
    except SystemExit as end:  # argparse, after help
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 2


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
