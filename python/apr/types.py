"""Values that cross the engine's border and the trainer's: frozen, no torch.

Token ids are what the model saw and wrote; text exists only for people and for the grammar.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length", "abort", "error"]
TEMPERATURES = (1e-4, 1e4)
"""The least and the most beside 0. Below, differences of logits overflow once divided by it; above, all tokens are
alike."""


def temperature_fault(temperature: object) -> str | None:
    """Why no engine samples at this temperature; None if all do."""
    least, most = TEMPERATURES
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if number and (temperature == 0 or least <= temperature <= most):  # type: ignore[operator]
        return None
    return f"temperature is 0 or from {least:g} to {most:g}, not {temperature!r:.40}"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How an engine samples one completion."""

    temperature: float = 0.0
    """0 is greedy: the default here and on the command line."""
    max_tokens: int | None = None
    """Tokens that may be sampled; None: all that the model's context length leaves."""
    stop_token_ids: tuple[int, ...] = ()
    """Sampling ends after the first of these; the stop token is the last of `Completion.token_ids`."""
    seed: int = 0
    """The request's own random stream; it does not depend on who shares the batch."""

    @property
    def fault(self) -> str | None:
        """Why no engine samples so; None if all do."""
        if self.max_tokens is not None and not (_is_whole(self.max_tokens) and self.max_tokens >= 0):
            return f"max_tokens is a whole number from 0 on, not {self.max_tokens!r:.40}"
        if not all(_is_whole(token) and 0 <= token < 1 << 31 for token in self.stop_token_ids):
            return "stop_token_ids holds what is no token id"
        if not _is_whole(self.seed):
            return f"seed is a whole number, not {self.seed!r:.40}"
        return temperature_fault(self.temperature)


class Timing(NamedTuple):
    """Where an engine's time for a request went, in seconds."""

    queue: float
    """Before the engine began; 0 where it does not tell that from the prefill."""
    prefill: float
    """Until the first token."""
    decode: float
    """From the first token on."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine sampled for one prompt."""

    token_ids: tuple[int, ...]
    """Sampled tokens, the stop token included."""
    logprobs: tuple[float, ...]
    """Natural log-probability of each sampled token at the sampling temperature (greedy: at temperature 1)."""
    finish_reason: FinishReason
    cached_tokens: int = 0
    """Prompt tokens that the engine did not compute."""
    policy_version: int = 0
    """Version of the weights that sampled every token."""
    error: str | None = None
    """Why, when `finish_reason` is "error"; what was sampled before is kept."""
    timing: Timing | None = field(default=None, compare=False)
    """None: the engine does not tell. No part of what was sampled."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of a thread's tokens with one origin."""

    kind: Literal["sampled", "forced"]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    """The engine's log-probabilities; empty for forced segments."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A sequence inside a row of training: some of the branch before, then tokens of its own."""

    begin: int
    """Where its own tokens begin in the row; they end where the next branch's begin."""
    kept: int
    """Tokens of the branch before that it starts with; 0 for the first."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of training: tokens, each stored once, and which of them carry loss."""

    token_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    """True where the model itself wrote the token; same length as `token_ids`."""
    logprobs: tuple[float, ...] = ()
    """The engine's log-probability of each token that carries loss, 0 elsewhere; empty for a teacher's."""
    branches: tuple[Branch, ...] = (Branch(0, 0),)
    """The sequences in it; each begins with tokens that carry no loss."""
    thread: str = "0"
    """The thread that wrote it; "0" is the main thread."""
    kinds: bytes = b""
    """A code a token, 0 where there is no loss: what kind of token it is, to whoever made it; empty: nobody tells."""

    def spans(self) -> list[tuple[int, int]]:
        """Where each branch's own tokens begin and end in the row."""
        begins = [branch.begin for branch in self.branches]
        return list(zip(begins, [*begins[1:], len(self.token_ids)], strict=True))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
