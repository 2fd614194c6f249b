"""Keys and values of sequences that have ended, for prompts that begin as they did: a parent that goes on after a join,
a rollout of the same problem.

A sequence is found by the chained hashes of its pages, so that a look-up costs one probe a page. Legend: L layers, H
key-value heads, T columns, D head size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

PAGE = 16


@dataclass(frozen=True, slots=True)
class Prefix:
    """What is known of the begin of a sequence."""

    token_ids: tuple[int, ...]
    K_LHTD: torch.Tensor
    V_LHTD: torch.Tensor


class PrefixStore:
    """Holds at most `capacity` tokens; what was used longest ago goes first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tokens = 0
        self._kept: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()
        self._pages: dict[int, tuple[int, ...]] = {}
        """Hash of the first pages of a sequence -> the sequence that has them."""

    def add(self, prefix: Prefix) -> None:
        """Keep a sequence."""
        ids = prefix.token_ids
        if len(ids) < PAGE or len(ids) > self._capacity or ids in self._kept:
            return
        self._kept[ids] = prefix
        self._tokens += len(ids)
        self._pages |= dict.fromkeys(_hashes(ids), ids)
        while self._tokens > self._capacity:
            old, _ = self._kept.popitem(last=False)
            self._tokens -= len(old)
            for page in _hashes(old):
                if self._pages.get(page) == old:
                    del self._pages[page]

    def longest(self, ids: Sequence[int]) -> tuple[Prefix, int] | None:
        """A kept sequence with a long common prefix, and its length; the last token of `ids` never counts, since its
        logits are wanted."""
        found = None
        for page in _hashes(ids[:-1]):
            if page not in self._pages:
                break
            found = self._pages[page]
        if found is None:
            return None
        # What is used last has the pages that it shares: whatever goes before it takes none of them along.
        self._kept.move_to_end(found)
        self._pages |= dict.fromkeys(_hashes(found), found)
        most = min(len(found), len(ids) - 1)
        length = next((i for i in range(most) if found[i] != ids[i]), most)
        return self._kept[found], length

    def clear(self) -> None:
        """Forget all: the weights are others now."""
        self._kept.clear()
        self._pages.clear()
        self._tokens = 0


def _hashes(ids: Sequence[int]) -> Iterator[int]:
    chained = 0
    for begin in range(0, len(ids) - PAGE + 1, PAGE):
        chained = hash((chained, *ids[begin : begin + PAGE]))
        yield chained
