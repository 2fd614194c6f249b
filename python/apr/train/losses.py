"""Losses: tensors in, (loss, metrics) out, no effects.

Shapes: B rows, T positions, V vocabulary, G rollouts of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt

import torch
from torch import Tensor

from apr.train.recipes import Weighting


def sft_loss(logits_BTV: Tensor, token_ids_BT: Tensor, weights_BT: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted cross entropy, in nats, SUMMED over the tokens that the model itself must write.

    `weights_BT` is zero on all other tokens; each token is predicted from the position before it. The metric "loss" is
    the same sum with every weight taken as one.
    """
    logits = logits_BTV[:, :-1].float().transpose(1, 2)
    weights = weights_BT[:, 1:]
    targets = token_ids_BT[:, 1:].masked_fill(weights == 0, -100)
    nats_BT = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="none")
    return (nats_BT * weights).sum(), {"loss": nats_BT.detach().sum()}


_TINY = 1e-10
"""What the authors' code adds to its denominators."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a step holds, over all processes and all its judged rollouts."""

    rollouts: int
    sequences: int
    tokens: int
    """Tokens that carry loss."""


def advantages(rewards_G: Sequence[float], *, divide: bool) -> list[float]:
    """Advantage of each rollout of a group: its reward less the group's mean and, if `divide`, over the group's
    (population) standard deviation. Zeros for a group of equal rewards. Paper, section 3.3."""
    mean = fsum(rewards_G) / len(rewards_G)
    if all(reward == rewards_G[0] for reward in rewards_G):
        return [0.0] * len(rewards_G)
    deviation = sqrt(fsum((reward - mean) ** 2 for reward in rewards_G) / len(rewards_G))
    return [(reward - mean) / (deviation + _TINY if divide else 1.0) for reward in rewards_G]


def token_weights(
    weighting: Weighting, sequence_tokens: int, rollout: Counts, step: Counts, constant: float
) -> tuple[float, float]:
    """Weights, in the step's loss, of the policy term and of the KL term of each loss token of a sequence that has
    `sequence_tokens` of them. `constant` is of "rollout_constant"."""
    if weighting == "rollout_constant":
        weight = 1.0 / (step.rollouts * constant)
    elif weighting == "rollout_mean":
        weight = 1.0 / (step.rollouts * rollout.tokens)
    elif weighting == "global_mean":
        weight = 1.0 / step.tokens
    else:
        kl_weight = 1.0 / ((sequence_tokens + _TINY) * step.sequences)
        return kl_weight / rollout.sequences, kl_weight
    return weight, weight


def correction_loss(logprobs_BT: Tensor, wanted_BT: Tensor, weights_BT: Tensor) -> Tensor:
    """Cross entropy, in nats, toward what should have been written, SUMMED with weights. `logprobs_BT` are of the
    tokens that are `wanted_BT`, a bool where there is one."""
    return -(logprobs_BT * weights_BT).masked_fill(~wanted_BT, 0.0).sum()


def grpo_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    weights_BT: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    importance_BT: Tensor | None = None,
    reference_BT: Tensor | None = None,
    kl_weights_BT: Tensor | None = None,
    kl: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped policy loss and `kl` times the KL to the reference, SUMMED with weights over tokens.

    A token's policy loss is max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high)), r = exp(logprob - old), times its
    importance weight, a constant (paper, section 3.3; PPO). The KL is estimated in the k3 form, exp(d) - d - 1 with
    d = reference - logprob. Weights are zero where nothing was sampled. Metrics: "policy" and "kl" are weighted sums,
    "divergence" is the KL's without weights, "clipped" counts the tokens whose loss the clipping raises, "ratio" sums
    the ratios of tokens with a weight.
    """
    counted_BT = weights_BT > 0
    ratio_BT = torch.exp((logprobs_BT - old_logprobs_BT).masked_fill(~counted_BT, 0.0))
    bounded_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    free_BT, clipped_BT = -advantages_BT * ratio_BT, -advantages_BT * bounded_BT
    policy_BT = torch.maximum(free_BT, clipped_BT)
    if importance_BT is not None:
        policy_BT = policy_BT * importance_BT
    policy = (policy_BT * weights_BT).sum()
    metrics = {
        "policy": policy.detach(),
        "clipped": ((clipped_BT > free_BT) & counted_BT).sum(),
        "ratio": (ratio_BT.detach() * counted_BT).sum(),
    }
    loss = policy
    if reference_BT is not None and kl_weights_BT is not None:
        apart_BT = (reference_BT - logprobs_BT).masked_fill(~counted_BT, 0.0)
        divergence_BT = torch.exp(apart_BT) - apart_BT - 1
        divergence = (divergence_BT * kl_weights_BT).sum()
        metrics |= {"kl": divergence.detach(), "divergence": divergence_BT.detach().sum()}
        loss = policy + kl * divergence
    return loss, metrics
