"""How threads write, in token ids: what a thread wants when it stopped, and how it is told what its children found.

A language knows no problem and no budget; what a prompt asks for is its task's. Cuts are made in token ids: what a
thread keeps is never decoded and encoded again. A language is found by name through the entry-point group
`apr.languages`, or as `module:attribute`; what is found is called with a checkpoint's directory (None: a model that is
yet to be trained) and the method.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from apr.conversation import Prompt
from apr.plugins import find
from apr.task import Method

GROUP = "apr.languages"
"""The entry-point group of languages."""

Ids: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a thread's token sequence goes on."""

    kept: int
    """Tokens of the sequence that stay; all of them in a language that appends, else the trunk before what is
    replaced."""
    token_ids: Ids
    """What is put behind them."""


@dataclass(frozen=True, slots=True)
class Child:
    """What a spawned thread begins with."""

    token_ids: Ids
    """A prompt of its own, or all that its parent holds with a header behind it."""
    prompt: str
    """Its part as people and the task read it."""
    inherited: int = 0
    """How many of the tokens its parent holds as well: the first ones. The thread's text begins behind them."""
    temperature: float | None = None
    """What it samples at; None: as the rollout does."""
    max_tokens: int | None = None
    """Most tokens it may sample."""


@dataclass(frozen=True, slots=True)
class Done:
    """The thread has ended."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """The thread wants children and waits for them."""

    children: tuple[Child, ...]
    """In the order of their writing; equal ones as often as written."""


@dataclass(frozen=True, slots=True)
class Replace:
    """The thread may not write what it ended in; something else is forced in its place, and it goes on."""

    instead: Resumption


@dataclass(frozen=True, slots=True)
class Malformed:
    """The thread wants children, and nobody can read which."""

    reason: str


Action: TypeAlias = Done | Spawn | Replace | Malformed


class Language(Protocol):
    """A way to write threads, over one tokenizer."""

    @property
    def name(self) -> str:
        """What it is called in logs and checkpoints: a name of the entry-point group, or `module:attribute`."""
        ...

    @property
    def stop_token_ids(self) -> Ids:
        """Tokens at which decoding stops, so that `action` is asked; the end token is one."""
        ...

    def open(self, prompt: Prompt) -> Ids:
        """The token ids that a thread with this prompt begins with. ValueError for a conversation where the language
        has none."""
        ...

    def text(self, token_ids: Sequence[int]) -> str:
        """The ids as text, without begin and end. Text of a prefix is a prefix of the text. Ids that have no text are
        left out."""
        ...

    def action(self, token_ids: Sequence[int], level: int) -> Action:
        """What the thread with this whole sequence wants, whose last token is a stop token; children would be `level`
        deep."""
        ...

    def join(
        self, token_ids: Sequence[int], results: Sequence[str | None], cancelled: Collection[int], level: int
    ) -> Resumption:
        """Tell the parent, whose sequence ends in a spawn. `results[i]` is what child i claims, None if nothing;
        `cancelled` holds the indexes of children that were stopped."""
        ...

    def settled(self, text: str) -> int:
        """Characters of an open thread's text that no join and no replacement will take back."""
        ...

    def claim(self, text: str, begin: int, depth: int) -> str | None:
        """What a thread says it found, unverified: the main thread's answer (depth 0), or what its parent is told of a
        child. It was opened with the first `begin` characters of its text."""
        ...


@runtime_checkable
class EndsInText(Protocol):
    """A language whose stop tokens only may end something; decoding goes on where none does."""

    def settled_stop(self, token_ids: Sequence[int]) -> bool:
        """Whether a sequence that stopped at one of the stop tokens has really come to an end."""
        ...


@runtime_checkable
class SpawnsFirst(Protocol):
    """A language whose main thread begins with a spawn, before it writes anything."""

    def first(self, token_ids: Sequence[int]) -> Spawn | Malformed | None:
        """Its children, for a main thread that was opened with these tokens; None: it writes first, as others do."""
        ...


class Vocabulary(Protocol):
    """The tokenizer of a model that is trained."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def pad(self) -> int: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int: ...
    def encode(self, text: str, /) -> Sequence[int]:
        """Text as tokens."""
        ...

    def to_json(self) -> str:
        """The `tokenizer.json` of a checkpoint."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A language that a model can be trained to write."""

    @property
    def tokenizer(self) -> Vocabulary:
        """What its ids mean."""
        ...

    @property
    def spawn_token(self) -> int | None:
        """The token that a spawn begins with; None: several spell it."""
        ...


@runtime_checkable
class Writes(Trainable, Protocol):
    """A language that a teacher's search can be written in."""

    def encode(self, text: str) -> Ids:
        """Text of a thread, as tokens."""
        ...

    def spawn(self, prompts: Sequence[str]) -> Ids:
        """What a thread writes to spawn children with these prompts; the last token is a stop token."""
        ...

    def end(self, answer: str | None) -> Ids:
        """What a thread writes last: its answer, if it has one, and the end token."""
        ...


class OpenLanguage(Protocol):
    """Makes a language for a checkpoint."""

    def __call__(self, directory: Path | None, method: Method) -> Language:
        """ValueError or OSError if the checkpoint's tokenizer cannot write it."""
        ...


def load_language(name: str, directory: Path | None, method: Method = "apr") -> Language:
    """A language by name, over a checkpoint's tokenizer. ValueError if there is none."""
    opened: OpenLanguage = find(GROUP, name)
    if not callable(opened):
        raise ValueError(f"the language {name!r} is none: it cannot be opened")
    try:
        language = opened(directory, method)
    except TypeError as error:
        raise ValueError(f"the language {name!r} is none: {error}") from error
    if not hasattr(language, "action"):
        raise ValueError(f"the language {name!r} is none: it reads no thread")
    return language
