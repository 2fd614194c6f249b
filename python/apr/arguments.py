"""The arguments of commands, those of other packages too: told by one parser, refused in one line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from apr.plain import hint

_UNKNOWN = "unrecognized arguments: "
"""What argparse says of them."""


class UsageError(Exception):
    """Bad input: one line for stderr, exit status 2."""


def in_words(error: BaseException) -> str:
    """An error for people: without its number, and after the file that it is about."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


class _Help(argparse.HelpFormatter):
    """Wraps all but examples, which are commands to copy."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line, with the choices and the one that may be meant."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", _Help)
        if examples:
            options["epilog"] = "\n".join(["examples:", *(f"  {example}" for example in examples)])
        super().__init__(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self._reworded(message.removeprefix('argument '))} (see `{self.prog} --help`)")

    def _reworded(self, message: str) -> str:
        if not message.startswith(_UNKNOWN):
            return message
        words = message.removeprefix(_UNKNOWN).split(" ")
        option = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
        if option is None:
            return f"nothing takes {' '.join(words)!r:.60}"
        return f"there is no option {option:.40}{hint(option, self.options())}"

    def options(self) -> set[str]:
        """The options that it takes, those of its kinds too."""
        found = {name for action in self._actions for name in action.option_strings}
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= set().union(*(kind.options() for kind in action.choices.values()))
        return found

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        if action.option_strings and not arg_string:
            # As an unset variable of a shell leaves it: the default is not what was meant.
            raise argparse.ArgumentError(action, "is empty")
        return super()._get_value(action, arg_string)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = list(map(str, action.choices))
            listed = f"{str(value)[:40]!r} is none of {', '.join(known)}{hint(str(value), known)}"
            raise argparse.ArgumentError(action, listed)
