"""An engine that stops at phrases of several tokens: it goes on where another stopped too early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from apr.engine.base import Engine, OnTokens
from apr.limits import request_seed
from apr.types import Completion, SamplingParams, Timing


class PhraseEngine:
    """Another engine, asked again until a stop token really ends a sequence.

    `settled` says so of a whole sequence that ends in a stop token. Each further part is a request of its own whose
    prompt holds the parts before, which engines with a prefix cache do not compute again."""

    def __init__(self, engine: Engine, settled: Callable[[Sequence[int]], bool]) -> None:
        self.engine = engine
        self._settled = settled
        self._open: set[str] = set()
        self._aborted: set[str] = set()

    @property
    def context_length(self) -> int:
        return self.engine.context_length

    @property
    def vocab_size(self) -> int | None:
        return self.engine.vocab_size

    @property
    def policy_version(self) -> int:
        return self.engine.policy_version

    async def generate(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        request_id: str,
        on_tokens: OnTokens | None = None,
    ) -> Completion:
        """See `Engine.generate`; the part that goes on is told from the first by its seed alone."""
        if request_id in self._open:
            why = f"a request {request_id!r} is still open"
            return Completion((), (), "error", policy_version=self.policy_version, error=why)
        self._open.add(request_id)
        whole: Completion | None = None
        try:
            for part in count():
                ids = () if whole is None else whole.token_ids
                left = None if params.max_tokens is None else params.max_tokens - len(ids)
                if whole is not None and request_id in self._aborted:
                    return replace(whole, finish_reason="abort")
                if whole is not None and left == 0:
                    return replace(whole, finish_reason="length")
                seed = request_seed(params.seed, "part", part) if part else params.seed
                asked = replace(params, max_tokens=left, seed=seed)
                answer = await self.engine.generate((*prompt, *ids), asked, request_id=request_id, on_tokens=on_tokens)
                whole = answer if whole is None else _joined(whole, answer)
                # A stop that brings no stop token is none: whoever asked is told, as of any engine.
                stopped = (
                    whole.finish_reason == "stop"
                    and bool(answer.token_ids)
                    and answer.token_ids[-1] in params.stop_token_ids
                )
                if not stopped or self._settled((*prompt, *whole.token_ids)):
                    return whole
        finally:
            self._open.discard(request_id)
            self._aborted.discard(request_id)
        raise AssertionError("unreachable")

    def abort(self, request_id: str) -> None:
        """See `Engine.abort`."""
        if request_id in self._open:
            self._aborted.add(request_id)
            self.engine.abort(request_id)

    async def close(self) -> None:
        """See `Engine.close`."""
        self._aborted |= self._open
        await self.engine.close()


def _joined(first: Completion, second: Completion) -> Completion:
    """Two parts as one completion."""
    told = len(first.logprobs) == len(first.token_ids) and len(second.logprobs) == len(second.token_ids)
    timing = None
    if first.timing is not None and second.timing is not None:
        # What the second waits for its first token is no prefill of the request's.
        later = sum(second.timing) - second.timing.queue
        timing = Timing(first.timing.queue + second.timing.queue, first.timing.prefill, first.timing.decode + later)
    joined = replace(
        second,
        token_ids=first.token_ids + second.token_ids,
        logprobs=first.logprobs + second.logprobs if told else (),
        cached_tokens=first.cached_tokens,
        timing=timing,
    )
    if first.policy_version != second.policy_version and second.finish_reason in ("stop", "length"):
        return replace(joined, finish_reason="error", error="the policy version changed between two parts")
    return joined
