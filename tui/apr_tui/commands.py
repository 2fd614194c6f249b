"""`apr watch` and `apr demo`: bad input is refused on stderr before a screen opens. 0 done, 2 bad input."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from apr.grammar import Method
from apr.policy import Policy, PolicyError, checkpoint, load_policy
from apr_tui.app import AprApp
from apr_tui.feed import Refused
from apr_tui.log import Library, Player
from apr_tui.settings import Models, Settings
from apr_tui.solve import SearchScreen, SolveScreen
from apr_tui.track import Track


class Parser(argparse.ArgumentParser):
    """Raises instead of leaving."""

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message} (see `{self.prog} --help`)")


def parser(name: str, description: str, example: str) -> Parser:
    """A command's parser, with what all of them take."""
    made = Parser(prog=f"apr {name}", allow_abbrev=False, description=description, epilog=f"example: {example}")
    made.add_argument("--web", action="store_true", help="serve it to a browser, with textual-serve")
    return made


def run(name: str, arguments: list[str], make: Parser, open_app: Callable[[argparse.Namespace], AprApp]) -> int:
    """Parse, open, and run until the user leaves; the exit status."""
    try:
        options = make.parse_args(arguments)
        app = open_app(options)
        if options.web:
            return _serve(name, [word for word in arguments if word != "--web"])
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Refused("this is a screen and needs a terminal")
    except (Refused, PolicyError) as refused:
        print(f"apr {name}: {refused}", file=sys.stderr)
        return 2
    app.run()
    return app.return_code or 0


def _serve(name: str, arguments: list[str]) -> int:
    if find_spec("textual_serve") is None:
        raise Refused("--web needs textual-serve: `pip install textual-serve`")
    command = shlex.join([sys.executable, "-m", "apr", name, *arguments])
    import_module("textual_serve.server").Server(command, title=f"apr {name}").serve()
    return 0


def watch(arguments: list[str]) -> int:
    """`apr watch`, which `apr solve` without numbers opens too."""
    made = parser(
        "watch",
        "Watch the threads of a search: of a recorded log of events, which may still grow, or, without one, of the "
        "problems you type in.",
        "apr solve 22 26 31 53 --target 27 --json > events.jsonl; apr watch events.jsonl",
    )
    made.add_argument("log", nargs="?", type=Path, metavar="LOG", help="log of events, one JSON object a line")
    made.add_argument("--model", metavar="DIR", help="checkpoint for apr (default: the shipped model)")
    made.add_argument("--sos-model", metavar="DIR", help="checkpoint for sos+, to compare with")
    made.add_argument("--engine", default=None, metavar="NAME", help="native (default), torch or sglang")
    made.add_argument("--server", metavar="URL", help="a running SGLang server for --model")
    return run("watch", arguments, made, _watch)


def _watch(options: argparse.Namespace) -> AprApp:
    if options.log is not None:
        if options.model or options.sos_model or options.engine or options.server:
            raise Refused("a log is only read: --model, --sos-model, --engine and --server go without one")
        if not options.log.is_file():
            raise Refused(f"there is no file {options.log}")
        return AprApp(SearchScreen([Track.of_log(options.log)], f"{options.log} holds no events yet"))
    directories: dict[Method, str | None] = {"apr": options.model}
    if options.sos_model is not None:
        directories["sos+"] = options.sos_model

    def load(engine: str, method: Method) -> Policy:
        if method not in directories:
            raise PolicyError(f"no model for {method} is known; name one with --sos-model DIR")
        extra = {"url": options.server} if engine == "sglang" else {}
        return load_policy(engine, directories[method], method, **extra)

    models = Models(load)
    settings = Settings(engine=options.engine or "native")
    # What cannot be loaded is said before a screen opens; the native engine loads in milliseconds.
    for method in directories if settings.engine == "native" else ():
        models.keep(settings.engine, method, load(settings.engine, method))
    return AprApp(SolveScreen(models, settings), models)


def demo(arguments: list[str]) -> int:
    """`apr demo`: recorded searches of one problem, apr beside sos+."""
    made = parser("demo", "Replay two recorded searches of one problem, side by side: no model runs.", "apr demo")
    return run("demo", arguments, made, lambda options: demo_app())


def demo_app(speed: float = 1.0) -> AprApp:
    """The recorded searches that ship, playing."""
    path = Path(str(resources.files("apr_tui") / "demo.jsonl"))
    library = Library(path)
    library.scan()
    tracks = []
    for rollout in library.starts:
        track = Track(library)
        track.player = Player(library.events(rollout), speed)
        tracks.append(track)
    return AprApp(SearchScreen(tracks))
