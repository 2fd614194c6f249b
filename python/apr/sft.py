"""Supervised training on fresh teacher traces.

A step takes whole lessons, shares their samples among the processes, sums gradients over padded batches and divides by
the number of tokens that carry loss. Weights and optimiser are float32; the state that a checkpoint holds decides every
later loss, so a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apr._core import Tokenizer
from apr.config import SftConfig
from apr.data import (
    Batch,
    SftData,
    batches,
    joined_positions,
    large_results,
    result_positions,
    state_positions,
    verdict_positions,
)
from apr.losses import sft_loss
from apr.model import CAUSAL, compiled, load_model, new_model
from apr.optimizers import Optimizers, keep_freed_memory, rate_at
from apr.processes import Processes
from apr.run import RunDirectory
from apr.trainer_state import TrainerState


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step did, for whoever watches."""

    step: int
    steps: int
    loss: float
    """Nats a token, mean over the step's loss tokens."""
    learning_rate: float
    """Relative to the peak."""
    gradient_norm: float
    tokens: int
    """All tokens of the step, prompts included."""
    tokens_per_second: float
    validation_loss: float | None = None
    validation_results: float | None = None
    """Share of equations whose result is right, all digits, given the true text before it."""


class SftTrainer:
    """A supervised run in a directory."""

    def __init__(
        self,
        config: SftConfig,
        run: RunDirectory,
        *,
        device: str = "cpu",
        start_from: str | Path | None = None,
    ) -> None:
        self.config = config
        self.run = run
        self.device = torch.device(device)
        self.processes = Processes(self.device)
        self.tokenizer = Tokenizer()
        self.data = SftData(config)
        self.step = 0
        if self.device.type == "cpu":
            keep_freed_memory()
        latest = run.latest()
        source = latest or start_from
        model = load_model(source, attention=CAUSAL) if source else new_model(config.model, self.tokenizer, config.seed)
        self.model = model.to(self.device).train()
        self.optimizers = Optimizers(self.model, config.optimizer)
        if latest:
            state = TrainerState.restore(latest, self.optimizers, self.device)
            self.step, self.data.position = state.step, state.position
            if self.processes.rank == 0:
                run.rewind(self.step)
        else:
            torch.manual_seed(config.seed)
        self._forward: Callable[..., Any] = compiled(self.model) if config.compile else self.model

    def train(self, watch: Callable[[Progress], None], *, until: int | None = None) -> None:
        """Train to the recipe's last step, or to step `until`, and leave a checkpoint there."""
        last = min(self.config.steps, until or self.config.steps)
        while self.step < last:
            begun = time.monotonic()
            loss, norm, tokens = self._train_step()
            self.step += 1
            elapsed = time.monotonic() - begun
            due = self.step % self.config.validate_every == 0 or self.step == self.config.steps
            validation = self.validate() if due else (None, None)
            progress = Progress(
                step=self.step,
                steps=self.config.steps,
                loss=loss,
                learning_rate=rate_at(self.step - 1, self.config.steps, self.config.optimizer),
                gradient_norm=norm,
                tokens=tokens,
                tokens_per_second=tokens / elapsed,
                validation_loss=validation[0],
                validation_results=validation[1],
            )
            if self.processes.rank == 0:
                self.run.log(
                    {
                        "step": progress.step,
                        "loss": progress.loss,
                        "rate": progress.learning_rate,
                        "gradient_norm": progress.gradient_norm,
                        "tokens": progress.tokens,
                        "tokens_per_second": round(progress.tokens_per_second, 1),
                        **({"validation_loss": validation[0], "validation_results": validation[1]} if due else {}),
                    }
                )
                watch(progress)
            if self.step % self.config.checkpoint_every == 0 or self.step == last:
                self.save()

    def _train_step(self) -> tuple[float, float, int]:
        samples = self.data.step(self.step)
        tokens = sum(len(s.token_ids) for s in samples)
        # Dealt out by length, so that processes wait little for each other.
        own = sorted(samples, key=lambda s: len(s.token_ids))[self.processes.rank :: self.processes.count]
        made = batches(own, self.tokenizer.pad, self.config.tokens_per_batch)
        weights = [self._weights(batch) for batch in made]
        # Loss tokens, their weights and their loss, over all processes.
        totals = torch.zeros(3, dtype=torch.float64, device=self.device)
        totals[0] = sum(batch.loss_tokens for batch in made)
        totals[1] = sum(float(weights_BT[:, 1:].sum()) for weights_BT in weights)
        totals = self.processes.add(totals)
        weight = float(totals[1])
        for batch, weights_BT in zip(made, weights, strict=True):
            loss, metrics, _ = self._loss(batch, weights_BT)
            torch.autograd.backward(loss / weight)
            totals[2] += metrics["loss"]
        self.processes.add_gradients(self.model)
        totals[2] = self.processes.add(totals[2])
        norm = self.optimizers.update(self.step, self.config.steps)
        return float(totals[2] / totals[0]), norm, tokens

    def _weights(self, batch: Batch) -> Tensor:
        weights_BT = batch.loss_mask_BT.float()
        weights = self.config.weights
        results_BT = result_positions(batch, self.tokenizer)
        weights_BT[results_BT > 0] = weights.results
        weights_BT[large_results(results_BT)] = weights.large_results
        weights_BT[state_positions(batch, self.tokenizer)] = weights.states
        weights_BT[verdict_positions(batch, self.tokenizer)] = weights.verdicts
        joined_BT = joined_positions(batch, self.tokenizer)
        weights_BT[joined_BT] = weights_BT[joined_BT].clamp_min(weights.joined)
        return weights_BT.to(self.device)

    def _loss(self, batch: Batch, weights_BT: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Summed loss, its metrics, and the logits, [B, T, V]."""
        ids = batch.token_ids_BT.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.autocast == "bf16"):
            logits = self._forward(input_ids=ids, use_cache=False).logits
        loss, metrics = sft_loss(logits, ids, weights_BT)
        return loss, metrics, logits

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """Held-out loss in nats a token, and the share of right results."""
        total, tokens, right, results = 0.0, 0, 0, 0
        for batch in batches(self.data.validation(), self.tokenizer.pad, self.config.tokens_per_batch):
            _, metrics, logits = self._loss(batch, self._weights(batch))
            greedy = logits[:, :-1].argmax(-1).cpu()
            total += float(metrics["loss"])
            tokens += batch.loss_tokens
            numbered = result_positions(batch, self.tokenizer)[:, 1:]
            wrong = numbered[(greedy != batch.token_ids_BT[:, 1:]) & (numbered > 0)]
            count = len(set(numbered[numbered > 0].tolist()))
            results += count
            right += count - len(set(wrong.tolist()))
        return total / tokens, right / max(1, results)

    def save(self) -> None:
        """Leave a checkpoint of this step."""

        if self.processes.rank == 0:
            state = TrainerState(self.step, self.data.position)
            state.save(self.run, self.model, self.tokenizer, self.optimizers, self.config.keep_checkpoints)
        self.processes.wait()
