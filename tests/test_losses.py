"""Losses and advantages against the recorded cases, and what must hold for every input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apr.train.losses import Counts, advantages, grpo_loss, token_weights
from apr.train.recipes import Weighting
from conftest import Golden


def test_recorded_advantages(golden: Golden) -> None:
    for case in golden("rl.jsonl"):
        if case["kind"] != "advantage":
            continue
        size = case["group_size"]
        groups = [case["correct"][i : i + size] for i in range(0, len(case["correct"]), size)]
        ours = [a for group in groups for a in advantages([float(r) for r in group], divide=True)]
        for advantage, sequences in zip(ours, case["advantage_per_sequence"], strict=True):
            assert sequences == pytest.approx([advantage] * len(sequences), abs=1e-9)


def test_recorded_losses(golden: Golden) -> None:
    for case in golden("rl.jsonl"):
        if case["kind"] == "loss":
            check_recorded_loss(case)


def check_recorded_loss(case: dict[str, Any]) -> None:
    def tensor(name: str) -> torch.Tensor:
        return torch.tensor(case[name], dtype=torch.float64)

    logprobs_BT, mask_BT = tensor("log_probs").requires_grad_(), tensor("mask")
    sequences = case["n_sequences_in_batch"]
    pairs = [
        token_weights("tinyrl", int(tokens), Counts(1, of_rollout, 0), Counts(0, sequences, 0), 1.0)
        for tokens, of_rollout in zip(mask_BT.sum(1), case["seqs_per_rollout"], strict=True)
    ]
    policy_B1, kl_B1 = torch.tensor(pairs, dtype=torch.float64).T[..., None]
    loss, metrics = grpo_loss(
        logprobs_BT,
        tensor("old_log_probs"),
        tensor("advantage")[:, None],
        policy_B1 * mask_BT,
        clip_low=case["clip"],
        clip_high=case["clip"],
        reference_BT=tensor("ref_log_probs") if case["kl_beta"] else None,
        kl_weights_BT=kl_B1 * mask_BT,
        kl=case["kl_beta"],
    )
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(case["loss"], abs=1e-9)
    assert metrics["policy"].item() * sequences == pytest.approx(case["pg_loss"], abs=1e-9)
    assert float(metrics.get("kl", 0.0)) * sequences == pytest.approx(case["kl"], abs=1e-9)
    # Recorded in single precision.
    clipped = metrics["clipped"].item() / mask_BT.sum().item()
    assert clipped == pytest.approx(case["clip_fraction"], abs=1e-6)
    assert logprobs_BT.grad is not None
    torch.testing.assert_close(logprobs_BT.grad, tensor("grad_log_probs"), rtol=0, atol=1e-9)


REWARDS = st.lists(st.floats(-10, 10), min_size=1, max_size=16)


@given(rewards=REWARDS)
def test_advantages_sum_to_nothing(rewards: list[float]) -> None:
    for divide in (False, True):
        assert math.fsum(advantages(rewards, divide=divide)) == pytest.approx(0.0, abs=1e-6)


@given(reward=st.floats(-10, 10), size=st.integers(1, 16), divide=st.booleans())
def test_equal_rewards_teach_nothing(reward: float, size: int, divide: bool) -> None:
    assert advantages([reward] * size, divide=divide) == [0.0] * size


ROLLOUTS = st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=6), min_size=1, max_size=6)
"""Loss tokens of each sequence of each rollout."""


@given(rollouts=ROLLOUTS, weighting=st.sampled_from(["rollout_mean", "global_mean"]))
def test_weights_of_a_mean_add_up_to_one(rollouts: list[list[int]], weighting: Weighting) -> None:
    step = Counts(len(rollouts), sum(map(len, rollouts)), sum(map(sum, rollouts)))
    total = sum(
        tokens * token_weights(weighting, tokens, Counts(1, len(rollout), sum(rollout)), step, 1.0)[0]
        for rollout in rollouts
        for tokens in rollout
    )
    assert total == pytest.approx(1.0)


def test_cutting_a_rollout_into_more_sequences_changes_no_weight() -> None:
    step = Counts(2, 5, 100)
    for weighting in ("rollout_constant", "rollout_mean", "global_mean"):
        whole = token_weights(weighting, 40, Counts(1, 1, 40), step, 64.0)
        assert token_weights(weighting, 10, Counts(1, 4, 40), step, 64.0) == whole


def test_only_tokens_with_weight_count() -> None:
    logprobs_BT = torch.tensor([[-1.0, -2.0, 5.0]], requires_grad=True)
    weights_BT = torch.tensor([[1.0, 0.5, 0.0]])
    old_BT = torch.tensor([[-1.0, -2.5, float("nan")]])
    ones_BT = torch.ones(1, 3)
    loss, metrics = grpo_loss(logprobs_BT, old_BT, ones_BT, weights_BT, clip_low=0.2, clip_high=0.3)
    # The second token's ratio, e^0.5, is beyond the bound: its loss is flat.
    assert loss.item() == pytest.approx(-1.0 - 0.5 * 1.3)
    assert metrics["clipped"].item() == 1
    torch.autograd.backward(loss)
    assert logprobs_BT.grad is not None
    assert logprobs_BT.grad.tolist() == [[-1.0, 0.0, 0.0]]


def test_importance_weights_scale_the_policy_term_alone() -> None:
    logprobs_BT = torch.tensor([[-1.0]], requires_grad=True)
    ones_BT = torch.ones(1, 1)
    loss, metrics = grpo_loss(
        logprobs_BT,
        logprobs_BT.detach(),
        ones_BT,
        ones_BT,
        clip_low=0.2,
        clip_high=0.2,
        importance_BT=torch.tensor([[0.5]]),
        reference_BT=torch.tensor([[-1.5]]),
        kl_weights_BT=ones_BT,
        kl=0.1,
    )
    divergence = math.exp(-0.5) + 0.5 - 1
    assert metrics["policy"].item() == pytest.approx(-0.5)
    assert metrics["kl"].item() == pytest.approx(divergence)
    assert loss.item() == pytest.approx(-0.5 + 0.1 * divergence)
