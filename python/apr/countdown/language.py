"""The authors' traces as a language, over a tokenizer with tokens for its phrases.

The one grammar is in `rust/countdown`; no tag of it is repeated here. Text handed to it is decoded from ids without
specials and without exactly one trailing newline.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from apr import _core
from apr.conversation import Prompt, asked
from apr.task import Method
from apr.threads.language import Action, Child, Done, Ids, Language, Malformed, Replace, Resumption, Spawn


class Traces:
    """The language of Countdown searches, for one method and one tokenizer."""

    name = "traces"

    def __init__(self, method: Method = "apr", tokenizer: _core.Tokenizer | None = None) -> None:
        self.tokenizer = _core.Tokenizer() if tokenizer is None else tokenizer
        if self.tokenizer.bos is None or self.tokenizer.eos is None:
            raise ValueError("the tokenizer has no begin or no end token")
        self._begin: int = self.tokenizer.bos
        self._spawn_open = self._token(_core.SPAWN_OPEN)
        self._spawn_end = self._token(_core.SPAWN_END)
        self._join_open = self._token(_core.JOIN_OPEN)
        self.stop_token_ids: Ids = (self.tokenizer.eos,)
        if method == "apr":
            self.stop_token_ids += (self._spawn_end, self._join_open)

    @property
    def vocab_size(self) -> int:
        """Token ids that have a text."""
        size: int = self.tokenizer.vocab_size
        return size

    @property
    def spawn_token(self) -> int:
        return self._spawn_open

    def _token(self, phrase: str) -> int:
        token_id = self.tokenizer.token_id(phrase)
        if token_id is None:
            raise ValueError(f"the tokenizer has no token of its own for {phrase!r}")
        return token_id

    def open(self, prompt: Prompt) -> Ids:
        return (self._begin, *self.tokenizer.encode(asked(prompt)))

    def text(self, token_ids: Sequence[int]) -> str:
        # A model's vocabulary may be padded; an id that no text has stands for no text.
        known = self.tokenizer.vocab_size
        return self.tokenizer.decode([i for i in token_ids if i < known], skip_special=True)

    def action(self, token_ids: Sequence[int], level: int) -> Action:
        if token_ids[-1] == self._join_open:
            # The training data never let the model tell a join from a spawn: at that place it means to spawn.
            return Replace(Resumption(len(token_ids) - 1, (self._spawn_open,)))
        if token_ids[-1] != self._spawn_end:
            return Done()
        if self._spawn_open not in token_ids:
            return Malformed("the spawn block ends but never begins")
        return self._spawn(token_ids)

    def join(
        self, token_ids: Sequence[int], results: Sequence[str | None], cancelled: Collection[int], level: int
    ) -> Resumption:
        last = max(i for i, token_id in enumerate(token_ids) if token_id == self._spawn_open)
        return Resumption(last, tuple(self.tokenizer.encode(self._block(token_ids, results, cancelled, level))))

    def settled(self, text: str) -> int:
        if text.endswith(_core.JOIN_OPEN):
            return len(text) - len(_core.JOIN_OPEN)
        spawn = text.rfind(_core.SPAWN_OPEN)
        return len(text) if spawn < 0 else spawn

    def claim(self, text: str, begin: int = 0, depth: int = 0) -> str | None:
        return _core.search_result(text.removesuffix("\n"))

    def _spawn(self, token_ids: Sequence[int]) -> Spawn | Malformed:
        try:
            prompts = _core.child_prompts(self._lines(token_ids))
        except ValueError as error:
            return Malformed(str(error))
        return Spawn(tuple(Child(self.open(prompt), prompt) for prompt in prompts))

    def _block(
        self, token_ids: Sequence[int], results: Sequence[str | None], cancelled: Collection[int], level: int
    ) -> str:
        """What stands in the place of the spawn block."""
        return _core.join_block(self._lines(token_ids), list(results), sorted(cancelled), level)

    def _lines(self, token_ids: Sequence[int]) -> str:
        return self.text(token_ids).removesuffix("\n")


def open_traces(directory: Path | None, method: Method) -> Language:
    """The traces over a checkpoint's own tokenizer: this project's kind, or any that spells the phrases."""
    if directory is None:
        return Traces(method)
    tokenizer = _compact(directory)
    if tokenizer is not None:
        return Traces(method, tokenizer)
    from apr.countdown.spelled import SpelledTraces
    from apr.tokenizer import ForeignTokenizer

    return SpelledTraces(method, ForeignTokenizer.read(directory))


def _compact(directory: Path) -> _core.Tokenizer | None:
    """The directory's tokenizer if it is of this project's kind, or the built-in one if it has none."""
    words = directory / "tokenizer.json"
    if not words.is_file():
        return None if (directory / "tokenizer.model").is_file() else _core.Tokenizer()
    try:
        return _core.Tokenizer.from_json(words.read_text("utf-8"))
    except ValueError:
        return None
