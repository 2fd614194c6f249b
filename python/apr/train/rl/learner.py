"""One update after another of a policy's weights by the rollouts of a step.

Shapes: B rows, T positions, V vocabulary; tensors that speak of predicted tokens have T - 1 positions.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from apr.threads.language import Trainable
from apr.train.batches import Batch
from apr.train.losses import correction_loss, grpo_loss, sft_loss
from apr.train.model import all_logprobs, entropy, of_tokens
from apr.train.network import Network
from apr.train.optimizers import Diverged, Optimizers, rate_at
from apr.train.processes import Processes
from apr.train.recipes import RlConfig
from apr.train.rl.packs import ABSENT, Pack, Row, packs_of
from apr.train.rl.replay import Lessons
from apr.train.shards import set_weights, weights_of


class Learner:
    """A policy, its optimiser and, if there is a KL term, the policy it may not leave too far."""

    def __init__(
        self,
        config: RlConfig,
        model: PreTrainedModel,
        reference: PreTrainedModel | None,
        language: Trainable,
        processes: Processes,
    ) -> None:
        self.config = config
        self.model = model
        self.reference = reference
        self.tokenizer = language.tokenizer
        self.processes = processes
        self.device = processes.device
        self._network = Network(model, processes, config)
        self._anchor = None if reference is None else Network(reference, processes, config, learns=False)
        self.optimizers = Optimizers(model, config.optimizer, processes)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """Spent on each phase since it was last cleared."""
        # No token has that id.
        self._spawn_token = -1 if language.spawn_token is None else language.spawn_token

    def learn(
        self, rows: Sequence[Row], step: int, lessons: Lessons | None = None
    ) -> tuple[dict[str, Any], dict[int, Tensor]]:
        """Update the weights by these rows, and by lessons if there are any, in step `step`, counted from 0.

        Returns what there is to tell, and by the identity of each row the log-probabilities of its loss tokens before
        the first update. Without lessons and rows in any process the weights stay. Diverged for a loss or a gradient
        that is not finite.
        """
        config = self.config.loss
        packs = packs_of(rows, self.tokenizer.pad, self.config.tokens_per_batch, self.device)
        with self.timed("score"):
            if config.updates > 1 or self.reference is not None:
                self._score(packs)
        sums: defaultdict[str, float] = defaultdict(float)
        before: dict[int, Tensor] = {}
        norm, updates = 0.0, config.updates if self.processes.any(bool(packs) or lessons is not None) else 0
        self.model.train()
        with self.timed("train"):
            for update in range(updates):
                losses: list[Callable[[], Tensor]] = [partial(self._loss, pack, sums, before) for pack in packs]
                if lessons is not None:
                    losses += [partial(self._lesson_loss, batch, lessons, sums) for batch in lessons.batches]
                self._network.add_gradients(losses)
                loss = float(self.processes.add(torch.tensor([sums["loss"]], dtype=torch.float64))[0])
                norm = self._update(step, loss, first=update == 0)
        self.model.eval()
        metrics = self._tell(packs, sums, norm, updates, step, lessons)
        every = config.renew_reference
        if every and self.reference is not None and (step + 1) % every == 0:
            set_weights(self.reference, weights_of(self.model))
        return metrics, before

    def _update(self, step: int, loss: float, *, first: bool) -> float:
        if not math.isfinite(loss):
            self.optimizers.forget()
            raise Diverged(f"step {step + 1}: the loss is not finite", updated=not first)
        try:
            return self.optimizers.update(step, self.config.steps)
        except Diverged as error:
            error.updated |= not first
            raise

    def _score(self, packs: Sequence[Pack]) -> None:
        # One network after the other: all processes compute with the same one at a time.
        for pack, logprobs_BT in zip(packs, self._token_logprobs(self._network, packs), strict=True):
            pack.old_BT = logprobs_BT
        if self._anchor is not None:
            for pack, logprobs_BT in zip(packs, self._token_logprobs(self._anchor, packs), strict=True):
                pack.reference_BT = logprobs_BT

    def _token_logprobs(self, network: Network, packs: Sequence[Pack]) -> list[Tensor]:
        """Of each pack's tokens from the second on, without a gradient."""

        def of_pack(pack: Pack) -> Tensor:
            return of_tokens(self._logprobs(network, pack), pack.batch.token_ids_BT[:, 1:])

        return network.compute([partial(of_pack, pack) for pack in packs])

    def _logprobs(self, network: Network, pack: Pack) -> Tensor:
        """Log-probability of every token at each predicted place, [B, T - 1, V]."""
        batch = pack.batch
        return all_logprobs(network.logits(batch.token_ids_BT, **batch.layout), self.config.temperature)

    def _loss(self, pack: Pack, sums: defaultdict[str, float], before: dict[int, Tensor]) -> Tensor:
        """A pack's part of the loss; its rows' log-probabilities go to `before`, at their first update."""
        config, mask_BT = self.config.loss, pack.mask_BT
        logprobs_BTV = self._logprobs(self._network, pack)
        logprobs_BT = of_tokens(logprobs_BTV, pack.batch.token_ids_BT[:, 1:])
        now_BT = logprobs_BT.detach()
        old_BT = now_BT if pack.old_BT is None else pack.old_BT
        gap_BT = (old_BT - pack.engine_BT).masked_fill(~mask_BT, 0.0)
        importance_BT = gap_BT.exp().clamp(max=config.importance_cap)
        entropy_BT = entropy(logprobs_BTV.detach())
        loss, metrics = grpo_loss(
            logprobs_BT,
            old_BT,
            pack.advantages_BT.masked_fill(entropy_BT < config.least_entropy, 0.0),
            pack.weights_BT,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            importance_BT=importance_BT if config.old_logprobs == "engine" else None,
            reference_BT=pack.reference_BT,
            kl_weights_BT=pack.kl_weights_BT,
            kl=config.kl,
        )
        if pack.wanted_BT is not None:
            wanted_BT = pack.wanted_BT != ABSENT
            right_BT = of_tokens(logprobs_BTV, pack.wanted_BT.clamp(min=0))
            loss = loss + self.config.credit.corrections * correction_loss(right_BT, wanted_BT, pack.weights_BT)
            metrics["corrected"] = wanted_BT.sum()
            metrics["correction"] = -right_BT.detach()[wanted_BT].sum()
        spawns_BT = mask_BT & (pack.batch.token_ids_BT[:, 1:] == self._spawn_token)
        main_BT, child_BT = mask_BT & pack.main_B1, mask_BT & ~pack.main_B1
        found = {
            **metrics,
            "loss": loss.detach(),
            "tokens": mask_BT.sum(),
            "entropy": entropy_BT[mask_BT].sum(),
            "spawns": spawns_BT.sum(),
            "spawn_entropy": entropy_BT[spawns_BT].sum(),
            "importance": importance_BT[mask_BT].sum(),
            "main": main_BT.sum(),
            "main_gap": gap_BT[main_BT].abs().sum(),
            "child": child_BT.sum(),
            "child_gap": gap_BT[child_BT].abs().sum(),
        }
        for name, value in found.items():
            sums[name] += float(value)
        for row, logprobs_T, mask_T in zip(pack.rows, now_BT, mask_BT, strict=True):
            before.setdefault(id(row), logprobs_T[mask_T])
        return loss

    def _lesson_loss(self, batch: Batch, lessons: Lessons, sums: defaultdict[str, float]) -> Tensor:
        """A batch of lessons' part of the loss."""
        weights_BT = torch.tensor(lessons.weights)[batch.codes_BT].to(self.device)
        batch = batch.to(self.device)
        ids_BT = batch.token_ids_BT
        loss, metrics = sft_loss(self._network.logits(ids_BT, **batch.layout), ids_BT, weights_BT)
        sums["loss"] += float(loss.detach()) * lessons.share
        sums["replay"] += float(metrics["loss"])
        return loss * lessons.share

    def _tell(
        self,
        packs: Sequence[Pack],
        sums: defaultdict[str, float],
        norm: float,
        updates: int,
        step: int,
        lessons: Lessons | None,
    ) -> dict[str, Any]:
        positions = sum(pack.batch.token_ids_BT.numel() for pack in packs)
        real = sum(len(row.sample.token_ids) for pack in packs for row in pack.rows)
        own = {**sums, "positions": float(positions), "real": float(real)}
        total: defaultdict[str, float] = defaultdict(float)
        for part in self.processes.gather([own]):
            for name, value in part.items():
                total[name] += value

        def mean(name: str, count: str = "tokens") -> float:
            return total[name] / total[count]

        optimizer = self.config.optimizer
        metrics: dict[str, Any] = {
            "learning_rate": optimizer.learning_rate * rate_at(step, self.config.steps, optimizer),
            "trained_tokens": int(total["real"]) * updates,
        }
        if not updates:
            # No rollout did better than another: there is nothing to tell of.
            return metrics
        metrics |= {"loss": total["loss"] / updates, "gradient_norm": norm}
        if total["tokens"]:
            metrics |= {
                "entropy": mean("entropy"),
                "clipped": mean("clipped"),
                "ratio": mean("ratio"),
                "importance": mean("importance"),
                "logprob_gap": {role: mean(f"{role}_gap", role) for role in ("main", "child") if total[role]},
                "padding": 1 - total["real"] / total["positions"],
            }
        if total["spawns"]:
            metrics["spawn_entropy"] = mean("spawn_entropy", "spawns")
        if self.reference is not None and total["tokens"]:
            metrics["kl"] = mean("divergence")
        if total["corrected"]:
            metrics["correction"] = mean("correction", "corrected")
        if lessons is not None:
            metrics["replay"] = total["replay"] / (lessons.tokens * updates)
        return metrics

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the time that passes to a phase."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - begun
