"""Muon (Jordan et al. 2024): momentum whose matrices are made orthogonal before each step.

The same update as `torch.optim.Muon`, which always works in bfloat16, a matrix at a time. Matrices of one shape go
through the iteration together here, and in float32 where the processor has no bfloat16 arithmetic: emulated, a step of
a small model takes longer than its gradient. A matrix in shares is gathered for its update, which every process
computes alike and keeps its part of.
Shapes: N matrices, R rows, C columns.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from apr.train.precision import has_bfloat16
from apr.train.shards import shared_as, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonal updates, decoupled weight decay; for matrices only."""

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        if any(parameter.ndim != 2 for group in self.param_groups for parameter in group["params"]):
            raise ValueError("Muon is for matrices")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step by the gradients there are."""
        for group in self.param_groups:
            alike: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for (rows, columns), parameters in alike.items():
                # One exchange for all matrices of a shape.
                updates_NRC = orthogonal(whole(torch.stack([self._momentum(parameter) for parameter in parameters])))
                rate = group["lr"] * math.sqrt(max(1.0, rows / columns))
                for parameter, update in zip(parameters, updates_NRC, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(shared_as(parameter, update), alpha=-rate)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(buffer, MOMENTUM)


def orthogonal(matrices_NRC: Tensor) -> Tensor:
    """Each matrix with singular values near 1, by a Newton-Schulz iteration; in the dtype that it came in."""
    turned = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    dtype = torch.bfloat16 if has_bfloat16(matrices_NRC.device) else torch.float32
    x_NRC = (matrices_NRC.mT if turned else matrices_NRC).to(dtype)
    x_NRC = x_NRC / x_NRC.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram_NRR = x_NRC @ x_NRC.mT
        x_NRC = torch.baddbmm(x_NRC, torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c), x_NRC, beta=a)
    return (x_NRC.mT if turned else x_NRC).to(matrices_NRC.dtype)
