"""Rows of training from thread trees: what carries loss, and that a shared trunk changes nothing but the work."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from apr import Problem, Tokenizer, run_threads
from apr.engine.native import NativeEngine
from apr.policy import load_policy
from apr.threads.tree import ThreadTree
from apr.train.batches import collate
from apr.train.model import CAUSAL, new_model, token_logprobs
from apr.train.recipes import ModelConfig
from apr.train.rl.samples import branch_tokens, tree_samples
from apr.types import Sample, SamplingParams
from tiny import SOLVED, teacher_policy


@pytest.fixture(scope="module")
def tree() -> ThreadTree:
    """A rollout with children and a join."""
    policy = load_policy("native")
    assert isinstance(policy.engine, NativeEngine)
    grown = run_threads(SOLVED, policy.engine, params=SamplingParams(1.0, seed=1), budget=4)
    assert grown.children
    return grown


def test_every_sampled_token_carries_loss_once(tree: ThreadTree) -> None:
    sampled = [(t.id, c.sampled, c.logprobs) for t in tree.threads.values() for c in t.calls]
    for share in (True, False):
        samples = tree_samples(tree, share_trunks=share)
        taught = {thread: [] for thread, *_ in sampled}  # type: dict[str, list[tuple[int, float]]]
        for sample in samples:
            rows = zip(sample.token_ids, sample.logprobs, sample.loss_mask, strict=True)
            taught[sample.thread] += [(token, logprob) for token, logprob, loss in rows if loss]
        for thread in taught:
            pairs = [p for t, ids, logprobs in sampled if t == thread for p in zip(ids, logprobs, strict=True)]
            assert taught[thread] == pairs


def test_a_threads_rows_are_what_the_model_saw(tree: ThreadTree) -> None:
    whole = tree_samples(tree, share_trunks=False)
    for thread in tree.threads.values():
        sequences = [s.token_ids for s in whole if s.thread == thread.id]
        ids = [[token for segment in branch for token in segment.token_ids] for branch in thread.branches()]
        assert sequences == [tuple(sequence) for sequence in ids]
    shared = tree_samples(tree)
    assert sum(len(s.token_ids) for s in shared) < sum(len(s.token_ids) for s in whole)
    assert all(sum(branch_tokens(sample)) == sum(sample.loss_mask) for sample in shared)


def test_a_shared_trunk_gives_the_same_logprobs(tree: ThreadTree) -> None:
    tokenizer = Tokenizer()
    shape = ModelConfig(hidden_size=32, layers=2, heads=2, mlp_size=64)
    model = new_model(shape, tokenizer, seed=0).eval()
    assert model.config._attn_implementation == CAUSAL

    def logprobs(samples: list[Sample]) -> list[float]:
        batch = collate(samples, tokenizer.pad)
        layout: dict[str, Any] = {}
        if batch.positions_BT is not None:
            layout = {"position_ids": batch.positions_BT, "attention_mask": batch.visible_B1TT}
        with torch.no_grad():
            found_BT = token_logprobs(model(input_ids=batch.token_ids_BT, **layout).logits, batch.token_ids_BT)
        return [p for row, mask in zip(found_BT, batch.loss_mask_BT[:, 1:], strict=True) for p in row[mask].tolist()]

    shared, whole = tree_samples(tree), tree_samples(tree, share_trunks=False)
    assert any(len(sample.branches) > 1 for sample in shared)
    assert logprobs(shared) == pytest.approx(logprobs(whole), abs=1e-5)


def test_logprobs_are_needed() -> None:
    policy = teacher_policy()
    silent = run_threads(Problem([22, 26, 31, 53], 27), policy.engine)
    for thread in silent.threads.values():
        for call in thread.calls:
            call.logprobs.clear()
    with pytest.raises(ValueError, match="no log-probabilities"):
        tree_samples(silent)
