"""A policy: a checkpoint on an engine, with the task it is for and the language it writes."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from apr.engine import load_engine
from apr.engine.base import Engine, EngineError
from apr.limits import Limits
from apr.origin import ORIGIN_FILE, read_origin
from apr.plugins import noted, vouch
from apr.task import GROUP as TASKS
from apr.task import Method, Task, load_task
from apr.threads.language import GROUP as LANGUAGES
from apr.threads.language import EndsInText, Language, load_language
from apr.threads.run import rollout
from apr.threads.tree import ThreadTree

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
SHIPPED_MODEL = "apr-tiny"
"""The checkpoint inside the package that is run when no other is named."""


class PolicyError(ValueError):
    """A policy cannot be loaded: one line for people."""


@dataclass(slots=True)
class Policy:
    """A loaded model: what samples, what it is asked, and the language it answers in."""

    engine: Engine
    task: Task[Any]
    language: Language
    method: Method
    files: ExitStack = field(default_factory=ExitStack)
    """Holds the shipped checkpoint's files on disk as long as they are needed."""

    async def rollout(self, problem: Any, limits: Limits | None = None, **options: Any) -> ThreadTree:
        """Run one rollout, as `apr.rollout` does."""
        asked, spoken = self.task, self.language
        return await rollout(problem, self.engine, limits, task=asked, language=spoken, method=self.method, **options)

    async def close(self) -> None:
        await self.engine.close()
        self.files.close()


def load_policy(
    engine: str = "native",
    model: str | None = None,
    method: Method = "apr",
    *,
    task: str | None = None,
    language: str | None = None,
    **options: Any,
) -> Policy:
    """Load a checkpoint, by default the shipped one, with its tokenizer and the engine's own `options`. Task and
    language are those that the checkpoint notes, unless they are named. PolicyError if it cannot be."""
    files = ExitStack()
    directory = checkpoint(model, files)
    try:
        asked = load_task(task_of(directory, task), method)
        spoken = load_language(language_of(directory, language), directory, method)
        sampling = load_engine(engine, str(directory), **options)
        if isinstance(spoken, EndsInText):
            from apr.engine.phrases import PhraseEngine

            sampling = PhraseEngine(sampling, spoken.settled_stop)
        return Policy(sampling, asked, spoken, method, files)
    except ModuleNotFoundError as error:
        extra = "sglang" if engine == "sglang" else "train"
        raise PolicyError(f"the {engine} engine needs {error.name}: {install(extra)}") from None
    except EngineError as error:
        raise PolicyError(str(error)) from None
    except (ValueError, OSError, RuntimeError) as error:
        raise PolicyError(f"cannot load {directory}: {_first_line(error)}") from None


def task_of(directory: Path, given: str | None = None) -> str:
    """The task that a checkpoint is asked: the one that the user gave, else the one that it notes. ValueError for a
    noted one that is neither installed nor given."""
    vouch(given)
    return given or noted(TASKS, read_origin(directory).task, directory / ORIGIN_FILE)


def language_of(directory: Path, given: str | None = None) -> str:
    """The language that it answers in, likewise."""
    vouch(given)
    return given or noted(LANGUAGES, read_origin(directory).language, directory / ORIGIN_FILE)


def checkpoint(model: str | None, files: ExitStack) -> Path:
    """The directory of a checkpoint, by default the shipped one, on disk as long as `files` is open. A name on the
    Hugging Face hub is fetched from there. PolicyError if there is none."""
    directory = _shipped(files) if model is None else Path(model)
    if model is not None and _HUB_NAME.fullmatch(model) and not directory.parent.exists():
        directory = _download(model)
    if not (directory / "config.json").is_file():
        what = "holds no model: config.json is missing" if directory.is_dir() else "is not a directory"
        raise PolicyError(f"{directory} {what}")
    return directory


def _download(name: str) -> Path:
    """A checkpoint of the hub, or of its cache on disk."""
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise PolicyError(
            f"{name} is not a directory; names on a hub need huggingface_hub: {install('train')}"
        ) from None
    try:
        directory = Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model"]))
        if not any(directory.glob("*.safetensors")):
            # Older weights, which newer ones often stand beside.
            directory = Path(snapshot_download(name, allow_patterns=["*.bin"]))
        return directory
    except Exception as error:
        # The client raises what its many layers raise.
        raise PolicyError(f"{name} is not a directory, nor on the hub: {_first_line(error)}") from None


def install(extra: str) -> str:
    """How to get what is missing."""
    return f"install the extra with `pip install 'apr[{extra}]'`"


def _shipped(files: ExitStack) -> Path:
    place = resources.files("apr") / "checkpoints" / SHIPPED_MODEL
    if not (place / "config.json").is_file():
        raise PolicyError("this installation has no model of its own; name one with --model DIR")
    return files.enter_context(resources.as_file(place))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
