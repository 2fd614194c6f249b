"""The native engine: against transformers on the same checkpoint and cores, how much of a fork it reuses, and how soon
a command that was just started writes its first token."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import resources
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from apr import SamplingParams, Tokenizer
from apr.engine.native import NativeEngine
from apr.threads.events import TokensSampled, from_json
from benchmarks.measure import Result, compare, cores, one_core

PROMPT, NEW = 64, 64
STREAMS = {1: 8.0, 32: 4.0}
"""Streams -> how many times as fast as transformers it should be."""
CACHE = 64 << 20
"""Bytes of the cache, twice what the streams need: the first turns fill it, later ones evict, as an engine in use does.
While a cache grows, it measures how fast the system hands out memory, which some virtual machines take long for."""


@contextmanager
def checkpoint() -> Iterator[Path]:
    """The shipped checkpoint, or one of its size with random weights."""
    shipped = resources.files("apr") / "checkpoints" / "apr-tiny"
    if (shipped / "config.json").is_file():
        with resources.as_file(shipped) as directory:
            yield directory
        return
    from apr.train.model import new_model, save_model
    from apr.train.recipes import ModelConfig

    with TemporaryDirectory() as directory:
        tokenizer = Tokenizer()
        model = new_model(ModelConfig(hidden_size=256, layers=4, heads=4, mlp_size=768), tokenizer, 0)
        save_model(model, tokenizer, directory)
        yield Path(directory)


def random_prompts(streams: int, length: int, seed: int) -> list[list[int]]:
    draw = random.Random(seed)
    return [[1, *(draw.randrange(3, 60) for _ in range(length - 1))] for _ in range(streams)]


def engine(rounds: int) -> list[Result]:
    """On one core, in processor time: a figure that holds on a machine with other work."""
    with one_core():
        return _against_transformers(rounds, 1, time.process_time)


def engine_cores(rounds: int) -> list[Result]:
    """On all cores, by the wall clock, which needs them idle: threads that wait for each other lose most to others."""
    return _against_transformers(max(1, rounds // 2), cores(), time.perf_counter)


def _against_transformers(rounds: int, threads: int, clock: Callable[[], float]) -> list[Result]:
    """Greedy tokens a second, prompts included, the same number of new tokens on both sides."""
    import torch

    from apr.engine.checkpoint import load_model

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    results = []
    seeds = count()
    where = "one core" if threads == 1 else f"{threads} cores"
    with checkpoint() as directory:
        model = load_model(directory).eval()
        native = NativeEngine(directory, cache_bytes=CACHE, threads=threads)

        def slow(streams: int) -> int:
            ids = torch.tensor(random_prompts(streams, PROMPT, next(seeds)))
            with torch.inference_mode():
                out = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=False,
                    max_new_tokens=NEW,
                    min_new_tokens=NEW,
                    eos_token_id=None,
                    pad_token_id=0,
                )
            return (out.shape[1] - PROMPT) * streams

        async def all_streams(streams: int) -> int:
            # Fresh prompts each time: nothing is in the cache.
            params = SamplingParams(temperature=0, max_tokens=NEW)
            prompts = random_prompts(streams, PROMPT, next(seeds))
            calls = [native.generate(p, params, request_id=str(i)) for i, p in enumerate(prompts)]
            return sum(len(completion.token_ids) for completion in await asyncio.gather(*calls))

        def fast(streams: int) -> int:
            return asyncio.run(all_streams(streams))

        for streams, target in STREAMS.items():
            ratio, slow_rate, fast_rate = compare(partial(slow, streams), partial(fast, streams), rounds, clock=clock)
            what = f"native engine against transformers, {streams} at once, {where}"
            detail = f"{fast_rate:,.0f} against {slow_rate:,.0f} tokens/s"
            results.append(Result("engine" if threads == 1 else "engine-cores", what, ratio, "x", target, True, detail))
    torch.set_num_threads(before)
    return results


def prefix(rounds: int) -> list[Result]:
    """A parent of 300 tokens writes on, 16 children fork it, the parent continues after a join."""

    async def run(native: NativeEngine) -> tuple[int, int]:
        params = SamplingParams(temperature=0, max_tokens=24)
        [parent] = random_prompts(1, 300, 0)
        written = await native.generate(parent, params, request_id="0")
        forks = [[*parent, 3 + i, 10 + i] for i in range(16)]
        calls = [native.generate(fork, params, request_id=f"0.{i}") for i, fork in enumerate(forks)]
        children = await asyncio.gather(*calls)
        trunk = [*parent, *written.token_ids]
        continued = await native.generate([*trunk, *range(3, 40)], params, request_id="0")
        # A fork may begin with what the parent wrote by chance.
        forked = sum(min(child.cached_tokens, len(parent)) for child in children)
        reused = forked + continued.cached_tokens
        # The last token that was sampled is in no cache: it was never computed.
        return reused, len(parent) * len(forks) + len(trunk) - 1

    with checkpoint() as directory:
        native = NativeEngine(directory)
        reused, possible = asyncio.run(run(native))
    share = 100 * reused / possible
    detail = f"{reused:,} of {possible:,} shared tokens"
    return [Result("prefix", "shared prefix tokens that are not computed again", share, "%", 95, True, detail)]


def start(rounds: int) -> list[Result]:
    """`apr solve` from nothing to its first token."""

    def first_token(directory: Path) -> float:
        command = [sys.executable, "-m", "apr", "solve", "22", "26", "31", "53", "--target", "27", "--json"]
        begun = time.perf_counter()
        with subprocess.Popen([*command, "--model", str(directory)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if isinstance(from_json(line), TokensSampled):
                        return time.perf_counter() - begun
            finally:
                process.kill()
        raise RuntimeError("apr solve wrote no token")

    with checkpoint() as directory:
        first_token(directory)
        seconds = median(first_token(directory) for _ in range(rounds))
    return [Result("start", "apr solve, cold start to the first token, median", seconds, "s", 0.5, False)]
