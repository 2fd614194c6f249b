"""`apr watch` and `apr demo`: bad input is refused on stderr before a screen opens. 0 done, 2 bad input."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

from apr.arguments import Parser, UsageError
from apr.limits import Limits
from apr.policy import Policy, PolicyError, load_policy, ships_for, task_and_method
from apr.shown import give
from apr.task import Method, load_task
from apr_tui.app import THEMES, AprApp
from apr_tui.feed import Refused
from apr_tui.log import Library
from apr_tui.memory import Memory, default_path
from apr_tui.plain import clean
from apr_tui.player import Player
from apr_tui.search import SearchScreen
from apr_tui.settings import FREE, METHODS, Models, Settings, engine, natural, seconds, temperature
from apr_tui.solve import SolveScreen
from apr_tui.track import Track

T = TypeVar("T")

DRIVER_VARIABLE = "TEXTUAL_DRIVER"
"""Set where somebody else than a terminal shows the screen, such as textual-serve."""


def parser(name: str, description: str, examples: Sequence[str]) -> Parser:
    """A command's parser, with what all of them take."""
    made = Parser(prog=f"apr {name}", description=description, examples=examples)
    made.add_argument("--theme", metavar="NAME", help="colours: light, dark, or the name of a theme; remembered")
    made.add_argument("--web", action="store_true", help="serve it to a browser (extra `web`)")
    made.add_argument("--port", type=int, metavar="N", help="of --web (default: 8000)")
    return made


def run(
    name: str, arguments: list[str], make: Parser, open_app: Callable[[argparse.Namespace, Memory], AprApp | None]
) -> int:
    """Parse, open, and run until the user leaves; the exit status. No app: all is done already."""
    try:
        options = make.parse_args(arguments)
        memory = Memory(default_path())
        app = open_app(options, memory)
        if app is None:
            return 0
        if options.theme is not None:
            theme = THEMES.get(options.theme, options.theme)
            if theme not in app.available_themes:
                known = ", ".join((*THEMES, *sorted(app.available_themes)))
                raise Refused(f"there is no theme {options.theme}; there are {known}")
            memory.keep("theme", theme)
        served = DRIVER_VARIABLE in os.environ
        if options.web and not served:
            return _serve(name, arguments, 8000 if options.port is None else options.port)
        if options.port is not None and not served:
            raise Refused("--port is of --web")
        if not (served or (sys.stdin.isatty() and sys.stderr.isatty())):
            raise Refused("this is a screen and needs a terminal")
    except (Refused, UsageError, PolicyError) as refused:
        print(clean(f"apr {name}: {refused}"), file=sys.stderr)
        return 2
    app.run()
    return app.return_code or 0


def _serve(name: str, arguments: list[str], port: int) -> int:
    if find_spec("textual_serve") is None:
        raise Refused("--web needs textual-serve: `pip install textual-serve`")
    command = shlex.join([sys.executable, "-m", "apr", name, *arguments])
    # The package's own page loads a font from elsewhere.
    pages = str(resources.files("apr_tui") / "web")
    server = import_module("textual_serve.server").Server(command, port=port, title=f"apr {name}", templates_path=pages)
    try:
        server.serve()
    except (OSError, OverflowError) as error:
        raise Refused(f"port {port} cannot be had: {error}") from None
    return 0


def watch(arguments: list[str]) -> int:
    """`apr watch`, which `apr solve` without numbers opens too."""
    made = parser(
        "watch",
        "Watch the threads of a search: of a recorded log of events, which may still grow, or, without one, of the "
        "problems you type in.",
        [
            "apr watch",
            "apr watch --model sudoku-tiny --budget free",
            "apr solve 22 26 31 53 --target 27 --json > events.jsonl; apr watch events.jsonl",
        ],
    )
    made.add_argument("log", nargs="?", type=Path, metavar="LOG", help="log of events, one JSON object a line")
    add = made.add_argument
    add("--model", metavar="DIR", help="checkpoint directory (default: the one that ships for task and method)")
    add("--sos-model", metavar="DIR", help="checkpoint for sos+, to compare with (default: the one that ships)")
    add("--task", metavar="NAME", help="a task, or module:attribute (default: what the model was trained for)")
    add("--language", metavar="NAME", help="likewise, what the model writes its threads in")
    add("--engine", type=_engine, metavar="NAME", help="native (default), torch, sglang, or module:attribute")
    add("--server", metavar="URL", help="a running SGLang server (default: --engine sglang starts its own)")
    add("--method", choices=METHODS, help="how to search at first (default: what the model was trained for)")
    add(
        "--budget",
        type=_budget,
        metavar="N",
        help="child threads or tokens, as the task counts, to ask for at first; free (default): the model's choice",
    )
    add("--join", choices=("all", "first"), help="wait for all children (default), or for the first solution")
    add("--temperature", type=_temperature, metavar="T", help="of sampling (default: 0, greedy)")
    add("--seed", type=_natural, metavar="N", help="of sampling (default: 0)")
    add("--max-threads", type=_positive, metavar="N", help="threads of a search (default: 64)")
    add("--max-tokens", type=_positive, metavar="N", help="sampled tokens of a search (default: no limit)")
    add("--timeout", type=_seconds, metavar="SECONDS", help="of a search (default: no limit)")
    return run("watch", arguments, made, _watch)


def _budget(text: str) -> int | str:
    try:
        return FREE if text == FREE else natural(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither a whole number from 0 on nor {FREE!r}") from None


def _natural(text: str) -> int:
    return _read(natural, text)


def _positive(text: str) -> int:
    if (value := _natural(text)) == 0:
        raise argparse.ArgumentTypeError("it is at least 1")
    return value


def _seconds(text: str) -> float:
    return _read(seconds, text)


def _engine(text: str) -> str:
    return _read(engine, text)


def _temperature(text: str) -> float:
    return _read(temperature, text)


def _read(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _watch(options: argparse.Namespace, memory: Memory) -> AprApp:
    if options.log is not None:
        shows = ("log", "task", "web", "port", "theme")
        if any(value is not None for name, value in vars(options).items() if name not in shows):
            raise Refused("a log is only read: options for a search go without one")
        if not options.log.is_file():
            raise Refused(f"there is no file {options.log}")
        if options.task is not None:
            give_task(options.task)
        return AprApp(SearchScreen([Track.of_log(options.log)], f"{options.log} holds no events yet"), memory=memory)
    try:
        asked, method = task_and_method(options.model, options.task, options.method)
    except ValueError as error:
        raise Refused(str(error)) from None
    give_task(asked)
    named: dict[Method, str | None] = {method: options.model}
    if options.sos_model is not None:
        named["sos+"] = options.sos_model

    def load(engine: str, method: Method) -> Policy:
        if method not in named and ships_for(asked, method) is None:
            raise PolicyError(
                f"no model for {method} ships for the task {asked}; `apr watch --sos-model DIR` names one"
            )
        extra: dict[str, Any] = {}
        if engine == "sglang":
            # Kept, as what a server said is wanted most when it ended.
            log = None if options.server else mkdtemp(prefix="apr-sglang-")
            extra = {"url": options.server, "log": log, "progress": lambda _, line: models.hear(f"see {log}: {line}")}
        return load_policy(engine, named.get(method), method, task=asked, language=options.language, **extra)

    threads = {} if options.max_threads is None else {"threads": options.max_threads}
    limits = Limits(**threads, total_tokens=options.max_tokens, seconds=options.timeout)
    models = Models(load, lambda method: load_task(asked, method), limits)
    given = {name: getattr(options, name) for name in ("engine", "budget", "join", "temperature", "seed")}
    changed: dict[str, Any] = {
        name: None if value == FREE else value for name, value in given.items() if value is not None
    }
    kept = memory.get("settings")
    remembered = Settings.remembered(kept.get(models.task(method).name)) if isinstance(kept, dict) else None
    if remembered is not None and options.model is None and options.method is None:
        ours = remembered.method in named or ships_for(asked, remembered.method) is not None
        method = remembered.method if ours else method
    if remembered is None or remembered.method != method:
        remembered = Settings.of(method, models.form(method))
    settings = replace(remembered, **changed)
    if options.server is not None and settings.engine != "sglang":
        raise Refused(f"--server is for --engine sglang, not {settings.engine}")
    # What cannot be loaded is said before a screen opens; the native engine loads in milliseconds.
    if settings.engine == "native":
        models.keep(settings.engine, method, load(settings.engine, method))
    return AprApp(SolveScreen(models, settings, memory), models, memory)


def give_task(name: str) -> None:
    """Let rollouts of this task be shown by it. Refused if there is none of that name."""
    try:
        give(load_task(name))
    except ValueError as error:
        raise Refused(str(error)) from None


def demo(arguments: list[str]) -> int:
    """`apr demo`: recorded searches of one problem, apr beside sos+."""
    made = parser("demo", "Replay two recorded searches of one problem, side by side: no model runs.", ["apr demo"])
    return run("demo", arguments, made, lambda options, memory: demo_app(memory=memory))


def demo_app(speed: float = 0.2, memory: Memory | None = None) -> AprApp:
    """The recorded searches that ship, playing; they took under a second, too fast to watch."""
    path = Path(str(resources.files("apr_tui") / "demo.jsonl"))
    library = Library(path)
    library.scan()
    tracks = []
    for rollout in library.starts:
        track = Track(library)
        track.player = Player(library.events(rollout), speed)
        tracks.append(track)
    return AprApp(SearchScreen(tracks), memory=memory)
