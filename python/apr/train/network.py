"""A model as a trainer computes with it: in shares where there are several processes, compiled, in its precision.

Whoever computes with shares needs all the others to compute too. So processes with fewer batches run along on nothing,
and gradients are exchanged once, with the last batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from apr.train.model import compile_blocks, compiled
from apr.train.precision import compute_dtype
from apr.train.processes import Processes
from apr.train.recipes import RlConfig, SftConfig
from apr.train.shards import after_turns, before_turn, shard


def records(config: SftConfig | RlConfig, processes: Processes) -> bool:
    """Whether gradients are those of recorded `Graphs`."""
    wanted = isinstance(config, SftConfig) and config.cuda_graphs
    return wanted and processes.count == 1 and processes.device.type == "cuda"


class Network:
    """A model of one run, brought to its device; `model` itself is changed. Of several processes the first has its
    weights, and hands the others their shares."""

    def __init__(
        self, model: PreTrainedModel, processes: Processes, config: SftConfig | RlConfig, *, learns: bool = True
    ) -> None:
        """One that does not learn is not worth compiling. ValueError for processes that the recipe cannot group."""
        self.model = model
        self._processes = processes
        self._device = processes.device
        self._dtype = compute_dtype(config.autocast, self._device)
        self._forward: Callable[..., Any] = model
        if learns and config.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        if learns and config.compile and processes.count > 1:
            compile_blocks(model, self._device)
        elif learns and config.compile and not records(config, processes):
            self._forward = compiled(model, self._device)
        shard(model, processes, self._dtype, config.sharding)

    def logits(self, token_ids_BT: Tensor, **layout: Tensor | None) -> Tensor:
        """[B, T, V]; `layout` is what the model takes beside tokens."""
        # Shares are rounded as they are gathered, half the bytes: nothing is left to cast.
        casts = self._processes.count == 1 and self._dtype != torch.float32
        with torch.autocast(self._device.type, self._dtype) if casts else nullcontext():
            found: Tensor = self._forward(input_ids=token_ids_BT, use_cache=False, **layout).logits
        return found

    def add_gradients(self, losses: Sequence[Callable[[], Tensor]]) -> None:
        """Compute these losses one after the other and add their gradients to the parameters', summed over all
        processes' losses."""
        turns = self._processes.most(len(losses))
        for turn in range(turns):
            before_turn(self.model, turn, turns)
            torch.autograd.backward(losses[turn]() if turn < len(losses) else self._nothing())
        after_turns(self.model)

    @torch.no_grad()
    def compute(self, batches: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
        """What these come to, without gradients."""
        turns = self._processes.most(len(batches))
        found = [batch() for batch in batches]
        for _ in range(len(batches), turns):
            self._nothing()
        return found

    def _nothing(self) -> Tensor:
        """A loss that has no gradient."""
        return self.logits(torch.zeros(1, 2, dtype=torch.long, device=self._device)).sum() * 0.0
