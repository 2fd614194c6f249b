"""Supervised data: a run's lessons as padded batches of token ids.

Batches hold whole sequences, one a row and of like length, so nothing attends across sequences and little is padding.
A row of a thread that joined holds several branches, and a mask says what each sees.
What step s of a run holds is a pure function of recipe, seed and position.
Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from apr.train.lessons import lessons_of
from apr.train.recipes import SftConfig
from apr.types import Sample

T = TypeVar("T")

PADDING = 0.1
"""Largest share of a batch's positions that hold no token."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A padded batch; made on the CPU."""

    token_ids_BT: Tensor
    """int64."""
    loss_mask_BT: Tensor
    """bool; false on padding."""
    positions_BT: Tensor | None = None
    """int64, the place of each token in its own sequence; None: as it stands in the row."""
    visible_B1TT: Tensor | None = None
    """bool, which positions each position attends to; None: all up to itself."""
    kinds_BT: Tensor | None = None
    """uint8, the code of each token's kind; 0 on padding. None: no sample tells."""

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        others = (self.positions_BT, self.visible_B1TT, self.kinds_BT)
        return Batch(
            self.token_ids_BT.to(device),
            self.loss_mask_BT.to(device),
            *(None if tensor is None else tensor.to(device) for tensor in others),
        )

    @property
    def codes_BT(self) -> Tensor:
        """int64, the code of each token's kind; where nobody tells, 1 where it carries loss."""
        return (self.loss_mask_BT if self.kinds_BT is None else self.kinds_BT).long()

    @property
    def loss_tokens(self) -> int:
        """Tokens that carry loss; the first of a row has nothing before it."""
        return int(self.loss_mask_BT[:, 1:].sum())


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

    def validation(self) -> list[Sample]:
        """Held-out samples; the same at every call."""
        return self.lessons.validation(self._config.validation_lessons)


def share(samples: Sequence[Sample], rank: int, count: int, width: int) -> list[Sample]:
    """The samples of one of `count` processes that train a model of this `width`: the dearest first, each to the
    process that has the least to do so far."""
    work = [0.0] * count
    own: list[Sample] = []
    for sample in sorted(samples, key=lambda sample: _work(sample, width), reverse=True):
        least = work.index(min(work))
        work[least] += _work(sample, width)
        if least == rank:
            own.append(sample)
    return own


def _work(sample: Sample, width: int) -> float:
    """What a sample costs to train on, in tokens without attention. A layer has about 12 width^2 weights, and attends
    to half of a row where it is causal, to all of it where a mask says."""
    tokens, attended = len(sample.token_ids), 2 if len(sample.branches) > 1 else 1
    return tokens * (1 + attended * tokens / (12 * width))


def by_length(samples: Sequence[T], tokens_per_batch: int, sample_of: Callable[[T], Sample]) -> list[list[T]]:
    """Sort rows by length and cut them into groups that fill at most `tokens_per_batch` positions, of which at most
    `PADDING` are padding.

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
            length = key(row)[1]
            positions = (len(rows) + 1) * length
            if rows and (positions > tokens_per_batch or tokens + length < (1 - PADDING) * positions):
                cut.append(rows)
                rows, tokens = [], 0
            rows.append(row)
            tokens += length
        cut.append(rows)
    return cut


def batches(samples: Sequence[Sample], pad: int, tokens_per_batch: int) -> list[Batch]:
    """The samples as padded batches of at most `tokens_per_batch` positions, rows of like length together."""
    return [collate(rows, pad) for rows in by_length(samples, tokens_per_batch, lambda sample: sample)]


def collate(samples: Sequence[Sample], pad: int) -> Batch:
    """Pad samples on the right."""
    length = max(len(s.token_ids) for s in samples)
    ids = torch.full((len(samples), length), pad, dtype=torch.int64)
    mask = torch.zeros((len(samples), length), dtype=torch.bool)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.token_ids)] = torch.tensor(sample.token_ids)
        mask[row, : len(sample.token_ids)] = torch.tensor(sample.loss_mask)
    kinds = _kinds(samples, length) if all(sample.kinds for sample in samples) else None
    if all(len(sample.branches) == 1 for sample in samples):
        return Batch(ids, mask, kinds_BT=kinds)
    layouts = [_layout(sample, length) for sample in samples]
    positions, visible = torch.stack([p for p, _ in layouts]), torch.stack([v for _, v in layouts])[:, None]
    return Batch(ids, mask, positions, visible, kinds)


def _kinds(samples: Sequence[Sample], length: int) -> Tensor:
    kinds = b"".join(sample.kinds.ljust(length, b"\0") for sample in samples)
    return torch.frombuffer(bytearray(kinds), dtype=torch.uint8).view(len(samples), length)


def _layout(sample: Sample, length: int) -> tuple[Tensor, Tensor]:
    """Positions, [T], and what each position attends to, [T, T], of a row with branches; padding sees itself."""
    positions_T = torch.arange(length)
    visible_TT = torch.ones(length, length, dtype=torch.bool).tril()
    before = torch.arange(0)
    for branch, (begin, end) in zip(sample.branches, sample.spans(), strict=True):
        own = torch.arange(begin, end)
        positions_T[own] = branch.kept + torch.arange(len(own))
        # The branch's whole sequence: what it keeps of the one before, then its own.
        kept = before[: branch.kept]
        visible_TT[begin:end, :begin] = False
        visible_TT[begin:end, kept] = True
        before = torch.cat([kept, own])
    return positions_T, visible_TT


def runs(among_BT: Tensor, wrong_BT: Tensor) -> tuple[int, int]:
    """Runs of neighbouring positions that are among these: how many have no wrong one, and how many there are."""
    begins_BT = among_BT.clone()
    begins_BT[:, 1:] &= ~among_BT[:, :-1]
    number_BT = begins_BT.flatten().cumsum(0).view_as(begins_BT)
    count = int(begins_BT.sum())
    return count - len(set(number_BT[among_BT & wrong_BT].tolist())), count
