"""One open request to an SGLang server: what is asked in the server's words, and what came back so far."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from apr.engine.base import OnTokens
from apr.engine.guard import logprob_fault, token_fault
from apr.engine.sglang.http import ServerError
from apr.types import Completion, FinishReason, SamplingParams, Timing


@dataclass(eq=False, slots=True)
class Request:
    """The tokens so far are handed to the caller's loop as they come."""

    rid: str
    prompt: list[int]
    params: SamplingParams
    limit: int
    """Tokens it may sample."""
    vocab_size: int | None
    loop: asyncio.AbstractEventLoop
    """The caller's."""
    on_tokens: OnTokens | None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cached_tokens: int = 0
    aborted: bool = False
    failure: Exception | None = None
    """What `on_tokens` raised."""
    made: float = field(default_factory=time.monotonic)
    decoding: float | None = None
    """When the first tokens came."""

    def body(self) -> dict[str, Any]:
        return {
            "rid": self.rid,
            "input_ids": self.prompt,
            "sampling_params": {
                "temperature": self.params.temperature,
                "max_new_tokens": self.limit,
                "stop_token_ids": list(self.params.stop_token_ids),
                # It would ignore stop tokens as well. So the model's own end token always is one, where there are any.
                "ignore_eos": not self.params.stop_token_ids,
                "skip_special_tokens": False,
                # Heeded by servers with deterministic inference; others draw from a stream of their own.
                "sampling_seed": self.params.seed & 0x7FFF_FFFF,
            },
            "return_logprob": True,
            "stream": True,
        }

    def take(self, out: dict[str, Any]) -> bool:
        """Keep what a chunk adds, if anything; servers send either all tokens so far or the new ones alone.
        ServerError for what no sampler says."""
        meta = out.get("meta_info")
        if not isinstance(meta, dict):
            raise ServerError("the server sent a chunk without meta_info")
        counted, cached = meta.get("completion_tokens"), meta.get("cached_tokens") or 0
        token_ids, scored = out.get("output_ids"), meta.get("output_token_logprobs") or []
        if not (type(counted) is int and type(cached) is int and cached >= 0):
            raise ServerError("the server sent a chunk without counts of its tokens")
        self.cached_tokens = cached
        new = counted - len(self.token_ids)
        # A request that was aborted while it waited is answered with less.
        if new == 0 or (new < 0 and self.aborted):
            return False
        if new < 0 or not isinstance(token_ids, list) or len(token_ids) not in (new, counted):
            sent = len(token_ids) if isinstance(token_ids, list) else "no"
            raise ServerError(f"the server counts {counted} tokens after {len(self.token_ids)} and sends {sent}")
        if counted > self.limit:
            raise ServerError(f"the server sampled {counted} tokens where {self.limit} were allowed")
        token_ids = token_ids[-new:]
        logprobs = logprobs_of(scored)[-new:]
        fault = token_fault(token_ids, self.vocab_size) or logprob_fault(logprobs, new)
        if fault is not None:
            raise ServerError(f"the server sent what cannot be: {fault}")
        self.decoding = self.decoding or time.monotonic()
        self.token_ids += token_ids
        self.logprobs += logprobs
        if self.on_tokens is not None:
            self.loop.call_soon_threadsafe(self._tell, token_ids)
        return True

    def _tell(self, token_ids: list[int]) -> None:
        """Runs on the caller's loop."""
        if self.failure is not None or self.on_tokens is None:
            return
        try:
            self.on_tokens(token_ids)
        except Exception as error:
            self.failure = error

    def finish(self, reason: FinishReason, version: int, error: str | None = None) -> Completion:
        now = time.monotonic()
        decoding = now if self.decoding is None else self.decoding
        timing = Timing(0.0, decoding - self.made, now - decoding)
        return Completion(
            tuple(self.token_ids), tuple(self.logprobs), reason, self.cached_tokens, version, error, timing
        )


def logprobs_of(scored: Any) -> list[Any]:
    """The first of each entry, which is the log-probability; None where there is none."""
    if not isinstance(scored, list):
        return []
    return [entry[0] if isinstance(entry, list) and entry else None for entry in scored]
