"""An engine that plays written texts instead of sampling: a teacher's trace, or whatever a test needs.

A script is a list of whole thread texts. A prompt is answered by the rest of the first text that begins with
it, and the end token; a prompt that begins none is an engine error. Faults bend the answers to chosen
prompts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, Protocol

from apr.engine.base import OnTokens
from apr.types import Completion, FinishReason, SamplingParams


class TokenizerLike(Protocol):
    """The part of a tokenizer that a script needs."""

    @property
    def eos(self) -> int | None: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: list[int]) -> str: ...


class TraceLike(Protocol):
    """A teacher's trace: the main thread's text before and after each join, and the children of each
    round."""

    @property
    def main_calls(self) -> Sequence[str]: ...
    @property
    def children(self) -> Sequence[Sequence[TraceLike]]: ...


@dataclass(frozen=True, slots=True)
class Fault:
    """A deviation for every prompt whose text contains `match`."""

    match: str
    kind: Literal["text", "truncate", "error", "raise", "delay"]
    """"text": write `text` instead of the script; "truncate", "error", "raise": after `after` tokens end with
    "length", which is a lie, end with "error", raise; "delay": wait `seconds` after `after` tokens."""
    text: str = ""
    after: int = 0
    seconds: float = 0.0


def trace_texts(trace: TraceLike, head: str = "") -> list[str]:
    """All thread texts of a trace, main thread first; `head` is the condition that its prompt begins with."""
    texts = [head + text for text in trace.main_calls]
    for spawn in trace.children:
        for child in spawn:
            texts += trace_texts(child)
    return texts


class ScriptedEngine:
    """Plays texts, one token at a time, in step with the other open requests."""

    def __init__(
        self,
        texts: Iterable[str],
        tokenizer: TokenizerLike,
        *,
        faults: Iterable[Fault] = (),
        context_length: int = 1 << 20,
        seconds_per_token: float = 0.0,
    ) -> None:
        self.texts = list(texts)
        self.tokenizer = tokenizer
        if tokenizer.eos is None:
            raise ValueError("the tokenizer has no end token")
        self._end: int = tokenizer.eos
        self.faults = list(faults)
        self.context_length = context_length
        self.vocab_size: int | None = getattr(tokenizer, "vocab_size", None)
        self.policy_version = 0
        self.requests: list[tuple[tuple[int, ...], SamplingParams, Completion]] = []
        """Everything it was asked and answered, in order of ending."""
        self._seconds = seconds_per_token
        self._open: dict[str, asyncio.Event] = {}

    async def generate(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        request_id: str,
        on_tokens: OnTokens | None = None,
    ) -> Completion:
        aborted = self._open[request_id] = asyncio.Event()
        version = self.policy_version
        try:
            ids, reason, error = await self._play(tuple(prompt), params, aborted, on_tokens)
        finally:
            del self._open[request_id]
        cached = self._cached(tuple(prompt))
        completion = Completion(tuple(ids), (0.0,) * len(ids), reason, cached, version, error)
        self.requests.append((tuple(prompt), params, completion))
        return completion

    def abort(self, request_id: str) -> None:
        if request_id in self._open:
            self._open[request_id].set()

    async def close(self) -> None:
        for aborted in self._open.values():
            aborted.set()

    async def _play(
        self,
        prompt: tuple[int, ...],
        params: SamplingParams,
        aborted: asyncio.Event,
        on_tokens: OnTokens | None,
    ) -> tuple[list[int], FinishReason, str | None]:
        text = self.tokenizer.decode(list(prompt[1:]))
        fault = next((fault for fault in self.faults if fault.match in text), None)
        script = self._script(text, fault)
        if script is None:
            return [], "error", f"no script begins with {text[-80:]!r}"
        room = self.context_length - len(prompt)
        limit = room if params.max_tokens is None else min(params.max_tokens, room)
        ids: list[int] = []
        for token_id in script:
            await self._wait(self._seconds, aborted)
            if fault is not None and len(ids) == fault.after:
                if fault.kind == "delay":
                    await self._wait(fault.seconds, aborted)
                elif fault.kind == "truncate":
                    return ids, "length", None
                elif fault.kind == "error":
                    return ids, "error", "scripted error"
                elif fault.kind == "raise":
                    raise RuntimeError("scripted exception")
            if aborted.is_set():
                return ids, "abort", None
            if len(ids) >= limit:
                return ids, "length", None
            ids.append(token_id)
            if on_tokens is not None:
                on_tokens([token_id])
            if token_id in params.stop_token_ids:
                return ids, "stop", None
        return ids, "length", None

    def _script(self, text: str, fault: Fault | None) -> list[int] | None:
        if fault is not None and fault.kind == "text":
            return [*self.tokenizer.encode(fault.text), self._end]
        whole = next((whole for whole in self.texts if whole.startswith(text)), None)
        return None if whole is None else [*self.tokenizer.encode(whole[len(text) :]), self._end]

    async def _wait(self, seconds: float, aborted: asyncio.Event) -> None:
        """Sleep, but not past an abort; without seconds let the others take a step."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(aborted.wait(), seconds)

    def _cached(self, prompt: tuple[int, ...]) -> int:
        """Tokens of the prompt that some earlier request also began with, as a radix cache would have
        them."""
        longest = 0
        for before, _, answer in self.requests:
            pairs = zip(prompt, (*before, *answer.token_ids), strict=False)
            longest = max(longest, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
        return longest
