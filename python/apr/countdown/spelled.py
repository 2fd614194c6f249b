"""The grammar over a tokenizer of others, which spells a phrase in several tokens; Llama-2's is the authors'.

Decoding stops at any token that may end a phrase, and goes on where none ends. Cuts are made between tokens: a piece
of text that shares a token with a phrase is encoded again with what is put in the phrase's place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from typing import Any

from apr import _core
from apr.conversation import Prompt, asked
from apr.countdown.language import Traces
from apr.task import Method
from apr.threads.language import Action, Done, Ids, Replace, Resumption
from apr.tokenizer import ForeignTokenizer

_LINE = "\n"
# The line break behind a phrase is a token of its own here, and the model's to write.
_SPAWN_OPEN, _SPAWN_END, _JOIN_OPEN = (
    phrase.rstrip(_LINE) for phrase in (_core.SPAWN_OPEN, _core.SPAWN_END, _core.JOIN_OPEN)
)


class SpelledTraces(Traces):
    """`Traces` where phrases have no tokens of their own."""

    tokenizer: Any

    def __init__(self, method: Method, tokenizer: ForeignTokenizer) -> None:
        self.tokenizer = tokenizer
        self._phrases = (_SPAWN_END, _JOIN_OPEN) if method == "apr" else ()
        ends = {phrase[-1] for phrase in self._phrases}
        words = ((i, tokenizer.decode([i], skip_special=True)) for i in range(tokenizer.vocab_size) if ends)
        may_end = [i for i, word in words if ends.intersection(word)]
        self.stop_token_ids = (tokenizer.eos, *(i for i in may_end if i != tokenizer.eos))

    def settled_stop(self, token_ids: Sequence[int]) -> bool:
        """Whether a sequence that stopped at one of the stop tokens has really come to an end."""
        return token_ids[-1] == self.tokenizer.eos or any(self._tail(token_ids, one) for one in self._phrases)

    def open(self, prompt: Prompt) -> Ids:
        return tuple(self.tokenizer.open(asked(prompt)))

    def action(self, token_ids: Sequence[int], level: int) -> Action:
        if length := self._tail(token_ids, _JOIN_OPEN):
            kept = len(token_ids) - length
            before = self.text(token_ids[kept:]).rstrip(_LINE).removesuffix(_JOIN_OPEN)
            return Replace(Resumption(kept, tuple(self.tokenizer.encode(before + _SPAWN_OPEN))))
        return self._spawn(token_ids) if self._tail(token_ids, _SPAWN_END) else Done()

    def join(
        self, token_ids: Sequence[int], results: Sequence[str | None], cancelled: Collection[int], level: int
    ) -> Resumption:
        text = self.text(token_ids)
        cut = text.rindex(_core.SPAWN_OPEN)
        # The longest sequence of tokens that ends at the block's opening, or before it.
        kept = bisect_right(range(len(token_ids)), cut, key=lambda n: len(self.text(token_ids[:n]))) - 1
        between = text[len(self.text(token_ids[:kept])) : cut]
        block = self._block(token_ids, results, cancelled, level)
        return Resumption(kept, tuple(self.tokenizer.encode(between + block)))

    def settled(self, text: str) -> int:
        # A phrase comes in pieces: what may become one is not settled.
        line = text.rfind(_LINE) + 1
        if text[line:] and any(phrase.startswith(text[line:]) for phrase in (_SPAWN_OPEN, _JOIN_OPEN)):
            return line
        return super().settled(text)

    def _tail(self, token_ids: Sequence[int], phrase: str) -> int:
        """How many tokens at the end spell the phrase, and line breaks after it; 0 if it is not there."""
        if token_ids[-1] == self.tokenizer.eos:
            return 0
        for length in range(1, min(len(token_ids), len(phrase) + 1) + 1):
            if self.text(token_ids[-length:]).rstrip(_LINE).endswith(phrase):
                return length
        return 0
