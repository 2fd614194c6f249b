"""A policy: a checkpoint on an engine, with the language it writes."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from apr._core import Tokenizer
from apr.engine import ENGINES, load_engine
from apr.engine.base import Engine, EngineError
from apr.threads.grammar import Grammar, Method, default_grammar

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
SHIPPED_MODEL = "apr-tiny"
"""The checkpoint inside the package that is run when no other is named."""


class PolicyError(ValueError):
    """A policy cannot be loaded: one line for people."""


@dataclass(slots=True)
class Policy:
    """A loaded model: what samples, and the language it writes."""

    engine: Engine
    grammar: Grammar
    files: ExitStack = field(default_factory=ExitStack)
    """Holds the shipped checkpoint's files on disk as long as they are needed."""

    async def close(self) -> None:
        await self.engine.close()
        self.files.close()


def load_policy(engine: str = "native", model: str | None = None, method: Method = "apr", **options: Any) -> Policy:
    """Load a checkpoint, by default the shipped one, with its tokenizer and the engine's own `options`. PolicyError if
    it cannot be."""
    if engine not in ENGINES:
        raise PolicyError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")
    files = ExitStack()
    directory = checkpoint(model, files)
    try:
        tokenizer = _compact(directory)
        if tokenizer is not None:
            return Policy(load_engine(engine, str(directory), **options), default_grammar(method, tokenizer), files)
        from apr.countdown.spelled import ForeignTokenizer, SpelledCountdown
        from apr.engine.phrases import PhraseEngine

        grammar = SpelledCountdown(method, ForeignTokenizer.read(directory))
        spelled = PhraseEngine(load_engine(engine, str(directory), **options), grammar.settled_stop)
        return Policy(spelled, grammar, files)
    except ModuleNotFoundError as error:
        extra = "sglang" if engine == "sglang" else "train"
        raise PolicyError(f"the {engine} engine needs {error.name}: {install(extra)}") from None
    except EngineError as error:
        raise PolicyError(str(error)) from None
    except (ValueError, OSError, RuntimeError) as error:
        raise PolicyError(f"cannot load {directory}: {_first_line(error)}") from None


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


def _compact(directory: Path) -> Tokenizer | None:
    """The directory's tokenizer if it is of this project's kind, or the built-in one if it has none."""
    words = directory / "tokenizer.json"
    if not words.is_file():
        return None if (directory / "tokenizer.model").is_file() else Tokenizer()
    try:
        return Tokenizer.from_json(words.read_text())
    except ValueError:
        return None


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
