"""What a finished thread tree teaches: rows of training from its threads, no torch.

A thread's sequence branches at each join: the join block takes the place of the spawn block, and the trunk before them
is shared. A row holds a whole thread, its trunk once; or, unshared, each branch is a row by itself, in which the trunk
stands again without loss. Only sampled tokens carry loss, each of them once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from apr.threads.tree import Thread, ThreadTree
from apr.types import Branch, Sample, Segment


def tree_samples(tree: ThreadTree, *, share_trunks: bool = True) -> list[Sample]:
    """The rows of all threads that sampled anything, in order of opening.

    ValueError if the engine told no log-probabilities, or if a thread was sampled at a temperature of its own.
    """
    samples: list[Sample] = []
    for thread in tree.threads.values():
        if thread.temperature is not None:
            raise ValueError(f"thread {thread.id} was sampled at a temperature of its own, {thread.temperature:g}")
        branches = [_branch(segments, thread) for segments in thread.branches()]
        rows = [_share(branches)] if share_trunks else branches
        samples += [row for row in rows if any(row.loss_mask)]
    return samples


def written_at(thread: Thread) -> Iterator[tuple[list[int], list[int | None]]]:
    """The sequence that each call of a thread ended with, and for each of its tokens which of the thread's sampled
    tokens it is, counted over all calls; None: it was forced."""
    ids: list[int] = []
    places: list[int | None] = []
    count = 0
    for call in thread.calls:
        ids = [*ids[: call.kept], *call.forced, *call.sampled]
        sampled = range(count, count + len(call.sampled))
        places = [*places[: call.kept], *(None for _ in call.forced), *sampled]
        count += len(call.sampled)
        yield ids, places


def branch_tokens(sample: Sample) -> list[int]:
    """Tokens that carry loss in each branch of a row."""
    return [sum(sample.loss_mask[begin:end]) for begin, end in sample.spans()]


def _branch(segments: Sequence[Segment], thread: Thread) -> Sample:
    ids: list[int] = []
    mask: list[bool] = []
    logprobs: list[float] = []
    for segment in segments:
        sampled = segment.kind == "sampled"
        if sampled and len(segment.logprobs) != len(segment.token_ids):
            raise ValueError(f"thread {thread.id}: the engine told no log-probabilities")
        ids += segment.token_ids
        mask += [sampled] * len(segment.token_ids)
        logprobs += segment.logprobs if sampled else [0.0] * len(segment.token_ids)
    return Sample(tuple(ids), tuple(mask), tuple(logprobs), thread=thread.id)


def _share(branches: Sequence[Sample]) -> Sample:
    """One row of several branches, each but the first cut to what it does not share with the one before."""
    first = branches[0]
    ids, mask, logprobs = list(first.token_ids), list(first.loss_mask), list(first.logprobs)
    places = [Branch(0, 0)]
    for before, branch in pairwise(branches):
        kept = _common(before.token_ids, branch.token_ids)
        # A token that carries loss is predicted from the one before it in the row.
        kept = min(kept, branch.loss_mask.index(True) - 1) if True in branch.loss_mask else kept
        places.append(Branch(len(ids), kept))
        ids += branch.token_ids[kept:]
        mask += branch.loss_mask[kept:]
        logprobs += branch.logprobs[kept:]
    return Sample(tuple(ids), tuple(mask), tuple(logprobs), tuple(places), first.thread)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
