"""The Rust decoder as an engine: tokens on the CPU, without torch.

One thread steps the decoder as long as any request is open; it starts with the first and ends with the last, so an
idle engine costs nothing and a forgotten one is collected. `_inbox` carries submissions and aborts to it under
`_lock`; results go back to each request's own loop, all of one loop in one callback.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from apr._core import Decoder
from apr.engine.base import NOT_FINITE, OnTokens, forked
from apr.types import Completion, FinishReason, SamplingParams, Timing

_SLICE = 0.004
"""Seconds of decoding between two looks at the inbox. Handing the interpreter lock back and forth for every step of a
small model would cost more than the step."""

CacheDtype = Literal["bfloat16", "float32", "int8"]
"""What keys and values are kept in."""
ComputeDtype = Literal["bfloat16", "float32"]
"""What a forward pass multiplies in."""

_Update = tuple[int, list[int], list[float], FinishReason | None, int, int, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class NativeStats:
    """Counters since the engine was made, and its state now."""

    steps: int
    """Batches the model computed."""
    computed_tokens: int
    """Tokens the model computed, of prompts and completions."""
    prompt_tokens: int
    """Tokens of the prompts that were begun."""
    cached_tokens: int
    """Those of them that the engine did not compute."""
    sampled_tokens: int
    preemptions: int
    """Times a running request was put back for want of cache memory."""
    waiting: int
    """Requests in the queue."""
    running: int
    """Requests in the batch."""
    used_pages: int
    """Cache pages that hold tokens, sixteen a page."""
    pages: int


@dataclass(eq=False, slots=True)
class _Request:
    handle: int
    prompt: tuple[int, ...]
    params: SamplingParams
    on_tokens: OnTokens | None
    done: asyncio.Future[Completion]
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    made: float = field(default_factory=time.monotonic)
    inbox: float = 0.0
    """Seconds before the decoder got it."""

    def finish(
        self,
        reason: FinishReason,
        version: int,
        cached_tokens: int = 0,
        error: str | None = None,
        timing: Timing | None = None,
    ) -> None:
        if not self.done.done():
            ids, logprobs = tuple(self.token_ids), tuple(self.logprobs)
            self.done.set_result(Completion(ids, logprobs, reason, cached_tokens, version, error, timing))


class NativeEngine:
    """Samples from a checkpoint directory in Hugging Face layout: Llama, Qwen2 or Qwen3."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        cache_bytes: int | None = None,
        cache_dtype: CacheDtype = "bfloat16",
        compute_dtype: ComputeDtype = "float32",
        threads: int | None = None,
        max_batch: int | None = None,
    ) -> None:
        """`cache_bytes` limits the memory of cached prefixes (a gibibyte or a quarter of the free memory, whichever is
        less, but one full context where that is free), `threads` the processors, `max_batch` the requests that decode
        at once. Keys and values are kept in `cache_dtype`: float32 gives, with `compute_dtype` float32, the
        log-probabilities that a forward pass in float32 has, bfloat16 takes half its memory and time, int8, with a
        scale for each token's head, half of that. With `compute_dtype` bfloat16, what is multiplied with weights, keys
        or values of bfloat16 is rounded to it, and with bytes to int16, where the processor has instructions for such
        products: AVX512-BF16 and -VNNI. A checkpoint that cannot run, or an option that cannot be, is a ValueError or
        a FileNotFoundError."""
        try:
            self._decoder = Decoder(
                model,
                cache_bytes=cache_bytes,
                cache_dtype=cache_dtype,
                compute_dtype=compute_dtype,
                threads=threads,
                max_batch=max_batch,
            )
        except OverflowError as error:
            raise ValueError(f"an option is out of range: {error}") from None
        # The collector may end a forgotten request wherever it likes, within the lock too.
        self._lock = threading.RLock()
        self._inbox: list[_Request | int] = []
        self._handles: dict[str, int] = {}
        self._numbers = count(1)
        self._thread: threading.Thread | None = None
        self._fault: str | None = None
        """Why nothing is sampled any more."""
        self._process = os.getpid()

    @property
    def context_length(self) -> int:
        return self._decoder.context_length

    @property
    def vocab_size(self) -> int:
        return self._decoder.vocab_size

    @property
    def policy_version(self) -> int:
        return self._decoder.policy_version

    @property
    def stats(self) -> NativeStats:
        """A snapshot; waits for the step under way."""
        return NativeStats(**self._decoder.stats())

    async def generate(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        request_id: str,
        on_tokens: OnTokens | None = None,
    ) -> Completion:
        """See `Engine.generate`. An exception of `on_tokens` ends the request and comes out here."""
        done: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        request = _Request(next(self._numbers), tuple(prompt), params, on_tokens, done)
        if (fault := forked(self._process) or params.fault) is not None:
            return Completion((), (), "error", policy_version=self.policy_version, error=fault)
        with self._lock:
            fault = self._fault
            if request_id in self._handles:
                fault = f"a request {request_id!r} is still open"
            if fault is None:
                fault = self._send(request)
            if fault is not None:
                return Completion((), (), "error", policy_version=self.policy_version, error=fault)
            self._handles[request_id] = request.handle
        try:
            return await done
        except BaseException:
            with self._lock:
                self._drop(request.handle)
            raise
        finally:
            with self._lock:
                del self._handles[request_id]

    def abort(self, request_id: str) -> None:
        """See `Engine.abort`."""
        if forked(self._process):
            return
        with self._lock:
            handle = self._handles.get(request_id)
            if handle is not None:
                self._drop(handle)

    async def close(self) -> None:
        """See `Engine.close`."""
        if forked(self._process):
            return
        with self._lock:
            self._fault = self._fault or "the engine is closed"
            for handle in self._handles.values():
                self._drop(handle)
            thread = self._thread
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def update_weights(self, state: Mapping[str, object]) -> int:
        """Serve other weights; returns the new policy version.

        `state` maps each Hugging Face parameter name to a buffer: float32, or bfloat16 seen as 16-bit unsigned
        integers. A RuntimeError while requests are open; a ValueError for a wrong name or shape, and the old weights
        stay.
        """
        if fault := forked(self._process):
            raise RuntimeError(fault)
        with self._lock:
            if self._inbox:
                raise RuntimeError("requests are still open")
            return self._decoder.update_weights(state)

    def _send(self, request: _Request) -> str | None:
        """Hands a request to the thread; why that cannot be, if it cannot. `_lock` is held."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="apr-native-engine", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                return f"the engine cannot begin: {error}"
            self._thread = thread
        self._inbox.append(request)
        return None

    def _drop(self, handle: int) -> None:
        """Asks the thread to end a request; without a thread, nothing is open. `_lock` is held."""
        if self._thread is not None:
            self._inbox.append(handle)

    def _work(self) -> None:
        requests: dict[int, _Request] = {}
        try:
            while self._receive(requests):
                self._tell(requests, self._decoder.run(_SLICE))
        except BaseException as error:
            # A fault in the decoder: nothing more can be sampled, and nobody may be left waiting.
            fault = f"the decoder broke down: {type(error).__name__}: {error}"
            with self._lock:
                self._fault = fault
                self._thread = None
                requests.update((item.handle, item) for item in self._inbox if isinstance(item, _Request))
                self._inbox.clear()
            for request in requests.values():
                self._fail(request, fault)

    def _receive(self, requests: dict[int, _Request]) -> bool:
        """Takes the inbox; False, and the thread is no longer the engine's, if nothing is open after it."""
        with self._lock:
            messages, self._inbox = self._inbox, []
            for message in messages:
                if isinstance(message, int):
                    self._decoder.abort(message)
                    continue
                params = message.params
                try:
                    self._decoder.submit(
                        message.handle,
                        message.prompt,
                        temperature=params.temperature,
                        max_tokens=params.max_tokens,
                        stop_token_ids=list(params.stop_token_ids),
                        seed=params.seed & 0xFFFF_FFFF_FFFF_FFFF,
                    )
                except Exception as error:
                    # Whatever is wrong with a request is its own, and nobody may be left waiting.
                    self._fail(message, str(error))
                else:
                    message.inbox = time.monotonic() - message.made
                    requests[message.handle] = message
            if not requests:
                self._thread = None
            return bool(requests)

    def _tell(self, requests: dict[int, _Request], updates: list[_Update]) -> None:
        """Posts what a slice brought, one callback a loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Request, _Update]]] = {}
        for update in updates:
            handle, _, _, reason, *_ = update
            request = requests[handle] if reason is None else requests.pop(handle)
            by_loop.setdefault(request.done.get_loop(), []).append((request, update))
        for loop, news in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._deliver, news)
            except RuntimeError:
                # The loop is closed, and whoever waited on it is gone.
                with self._lock:
                    self._inbox.extend(request.handle for request, _ in news)

    def _deliver(self, news: list[tuple[_Request, _Update]]) -> None:
        """Runs on the requests' loop."""
        for request, (_, token_ids, logprobs, reason, cached_tokens, version, seconds) in news:
            if request.done.done():
                continue
            request.token_ids += token_ids
            request.logprobs += logprobs
            if token_ids and request.on_tokens is not None:
                try:
                    request.on_tokens(token_ids)
                except Exception as error:
                    request.done.set_exception(error)
                    continue
            if reason is not None:
                queue, prefill, decode = seconds
                timing = Timing(request.inbox + queue, prefill, decode)
                fault = NOT_FINITE if reason == "error" else None
                request.finish(reason, version, cached_tokens, fault, timing)

    def _fail(self, request: _Request, reason: str) -> None:
        def finish() -> None:
            request.finish("error", self.policy_version, error=reason)

        try:
            request.done.get_loop().call_soon_threadsafe(finish)
        except RuntimeError:
            # The loop is closed, and whoever waited on it is gone.
            return
