"""The grammar over a tokenizer of others, which spells a phrase in several tokens; Llama-2's is the authors'.

Decoding stops at any token that may end a phrase, and goes on where none ends. Cuts are made between tokens: a piece
of text that shares a token with a phrase is encoded again with what is put in the phrase's place.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from apr import _core
from apr.countdown.language import Traces
from apr.task import Method
from apr.threads.language import Action, Done, Ids, Replace, Resumption

_LINE = "\n"
# The line break behind a phrase is a token of its own here, and the model's to write.
_SPAWN_OPEN, _SPAWN_END, _JOIN_OPEN = (
    phrase.rstrip(_LINE) for phrase in (_core.SPAWN_OPEN, _core.SPAWN_END, _core.JOIN_OPEN)
)


class ForeignTokenizer:
    """A tokenizer of the `tokenizers` library, as the grammar needs it.

    Texts are encoded and decoded as they stand behind a line break: many tokenizers put a space before the first word
    of a text, and take it off again."""

    def __init__(self, tokenizer: Any, begin: str, end: str) -> None:
        """`begin` and `end` are the special tokens; ValueError if they are none."""
        self._tokenizer = tokenizer
        self.begin = begin
        ids = [tokenizer.token_to_id(begin), tokenizer.token_to_id(end)]
        if None in ids:
            raise ValueError(f"the tokenizer has no {begin if ids[0] is None else end!r}")
        self.bos: int = ids[0]
        self.eos: int = ids[1]
        self.vocab_size: int = tokenizer.get_vocab_size()
        added = tokenizer.get_added_tokens_decoder()
        self._special = {id_ for id_, token in added.items() if token.special} | {self.bos, self.eos}
        self._line: list[int] = tokenizer.encode(_LINE, add_special_tokens=False).ids
        self._line_text: str = tokenizer.decode(self._line)

    @classmethod
    def read(cls, directory: Path) -> ForeignTokenizer:
        """The tokenizer of a Hugging Face directory. ValueError or OSError if it has none."""
        from tokenizers import Tokenizer

        path = directory / "tokenizer.json"
        if path.is_file():
            # A bare Exception is all that the library raises.
            try:
                tokenizer = Tokenizer.from_file(str(path))
            except Exception as error:
                raise ValueError(f"{path} is no tokenizer: {error}") from None
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(directory).backend_tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, *_marks(directory, tokenizer))

    def open(self, prompt: str) -> list[int]:
        """The ids a thread with this prompt begins with: the begin token is written out, as in the authors' training
        texts, and added once more by tokenizers that do so."""
        ids: list[int] = self._tokenizer.encode(self.begin + prompt).ids
        # Some end every text as well; a prompt goes on.
        return ids[:-1] if ids[-1] == self.eos else ids

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(_LINE + text, add_special_tokens=False).ids
        if ids[: len(self._line)] == self._line:
            return ids[len(self._line) :]
        alone: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return alone

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        if ids and ids[0] in self._special:
            whole: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special)
            return whole
        text: str = self._tokenizer.decode([*self._line, *ids], skip_special_tokens=skip_special)
        return text[len(self._line_text) :]


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

    def open(self, prompt: str) -> Ids:
        return tuple(self.tokenizer.open(prompt))

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


def _marks(directory: Path, tokenizer: Any) -> tuple[str, str]:
    """The begin and the end token, as the directory's files name them."""
    marks = []
    for name in ("bos", "eos"):
        mark = _setting(directory / "tokenizer_config.json", f"{name}_token")
        if isinstance(mark, dict):
            mark = mark.get("content")
        if mark is None:
            id_ = _setting(directory / "config.json", f"{name}_token_id")
            id_ = id_[0] if isinstance(id_, list) and id_ else id_
            mark = tokenizer.id_to_token(id_) if isinstance(id_, int) else None
        if not isinstance(mark, str):
            raise ValueError(f"{directory} does not say which token is {name}_token")
        marks.append(mark)
    return marks[0], marks[1]


def _setting(path: Path, name: str) -> Any:
    if not path.is_file():
        return None
    values = json.loads(path.read_text())
    return values.get(name) if isinstance(values, dict) else None
