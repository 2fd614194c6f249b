"""Optimisers under one schedule, for every trainer; and what makes a step on the CPU fast."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from apr.train.muon import Muon
from apr.train.processes import Processes
from apr.train.recipes import OptimizerConfig
from apr.train.shards import own, shared_as, whole


def keep_freed_memory() -> None:
    """Let glibc hand freed tensors out again instead of giving them back to the system.

    A step on the CPU frees and takes gigabytes; faulting the pages in anew took up to half of the time.
    """
    if sys.platform != "linux":
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 2**28)
    except (OSError, AttributeError):
        # Another C library: it keeps what it likes.
        return


class Diverged(FloatingPointError):
    """Training has left the finite numbers: one line for people."""

    def __init__(self, text: str, *, updated: bool) -> None:
        super().__init__(f"{text}; a lower learning rate may help")
        self.updated = updated
        """The weights are no longer those of the last whole step."""


class Optimizers:
    """One optimiser, or Muon beside AdamW, under one schedule; of parameters in shares each process updates its own."""

    def __init__(self, model: nn.Module, config: OptimizerConfig, processes: Processes) -> None:
        self._config = config
        self._processes = processes
        self._parameters = dict(model.named_parameters())
        hidden: dict[str, nn.Parameter] = {}
        rest: dict[str, nn.Parameter] = {}
        for name, parameter in self._parameters.items():
            matrix = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (hidden if matrix and config.name == "muon" else rest)[name] = parameter
        decay = config.weight_decay
        adamw = torch.optim.AdamW(rest.values(), lr=config.learning_rate, betas=config.betas, weight_decay=decay)
        self._all: list[tuple[float, torch.optim.Optimizer]] = [(config.learning_rate, adamw)]
        self._holders: dict[str, torch.optim.Optimizer] = dict.fromkeys(rest, adamw)
        """By the parameter's name, who updates it."""
        if hidden:
            muon = Muon(hidden.values(), lr=config.muon_learning_rate, weight_decay=decay)
            self._all.append((config.muon_learning_rate, muon))
            self._holders |= dict.fromkeys(hidden, muon)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self._parameters.values())).device

    def update(self, step: int, steps: int) -> float:
        """Take step `step` of `steps`, counted from 0, that the gradients say; their norm before they are clipped.

        Diverged if it is not finite, and the weights stay; or if the weights are not finite any more.
        """
        norm = whole(nn.utils.clip_grad_norm_(self._parameters.values(), self._config.clip or math.inf))
        if not torch.isfinite(norm):
            self.forget()
            raise Diverged(f"step {step + 1}: the gradient is not finite", updated=False)
        rate = rate_at(step, steps, self._config)
        for peak, optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
            optimizer.step()
        self.forget()
        shares = [own(parameter.detach()) for parameter in self._parameters.values()]
        # Of all tensors at once; one without numbers has no largest.
        largest = torch._foreach_norm([numbers for numbers in shares if numbers.numel()], math.inf)
        finite = not largest or bool(torch.stack(largest).isfinite().all())
        if self._processes.any(not finite):
            raise Diverged(f"step {step + 1}: the weights are not finite any more", updated=True)
        return float(norm)

    def forget(self) -> None:
        """Drop the gradients of a step that is given up."""
        for _, optimizer in self._all:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """What they remember of each parameter, as KIND/PARAMETER, in the parameter's shares."""
        return {
            f"{kind}/{name}": value
            for name, parameter in self._parameters.items()
            for kind, value in self._holders[name].state[parameter].items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember this instead."""
        for key, value in state.items():
            kind, _, name = key.partition("/")
            self._holders[name].state[self._parameters[name]][kind] = value

    def restore_numbered(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Remember what checkpoints held before parameters had names in them: for each optimiser its `state_dict`, of
        whole tensors."""
        for (_, optimizer), state in zip(self._all, states, strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            for number, kinds in state["state"].items():
                parameter = parameters[number]
                for kind, value in kinds.items():
                    like = value.shape == parameter.shape
                    optimizer.state[parameter][kind] = shared_as(parameter, value) if like else value


def rate_at(step: int, steps: int, config: OptimizerConfig) -> float:
    """Learning rate of a step, relative to the peak: warm-up, flat, decay."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    falling = steps * config.decay_share
    through = min(1.0, max(0.0, (step + 1 - (steps - falling)) / max(1.0, falling)))
    curve = 0.5 * (1 + math.cos(math.pi * through)) if config.decay == "cosine" else 1 - through
    return warmup * (config.final + (1 - config.final) * curve)
