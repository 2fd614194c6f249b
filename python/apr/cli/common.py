"""What several commands share: arguments that are read and refused alike, and the model they run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from shutil import get_terminal_size
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from apr.arguments import UsageError
from apr.engine import API_KEY, check
from apr.plain import clean, one_line
from apr.task import Method

if TYPE_CHECKING:
    from apr.policy import Policy
    from apr.task import Task

METHODS: tuple[Method, ...] = ("apr", "sos+")
"""Methods that a model can be asked for."""
FREE = "free"
"""The budget that is the model's own choice."""

SERVER_HELP = f"a running SGLang server, its key in ${API_KEY} (default: --engine sglang starts its own)"


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


def budget(text: str) -> int | None:
    """What a search may cost, in its task's measure; "free", which is None: the model's choice."""
    if text == FREE:
        return None
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither a whole number from 0 on nor {FREE!r}")
    return natural(text)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model runs, and on what."""
    add = parser.add_argument_group("model").add_argument
    add("--model", metavar="DIR|NAME", help="a checkpoint in Hugging Face layout, or a name on its hub, with its own "
        "tokenizer (default: the one that ships for task and method)")  # fmt: skip
    add("--method", choices=METHODS, help="how it searches: in threads (apr), or serially as the paper's rival (sos+) "
        "(default: what the model was trained for, or apr)")  # fmt: skip
    add("--task", metavar="NAME", help="a task's name, or module:attribute (default: what the model was trained for)")
    add("--language", metavar="NAME", help="what it writes its threads in, likewise")
    add("--engine", metavar="NAME", default="native", help="what runs it: native (default; on the CPU), torch, "
        "sglang, or module:attribute")  # fmt: skip
    add("--server", metavar="URL", help=SERVER_HELP)


def add_search_arguments(parser: argparse.ArgumentParser, units: str) -> argparse._ArgumentGroup:
    """How the model is asked and sampled, and where a rollout ends at the latest; `units` is what budgets count."""
    group = parser.add_argument_group("search")
    add = group.add_argument
    add(
        "--budget",
        type=budget,
        metavar="N",
        help=f"{units} to ask for, or {FREE}: the model's choice (default: {FREE})",
    )
    add("--temperature", type=temperature, default=0.0, metavar="T", help="of sampling; 0: greedy (default: 0)")
    add("--seed", type=natural, default=0, metavar="N", help="of sampling (default: 0)")
    add("--join", choices=("all", "first"), default="all", help="a parent goes on when all its children have ended, or "
        "at the first solution, ending the rest (default: all)")  # fmt: skip
    add("--max-threads", type=positive, default=64, metavar="N", help="threads of a rollout (default: 64)")
    add("--max-tokens", type=positive, metavar="N", help="sampled tokens of a rollout (default: no limit)")
    return group


def said(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """What arguments say themselves, by name, without a default. The parser is of no use any more after it."""
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return vars(parser.parse_intermixed_args(list(arguments)))


def check_engine(name: str, server: str | None = None) -> None:
    """UsageError for a name that no engine has, and for a server where none is asked."""
    try:
        check(name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if server is not None and name != "sglang":
        raise UsageError(f"--server is for --engine sglang, not {name}")


def asked(options: Any) -> tuple[str, Method]:
    """The task and the method that are asked for, or what the model was trained for. UsageError if there is no such
    model or task, or if it was trained for another method."""
    from apr.policy import task_and_method

    try:
        name, method = task_and_method(options.model, options.task, options.method)
    except ValueError as error:
        raise UsageError(str(error)) from None
    open_task(name, method)
    return name, method


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
    *,
    task: str | None = None,
    language: str | None = None,
    **native: Any,
) -> Policy:
    """Load a model, with the native engine's options that are not None. UsageError if it cannot be."""
    from apr.policy import PolicyError, load_policy

    check_engine(engine, server)
    # Kept: what a server said is wanted most when it ended.
    waiting = Waiting(mkdtemp(prefix="apr-sglang-") if engine == "sglang" and server is None else "")
    options: dict[str, Any] = {}
    if engine == "sglang":
        options = {"url": server, "log": waiting.log or None, "progress": waiting}
    options |= {name: value for name, value in native.items() if value is not None}
    try:
        return load_policy(engine, model, method, task=task, language=language, **options)
    except PolicyError as error:
        raise UsageError(str(error)) from None
    finally:
        waiting.done()


class Waiting:
    """A line on stderr that counts the seconds until a server is up, beside the last line of its log."""

    EVERY = 15
    """Seconds between lines where they cannot be rewritten."""

    def __init__(self, log: str) -> None:
        self.log = log
        """The directory that holds it."""
        self._said = -1

    def __call__(self, seconds: float, line: str) -> None:
        if self._said < 0:
            note(f"SGLang starts, which takes about a minute; its output goes to {self.log}")
        in_place = sys.stderr.isatty()
        now = int(seconds) if in_place else int(seconds) // self.EVERY
        if now == self._said:
            return
        text = one_line(f"{seconds:.0f} s  {line}")
        if in_place:
            room = get_terminal_size().columns - 1
            print(f"\r\033[K{text[:room]}", end="", file=sys.stderr, flush=True)
        elif now:
            note(text)
        self._said = now

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
