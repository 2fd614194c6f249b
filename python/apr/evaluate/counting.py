"""Tokens as the authors' code counts them, so that a number of tokens means what it means in the paper.

Each sequence counts whole, prompt and join blocks included, with two begin tokens and one end token; what a sequence
of a thread shares with the next longer one of the same thread counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise, takewhile

_MARKS = 3
"""Begin, written out and added by the tokenizer, and end."""


def authors_tokens(threads: Iterable[Sequence[str]], count: Callable[[str], int]) -> int:
    """Total tokens of the threads' sequences, given as texts; `count` is a tokenizer's length of a text."""
    total = 0
    for sequences in threads:
        by_length = sorted(sequences, key=len)
        total += sum(count(text) + _MARKS for text in by_length)
        # A shared prefix is counted with a begin token of its own, and without one.
        total -= sum(count(_shared(*pair)) - 1 for pair in pairwise(by_length))
    return total


def _shared(short: str, long: str) -> str:
    return short[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(short, long, strict=False)))]
