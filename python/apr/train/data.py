"""Supervised data: the lessons of each step, shared among processes and cut into rows of like length, so that little is
padding.

What step s of a run holds is a pure function of recipe, seed and position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from apr.train.lessons import lessons_of
from apr.train.recipes import SftConfig
from apr.types import Sample

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Padding:
    """How much of a batch may hold no token."""

    share: float
    """Of its positions at most this share, or so many as `positions`, whichever is more; beside what shapes are rounded
    up by."""
    positions: int = 0
    rounded: bool = False
    """Batches have few shapes: rows and positions are rounded up."""

    def shape(self, rows: int, longest: int) -> tuple[int, int]:
        """Rows and positions of a batch."""
        return (rounded(rows, 2), rounded(longest, 64)) if self.rounded else (rows, longest)

    def fits(self, rows: int, longest: int, tokens: int) -> bool:
        """Whether rows that hold so many tokens together may be a batch."""
        return rows * longest - tokens <= max(self.share * rows * longest, self.positions)


TIGHT = Padding(0.1)
"""Where positions are what costs: on a CPU."""


def loose(width: int, *, rounded: bool) -> Padding:
    """Where a batch costs something by itself: on a GPU the milliseconds that its kernels take to be started, in which
    it would compute about 1e11 / width^3 positions of a model of this `width`."""
    return Padding(0.1, int(1e11 / width**3), rounded)


def rounded(count: int, least: int) -> int:
    """The next of `least` times 1, 2, 3, 4, 6, 8, 12 and so on: never half as much again."""
    size = least
    while size < count:
        if size > least and 3 * size // 2 >= count:
            return 3 * size // 2
        size *= 2
    return size


@dataclass(frozen=True, slots=True)
class Step:
    """What one process trains on at a step."""

    samples: list[Sample]
    tokens: int
    """Of all processes."""
    position: int
    """The first lesson that no step has taken by then."""


class SftData:
    """Lessons of a run, step by step."""

    def __init__(self, config: SftConfig, start: Path | None = None) -> None:
        """`start` is what the run begins with. ValueError if there is no lesson somewhere in the run, or none that fits
        the model."""
        self._config = config
        self.lessons = lessons_of(config, start)
        self.lessons.check()
        self.position = 0
        """The first lesson that no step has taken yet."""

    def step(self, step: int) -> list[Sample]:
        """The samples of a step: lessons from `position` on until they hold the step's tokens. Moves `position`."""
        progress = step / self._config.steps
        samples: list[Sample] = []
        tokens = 0
        while tokens < self._config.tokens_per_step:
            lesson, self.position = self.lessons.samples(self.position, progress)
            samples += lesson
            tokens += sum(len(s.token_ids) for s in lesson)
        return samples

    def steps(self, first: int, rank: int, count: int, width: int) -> Generator[Step, None, None]:
        """What one of `count` processes that train a model of this `width` has of step `first` and of each after it."""
        for step in range(first, self._config.steps):
            samples = self.step(step)
            tokens = sum(len(sample.token_ids) for sample in samples)
            yield Step(share(samples, rank, count, width), tokens, self.position)

    def validation(self) -> list[Sample]:
        """Held-out samples; the same at every call."""
        return self.lessons.validation(self._config.validation_lessons)


def share(samples: Sequence[Sample], rank: int, count: int, width: int) -> list[Sample]:
    """The samples of one of `count` processes that train a model of this `width`: the dearest first, each to the
    process that has the least to do so far."""
    done = [0.0] * count
    own: list[Sample] = []
    for sample in sorted(samples, key=lambda sample: cost(sample, width), reverse=True):
        least = done.index(min(done))
        done[least] += cost(sample, width)
        if least == rank:
            own.append(sample)
    return own


def cost(sample: Sample, width: int) -> float:
    """What a sample costs to train on, in tokens without attention. A layer has about 12 width^2 weights, and attends
    to half of a row where it is causal, to all of it where a mask says."""
    tokens, attended = len(sample.token_ids), 2 if len(sample.branches) > 1 else 1
    return tokens * (1 + attended * tokens / (12 * width))


def by_length(
    samples: Sequence[T], tokens_per_batch: int, sample_of: Callable[[T], Sample], padding: Padding = TIGHT
) -> list[list[T]]:
    """Sort rows by length and cut them into groups that fill at most `tokens_per_batch` positions, of which no more
    than `padding` says are empty.

    A sample longer than that is a group by itself. Rows with several branches, which need a mask, stand apart.
    """

    def key(row: T) -> tuple[bool, int]:
        sample = sample_of(row)
        return len(sample.branches) > 1, len(sample.token_ids)

    cut: list[list[T]] = []
    for _, alike in groupby(sorted(samples, key=key), key=lambda row: key(row)[0]):
        rows: list[T] = []
        tokens = 0
        for row in alike:
            length, count = key(row)[1], len(rows) + 1
            full = math.prod(padding.shape(count, length)) > tokens_per_batch
            if rows and (full or not padding.fits(count, length, tokens + length)):
                cut.append(rows)
                rows, tokens = [], 0
            rows.append(row)
            tokens += length
        cut.append(rows)
    return cut
