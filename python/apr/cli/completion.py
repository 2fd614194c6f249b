"""`apr completion`: the script that completes commands, options and choices in a shell, made from the parsers."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from apr.arguments import Parser, UsageError
from apr.cli.commands import EXTRAS, GROUPS, own
from apr.cli.common import METHODS, open_task
from apr.policy import install

SHELLS = ("bash", "zsh", "tcsh")


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr completion",
        description="Print the script that completes commands, options and choices in a shell (extra completion).",
        examples=[
            "apr completion bash > ~/.local/share/bash-completion/completions/apr",
            "apr completion zsh > ~/.zfunc/_apr    # with fpath+=~/.zfunc before compinit in ~/.zshrc",
            "apr completion tcsh > ~/.apr-completion.csh    # sourced in ~/.tcshrc",
        ],
    )
    made.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or tcsh")
    return made


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(list(arguments))
    try:
        import shtab
    except ModuleNotFoundError:
        raise UsageError(f"completion needs shtab: {install('completion')}") from None
    root = everything()
    for action in _actions(root):
        _describe(action, shtab)
    print(shtab.complete(root, options.shell))
    return 0


def everything() -> Parser:
    """One parser of all commands. Of those that other packages bring it knows the names."""
    root = Parser(prog="apr")
    root.add_argument("--version", "-V", action="store_true", help="print the version")
    commands = root.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in ((name, text) for group in GROUPS.values() for name, text in group.items()):
        if name in EXTRAS:
            commands.add_parser(name, help=text).add_argument("path", nargs="*", metavar="FILE", help="a log or a run")
        elif name in own():
            commands.add_parser(name, help=text, parents=[parser_of(name)], add_help=False)
    commands.add_parser("help", help="tell the options of a command").add_argument("about", choices=[*own(), *EXTRAS])
    return root


def parser_of(name: str) -> Parser:
    """The parser of a command that this package holds."""
    module = import_module(f"apr.cli.{name}")
    if name == "solve":
        # With the options of the shipped model's task.
        made: Parser = module.parser({method: open_task("countdown", method) for method in METHODS})
        return made
    made = module.parser()
    return made


def _actions(parser: ArgumentParser) -> Iterator[Action]:
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for kind in action.choices.values():
                yield from _actions(kind)


def _describe(action: Action, shtab: Any) -> None:
    """What else an argument may be: names that are known now, files or directories."""
    from apr.engine import ENGINES
    from apr.plugins import names
    from apr.task import GROUP as TASKS
    from apr.threads.language import GROUP as LANGUAGES

    known = {"--engine": ENGINES, "--task": names(TASKS), "--language": names(LANGUAGES), "--budget": ("free",)}
    for option in action.option_strings:
        if option in known:
            action.choices = known[option]
    metavar = str(action.metavar)
    if action.choices is None and "FILE" in metavar:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif action.choices is None and "DIR" in metavar:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
