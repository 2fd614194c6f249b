"""A teacher's searches as samples, through the language that a model is to write them in.

Loss is on what a thread writes itself: its text, its spawns and its end. A prompt carries none, and neither does what a
join forces. A join that keeps the whole sequence goes on in the same sample; one that cuts it begins another, whose
kept trunk the sample before has trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

from apr.task import Search, Split, Teaches, Written
from apr.threads.language import Ids, Language, Spawn, Vocabulary, Writes
from apr.types import Sample

MISSES = 1000
"""Searches in a row without a sample that fits, after which there are taken to be none."""
PROBED = 200
"""Searches, over the whole run, in which every kind of token is taken to occur."""
WRITTEN = 1
"""The code of a token that the model writes and that is of no kind with a name; those of names come after it."""


class Taught(Language, Writes, Protocol):
    """A language that a teacher's search can be written in."""


class SearchLessons:
    """The lessons of a run: one search, one lesson."""

    def __init__(
        self,
        task: Teaches,
        language: Any,
        data: Mapping[str, Any],
        weights: Mapping[str, Any],
        *,
        seed: int,
        max_tokens: int,
    ) -> None:
        """ValueError, by key, for a weight that is none."""
        for kind, weight in weights.items():
            if type(weight) not in (int, float) or not 0 <= weight < math.inf:
                raise ValueError(f"weights.{kind}: {weight!r} is not a number from 0 on")
        self._task = task
        self._language: Taught = language
        self._data = data
        self._weights = weights
        self._seed = seed
        self._max_tokens = max_tokens

    @property
    def tokenizer(self) -> Vocabulary:
        return self._language.tokenizer

    @cached_property
    def _codes(self) -> dict[str, int]:
        """The code of each kind. Kinds have no list but the searches themselves."""
        searches = (self._search("train", self._seed, index, index / PROBED) for index in range(PROBED))
        names = {kind for search in searches for kind in _kinds(search)} - {""}
        return {name: code for code, name in enumerate(sorted(names), WRITTEN + 1)}

    @property
    def weights(self) -> tuple[float, ...]:
        return (0.0, 1.0, *(float(self._weights.get(name, 1.0)) for name in self._codes))

    @property
    def kinds(self) -> dict[str, frozenset[int]]:
        return {name: frozenset({code}) for name, code in self._codes.items()}

    def check(self) -> None:
        """ValueError, by key, for a weight of a kind that the teacher does not write, and if there is nothing to learn
        at the begin, in the middle or at the end of the run."""
        for name in self._weights:
            if name not in self._codes:
                known = ", ".join(self._codes) or "none"
                raise ValueError(f"weights.{name}: the teacher writes no such kind of token; known: {known}")
        for progress in (0.0, 0.5, 1.0):
            self.samples(0, progress)

    def samples(self, position: int, progress: float) -> tuple[list[Sample], int]:
        """The samples of the first lesson from a position on that has any, and the position after it."""
        return self._next("train", self._seed, position, progress)

    def validation(self, count: int) -> list[Sample]:
        """The samples of so many held-out lessons, as at the end of the run."""
        seed = self._seed + 1
        found = [self._lesson("val", seed, index, 1.0) for index in range(count)]
        return [*chain.from_iterable(found)] or self._next("val", seed, count, 1.0)[0]

    def _next(self, split: Split, seed: int, position: int, progress: float) -> tuple[list[Sample], int]:
        for place in range(position, position + MISSES):
            if lesson := self._lesson(split, seed, place, progress):
                return lesson, place + 1
        length = self._max_tokens
        raise ValueError(f"of {MISSES} lessons none has a thread of at most model.context_length, {length} tokens")

    def _lesson(self, split: Split, seed: int, index: int, progress: float) -> list[Sample]:
        samples = search_samples(self._search(split, seed, index, progress), self._language, self._codes)
        return [sample for sample in samples if len(sample.token_ids) <= self._max_tokens]

    def _search(self, split: Split, seed: int, index: int, progress: float) -> Search:
        return self._task.search(self._data, split=split, seed=seed, index=index, progress=progress)


def search_samples(search: Search, language: Taught, codes: Mapping[str, int]) -> list[Sample]:
    """The samples of a search: a thread's own, in the order of its writing, then those of its children. `codes` has
    kinds of token by name; all others have the code `WRITTEN`. ValueError if the language cannot read what it wrote."""
    return _thread(search, language.open(search.prompt), "0", 1, language, codes)


def _thread(
    search: Search, begin: Ids, thread: str, level: int, language: Taught, codes: Mapping[str, int]
) -> list[Sample]:
    """`level` is how deep its children are."""
    samples: list[Sample] = []
    below: list[Sample] = []
    ids, kinds = begin, bytes(len(begin))
    spawned = 0

    def write(more: Ids, code: int) -> None:
        nonlocal ids, kinds
        ids, kinds = ids + more, kinds + bytes([code]) * len(more)

    def leave() -> None:
        samples.append(Sample(ids, tuple(map(bool, kinds)), thread=thread, kinds=kinds))

    for part in search.parts:
        if isinstance(part, Written):
            write(language.encode(part.text), codes.get(part.kind, WRITTEN))
            continue
        write(language.spawn([child.prompt for child in part]), WRITTEN)
        action = language.action(ids, level)
        if not isinstance(action, Spawn) or len(action.children) != len(part):
            raise ValueError(f"the language {language.name} does not read the spawn that it wrote: {action}")
        for child, opened in zip(part, action.children, strict=True):
            below += _thread(child, opened.token_ids, f"{thread}.{spawned}", level + 1, language, codes)
            spawned += 1
        joined = language.join(ids, [child.answer for child in part], (), level)
        if joined.kept < len(ids):
            leave()
            ids, kinds = ids[: joined.kept], bytes(joined.kept)
        write(joined.token_ids, 0)
    write(language.end(search.answer), WRITTEN)
    leave()
    return samples + below


def _kinds(search: Search) -> set[str]:
    """The kinds of token in a search, its children's too."""
    found: set[str] = set()
    for part in search.parts:
        found |= {part.kind} if isinstance(part, Written) else set().union(*map(_kinds, part))
    return found
