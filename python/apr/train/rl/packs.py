"""Rollouts as padded batches with what reinforcement learning knows of each token.

Outcomes are taken once a rollout and given to all its tokens, and what else a token is worth goes with the token, so
cutting a rollout into more rows changes nothing.
Shapes: B rows, T positions; tensors that speak of predicted tokens have T - 1 positions, from the second on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from apr.threads.tree import MAIN
from apr.train.batches import Batch, collate
from apr.train.data import by_length
from apr.train.losses import Counts, advantages, token_weights
from apr.train.processes import Processes
from apr.train.recipes import GrpoConfig
from apr.train.rl.credit import Credit
from apr.train.rl.groups import Group
from apr.train.rl.samples import branch_tokens, tree_samples
from apr.types import Sample


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a judged rollout brings to a step."""

    group: int
    """Which of the step's groups it is of, and which rollout there."""
    member: int
    advantage: float
    """Of its outcome."""
    credit: Credit
    samples: tuple[Sample, ...]
    tokens: tuple[tuple[int, ...], ...]
    """For each sample, those of its branches that carry loss."""

    def counts(self) -> Counts:
        """Its sequences and tokens that carry loss."""
        tokens = [count for branches in self.tokens for count in branches]
        return Counts(1, sum(count > 0 for count in tokens), sum(tokens))


@dataclass(frozen=True, slots=True)
class Row:
    """A row of training."""

    rollout: Rollout
    sample: Sample
    weights: tuple[tuple[float, float], ...]
    """Of the policy and of the KL term, for the loss tokens of each branch."""
    advantages: tuple[float, ...]
    """Of each loss token."""
    wanted: tuple[int, ...] = ()
    """What should stand in the place of each loss token, or `ABSENT`; empty: all may stand."""

    @property
    def idle(self) -> bool:
        """No token of it is worth more or less than others."""
        return not any(self.advantages) and not self.wanted


ABSENT = -1
"""The token that nothing is."""


@dataclass(slots=True)
class Pack:
    """A padded batch and what goes with its tokens."""

    rows: list[Row]
    batch: Batch
    mask_BT: Tensor
    """bool, which predicted tokens carry loss."""
    engine_BT: Tensor
    """The engine's log-probabilities."""
    advantages_BT: Tensor
    weights_BT: Tensor
    kl_weights_BT: Tensor
    wanted_BT: Tensor | None
    """int64, what should stand in the place of each token, or `ABSENT`; None: all may stand."""
    main_B1: Tensor
    """bool, rows of main threads."""
    old_BT: Tensor | None = None
    """The trainer's log-probabilities before the step's first update."""
    reference_BT: Tensor | None = None


def judged_rollouts(
    groups: Sequence[Group],
    config: GrpoConfig,
    *,
    share_trunks: bool,
    credits: Sequence[Sequence[Credit]] | None = None,
) -> list[Rollout]:
    """All rollouts but those whose engine failed. `credits` is what their tokens are worth beside their outcome, for
    each rollout of each group; None: nothing."""
    found: list[Rollout] = []
    for g, group in enumerate(groups):
        judged = [m for m, reward in enumerate(group.rewards) if reward is not None]
        if not judged:
            continue
        gained = advantages(group.judged, divide=config.advantage == "std")
        for m, advantage in zip(judged, gained, strict=True):
            samples = tuple(tree_samples(group.trees[m], share_trunks=share_trunks))
            tokens = tuple(tuple(branch_tokens(sample)) for sample in samples)
            credit = Credit() if credits is None else credits[g][m]
            found.append(Rollout(g, m, advantage, credit, samples, tokens))
    return found


def rows_of(rollouts: Sequence[Rollout], config: GrpoConfig, processes: Processes) -> list[Row]:
    """The rows that have a gradient, each with its weight in the step of all processes.

    Without a KL term a row without advantages has none; it counts, but need not be computed.
    """
    counts = [rollout.counts() for rollout in rollouts]
    totals = torch.tensor([[c.rollouts, c.sequences, c.tokens] for c in counts], dtype=torch.float64)
    step = Counts(*(int(n) for n in processes.add(totals.reshape(-1, 3).sum(0))))
    pairs = zip(rollouts, counts, strict=True)
    rows = [row for rollout, count in pairs for row in _rows(rollout, count, step, config)]
    return [row for row in rows if config.kl or not row.idle]


def _rows(rollout: Rollout, count: Counts, step: Counts, config: GrpoConfig) -> Iterator[Row]:
    # A thread's rows hold its sampled tokens in their order, each once.
    begun: Counter[str] = Counter()
    for sample, branches in zip(rollout.samples, rollout.tokens, strict=True):
        weights = tuple(token_weights(config.weighting, tokens, count, step, config.constant) for tokens in branches)
        begin = begun[sample.thread]
        begun[sample.thread] = end = begin + sum(branches)
        worth = rollout.credit.advantages.get(sample.thread)
        own = [0.0] * (end - begin) if worth is None else worth[begin:end]
        wanted = {n: token for n, token in rollout.credit.wanted.get(sample.thread, {}).items() if begin <= n < end}
        yield Row(
            rollout,
            sample,
            weights,
            tuple(
                more + rollout.advantage * rollout.credit.shares(sample.thread, number)
                for number, more in enumerate(own, begin)
            ),
            tuple(wanted.get(n, ABSENT) for n in range(begin, end)) if wanted else (),
        )


def packs_of(rows: Sequence[Row], pad: int, tokens_per_batch: int, device: torch.device) -> list[Pack]:
    """The rows in batches of like length."""
    return [_pack(cut, pad, device) for cut in by_length(rows, tokens_per_batch, lambda row: row.sample)]


def _pack(rows: list[Row], pad: int, device: torch.device) -> Pack:
    batch = collate([row.sample for row in rows], pad)
    shape = batch.token_ids_BT.shape
    engine_BT, advantages_BT, weights_BT, kl_weights_BT = (torch.zeros(shape) for _ in range(4))
    wanted_BT = torch.full(shape, ABSENT)
    for place, row in enumerate(rows):
        mask_T = batch.loss_mask_BT[place]
        engine_BT[place, : len(row.sample.logprobs)] = torch.tensor(row.sample.logprobs)
        advantages_BT[place, mask_T] = torch.tensor(row.advantages)
        if row.wanted:
            wanted_BT[place, mask_T] = torch.tensor(row.wanted)
        for branch, (policy, kl) in zip(row.sample.branches, row.weights, strict=True):
            weights_BT[place, branch.begin :] = policy
            kl_weights_BT[place, branch.begin :] = kl
    mask_BT = batch.loss_mask_BT[:, 1:]
    return Pack(
        rows,
        batch.to(device),
        mask_BT.to(device),
        engine_BT[:, 1:].to(device),
        advantages_BT[:, 1:].to(device),
        (weights_BT[:, 1:] * mask_BT).to(device),
        (kl_weights_BT[:, 1:] * mask_BT).to(device),
        wanted_BT[:, 1:].to(device) if any(row.wanted for row in rows) else None,
        torch.tensor([[row.sample.thread == MAIN] for row in rows], device=device),
    )
