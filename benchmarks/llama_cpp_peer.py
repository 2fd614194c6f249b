"""llama.cpp for `benchmarks.llama_cpp`, run by the Python that has it; requests and answers are JSON, one a line.

A request has a model, the type of keys and values, prompts, and as many tokens after each. The answer is what llama.cpp
spends on those tokens, one decode a step with a token of each stream, and where it would have chosen others. Only the
calls into llama.cpp are on its clocks; choosing a token is not. Prompts are kept until there are others.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import llama_cpp as api  # type: ignore[import-not-found,unused-ignore]
import numpy as np

ERROR = 4
"""GGML_LOG_LEVEL_ERROR."""


class Batch:
    """Tokens of one decode, in memory that llama.cpp reads."""

    def __init__(self, streams: Sequence[int]) -> None:
        size = len(streams)
        self.raw = api.llama_batch_init(size, 0, 1)
        self.raw.n_tokens = size
        self.tokens = np.ctypeslib.as_array(self.raw.token, (size,))
        self.positions = np.ctypeslib.as_array(self.raw.pos, (size,))
        self.wanted = np.ctypeslib.as_array(self.raw.logits, (size,))
        """Whose logits are computed."""
        for place, stream in enumerate(streams):
            self.raw.n_seq_id[place] = 1
            self.raw.seq_id[place][0] = stream

    def decode(self, context: Any) -> None:
        if status := api.llama_decode(context, self.raw):
            raise RuntimeError(f"llama_decode: {status}")


@cache
def load(path: str) -> Any:
    params = api.llama_model_default_params()
    params.n_gpu_layers = 0
    model = api.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise RuntimeError(f"{path} cannot be loaded")
    return model


def read(weights: str, cache: int, flash: bool, prompts: list[list[int]], new: int) -> Any:
    """A context that has all of the prompts but their last tokens, and places for new ones."""
    params = api.llama_context_default_params()
    params.n_seq_max = len(prompts)
    # Each stream has its own part of the cache, a multiple of 256: one for all would be read by all.
    params.kv_unified = False
    params.n_ctx = len(prompts) * -(-(len(prompts[0]) + new) // 256) * 256
    params.n_batch = max(len(prompts), len(prompts[0]))
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = cache
    params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else api.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = api.llama_init_from_model(load(weights), params)
    if not context:
        raise RuntimeError("it makes no such context")
    for stream, (*known, _) in enumerate(prompts):
        batch = Batch([stream] * len(known))
        batch.tokens[:], batch.positions[:], batch.wanted[:] = known, range(len(known)), False
        batch.decode(context)
        api.llama_batch_free(batch.raw)
    return context


def answer(context: Any, vocabulary: int, prompts: list[list[int]], answers: list[list[int]]) -> dict[str, Any]:
    """Decodes and forgets the answers."""
    for stream, prompt in enumerate(prompts):
        api.llama_memory_seq_rm(api.llama_get_memory(context), stream, len(prompt) - 1, -1)
    chosen = np.array(answers)
    given = np.concatenate([np.array(prompts)[:, -1:], chosen[:, :-1]], axis=1)
    logits = np.empty((*given.T.shape, vocabulary), np.float32)
    batch = Batch(range(len(prompts)))
    batch.positions[:], batch.wanted[:] = len(prompts[0]) - 1, True
    processor = wall = 0.0
    for step, tokens in enumerate(given.T):
        batch.tokens[:] = tokens
        processor -= time.process_time()
        wall -= time.perf_counter()
        batch.decode(context)
        found = api.llama_get_logits(context)
        wall += time.perf_counter()
        processor += time.process_time()
        logits[step] = np.ctypeslib.as_array(found, logits.shape[1:])
        batch.positions += 1
    api.llama_batch_free(batch.raw)
    above = logits.max(2) - np.take_along_axis(logits, chosen.T[:, :, None], 2)[:, :, 0]
    return {"processor": processor, "wall": wall, "others": above[above > 0].tolist()}


def log(level: int, text: bytes, _: object) -> None:
    """Errors only, of what llama.cpp says of itself."""
    if level == ERROR:
        print(text.decode(errors="replace"), end="", file=sys.stderr, flush=True)


def main() -> None:
    callback = api.llama_log_callback(log)
    api.llama_log_set(callback, None)
    version, system = api.__version__, api.llama_print_system_info().decode()
    print(f"llama-cpp-python {version}: {system}", flush=True)
    contexts: dict[tuple[str, int, bool], Any] = {}
    last: list[list[int]] = []
    for line in sys.stdin:
        asked = json.loads(line)
        prompts, answers = asked["prompts"], asked["answers"]
        if prompts != last:
            for context in contexts.values():
                api.llama_free(context)
            contexts, last = {}, prompts
        form = asked["weights"], asked["cache"], asked["flash"]
        if form not in contexts:
            contexts[form] = read(*form, prompts, len(answers[0]))
        vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(load(asked["weights"])))
        print(json.dumps(answer(contexts[form], vocabulary, prompts, answers)), flush=True)


if __name__ == "__main__":
    main()
