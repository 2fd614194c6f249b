"""Hands a trainer's weights to whatever engine samples for it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from apr._core import Tokenizer
from apr.engine.base import Engine
from apr.engine.native import NativeEngine
from apr.engine.torch import TorchEngine
from apr.model import save_model, token_logprobs

Publish = Callable[[], Awaitable[int]]
"""Makes the engine serve the weights as they are now; its new policy version."""

MEMORY = Path("/dev/shm")
"""Where a directory of weights costs no disk, on systems that have it."""


def publisher(engine: Engine, model: LlamaForCausalLM, tokenizer: Tokenizer, probe: tuple[int, ...]) -> Publish:
    """How this model's weights reach this engine. `probe` is a prompt whose log-probabilities a server must then
    compute as the trainer does. TypeError for an engine that cannot take weights."""
    if isinstance(engine, NativeEngine):

        async def hand_over() -> int:
            state = {
                name: value.detach().float().cpu().contiguous().numpy() for name, value in model.state_dict().items()
            }
            return engine.update_weights(state)

        return hand_over
    if isinstance(engine, TorchEngine):

        async def tell() -> int:
            shared = engine.model is model
            return engine.update_weights(None if shared else model.state_dict())

        return tell
    from apr.engine.sglang import Probe, SglangEngine

    if not isinstance(engine, SglangEngine):
        raise TypeError(f"{type(engine).__name__} takes no weights")

    async def write() -> int:
        directory = Path(tempfile.mkdtemp(prefix="apr-weights-", dir=MEMORY if MEMORY.is_dir() else None))
        try:
            ids = torch.tensor([probe], device=model.device)
            with torch.no_grad():
                expected = token_logprobs(model(input_ids=ids, use_cache=False).logits, ids)[0].tolist()
            await asyncio.to_thread(save_model, model, tokenizer, directory)
            return await engine.update_weights(directory, Probe(probe, tuple(expected)))
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    return write
