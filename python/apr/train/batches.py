"""Supervised data: fresh teacher traces as padded batches of token ids.

Batches hold whole sequences, one a row and of like length, so nothing attends across sequences and little is padding.
A row of a thread that joined holds several branches, and a mask says what each sees.
What step s of a run holds is a pure function of recipe, seed and position.
Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import torch
from torch import Tensor

from apr._core import Lessons, Tokenizer, Traces
from apr.train.recipes import DataConfig, Part, SftConfig
from apr.types import Sample

T = TypeVar("T")

PADDING = 0.1
"""Largest share of a batch's positions that hold no token."""
MISSES = 1000
"""Lessons in a row without a sample that fits, after which there are taken to be none."""


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

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        layout = (self.positions_BT, self.visible_B1TT)
        return Batch(
            self.token_ids_BT.to(device),
            self.loss_mask_BT.to(device),
            *(None if tensor is None else tensor.to(device) for tensor in layout),
        )

    @property
    def loss_tokens(self) -> int:
        """Tokens that carry loss; the first of a row has nothing before it."""
        return int(self.loss_mask_BT[:, 1:].sum())


def lesson_stream(config: SftConfig, parts: Sequence[Part], split: str, seed: int) -> Lessons:
    """The endless lessons of a mix of parts."""
    data: DataConfig = config.data
    streams = [
        (
            part.weight,
            Traces(
                seed,
                config.method,
                beam_size=part.beam_size,
                child_beam_size=part.child_beam_size,
                promising=part.promising,
                ranking=data.ranking,
                largest=data.largest,
                slack=data.slack,
                waves=data.waves or None,
                shuffled=data.shuffled,
                conditioned=part.conditioned,
                numbers=part.numbers,
                max_number=part.max_number,
                target=part.target,
                split=split,
                held_out_targets=list(data.held_out_targets),
            ),
        )
        for part in parts
    ]
    return Lessons(
        seed,
        streams,
        children=data.children,
        cancelled=data.cancelled,
        max_tokens=config.model.context_length,
    )


def _samples(lesson: Sequence[tuple[bytes, bytes]]) -> list[Sample]:
    return [Sample(tuple(ids), tuple(map(bool, mask))) for ids, mask in lesson]


class SftData:
    """Lessons of a run, step by step."""

    def __init__(self, config: SftConfig) -> None:
        """ValueError if a stage has no lesson, or none that fits the model."""
        self._config = config
        self._stages: list[tuple[float, Lessons]] = []
        for place, stage in enumerate(config.data.stages):
            try:
                lessons = lesson_stream(config, stage.parts, "train", config.seed)
                self._next(lessons, 0)
            except ValueError as error:
                raise ValueError(f"data.stages[{place}]: {error}") from None
            self._stages.append((stage.until, lessons))
        self.position = 0
        """The first lesson that no step has taken yet."""

    def step(self, step: int) -> list[Sample]:
        """The samples of a step: lessons from `position` on until they hold the step's tokens. Moves `position`."""
        progress = step / self._config.steps
        lessons = next((s for until, s in self._stages if progress < until), self._stages[-1][1])
        samples: list[Sample] = []
        tokens = 0
        while tokens < self._config.tokens_per_step:
            lesson, self.position = self._next(lessons, self.position)
            samples += lesson
            tokens += sum(len(s.token_ids) for s in lesson)
        return samples

    def _next(self, lessons: Lessons, position: int) -> tuple[list[Sample], int]:
        """The samples of the first lesson from a position on that has any, and the position after it. Samples that are
        longer than the model's context are left out."""
        for place in range(position, position + MISSES):
            if lesson := _samples(lessons.get(place, 1)[0]):
                return lesson, place + 1
        length = self._config.model.context_length
        raise ValueError(f"of {MISSES} lessons none has a thread of at most model.context_length, {length} tokens")

    def validation(self) -> list[Sample]:
        """Held-out samples of the last stage; the same at every call."""
        lessons = lesson_stream(self._config, self._config.data.stages[-1].parts, "val", self._config.seed + 1)
        found = [s for lesson in lessons.get(0, self._config.validation_lessons) for s in _samples(lesson)]
        return found or self._next(lessons, 0)[0]


def share(samples: Sequence[Sample], rank: int, count: int) -> list[Sample]:
    """The samples of one of `count` processes: longest first, each to the process with the fewest tokens so far."""
    tokens = [0] * count
    own: list[Sample] = []
    for sample in sorted(samples, key=lambda s: len(s.token_ids), reverse=True):
        least = tokens.index(min(tokens))
        tokens[least] += len(sample.token_ids)
        if least == rank:
            own.append(sample)
    return own


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
    if all(len(sample.branches) == 1 for sample in samples):
        return Batch(ids, mask)
    layouts = [_layout(sample, length) for sample in samples]
    return Batch(ids, mask, torch.stack([p for p, _ in layouts]), torch.stack([v for _, v in layouts])[:, None])


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


def result_positions(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Number of the equation each position's digit is a result of, from 1; 0 elsewhere. [B, T], int64.

    Results are runs of digits after an equals sign that the model writes: what has to be computed, not copied.
    """
    ids_BT = batch.token_ids_BT
    digits = torch.tensor([tokenizer.token_id(str(d)) for d in range(10)])
    digit_BT = torch.isin(ids_BT, digits)
    equals_BT = torch.eq(ids_BT, tokenizer.token_id("=") or 0)
    positions = torch.arange(ids_BT.shape[1]).expand_as(ids_BT)
    # The last token that is no digit, at or before each position.
    before_BT = torch.where(digit_BT, 0, positions).cummax(dim=1).values
    result_BT = digit_BT & equals_BT.gather(1, before_BT) & batch.loss_mask_BT
    number_BT = equals_BT.flatten().cumsum(0).view_as(ids_BT)
    return torch.where(result_BT, number_BT, 0)


def large_results(results_BT: Tensor) -> Tensor:
    """Which of the positions that `result_positions` numbered are digits of a result from 1,000 on. [B, T], bool."""
    digits_N = results_BT.flatten().bincount()
    return (results_BT > 0) & (digits_N[results_BT] > 3)


def state_positions(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Whether each position is in the numbers or operations of a state line that the model writes. [B, T], bool.

    They are recalled from the lines, long before, that named the node and its parent.
    """
    ids_BT = batch.token_ids_BT
    positions = torch.arange(ids_BT.shape[1]).expand_as(ids_BT)

    def last(tokens: Sequence[int]) -> Tensor:
        return torch.where(torch.isin(ids_BT, torch.tensor(tokens)), positions, -1).cummax(dim=1).values

    opens, begins, *ends = tokenizer.state_tokens
    inside_BT = (last([begins]) > last([opens])) & (last([opens]) > last(ends)) & (last([begins]) < positions)
    return inside_BT & batch.loss_mask_BT


def verdict_positions(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Whether each position is a verdict of the model: equal to the target or not. [B, T], bool."""
    return torch.isin(batch.token_ids_BT, torch.tensor(tokenizer.verdict_tokens)) & batch.loss_mask_BT


def joined_positions(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Whether each position is one that the model writes after a join. [B, T], bool."""
    return torch.eq(batch.token_ids_BT, tokenizer.join_end or 0).cumsum(1).bool() & batch.loss_mask_BT
