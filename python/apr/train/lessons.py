"""What supervised training is on: lessons of a task in a language, each some samples.

A token's kind is a code in `Sample.kinds`; `Lessons` says what each code weighs and which kinds have a name. They are
made from a teacher's searches (`searches`), unless the task brings lessons of its own in the tokens of the language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from apr.task import Method, Teaches, load_task
from apr.threads.language import Language, Trainable, Vocabulary, Writes, load_language
from apr.tokenizer import ForeignTokenizer
from apr.train.searches import SearchLessons
from apr.types import Sample

if TYPE_CHECKING:
    from apr.train.recipes import SftConfig


class Lessons(Protocol):
    """The endless lessons of a run: pure functions of their arguments."""

    @property
    def tokenizer(self) -> Vocabulary:
        """What the ids mean."""
        ...

    @property
    def weights(self) -> Sequence[float]:
        """What a token counts in the loss, by its code; 0: it is not trained."""
        ...

    @property
    def kinds(self) -> Mapping[str, frozenset[int]]:
        """The kinds that have a name, and the codes of their tokens."""
        ...

    def check(self) -> None:
        """ValueError, by key, if somewhere in the run there is nothing to learn."""
        ...

    def samples(self, position: int, progress: float) -> tuple[list[Sample], int]:
        """The samples of the first lesson from a position on that has any, and the position after it; `progress` is the
        share of the run that is done. Samples that are longer than the model's context are left out."""
        ...

    def validation(self, count: int) -> list[Sample]:
        """The samples of so many held-out lessons, as at the end of the run."""
        ...


@runtime_checkable
class BringsLessons(Protocol):
    """A task with lessons of its own, made in the tokens of one language."""

    @property
    def lessons_language(self) -> str:
        """That language; in others the task is taught by its searches, if it has any."""
        ...

    def lessons(self, data: Mapping[str, Any], weights: Mapping[str, Any], *, seed: int, max_tokens: int) -> Lessons:
        """The lessons of a recipe's `[data]` and `[weights]`. ValueError, by key, for what they may not hold."""
        ...


def trained_language(name: str, start: Path | None, method: Method) -> Language:
    """The language in the tokens of a model of others, where it can be trained to write it; else in those of its own,
    which a check then compares. ValueError if there is none."""
    with suppress(ValueError, OSError):
        language = load_language(name, start, method)
        if isinstance(language, Trainable) and isinstance(language.tokenizer, ForeignTokenizer):
            return language
    return load_language(name, None, method)


def lessons_of(config: SftConfig, start: Path | None = None) -> Lessons:
    """The lessons of a recipe, in the tokens of the checkpoint that a run begins with (None: of a new model).
    ValueError for a task without any in its language, and as they say themselves."""
    if config.model is None and start is None:
        raise ValueError("model: the recipe has none, and a run of it begins with weights of others (--start-from)")
    data, weights, seed, max_tokens = config.data, config.weights, config.seed, config.longest
    task = load_task(config.task, config.method)
    if isinstance(task, BringsLessons) and task.lessons_language == config.language:
        return task.lessons(data, weights, seed=seed, max_tokens=max_tokens)
    if not isinstance(task, Teaches):
        raise ValueError(f"task: {config.task} has no teacher whose searches could be written in {config.language}")
    language = trained_language(config.language, start, config.method)
    if not isinstance(language, Writes):
        raise ValueError(f"language: no teacher's search can be written in {config.language}")
    return SearchLessons(task, language, data, weights, seed=seed, max_tokens=max_tokens)
