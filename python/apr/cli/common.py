"""What several commands share: arguments that are read and refused alike, and the model they run."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from apr.engine import API_KEY
from apr.plain import clean

if TYPE_CHECKING:
    from apr.policy import Policy
    from apr.task import Task

METHODS = ("apr", "sos+")
"""Methods that a model can be asked for."""

SERVER_HELP = f"a running SGLang server, its key in ${API_KEY} (default: --engine sglang starts its own)"
_JOIN = "a parent goes on when all its children have ended (default), or at the first solution, ending the rest"


class UsageError(Exception):
    """Bad input: one line for stderr, exit status 2."""


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def natural(text: str) -> int:
    """An integer from 0 on that fits 64 bits, signed."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    if len(text) > 40 or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError("it is too large")
    return int(text)


def positive(text: str) -> int:
    """An integer from 1 on."""
    value = natural(text)
    if value < 1:
        raise argparse.ArgumentTypeError("it is at least 1")
    return value


def not_negative(text: str) -> float:
    """A finite number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return value


def temperature(text: str) -> float:
    """A temperature that every engine samples at."""
    from apr.types import temperature_fault

    value = not_negative(text)
    if (fault := temperature_fault(value)) is not None:
        raise argparse.ArgumentTypeError(fault)
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = not_negative(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def span(text: str) -> tuple[int, int]:
    """ "8" or "8-10": a smallest and a largest value."""
    low, dash, high = text.partition("-")
    pair = positive(low), positive(high) if dash else positive(low)
    if pair[0] > pair[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is no range: the smaller value comes first")
    return pair


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model runs, and how it is sampled."""
    add_engine_arguments(parser)
    add = parser.add_argument
    add("--join", choices=("all", "first"), default="all", help=_JOIN)
    add("--temperature", type=temperature, default=0.0, metavar="T", help="0 (default): greedy")
    add("--seed", type=natural, default=0, metavar="N")


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model runs, and on what."""
    add = parser.add_argument
    add("--engine", default="native", help="what runs the model: native (default), torch or sglang")
    add("--server", metavar="URL", help=SERVER_HELP)
    add("--model", metavar="DIR|NAME", help="checkpoint: a Hugging Face directory, or a name on the hub, with its own "
        "tokenizer (default: the shipped model)")  # fmt: skip
    add("--task", metavar="NAME", help="a task's name, or module:attribute (default: what the model was trained for)")
    add("--language", metavar="NAME", help="likewise, what the model writes its threads in")
    add("--method", choices=METHODS, default="apr", help="how to search (default: apr)")


def check_engine(name: str) -> None:
    """UsageError for a name that no engine has."""
    from apr.engine import ENGINES, GROUP
    from apr.plugins import find

    if name not in ENGINES:
        try:
            find(GROUP, name, known=ENGINES)
        except ValueError as error:
            raise UsageError(str(error)) from None


def asked_task(options: Any) -> str:
    """The task that is asked for, or what the model was trained for. UsageError if there is none of that name."""
    from contextlib import ExitStack

    from apr.policy import PolicyError, checkpoint, task_of

    try:
        with ExitStack() as files:
            name = task_of(checkpoint(options.model, files), options.task)
    except (ValueError, PolicyError) as error:
        raise UsageError(str(error)) from None
    open_task(name)
    return name


def open_task(name: str, method: Any = "apr") -> Task[Any]:
    """A task that the user names, which logs of its rollouts may then name too. UsageError if there is none."""
    from apr.shown import give
    from apr.task import load_task

    try:
        task = load_task(name, method)
    except ValueError as error:
        raise UsageError(str(error)) from None
    give(task)
    return task


def open_policy(
    engine: str,
    model: str | None,
    method: Any,
    server: str | None = None,
    cache_bytes: int | None = None,
    task: str | None = None,
    language: str | None = None,
    cache_dtype: str | None = None,
) -> Policy:
    """Load a model; `cache_bytes` and `cache_dtype` are the native engine's. UsageError if it cannot be."""
    from apr.policy import PolicyError, load_policy

    if engine != "sglang" and server is not None:
        raise UsageError("--server is for --engine sglang")
    waiting = Waiting()
    options: dict[str, Any] = {"url": server, "progress": waiting} if engine == "sglang" else {}
    cache = {"cache_bytes": cache_bytes, "cache_dtype": cache_dtype}
    options |= {name: value for name, value in cache.items() if value is not None}
    try:
        return load_policy(engine, model, method, task=task, language=language, **options)
    except PolicyError as error:
        raise UsageError(str(error)) from None
    finally:
        waiting.done()


class Waiting:
    """A line on stderr that counts the seconds until a server is up."""

    def __init__(self, what: str = "SGLang starts") -> None:
        self.what = what
        self._said = -1

    def __call__(self, seconds: float, line: str) -> None:
        if int(seconds) == self._said:
            return
        if sys.stderr.isatty():
            print(f"\r{self.what}, {seconds:.0f} s", end="", file=sys.stderr, flush=True)
            self._said = int(seconds)
        elif self._said < 0:
            note(f"{self.what}; this takes about a minute")
            self._said = 0

    def done(self) -> None:
        if self._said >= 0 and sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """One line for people, beside the data."""
    print(clean(text), file=sys.stderr, flush=True)


def compact(value: Any) -> str:
    """A JSON line, without its newline."""
    import json

    return json.dumps(value, separators=(",", ":"), allow_nan=False)
