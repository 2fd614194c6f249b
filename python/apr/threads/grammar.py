"""What the orchestrator must know of the language the threads write: how to prompt, spawn, join and judge.

`Grammar` is the protocol; `Countdown` fills it with the one grammar of `rust/countdown`, of which no tag is
repeated here. Cuts are made in token ids: a join keeps the trunk's ids and encodes the join block's text
only. Text handed to the Rust grammar is decoded from ids without specials and without exactly one trailing
newline.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from apr import _core

Method = Literal["apr", "sos", "sos+"]


class MalformedSpawn(ValueError):
    """The spawn block that a thread ended in cannot be read."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the exact judge says."""

    correct: bool
    reason: str
    steps: tuple[str, ...] = ()
    """The accepted equations in order; empty unless correct."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a thread's token sequence goes on."""

    kept: int
    """Tokens of the sequence that stay: after a join, the trunk before the spawn block."""
    token_ids: tuple[int, ...]
    """What is put behind them: the join block."""


class Grammar(Protocol):
    """A language of threads. Problems are opaque to everyone else."""

    @property
    def method(self) -> str:
        """How the model is asked to search."""
        ...

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Tokens at which decoding must stop for the orchestrator to look."""
        ...

    def describe(self, problem: Any) -> dict[str, Any]:
        """The problem as a plain JSON object."""
        ...

    def prompt(self, problem: Any, budget: int | None) -> str:
        """The main thread's prompt, without a trailing newline."""
        ...

    def read_prompt(self, prompt: str) -> tuple[Any, int | None]:
        """The problem and the budget that a main thread's prompt names; ValueError if it names no problem."""
        ...

    def open(self, prompt: str) -> tuple[int, ...]:
        """The token ids a thread with this prompt begins with."""
        ...

    def text(self, token_ids: Sequence[int]) -> str:
        """The ids as text, without specials."""
        ...

    def replacement(self, token_ids: Sequence[int]) -> Resumption | None:
        """What is forced in place of the end of a sequence that stopped, if the model may not write it."""
        ...

    def spawns(self, token_ids: Sequence[int]) -> bool:
        """A thread whose sequence stopped here wants children."""
        ...

    def parse_spawn(self, token_ids: Sequence[int], level: int) -> list[str]:
        """The children's prompts in order, equal ones as often as written; MalformedSpawn if unreadable."""
        ...

    def join_message(
        self, token_ids: Sequence[int], results: Sequence[str | None], cancelled: Collection[int], level: int
    ) -> str:
        """What the parent with these ids is told. `results[i]` is child i's claim, None if it has none;
        `cancelled` holds the indexes of children that were stopped."""
        ...

    def resume(self, token_ids: Sequence[int], message: str) -> Resumption:
        """Where the parent's sequence is cut and what is put there."""
        ...

    def settled(self, text: str) -> int:
        """Characters of an open thread's text that no join and no replacement will take back."""
        ...

    def claim(self, text: str) -> str | None:
        """The solution a thread's text claims to have found, unverified."""
        ...

    def verify_claim(self, problem: Any, prompt: str, claim: str) -> Verdict:
        """Judge the claim of a child with this prompt."""
        ...

    def verify(self, problem: Any, text: str) -> Verdict:
        """Judge the main thread's final text."""
        ...


class Countdown:
    """The grammar of Countdown searches, for one method and one tokenizer."""

    def __init__(self, method: Method = "apr", tokenizer: _core.Tokenizer | None = None) -> None:
        self.method: str = method
        self.tokenizer = _core.Tokenizer() if tokenizer is None else tokenizer
        if self.tokenizer.bos is None or self.tokenizer.eos is None:
            raise ValueError("the tokenizer has no begin or no end token")
        self._begin: int = self.tokenizer.bos
        self._spawn_open = self._token(_core.SPAWN_OPEN)
        self._spawn_end = self._token(_core.SPAWN_END)
        self._join_open = self._token(_core.JOIN_OPEN)
        self.stop_token_ids: tuple[int, ...] = (self.tokenizer.eos,)
        if method == "apr":
            self.stop_token_ids += (self._spawn_end, self._join_open)

    @property
    def vocab_size(self) -> int:
        """Token ids that have a text."""
        size: int = self.tokenizer.vocab_size
        return size

    def _token(self, phrase: str) -> int:
        token_id = self.tokenizer.token_id(phrase)
        if token_id is None:
            raise ValueError(f"the tokenizer has no token of its own for {phrase!r}")
        return token_id

    def describe(self, problem: _core.Problem) -> dict[str, Any]:
        return {"numbers": list(problem.numbers), "target": problem.target}

    def prompt(self, problem: _core.Problem, budget: int | None) -> str:
        return _core.prompt(problem, self.method, budget)

    def read_prompt(self, prompt: str) -> tuple[_core.Problem, int | None]:
        state = _core.first_state(prompt)
        if state is None:
            raise ValueError("no state of a problem in it")
        target, numbers = state
        return _core.Problem(numbers, target), _core.prompt_budget(prompt)

    def open(self, prompt: str) -> tuple[int, ...]:
        return (self._begin, *self.tokenizer.encode(prompt))

    def text(self, token_ids: Sequence[int]) -> str:
        # A model's vocabulary may be padded; an id that no text has stands for no text.
        known = self.tokenizer.vocab_size
        return self.tokenizer.decode([i for i in token_ids if i < known], skip_special=True)

    def replacement(self, token_ids: Sequence[int]) -> Resumption | None:
        # The training data never let the model tell a join from a spawn: at that place it means to spawn.
        if token_ids[-1] != self._join_open:
            return None
        return Resumption(len(token_ids) - 1, (self._spawn_open,))

    def spawns(self, token_ids: Sequence[int]) -> bool:
        return token_ids[-1] == self._spawn_end

    def parse_spawn(self, token_ids: Sequence[int], level: int) -> list[str]:
        if self._spawn_open not in token_ids:
            raise MalformedSpawn("the spawn block ends but never begins")
        try:
            return list(_core.child_prompts(self._lines(token_ids)))
        except ValueError as error:
            raise MalformedSpawn(str(error)) from error

    def join_message(
        self, token_ids: Sequence[int], results: Sequence[str | None], cancelled: Collection[int], level: int
    ) -> str:
        return _core.join_block(self._lines(token_ids), list(results), sorted(cancelled), level)

    def resume(self, token_ids: Sequence[int], message: str) -> Resumption:
        last = max(i for i, token_id in enumerate(token_ids) if token_id == self._spawn_open)
        return Resumption(last, tuple(self.tokenizer.encode(message)))

    def settled(self, text: str) -> int:
        if text.endswith(_core.JOIN_OPEN):
            return len(text) - len(_core.JOIN_OPEN)
        spawn = text.rfind(_core.SPAWN_OPEN)
        return len(text) if spawn < 0 else spawn

    def claim(self, text: str) -> str | None:
        return _core.search_result(text.removesuffix("\n"))

    def verify_claim(self, problem: _core.Problem, prompt: str, claim: str) -> Verdict:
        return _verdict(_core.check_solution(prompt, claim))

    def verify(self, problem: _core.Problem, text: str) -> Verdict:
        if self.method != "apr":
            return _verdict(_core.check_trace(text))
        claim = self.claim(text)
        if claim is None:
            return Verdict(False, "no solution claimed")
        return _verdict(_core.check_solution(_core.prompt(problem, self.method), claim))

    def _lines(self, token_ids: Sequence[int]) -> str:
        return self.text(token_ids).removesuffix("\n")


def default_grammar(method: Method = "apr", tokenizer: _core.Tokenizer | None = None) -> Grammar:
    """The grammar of the problems this package brings."""
    return Countdown(method, tokenizer)


def _verdict(verdict: _core.Verdict) -> Verdict:
    return Verdict(verdict.correct, verdict.reason, tuple(verdict.steps))
