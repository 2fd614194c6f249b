"""A Llama of the transformers library, decoded in this process on any device: the reference for other
engines.

Rows are requests. The cache is one buffer a layer, `K_RHTD` and `V_RHTD`; row r has `lengths[r]` tokens in
columns 0, 1, ...; active rows come first, so a row that ends hands its place to the last. New rows copy what
an ended one had already and are prefilled, those with equally many tokens left together; then all rows decode a
token a step. Legend: R rows, H key-value heads, T columns, D
head size, S tokens fed, V words.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from random import Random
from typing import Any

import torch

from apr.engine.base import NOT_FINITE, OnTokens, forked
from apr.engine.prefixes import Prefix, PrefixStore
from apr.types import Completion, FinishReason, SamplingParams, Timing


@dataclass(slots=True)
class _Request:
    prompt: tuple[int, ...]
    params: SamplingParams
    limit: int
    """Tokens it may sample."""
    on_tokens: OnTokens | None
    done: asyncio.Future[Completion]
    random: Random
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: FinishReason | None = None
    error: str | None = None
    """Why, if it ends with "error"."""
    told: int = 0
    """Tokens that `on_tokens` has got."""
    cached: int = 0
    """Prompt tokens that were copied."""
    made: float = field(default_factory=time.monotonic)
    begun: float | None = None
    """When it got its row."""
    decoding: float | None = None
    """When its first token was there."""

    @property
    def timing(self) -> Timing:
        now = time.monotonic()
        begun = now if self.begun is None else self.begun
        decoding = now if self.decoding is None else self.decoding
        return Timing(begun - self.made, decoding - begun, now - decoding)


class _RowCache:
    """The buffers behind the model's cache protocol: `update` stores what is fed and returns what to attend
    to."""

    def __init__(self, config: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.heads = config.num_key_value_heads
        self.head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        empty = torch.zeros(0, self.heads, 0, self.head_size, device=device, dtype=dtype)
        self.K_RHTD = [empty.clone() for _ in range(config.num_hidden_layers)]
        self.V_RHTD = [empty.clone() for _ in range(config.num_hidden_layers)]
        self.first_row = 0
        self.columns_RS = torch.zeros(0, 0, dtype=torch.long, device=device)
        self.width = 0

    def reserve(self, rows: int, columns: int) -> None:
        """Grow the buffers, in powers of two so that it is seldom."""
        have_rows, _, have_columns, _ = self.K_RHTD[0].shape
        if rows <= have_rows and columns <= have_columns:
            return
        shape = (
            max(have_rows, 1 << (rows - 1).bit_length()), self.heads,
            max(have_columns, 1 << (columns - 1).bit_length()), self.head_size,
        )  # fmt: skip
        for buffers in (self.K_RHTD, self.V_RHTD):
            for layer, old in enumerate(buffers):
                new = old.new_zeros(shape)
                new[:have_rows, :, :have_columns] = old
                buffers[layer] = new

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row over another."""
        for buffer in (*self.K_RHTD, *self.V_RHTD):
            buffer[target, :, :length] = buffer[source, :, :length]

    def wipe(self, row: int) -> None:
        """Forget a row's contents: what is not finite would spoil whoever comes next, though masked."""
        for buffer in (*self.K_RHTD, *self.V_RHTD):
            buffer[row] = 0

    def read(self, row: int, token_ids: tuple[int, ...]) -> Prefix:
        """A copy of what a row holds of this sequence."""
        K_LHTD, V_LHTD = (
            torch.stack([b[row, :, : len(token_ids)] for b in each]) for each in (self.K_RHTD, self.V_RHTD)
        )
        return Prefix(token_ids, K_LHTD, V_LHTD)

    def write(self, row: int, prefix: Prefix, length: int) -> None:
        """Begin a row with the first `length` tokens of a prefix."""
        for buffers, tensor_LHTD in ((self.K_RHTD, prefix.K_LHTD), (self.V_RHTD, prefix.V_LHTD)):
            for buffer, part_HTD in zip(buffers, tensor_LHTD, strict=True):
                buffer[row, :, :length] = part_HTD[:, :length]

    def aim(self, first_row: int, columns_RS: torch.Tensor, width: int) -> None:
        """Say where the next forward pass stores its tokens and how many columns it attends to."""
        self.first_row, self.columns_RS, self.width = first_row, columns_RS, width

    def update(
        self, key_RHSD: torch.Tensor, value_RHSD: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.K_RHTD[layer_idx], self.V_RHTD[layer_idx]
        end = self.first_row + key_RHSD.shape[0]
        rows_R1 = torch.arange(self.first_row, end, device=key_RHSD.device)[:, None]
        keys[rows_R1, :, self.columns_RS] = key_RHSD.transpose(1, 2)
        values[rows_R1, :, self.columns_RS] = value_RHSD.transpose(1, 2)
        return keys[self.first_row : end, :, : self.width], values[self.first_row : end, :, : self.width]


class TorchEngine:
    """Continuous batching over a model in this process. `model` is a directory or a loaded Llama, which may
    be the very one a trainer updates: call `update_weights` after each change."""

    def __init__(
        self,
        model: Any,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        max_rows: int = 64,
        cache_tokens: int = 1 << 16,
    ) -> None:
        """`max_rows` decode at once; `cache_tokens` of sequences that have ended are kept for their prefixes."""
        if not isinstance(model, torch.nn.Module):
            from apr.engine.checkpoint import load_model

            model = load_model(model)
        self.model: Any = model.to(device=device, dtype=dtype)
        self.device = next(model.parameters()).device
        self.context_length = int(model.config.max_position_embeddings)
        self.vocab_size = int(model.config.vocab_size)
        self.policy_version = 0
        self.max_rows = max_rows
        self._cache = _RowCache(model.config, self.device, next(model.parameters()).dtype)
        self._prefixes = PrefixStore(cache_tokens)
        self._waiting: dict[str, _Request] = {}
        self._active: dict[str, _Request] = {}
        """In row order."""
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._process = os.getpid()

    async def generate(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        request_id: str,
        on_tokens: OnTokens | None = None,
    ) -> Completion:
        """See `Engine.generate`. An exception of `on_tokens` ends the request and comes out here."""
        if (fault := forked(self._process) or params.fault) is not None:
            return Completion((), (), "error", policy_version=self.policy_version, error=fault)
        if prompt and not 0 <= min(prompt) <= max(prompt) < self.vocab_size:
            why = f"token ids are from 0 to {self.vocab_size - 1}"
            return Completion((), (), "error", policy_version=self.policy_version, error=why)
        if self._closed or not prompt or request_id in self._waiting or request_id in self._active:
            why = "closed" if self._closed else f"request {request_id!r} is open" if prompt else "empty prompt"
            return Completion((), (), "error", policy_version=self.policy_version, error=why)
        room = self.context_length - len(prompt)
        limit = room if params.max_tokens is None else min(room, params.max_tokens)
        if limit <= 0:
            return Completion((), (), "length", policy_version=self.policy_version)
        done: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        request = _Request(tuple(prompt), params, limit, on_tokens, done, Random(params.seed))
        self._waiting[request_id] = request
        if self._task is None:
            self._task = asyncio.create_task(self._serve())
        try:
            return await done
        finally:
            if not done.done() or done.cancelled():
                self.abort(request_id)

    def abort(self, request_id: str) -> None:
        request = self._waiting.get(request_id) or self._active.get(request_id)
        if request is not None and request.finish is None:
            request.finish = "abort"

    async def close(self) -> None:
        if forked(self._process):
            return
        self._closed = True
        for request_id in [*self._waiting, *self._active]:
            self.abort(request_id)
        if self._task is not None:
            await asyncio.wait({self._task})

    def update_weights(self, state: Mapping[str, torch.Tensor] | None = None) -> int:
        """Load new weights, or take note that the model's owner changed them; returns the new policy
        version."""
        if fault := forked(self._process):
            raise RuntimeError(fault)
        if self._task is not None:
            raise RuntimeError("weights may not change while requests are open")
        if state is not None:
            self.model.load_state_dict(state)
        self._prefixes.clear()
        self.policy_version += 1
        return self.policy_version

    async def _serve(self) -> None:
        """Step while there are requests."""
        training = self.model.training
        self.model.eval()
        try:
            while self._waiting or self._active:
                for request_id in [name for name, request in self._waiting.items() if request.finish is not None]:
                    self._resolve(self._waiting.pop(request_id))
                old = list(self._active.values())
                waiting = sorted(list(self._waiting)[: self.max_rows - len(old)], key=self._length)
                for request_id in waiting:
                    self._active[request_id] = self._waiting.pop(request_id)
                    self._active[request_id].begun = time.monotonic()
                # In a thread, so that the loop can read streams and take requests meanwhile; it only ever
                # adds to `_waiting` and sets `finish`.
                await asyncio.to_thread(self._step, old, list(self._active.values())[len(old) :])
                self._settle()
        except Exception as error:
            for request in (*self._active.values(), *self._waiting.values()):
                request.finish, request.error = "error", f"{type(error).__name__}: {error}"
                self._resolve(request)
        finally:
            self._active.clear()
            self._waiting.clear()
            self.model.train(training)
            self._task = None

    def _length(self, request_id: str) -> int:
        return len(self._waiting[request_id].prompt)

    @torch.inference_mode()
    def _step(self, old: list[_Request], fresh: list[_Request]) -> None:
        """One token for each row; `old` rows have a cache and one token not yet fed, `fresh` rows have
        nothing."""
        everyone = [*old, *fresh]
        self._cache.reserve(len(everyone), max(len(r.prompt) + len(r.token_ids) for r in everyone))
        if old:
            columns_R1 = torch.tensor([[len(r.prompt) + len(r.token_ids) - 1] for r in old], device=self.device)
            ids_R1 = torch.tensor([r.token_ids[-1:] for r in old], device=self.device)
            self._sample(old, self._forward(0, ids_R1, columns_R1))
        for row, request in enumerate(fresh, len(old)):
            if found := self._prefixes.longest(request.prompt):
                prefix, request.cached = found
                self._cache.write(row, prefix, request.cached)
        row = len(old)
        for _, alike in groupby(fresh, key=lambda r: (len(r.prompt), r.cached)):
            requests = list(alike)
            columns_S = torch.arange(requests[0].cached, len(requests[0].prompt), device=self.device)
            ids_RS = torch.tensor([r.prompt[r.cached :] for r in requests], device=self.device)
            self._sample(requests, self._forward(row, ids_RS, columns_S.expand(len(requests), -1)))
            row += len(requests)

    def _forward(self, first_row: int, ids_RS: torch.Tensor, columns_RS: torch.Tensor) -> torch.Tensor:
        """Logits of the last token fed in each of these rows, RV."""
        width = int(columns_RS.max()) + 1
        visible_RST = torch.arange(width, device=self.device) <= columns_RS[:, :, None]
        # An additive mask is what every attention implementation of the library takes as it is.
        mask_R1ST = torch.zeros(visible_RST.shape, dtype=self.model.dtype, device=self.device)
        mask_R1ST = mask_R1ST.masked_fill(~visible_RST, torch.finfo(self.model.dtype).min)[:, None]
        self._cache.aim(first_row, columns_RS, width)
        out = self.model(
            input_ids=ids_RS,
            position_ids=columns_RS,
            attention_mask=mask_R1ST,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_RV: torch.Tensor = out.logits[:, -1]
        return logits_RV

    def _sample(self, requests: list[_Request], logits_RV: torch.Tensor) -> None:
        # On the CPU in float64: a request's draw is the same on every device and in every batch.
        logits_RV = logits_RV.double().cpu()
        finite_R = logits_RV.isfinite().all(-1).tolist()
        heat_R1 = torch.tensor([[r.params.temperature or 1.0] for r in requests], dtype=torch.float64)
        logprobs_RV = torch.log_softmax(logits_RV / heat_R1, dim=-1)
        cdf_RV = logprobs_RV.exp().cumsum(-1)
        draw_R1 = torch.tensor([[r.random.random()] for r in requests], dtype=torch.float64) * cdf_RV[:, -1:]
        drawn_R = torch.searchsorted(cdf_RV, draw_R1, right=True)[:, 0].clamp(max=cdf_RV.shape[1] - 1)
        best_R = logits_RV.argmax(-1)
        for row, request in enumerate(requests):
            if not finite_R[row]:
                request.finish, request.error = "error", NOT_FINITE
                continue
            token_id = int(best_R[row] if request.params.temperature == 0 else drawn_R[row])
            request.token_ids.append(token_id)
            request.decoding = request.decoding or time.monotonic()
            request.logprobs.append(float(logprobs_RV[row, token_id]))
            if request.finish is None:
                if token_id in request.params.stop_token_ids:
                    request.finish = "stop"
                elif len(request.token_ids) == request.limit:
                    request.finish = "length"

    @torch.inference_mode()
    def _settle(self) -> None:
        """Tell listeners what is new and give the places of ended rows to the last ones."""
        rows = list(self._active.items())
        for _, request in rows:
            if request.on_tokens is not None and not request.done.done():
                try:
                    request.on_tokens(request.token_ids[request.told :])
                except Exception as error:
                    # The listener's failure is its caller's: others go on.
                    request.done.set_exception(error)
                    request.finish = "abort"
            request.told = len(request.token_ids)
        for row in reversed(range(len(rows))):
            _, request = rows[row]
            if request.finish is None:
                continue
            if request.finish == "error":
                self._cache.wipe(row)
            else:
                # The last token was never fed.
                self._prefixes.add(self._cache.read(row, (*request.prompt, *request.token_ids[:-1])))
            last = rows.pop()
            if row < len(rows):
                self._cache.move(len(rows), row, len(last[1].prompt) + len(last[1].token_ids) - 1)
                rows[row] = last
            self._resolve(request)
        self._active = dict(rows)

    def _resolve(self, request: _Request) -> None:
        if not request.done.done() and request.finish is not None:
            request.done.set_result(
                Completion(
                    tuple(request.token_ids),
                    tuple(request.logprobs),
                    request.finish,
                    cached_tokens=request.cached,
                    policy_version=self.policy_version,
                    error=request.error,
                    timing=request.timing,
                )
            )
