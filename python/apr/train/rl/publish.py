"""Hands a trainer's weights to whatever engine samples for it.

The policy version is how many steps the weights have been trained for, in every event and every line of a log; an
engine by itself counts how often it got weights.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from apr.engine.base import Engine, OnTokens
from apr.engine.native import NativeEngine
from apr.engine.torch import TorchEngine
from apr.threads.language import Vocabulary
from apr.train.optimizers import Diverged
from apr.train.processes import Processes
from apr.train.rl.handover import HandOver
from apr.train.shards import own, weights_of, whole_weights
from apr.types import Completion, SamplingParams

_HandOver = Callable[[], Awaitable[int]]
"""Makes the engine serve the weights as they are now; its own version of them."""


class Served:
    """An engine that samples with a trainer's weights, which `publish` hands over."""

    def __init__(
        self,
        engine: Engine,
        model: PreTrainedModel,
        tokenizer: Vocabulary,
        probe: tuple[int, ...],
        processes: Processes,
        by: HandOver = "directory",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`probe` is a prompt whose log-probabilities a server must compute as the trainer does; servers get weights
        `by` a directory or in requests. The trainer's forward pass multiplies in `dtype`, and so does the native
        engine: what is rounded on one side is rounded on the other, and half the bytes are twice as fast. TypeError for
        an engine that cannot take weights."""
        self._engine = engine
        self._model = model
        self._processes = processes
        self._hand_over = _way(engine, model, tokenizer, probe, processes, by, dtype)
        self._ahead = 0
        """Steps of the weights less the engine's own version."""

    @property
    def context_length(self) -> int:
        return self._engine.context_length

    @property
    def vocab_size(self) -> int | None:
        size: int | None = getattr(self._engine, "vocab_size", None)
        return size

    @property
    def policy_version(self) -> int:
        return self._engine.policy_version + self._ahead

    async def generate(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        request_id: str,
        on_tokens: OnTokens | None = None,
    ) -> Completion:
        """See `Engine.generate`."""
        completion = await self._engine.generate(prompt, params, request_id=request_id, on_tokens=on_tokens)
        return replace(completion, policy_version=completion.policy_version + self._ahead)

    def abort(self, request_id: str) -> None:
        """See `Engine.abort`."""
        self._engine.abort(request_id)

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._engine.close()

    async def publish(self, steps: int) -> None:
        """Have the engine serve the weights as they are now, trained for so many steps. Diverged if they are not all
        finite, and it keeps those it has; EngineError if it does not take them."""
        spoiled = [name for name, part in weights_of(self._model).items() if not own(part).isfinite().all()]
        for name in self._processes.gather(spoiled):
            raise Diverged(f"step {steps}: {name} is not finite", updated=True)
        self._ahead = steps - await self._hand_over()


def _way(
    engine: Engine,
    model: PreTrainedModel,
    tokenizer: Vocabulary,
    probe: tuple[int, ...],
    processes: Processes,
    by: HandOver,
    dtype: torch.dtype,
) -> _HandOver:
    if isinstance(engine, NativeEngine):

        async def hand_over() -> int:
            return engine.update_weights({name: _buffer(value, dtype) for name, value in whole_weights(model).items()})

        return hand_over
    if isinstance(engine, TorchEngine):

        async def tell() -> int:
            shared = engine.model is model
            return engine.update_weights(None if shared else whole_weights(model))

        return tell
    from apr.engine.sglang.client import SglangEngine
    from apr.train.rl.servers import publish

    if not isinstance(engine, SglangEngine):
        raise TypeError(f"{type(engine).__name__} takes no weights")
    return partial(publish, engine, model, tokenizer, probe, processes, by)


def _buffer(value: Tensor, dtype: torch.dtype) -> object:
    """A tensor as the native engine takes it. Vectors are no factors of a product, and stay as they are."""
    if dtype == torch.bfloat16 and value.ndim > 1:
        return value.to("cpu", dtype).contiguous().view(torch.uint16).numpy()
    return value.float().cpu().contiguous().numpy()
