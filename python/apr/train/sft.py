"""Supervised training on a teacher's lessons, fresh ones at every step.

A step takes whole lessons, shares their samples among the processes, sums gradients over padded batches and divides by
the number of tokens that carry loss. Weights and optimiser are float32; the state that a checkpoint holds decides every
later loss, so a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from apr.engine.checkpoint import hollow
from apr.origin import Origin
from apr.train.ahead import Ahead
from apr.train.batches import Batch, batches, runs
from apr.train.data import TIGHT, SftData, Step, loose
from apr.train.graphs import Graphs
from apr.train.losses import sft_loss
from apr.train.model import new_model, trained_model
from apr.train.network import Network, records
from apr.train.optimizers import Diverged, Optimizers, keep_freed_memory, rate_at
from apr.train.phase import Phase, nobody
from apr.train.processes import Processes
from apr.train.recipes import SftConfig
from apr.train.run import RunDirectory
from apr.train.state import TrainerState
from apr.train.stop import Stop


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
    validation_kinds: Mapping[str, float] = field(default_factory=dict)
    """For each kind of token that was held out, the share of its runs that are right, all their tokens, given the true
    text before each."""

    @property
    def validation_results(self) -> float | None:
        """Of the kind `results`, where a teacher has it: the share of equations whose result is right."""
        return self.validation_kinds.get("results")


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
        """Begin with the weights in `start_from`, else those that the run keeps as its start, else random ones; or go
        on from the run's newest checkpoint."""
        self.config = config
        self.run = run
        self.device = torch.device(device)
        self.processes = Processes(self.device)
        self.step = 0
        """Steps done."""
        if self.device.type == "cpu":
            keep_freed_memory()
        if start_from is not None and self.processes.rank == 0:
            run.keep_start(Path(start_from))
        self.processes.wait()
        latest = run.latest()
        self.data = SftData(config, run.kept_start())
        self.tokenizer = self.data.lessons.tokenizer
        self._code_weights = torch.tensor(self.data.lessons.weights)
        self.model = self._load(latest or run.whole_start()).train()
        self.network = Network(self.model, self.processes, config)
        recorded = records(config, self.processes)
        self._graphs = Graphs(self.model, self.network.logits) if recorded else None
        self.optimizers = Optimizers(self.model, config.optimizer, self.processes)
        torch.manual_seed(config.seed)
        if latest:
            state = TrainerState.restore(latest, self.model, self.optimizers)
            self.step, self.data.position = state.step, state.position
        self.saved = self.step
        """The step of the newest checkpoint; 0: there is none."""
        if self.processes.rank == 0:
            run.rewind(self.step)
        self._padding = TIGHT
        if self.device.type != "cpu":
            self._padding = loose(self.model.config.hidden_size, rounded=recorded)
        self._steps: Generator[Step, None, None] | Ahead | None = None
        """Those that come next, from `step` on; None: none was asked for."""
        self._compiled = recorded or not config.compile
        """Nothing is compiled any more."""
        self._phase: Phase = nobody

    def _load(self, directory: Path | None) -> PreTrainedModel:
        if directory is not None:
            return trained_model(directory, self.processes)
        shape = self.config.model
        assert shape is not None

        def make() -> PreTrainedModel:
            return new_model(shape, self.tokenizer, self.config.seed)

        return hollow(make) if self.processes.rank else make()

    @property
    def idle(self) -> bool:
        """Nothing is left to do."""
        return self.step >= self.config.steps

    def train(
        self,
        watch: Callable[[Progress], None],
        *,
        until: int | None = None,
        stop: Stop | None = None,
        phase: Phase = nobody,
    ) -> None:
        """Train to the recipe's last step, or to step `until`, or until it is asked to stop; leave a checkpoint there.
        `phase` is told what is being done.

        Diverged, with a checkpoint of the step before where its weights are still there, if a number is not finite;
        OSError if nothing can be written any more, which leaves the run as it was at its last checkpoint."""
        stop = stop or Stop()
        self._phase = phase
        last = min(self.config.steps, until or self.config.steps)
        try:
            while self.step < last and not self.processes.any(stop.asked):
                self._advance(watch)
            self._leave()
        finally:
            self._end_steps()

    def _advance(self, watch: Callable[[Progress], None]) -> None:
        position = self.data.position
        try:
            progress = self._run_step()
        except (Diverged, ChildProcessError) as error:
            self.data.position = position
            if not (isinstance(error, Diverged) and error.updated):
                self._leave()
            raise
        if self.processes.rank == 0:
            self.run.log(_entry(progress))
            watch(progress)
        every = self.config.checkpoint_every
        if every and self.step % every == 0:
            self.save()

    def _leave(self) -> None:
        if self.step > self.saved:
            self.save()

    def _run_step(self) -> Progress:
        begun = time.monotonic()
        loss, norm, tokens = self._train_step()
        self.step += 1
        elapsed = time.monotonic() - begun
        every, steps = self.config.validate_every, self.config.steps
        due = bool(every) and (self.step % every == 0 or self.step == steps)
        if due:
            self._phase("validating")
        validation = self.validate() if due else (None, {})
        return Progress(
            step=self.step,
            steps=steps,
            loss=loss,
            learning_rate=rate_at(self.step - 1, steps, self.config.optimizer),
            gradient_norm=norm,
            tokens=tokens,
            tokens_per_second=tokens / max(1e-9, elapsed),
            validation_loss=validation[0],
            validation_kinds=validation[1],
        )

    def _begin_steps(self) -> Generator[Step, None, None] | Ahead:
        place = self.processes.rank, self.processes.count, self.model.config.hidden_size
        if self.device.type == "cpu":
            return self.data.steps(self.step, *place)
        return Ahead(self.config, self.run.kept_start(), self.data.position, self.step, *place)

    def _end_steps(self) -> None:
        """What was made ahead is made again by whoever goes on."""
        if self._steps is not None:
            self._steps.close()
        self._steps = None

    def _train_step(self) -> tuple[float, float, int]:
        self._phase("making lessons")
        self._steps = self._steps or self._begin_steps()
        step = next(self._steps)
        self.data.position = step.position
        made = batches(step.samples, self.tokenizer.pad, self.config.tokens_per_batch, self._padding)
        weights = [self._weights(batch) for batch in made]
        # Tokens with a weight, their weights and their loss, over all processes.
        totals = torch.zeros(3, dtype=torch.float64, device=self.device)
        totals[0] = sum(int((weights_BT[:, 1:] > 0).sum()) for weights_BT in weights)
        totals[1] = sum(float(weights_BT[:, 1:].sum()) for weights_BT in weights)
        totals = self.processes.add(totals)
        weight = float(totals[1])
        self._phase("training" if self._compiled else "compiling")

        def loss_of(batch: Batch, weights_BT: Tensor) -> Tensor:
            loss, metrics, _ = self._loss(batch, weights_BT)
            totals[2] += metrics["loss"]
            return loss / weight

        if self._graphs:
            self._graphs.begin()
            for batch, weights_BT in zip(made, weights, strict=True):
                if batch.visible_B1TT is not None:
                    raise ValueError("cuda_graphs: lessons with branches need a mask, which is not recorded")
                self._graphs.add(batch.token_ids_BT, weights_BT / weight)
            totals[2] = self._graphs.finish()
        else:
            self.network.add_gradients([partial(loss_of, *pair) for pair in zip(made, weights, strict=True)])
        self._compiled = True
        found = float(self.processes.add(totals[2:])[0])
        if not math.isfinite(found):
            self.optimizers.forget()
            raise Diverged(f"step {self.step + 1}: the loss is not finite", updated=False)
        norm = self.optimizers.update(self.step, self.config.steps)
        return found / float(totals[0]), norm, step.tokens

    def _weights(self, batch: Batch) -> Tensor:
        return self._code_weights[batch.codes_BT].to(self.device)

    def _loss(self, batch: Batch, weights_BT: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Summed loss, its metrics, and the logits, [B, T, V]."""
        batch = batch.to(self.device)
        ids = batch.token_ids_BT
        logits = self.network.logits(ids, **batch.layout)
        loss, metrics = sft_loss(logits, ids, weights_BT)
        return loss, metrics, logits

    @torch.no_grad()
    def validate(self) -> tuple[float, dict[str, float]]:
        """Held-out loss in nats a token, and the share of right runs of each kind."""
        total, tokens = 0.0, 0
        kinds = self.data.lessons.kinds
        right, count = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
        room, padding = self.config.tokens_per_batch, self._padding
        for batch in batches(self.data.validation(), self.tokenizer.pad, room, padding):
            weights_BT = self._weights(batch)
            _, metrics, logits = self._loss(batch, weights_BT)
            greedy = logits[:, :-1].argmax(-1).cpu()
            total += float(metrics["loss"])
            tokens += int((weights_BT[:, 1:] > 0).sum())
            wrong_BT = greedy != batch.token_ids_BT[:, 1:]
            for kind, codes in kinds.items():
                among_BT = torch.isin(batch.codes_BT[:, 1:], torch.tensor(sorted(codes)))
                found = runs(among_BT, wrong_BT)
                right[kind] += found[0]
                count[kind] += found[1]
        return total / tokens, {kind: right[kind] / count[kind] for kind in kinds if count[kind]}

    def save(self) -> None:
        """Leave a checkpoint of this step."""
        self._phase("saving")
        state = TrainerState(self.step, self.data.position)
        origin = Origin(self.config.task, self.config.language, self.config.method)
        keep = self.config.keep_checkpoints
        state.save(self.run, self.model, self.tokenizer, self.optimizers, keep, origin, self.processes)
        self.saved = self.step


def _entry(progress: Progress) -> dict[str, Any]:
    """What the log tells of a step."""
    entry: dict[str, Any] = {
        "step": progress.step,
        "loss": progress.loss,
        "rate": progress.learning_rate,
        "gradient_norm": progress.gradient_norm,
        "tokens": progress.tokens,
        "tokens_per_second": round(progress.tokens_per_second, 1),
    }
    if progress.validation_loss is not None:
        entry["validation_loss"] = progress.validation_loss
        entry |= {f"validation_{kind}": share for kind, share in progress.validation_kinds.items()}
    return entry
