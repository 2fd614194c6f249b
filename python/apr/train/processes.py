"""The processes of one run: those of `torchrun`, or this one alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Processes:
    """What they do together; with one process nothing has to be done."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        together = dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.count = dist.get_world_size() if together else 1

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()

    def add(self, totals: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count == 1:
            return totals
        summed = totals.to(self.device)
        dist.all_reduce(summed)
        return summed.to(totals.device)

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        return bool(self.add(torch.tensor([float(here)]))[0] > 0)

    def gather(self, own: list[Any]) -> list[Any]:
        """The items of all processes, in the order of their ranks."""
        if self.count == 1:
            return own
        everyone: list[Any] = [None] * self.count
        dist.all_gather_object(everyone, own)
        return [item for part in everyone for item in part]

    def most(self, count: int) -> int:
        """The largest of all processes' counts."""
        counts: list[int] = self.gather([count])
        return max(counts)
