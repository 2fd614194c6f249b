"""The command line: one module a command, imported when it is called (see `commands`).

The exit status is 0 solved or done, 1 not solved, 2 bad input. Data goes to stdout, progress to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

from apr.arguments import UsageError, in_words
from apr.cli.commands import find, own, summary
from apr.cli.surroundings import give_up, prepare
from apr.plain import clean

INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    prepare()
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else "--help"
    where = f"apr {name}" if name in own() else "apr"
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
        status, complaint = 1, in_words(error)
    if complaint:
        with suppress(OSError):
            print(clean(f"{where}: {complaint}"), file=sys.stderr)
    give_up()
    return status


def _run(name: str, arguments: list[str]) -> int:
    if name == "help" and arguments and not arguments[0].startswith("-"):
        name, *arguments = [*arguments, "--help"]
    if name in ("-h", "--help", "help"):
        print(summary())
        return 0
    if name in ("-V", "--version"):
        from apr._core import __version__

        print(f"apr {__version__}")
        return 0
    try:
        return find(name)(arguments)
    except SystemExit as end:  # argparse, after help
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 2
