"""Gradients on one GPU by CUDA graphs: the kernels of a batch's shape are recorded once and then started all at once.

A small model's step is otherwise mostly spent on starting them, one after the other. Batches need to have few shapes.

Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from apr.train.losses import sft_loss

_FIXED = ("default", "linear", "llama3", "yarn")
"""Types of positions that are the same whatever a row's length is."""


class Graphs:
    """The summed gradients of a step's batches."""

    def __init__(self, model: PreTrainedModel, logits: Callable[[Tensor], Tensor]) -> None:
        """`logits` are the model's, [B, T, V]. ValueError if its positions depend on a row's length, which it would
        look up between kernels."""
        rope = (getattr(model.config, "rope_parameters", None) or {}).get("rope_type", "default")
        if rope not in _FIXED:
            raise ValueError(f"cuda_graphs: positions of type {rope} depend on a row's length")
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._logits = logits
        self._device = self._parameters[0].device
        self._found = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._loss = torch.zeros((), device=self._device)
        self._recorded: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self._memory = torch.cuda.graph_pool_handle()

    def begin(self) -> None:
        """Forget the last step's."""
        torch._foreach_zero_(self._found)
        self._loss.zero_()

    def add(self, token_ids_BT: Tensor, weights_BT: Tensor) -> None:
        """Add the gradients of a batch's loss, whose tokens have these weights."""
        rows, length = token_ids_BT.shape
        if (rows, length) not in self._recorded:
            self._recorded[rows, length] = self._record(rows, length)
        graph, ids, weights = self._recorded[rows, length]
        ids.copy_(token_ids_BT)
        weights.copy_(weights_BT)
        graph.replay()

    def finish(self) -> Tensor:
        """Give the parameters their gradients; the loss of all tokens with a weight, every one taken as one."""
        for parameter, gradient in zip(self._parameters, self._found, strict=True):
            parameter.grad = gradient
        return self._loss

    def _record(self, rows: int, length: int) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        ids_BT = torch.zeros(rows, length, dtype=torch.long, device=self._device)
        # Nothing weighs anything yet, so this adds nothing.
        weights_BT = torch.zeros(rows, length, device=self._device)
        # The first time kernels are chosen and memory is taken, which cannot be recorded.
        aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            self._gradients(ids_BT, weights_BT)
        torch.cuda.current_stream(self._device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            self._gradients(ids_BT, weights_BT)
        return graph, ids_BT, weights_BT

    def _gradients(self, ids_BT: Tensor, weights_BT: Tensor) -> None:
        loss, metrics = sft_loss(self._logits(ids_BT), ids_BT, weights_BT)
        torch._foreach_add_(self._found, list(torch.autograd.grad(loss, self._parameters, materialize_grads=True)))
        self._loss.add_(metrics["loss"])
