"""The batches of each supervised step, in order.

They are made as they are asked for; for a GPU, whose step takes no longer than its lessons take to be made, ahead, in a
process of their own.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset

from apr.train.batches import Batch, batches
from apr.train.data import TIGHT, Padding, SftData, loose, share
from apr.train.processes import Processes
from apr.train.recipes import SftConfig

AHEAD = 8
"""Steps that are made before they are asked for."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one process trains on at a step."""

    batches: list[Batch]
    tokens: int
    """Of all processes."""
    position: int
    """The first lesson that no step has taken by then."""


def padding_of(device: torch.device, width: int) -> Padding:
    """How rows are made alike for a model of this `width` on a device."""
    return TIGHT if device.type == "cpu" else loose(width)


def steps_of(data: SftData, start: Path | None, first: int, width: int, processes: Processes) -> Iterator[Step]:
    """The steps of a run from step `first` on, which begins with the lesson at `data.position`; for a model of this
    `width`. `start` is what the data's run began with."""
    cut = _Cut(width, processes.rank, processes.count, padding_of(processes.device, width))
    if processes.device.type == "cpu":
        return cut.steps(data, first)
    ahead = _Ahead(data.config, start, data.position, first, cut)
    # A process that is forked would share the GPU with this one.
    loader = DataLoader(
        ahead,
        batch_size=None,
        num_workers=1,
        prefetch_factor=AHEAD,
        multiprocessing_context="spawn",
        worker_init_fn=_leave_interrupts,
    )
    return iter(loader)


@dataclass(frozen=True, slots=True)
class _Cut:
    """What is one process's of a step."""

    width: int
    rank: int
    count: int
    padding: Padding

    def steps(self, data: SftData, first: int) -> Iterator[Step]:
        pad, room = data.lessons.tokenizer.pad, data.config.tokens_per_batch
        for step in range(first, data.config.steps):
            samples = data.step(step)
            own = share(samples, self.rank, self.count, self.width)
            tokens = sum(len(sample.token_ids) for sample in samples)
            yield Step(batches(own, pad, room, self.padding), tokens, data.position)


@dataclass(frozen=True)
class _Ahead(IterableDataset[Step]):
    """The steps, made where it is iterated over."""

    config: SftConfig
    start: Path | None
    position: int
    first: int
    cut: _Cut

    def __iter__(self) -> Iterator[Step]:
        data = SftData(self.config, self.start)
        data.position = self.position
        return self.cut.steps(data, self.first)


def _leave_interrupts(worker: int) -> None:
    """An interrupt is for the trainer, which ends this process when it is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
