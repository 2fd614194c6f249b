"""What a program finds itself started with: standard streams that may be closed, and a terminal's size that may be
nonsense.
"""

from __future__ import annotations

import os
import sys

_SIZES = ("COLUMNS", "LINES")
_LARGEST = 10_000


def prepare() -> None:
    """Make them such that nothing has to ask again."""
    # In this order: each takes the lowest number that is free, which is then its own. No file may take it later, since
    # children and libraries write to these numbers.
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    # What an encoding cannot say must not end a command.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    for name in _SIZES:
        size = os.environ.get(name, "1")
        if not (size.isascii() and size.isdigit() and len(size) < 9 and 0 < int(size) <= _LARGEST):
            del os.environ[name]


def give_up() -> None:
    """Send what a standard stream cannot take nowhere: the interpreter's own last flush must not complain."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
