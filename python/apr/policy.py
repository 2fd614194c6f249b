"""A policy: a checkpoint on an engine, with the task it is for and the language it writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

from apr.engine import ENGINES, load_engine
from apr.engine.base import Engine, EngineError
from apr.limits import Limits
from apr.origin import ORIGIN_FILE, read_origin
from apr.plugins import noted, vouch
from apr.task import GROUP as TASKS
from apr.task import Method, Task, load_task
from apr.threads.language import GROUP as LANGUAGES
from apr.threads.language import Language, load_language
from apr.threads.run import finish, rollout
from apr.threads.tree import ThreadTree

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
SHIPPED_MODEL = "apr-tiny"
"""The checkpoint inside the package that is run when no other is named."""
SHIPPED_MODELS: Mapping[Method, str] = {"apr": SHIPPED_MODEL, "sos+": "sos-plus-tiny"}
"""Those that are run for a method, where no task is named that has one of its own."""
_CHECKPOINTS = resources.files("apr") / "checkpoints"


class PolicyError(ValueError):
    """A policy cannot be loaded: one line for people."""


@dataclass(slots=True)
class Policy:
    """A loaded model: what samples, what it is asked, and the language it answers in. `apr.load` makes one."""

    engine: Engine
    """Takes token ids and gives token ids; its `context_length` is the longest sequence, in tokens."""
    task: Task[Any]
    """Makes problems (`task.problems`), asks them and judges answers."""
    language: Language
    """How threads are written in token ids."""
    method: Method
    """How it is asked to search."""
    files: ExitStack = field(default_factory=ExitStack, repr=False)
    """Holds the shipped checkpoint's files on disk as long as they are needed."""

    def run(self, problem: Any, limits: Limits | None = None, **options: Any) -> ThreadTree:
        """Run one rollout to its end and return its tree, in a script or in a notebook. Options, defaults (greedy, the
        budget the model's choice) and errors are those of `apr.run_threads`."""
        return finish(self.rollout(problem, limits, **options))

    async def rollout(self, problem: Any, limits: Limits | None = None, **options: Any) -> ThreadTree:
        """The same, awaited: any number of rollouts may run on one loop at once."""
        asked, spoken = self.task, self.language
        return await rollout(problem, self.engine, limits, task=asked, language=spoken, method=self.method, **options)

    async def close(self) -> None:
        """Release the engine; what it was at ends as interrupted. Not needed at a program's end."""
        await self.engine.close()
        self.files.close()

    def __enter__(self) -> Policy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        finish(self.close())


def load(
    model: str | Path | None = None,
    *,
    method: Method | None = None,
    engine: str = "native",
    task: str | None = None,
    language: str | None = None,
    **options: Any,
) -> Policy:
    """Load a model to run searches with: `apr.load().run(problem)`.

    `model` is a checkpoint in Hugging Face layout, the name of one that ships (`sudoku-tiny`) or a name on its hub;
    without it the model runs that ships for the task and the method. Method, task and language are those that the
    checkpoint notes unless they are named, and apr, Countdown and the authors' traces where it notes none. `engine` is
    "native" (on the CPU), "torch" or "sglang", or one of the entry-point group apr.engines; `options` are its
    own, such as `threads` (CPU threads) and `cache_bytes` of the native one and `url` of SGLang's. PolicyError, a
    ValueError in one line, if it cannot be."""
    return load_policy(engine, None if model is None else str(model), method, task=task, language=language, **options)


def load_policy(
    engine: str = "native",
    model: str | None = None,
    method: Method | None = None,
    *,
    task: str | None = None,
    language: str | None = None,
    **options: Any,
) -> Policy:
    """What `load` does."""
    if model is None and task is not None and engine in ENGINES:
        check_ships(task, method or "apr")
    files = ExitStack()
    directory = checkpoint(model, files, method, task)
    try:
        method, asked, spoken = meant(directory, method, task, language)
        return Policy(load_engine(engine, str(directory), **options), asked, spoken, method, files)
    except PolicyError:
        raise
    except ModuleNotFoundError as error:
        extra = "sglang" if engine == "sglang" else "train"
        raise PolicyError(f"the {engine} engine needs {error.name}: {install(extra)}") from None
    except EngineError as error:
        raise PolicyError(str(error)) from None
    except (ValueError, OSError, RuntimeError) as error:
        raise PolicyError(f"cannot load {directory}: {_first_line(error)}") from None


def meant(
    directory: Path, method: Method | None, task: str | None, language: str | None
) -> tuple[Method, Task[Any], Language]:
    """What a checkpoint is asked, and how it answers: as given, or as it notes. ValueError or OSError if it cannot be,
    which no engine need be there to tell."""
    method = method_of(directory, method)
    asked = load_task(task_of(directory, task), method)
    return method, asked, load_language(language_of(directory, language), directory, method)


def task_and_method(model: str | None, task: str | None, method: Method | None) -> tuple[str, Method]:
    """The task that a model is asked and the method by which it searches: as given, or as its checkpoint notes.
    ValueError if there is no such model, or if it was trained for another method."""
    with ExitStack() as files:
        directory = checkpoint(model, files, method, task)
        return task_of(directory, task), method_of(directory, method)


def method_of(directory: Path, given: Method | None = None) -> Method:
    """The method that a checkpoint is asked for: the one that the user gave, else the one that it notes, else apr.
    PolicyError if it notes another than was given; ValueError if its note cannot be read."""
    own = read_origin(directory).method
    if given is not None and own is not None and given != own:
        raise PolicyError(f"{directory} was trained for the method {own}, not {given}: name another model")
    return given or own or "apr"


def task_of(directory: Path, given: str | None = None) -> str:
    """The task that a checkpoint is asked: the one that the user gave, else the one that it notes. ValueError for a
    noted one that is neither installed nor given."""
    vouch(given)
    return given or noted(TASKS, read_origin(directory).task, directory / ORIGIN_FILE)


def language_of(directory: Path, given: str | None = None) -> str:
    """The language that it answers in, likewise."""
    vouch(given)
    return given or noted(LANGUAGES, read_origin(directory).language, directory / ORIGIN_FILE)


def checkpoint(model: str | None, files: ExitStack, method: Method | None = None, task: str | None = None) -> Path:
    """The directory of a checkpoint, by default the one that ships for the method and the task, on disk as long as
    `files` is open. A name may be that of a shipped one; one on the Hugging Face hub is fetched from there. PolicyError
    if there is none."""
    if model is None:
        directory = _shipped(files, method or "apr", task)
    elif model in shipped_models() and not Path(model).exists():
        directory = files.enter_context(resources.as_file(_CHECKPOINTS / model))
    else:
        directory = Path(model)
    if model is not None and _HUB_NAME.fullmatch(model) and not directory.parent.exists():
        directory = _download(model)
    if not (directory / "config.json").is_file():
        if directory.is_dir():
            raise PolicyError(f"{directory} holds no model: config.json is missing")
        raise PolicyError(f"{directory} is not a directory, nor a model that ships: {', '.join(shipped_models())}")
    return directory


def shipped_models() -> list[str]:
    """The names of the checkpoints inside the package."""
    if not _CHECKPOINTS.is_dir():
        return []
    return sorted(place.name for place in _CHECKPOINTS.iterdir() if (place / "config.json").is_file())


def ships_for(task: str, method: Method) -> str | None:
    """The name of the shipped checkpoint that was trained for both; None if there is none."""
    for name in shipped_models():
        with resources.as_file(_CHECKPOINTS / name) as directory:
            origin = read_origin(directory)
        if (origin.task, origin.method) == (task, method):
            return name
    return None


def default_model(task: str | None, method: Method) -> str:
    """The name of the shipped checkpoint that is run where none is named. PolicyError if none ships for the method."""
    if method not in SHIPPED_MODELS:
        raise PolicyError(f"no model for the method {method} ships; name one with --model DIR")
    # A task of others' has none that ships; their engine may not look at it.
    return (None if task is None else ships_for(task, method)) or SHIPPED_MODELS[method]


def check_ships(task: str, method: Method) -> None:
    """PolicyError if no model for a task ships: another's would answer it with what it knows."""
    try:
        name = load_task(task, method).name
    except ValueError as error:
        raise PolicyError(str(error)) from None
    if method in SHIPPED_MODELS and ships_for(name, method) is None:
        raise PolicyError(f"no model for the task {name} ships; name one with --model DIR")


_WORDS = ("*.json", "*.jinja", "*.model", "*.txt")
"""The files of a checkpoint that are no weights: its shape, its tokenizer, its chat template."""


def _download(name: str) -> Path:
    """A checkpoint of the hub, or of its cache on disk."""
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise PolicyError(
            f"{name} is not a directory; names on a hub need huggingface_hub: {install('train')}"
        ) from None
    try:
        directory = Path(snapshot_download(name, allow_patterns=[*_WORDS, "*.safetensors"]))
        if not any(directory.glob("*.safetensors")):
            # Older weights, which newer ones often stand beside.
            directory = Path(snapshot_download(name, allow_patterns=["*.bin"]))
        return directory
    except Exception as error:
        # The client raises what its many layers raise.
        raise PolicyError(f"{name} is not a directory, nor on the hub: {_first_line(error)}") from None


def install(extra: str) -> str:
    """How to get what is missing."""
    return f"`uv sync --inexact --extra {extra}` in a checkout, elsewhere `pip install 'WHEEL[{extra}]'`"


def _shipped(files: ExitStack, method: Method, task: str | None) -> Path:
    place = _CHECKPOINTS / default_model(task, method)
    if not (place / "config.json").is_file():
        raise PolicyError(f"this installation has no model of its own for {method}; name one with --model DIR")
    return files.enter_context(resources.as_file(place))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
