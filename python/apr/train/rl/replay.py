"""Lessons beside rollouts: fresh ones of the recipe that made the policy, so that what was taught stays taught.

Which lessons a step has is a pure function of the run's recipe and of how many were taken before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from transformers import PretrainedConfig

from apr.threads.language import Vocabulary
from apr.train.batches import Batch, batches
from apr.train.data import share
from apr.train.processes import Processes
from apr.train.recipes import Replay, RlConfig
from apr.train.rl.check import replayed


@dataclass(frozen=True, slots=True)
class Lessons:
    """Those of one step."""

    batches: Sequence[Batch]
    """Of this process."""
    weights: Sequence[float]
    """What a token counts, by its code."""
    share: float
    """What the weighted sum of the nats of all tokens is multiplied by, to be the step's loss."""
    tokens: int
    """That have a weight, over all processes."""


class Replayed:
    """The lessons of a run."""

    def __init__(
        self,
        wanted: Replay,
        config: RlConfig,
        tokenizer: Vocabulary,
        model: PretrainedConfig,
        start: Path,
        kept: str | None,
        processes: Processes,
    ) -> None:
        """`model` is what learns from them, `start` where it lay as the run began, and `kept` the recipe that the run
        keeps. ValueError, in one line, if there are no lessons for it."""
        found = replayed(wanted, config, tokenizer, start, kept, model.max_position_embeddings)
        self._lessons, self.recipe = found
        self.digest = sha256(self.recipe.encode()).hexdigest()
        """What tells their recipe from others."""
        self._wanted = wanted
        self._pad = tokenizer.pad
        self._tokens_per_batch = config.tokens_per_batch
        self._width = model.hidden_size
        self._processes = processes

    def draw(self, position: int) -> tuple[Lessons, int]:
        """The lessons of a step from a position on, and the position after them."""
        samples = []
        tokens = 0
        while tokens < self._wanted.tokens:
            lesson, position = self._lessons.samples(position, 1.0)
            samples += lesson
            tokens += sum(len(sample.token_ids) for sample in lesson)
        weights = self._lessons.weights
        counted = [weights[code] for sample in samples for code in (sample.kinds or sample.loss_mask)[1:]]
        own = share(samples, self._processes.rank, self._processes.count, self._width)
        made = batches(own, self._pad, self._tokens_per_batch)
        share_ = self._wanted.weight / sum(counted)
        return Lessons(made, weights, share_, sum(weight > 0 for weight in counted)), position
