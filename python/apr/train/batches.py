"""Samples as padded batches of token ids: whole sequences, one a row, so nothing attends across sequences.

A row of a thread that joined holds several branches, and a mask says what each sees.
Shapes: B rows, T positions.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from apr.train.data import TIGHT, Padding, by_length
from apr.types import Sample


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
    def layout(self) -> dict[str, Tensor | None]:
        """What a model takes beside tokens, where they do not attend to all before them in the row."""
        if self.positions_BT is None:
            return {}
        return {"position_ids": self.positions_BT, "attention_mask": self.visible_B1TT}

    @property
    def codes_BT(self) -> Tensor:
        """int64, the code of each token's kind; where nobody tells, 1 where it carries loss."""
        return (self.loss_mask_BT if self.kinds_BT is None else self.kinds_BT).long()


def batches(samples: Sequence[Sample], pad: int, tokens_per_batch: int, padding: Padding = TIGHT) -> list[Batch]:
    """The samples as padded batches of at most `tokens_per_batch` positions, rows of like length together."""
    cut = by_length(samples, tokens_per_batch, lambda sample: sample, padding)
    return [collate(rows, pad, padding) for rows in cut]


def collate(samples: Sequence[Sample], pad: int, padding: Padding = TIGHT) -> Batch:
    """Pad samples on the right, and with rows that hold nothing."""
    rows, length = padding.shape(len(samples), max(len(s.token_ids) for s in samples))
    samples = [*samples, *[Sample((pad,), (False,), kinds=b"\0")] * (rows - len(samples))]
    ids = torch.full((len(samples), length), pad, dtype=torch.int64)
    mask = torch.zeros((len(samples), length), dtype=torch.bool)
    for row, sample in enumerate(samples):
        # Several times as fast as a tensor of a tuple.
        ids[row, : len(sample.token_ids)] = torch.frombuffer(array("q", sample.token_ids), dtype=torch.int64)
        mask[row, : len(sample.token_ids)] = torch.frombuffer(bytearray(sample.loss_mask), dtype=torch.bool)
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
