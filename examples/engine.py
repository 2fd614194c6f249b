"""An engine of one's own: any causal model that transformers loads, the open requests a token each in turn.

python engine.py DIR          # a checkpoint; by its name, apr-tiny say, one that ships
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from sys import argv
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import apr
from apr.engine.base import OnTokens
from apr.types import FinishReason


class Turns:
    """Has the methods of `apr.engine.base.Engine`, whose docstrings say what they must do."""

    policy_version = 0

    def __init__(self, model: str) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.context_length: int = self._model.config.max_position_embeddings
        self.vocab_size: int = self._model.config.vocab_size
        self._open: set[str] = set()

    async def generate(
        self, prompt: Sequence[int], params: apr.SamplingParams, *, request_id: str, on_tokens: OnTokens | None = None
    ) -> apr.Completion:
        self._open.add(request_id)
        random = torch.Generator().manual_seed(params.seed)
        room = self.context_length - len(prompt)
        limit = room if params.max_tokens is None else min(params.max_tokens, room)
        ids: list[int] = []
        logprobs: list[float] = []
        reason: FinishReason = "length"
        fed, cache = list(prompt), None
        while len(ids) < limit:
            await asyncio.sleep(0)  # The others' turn.
            if request_id not in self._open:
                reason = "abort"
                break
            with torch.inference_mode():
                answer = self._model(torch.tensor([fed]), past_key_values=cache, use_cache=True)
            logits, cache = answer.logits[0, -1], answer.past_key_values
            likely = torch.log_softmax(logits / (params.temperature or 1.0), -1)
            token = int(torch.multinomial(likely.exp(), 1, generator=random) if params.temperature else likely.argmax())
            fed = [token]
            ids.append(token)
            logprobs.append(float(likely[token]))
            if on_tokens is not None:
                on_tokens(fed)
            if token in params.stop_token_ids:
                reason = "stop"
                break
        self._open.discard(request_id)
        return apr.Completion(tuple(ids), tuple(logprobs), reason)

    def abort(self, request_id: str) -> None:
        self._open.discard(request_id)

    async def close(self) -> None:
        self._open.clear()


if __name__ == "__main__":
    model = apr.load(argv[1], engine="engine:Turns")
    print(model.run(apr.Problem([3, 5, 8], 24), apr.Limits(total_tokens=256)))
