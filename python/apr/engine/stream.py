"""One open request to an SGLang server: what is asked in the server's words, and what came back so far."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from apr.engine.base import OnTokens
from apr.types import Completion, FinishReason, SamplingParams, Timing


@dataclass(eq=False, slots=True)
class Request:
    """The tokens so far are handed to the caller's loop as they come."""

    rid: str
    prompt: list[int]
    params: SamplingParams
    limit: int
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

    def take(self, out: dict[str, Any]) -> None:
        """Keep what a chunk adds; servers send either all tokens so far or the new ones alone."""
        meta = out["meta_info"]
        new = int(meta["completion_tokens"]) - len(self.token_ids)
        self.cached_tokens = int(meta.get("cached_tokens") or 0)
        if new <= 0:
            return
        self.decoding = self.decoding or time.monotonic()
        token_ids = [int(token) for token in out["output_ids"][-new:]]
        scored = meta.get("output_token_logprobs") or []
        self.token_ids += token_ids
        self.logprobs += [float(entry[0]) for entry in scored[-new:]]
        if self.on_tokens is not None:
            self.loop.call_soon_threadsafe(self._tell, token_ids)

    def _tell(self, token_ids: list[int]) -> None:
        """Runs on the caller's loop."""
        if self.failure is not None or self.on_tokens is None:
            return
        try:
            self.on_tokens(token_ids)
        except Exception as error:
            self.failure = error

    def finish(self, reason: FinishReason, version: int, error: str | None = None) -> Completion:
        logprobs = self.logprobs if len(self.logprobs) == len(self.token_ids) else []
        now = time.monotonic()
        decoding = now if self.decoding is None else self.decoding
        timing = Timing(0.0, decoding - self.made, now - decoding)
        return Completion(tuple(self.token_ids), tuple(logprobs), reason, self.cached_tokens, version, error, timing)
