"""What is used: whole rollouts, one alone and many at once, and streams at the contexts that rollouts have.

The native engine against `generate` of transformers on the same checkpoint, in turns, one thread each. What a rollout
asked is noted and given to `generate` again, as long as the answers were, in batches of all that could run at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from statistics import median
from typing import Any

import torch
from transformers import DynamicCache, LlamaForCausalLM, StoppingCriteria, StoppingCriteriaList

from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.engine.base import OnTokens
from apr.engine.checkpoint import load_model
from apr.engine.native import NativeEngine
from apr.limits import Limits
from apr.policy import Policy
from apr.types import Completion, SamplingParams
from benchmarks.engine import checkpoint, random_prompts
from benchmarks.measure import Clock, Result, Spent, one_core

AT_ONCE = (1, 32)
TOKENS = 2000
"""Sampled tokens of a rollout at most, so that `generate` gets through them."""
STREAMS = (1, 8, 16)
CONTEXTS = (500, 1000)
NEW = 64
"""Tokens that each stream decodes."""
PAGE = 16
"""Tokens of a prompt that the engine may compute once more, on its clock."""
ROLLOUTS_TARGET, STREAMS_TARGET = 6.0, 4.0


@dataclass
class Recorder:
    """An engine that notes what was asked of the one inside, how long the answer was, and after what it was asked."""

    inner: NativeEngine
    batches: dict[int, list[tuple[tuple[int, ...], int]]] = field(default_factory=dict)
    """Prompts and numbers of new tokens; the requests of a batch follow those of the batch before."""
    _done: dict[str, int] = field(default_factory=dict)
    """By rollout, the last batch that one of its requests has ended in."""

    @property
    def context_length(self) -> int:
        return self.inner.context_length

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size

    @property
    def policy_version(self) -> int:
        return self.inner.policy_version

    async def generate(
        self, prompt: Sequence[int], params: SamplingParams, *, request_id: str, on_tokens: OnTokens | None = None
    ) -> Completion:
        rollout = request_id.partition("/")[0]
        batch = self._done.get(rollout, 0) + 1
        answer = await self.inner.generate(prompt, params, request_id=request_id, on_tokens=on_tokens)
        if answer.token_ids:
            self.batches.setdefault(batch, []).append((tuple(prompt), len(answer.token_ids)))
        self._done[rollout] = max(batch, self._done.get(rollout, 0))
        return answer

    def abort(self, request_id: str) -> None:
        self.inner.abort(request_id)

    async def close(self) -> None:
        await self.inner.close()


class Lengths(StoppingCriteria):
    """Ends each row when it has as many tokens as it should."""

    def __init__(self, width: int, new: Sequence[int]) -> None:
        self.ends = width + torch.tensor(new)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return input_ids.shape[1] >= self.ends


def generate_batch(model: LlamaForCausalLM, requests: Sequence[tuple[Sequence[int], int]], **inputs: Any) -> int:
    """Greedy tokens of transformers for prompts padded on the left; how many were asked for."""
    width = max(len(prompt) for prompt, _ in requests)
    ids = torch.tensor([[*[0] * (width - len(prompt)), *prompt] for prompt, _ in requests])
    mask = torch.tensor([[*[0] * (width - len(prompt)), *[1] * len(prompt)] for prompt, _ in requests])
    new = [tokens for _, tokens in requests]
    with torch.inference_mode():
        model.generate(
            ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=max(new),
            eos_token_id=None,
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([Lengths(width, new)]),
            **inputs,
        )
    return sum(new)


Turn = Callable[[], tuple[int, Spent, Spent]]
"""Tokens that both sides made, what the native engine spent and what the other did."""


def results(what: str, target: float, rounds: int, turn: Turn) -> Iterator[Result]:
    """Ratios of both clocks, medians over turns after one that warms up."""
    turn()
    turns = [turn() for _ in range(rounds)]
    for clock in ("processor", "wall"):
        ratio = median(getattr(other, clock) / getattr(native, clock) for _, native, other in turns)
        rates = [median(turn[0] / getattr(turn[side], clock) for turn in turns) for side in (1, 2)]
        detail = f"{rates[0]:,.0f} against {rates[1]:,.0f} tokens/s"
        yield Result("rollouts", f"{what}, {clock} time", ratio, "x", target, True, detail)


def rollouts(rounds: int) -> list[Result]:
    """All of it; minutes."""
    found: list[Result] = []
    with one_core(), one_thread(), checkpoint() as directory:
        model = load_model(directory).eval()
        numbers = count()
        for at_once in AT_ONCE:

            def whole(at_once: int = at_once) -> tuple[int, Spent, Spent]:
                recorder = Recorder(NativeEngine(directory, threads=1))
                with Clock() as native:
                    asyncio.run(_rollouts(recorder, next(numbers) * at_once, at_once))
                tokens = 0
                with Clock() as other:
                    for _, requests in sorted(recorder.batches.items()):
                        tokens += generate_batch(model, requests)
                return tokens, native.spent, other.spent

            what = f"whole rollouts against transformers, {at_once} at once"
            found += results(what, ROLLOUTS_TARGET, rounds, whole)
        engine = NativeEngine(directory, threads=1)
        for context in CONTEXTS:
            for streams in STREAMS:
                what = f"{streams} at once after {context} tokens, against transformers"
                turn = partial(_streams, engine, model, streams, context, numbers)
                found += results(what, STREAMS_TARGET, rounds, turn)
    return found


async def _rollouts(engine: Recorder, start: int, at_once: int) -> None:
    policy = Policy(engine, Countdown("apr"), Traces("apr"), "apr")
    problems = policy.task.problems("test", 0, start, at_once)
    limits, params = Limits(total_tokens=TOKENS), SamplingParams(temperature=0)
    await asyncio.gather(*(policy.rollout(problem, limits, params=params) for problem in problems))
    await engine.close()


def _streams(
    engine: NativeEngine, model: LlamaForCausalLM, streams: int, context: int, seeds: Iterator[int]
) -> tuple[int, Spent, Spent]:
    """Both have computed the prompts before their clocks run, but for the last token."""
    prompts = random_prompts(streams, context, next(seeds))
    native, _ = decode(engine, prompts, NEW)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(torch.tensor(prompts)[:, :-1], past_key_values=cache, use_cache=True)
    with Clock() as other:
        tokens = generate_batch(model, [(prompt, NEW) for prompt in prompts], past_key_values=cache)
    return tokens, native, other.spent


def decode(engine: NativeEngine, prompts: Sequence[Sequence[int]], new: int) -> tuple[Spent, list[tuple[int, ...]]]:
    """Greedy tokens of all prompts at once, once the engine has computed as much of those as it can; what it spends."""

    async def all_streams(tokens: int) -> list[Completion]:
        params = SamplingParams(temperature=0, max_tokens=tokens)
        calls = (engine.generate(prompt, params, request_id=str(i)) for i, prompt in enumerate(prompts))
        return await asyncio.gather(*calls)

    async def after_prompts() -> tuple[Spent, list[Completion]]:
        await all_streams(1)
        with Clock() as clock:
            done = await all_streams(new)
        return clock.spent, done

    spent, done = asyncio.run(after_prompts())
    for prompt, one in zip(prompts, done, strict=True):
        assert len(one.token_ids) == new
        assert one.cached_tokens >= len(prompt) - PAGE
    return spent, [one.token_ids for one in done]


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
