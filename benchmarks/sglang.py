"""SGLang under thread trees: what its radix cache gives back, what the orchestrator costs, where it saturates.

Servers are started for each measurement, on whatever this machine has; on a CPU that takes a minute each.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from tempfile import TemporaryDirectory

import torch

import apr
from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.engine import load_engine
from apr.engine.base import Engine, OnTokens
from apr.engine.checkpoint import load_model
from apr.engine.sglang.client import SglangEngine
from apr.engine.sglang.server import context_length, start_server
from apr.limits import Limits
from apr.policy import Policy, checkpoint
from apr.threads.language import Spawn
from apr.threads.tree import MAIN, ThreadTree
from apr.types import Completion, SamplingParams
from benchmarks.measure import Result

CONCURRENCY = (1, 8, 64, 256)
AT_ONCE = 16
"""Problems at once where two ways are compared."""
BUDGET = 3
TOKENS = 2000
"""Sampled tokens of a rollout at most, so that a CPU gets through them."""
SHORT = 300
"""The same where 256 run at once."""
COMPARED = 50
"""Problems whose trees are compared with the native engine's."""
TIE = 1e-3
"""Two logits closer than this may change places with the order of a sum in float32."""

Call = tuple[tuple[int, ...], SamplingParams, Completion]


@dataclass
class Recorder:
    """An engine that remembers what was asked of the one inside and what it answered, by request id."""

    inner: SglangEngine
    calls: dict[str, Call] = field(default_factory=dict)

    @property
    def context_length(self) -> int:
        return self.inner.context_length

    @property
    def policy_version(self) -> int:
        return self.inner.policy_version

    async def generate(
        self, prompt: Sequence[int], params: SamplingParams, *, request_id: str, on_tokens: OnTokens | None = None
    ) -> Completion:
        answer = await self.inner.generate(prompt, params, request_id=request_id, on_tokens=on_tokens)
        self.calls[request_id] = tuple(prompt), params, answer
        return answer

    def abort(self, request_id: str) -> None:
        self.inner.abort(request_id)

    async def close(self) -> None:
        await self.inner.close()


@contextmanager
def serving(*extra: str, overlap: bool | None = None) -> Iterator[SglangEngine]:
    """The shipped checkpoint on a server with more flags."""
    with ExitStack() as stack:
        model = checkpoint(None, stack)
        log = f"{stack.enter_context(TemporaryDirectory())}/server.log"
        server = stack.enter_context(start_server(model, log=log, overlap=overlap, extra=extra))
        server.wait_until_healthy()
        engine = SglangEngine(server.url, context_length=context_length(model))
        try:
            yield engine
        finally:
            asyncio.run(engine.close())


async def _rollouts(
    engine: Engine, problems: Sequence[apr.Problem], at_once: int, tokens: int = TOKENS
) -> tuple[float, list[ThreadTree]]:
    """Run them all; seconds, and the trees."""
    policy = Policy(engine, Countdown("apr"), Traces("apr"), "apr")
    places = asyncio.Semaphore(at_once)

    async def one(problem: apr.Problem) -> ThreadTree:
        async with places:
            tree = await policy.rollout(
                problem, Limits(total_tokens=tokens), params=SamplingParams(temperature=0), budget=BUDGET
            )
        assert not tree.failed, tree.main.detail
        return tree

    begun = time.perf_counter()
    trees = await asyncio.gather(*(one(problem) for problem in problems))
    return time.perf_counter() - begun, trees


async def _directly(recorded: Recorder, trees: Sequence[ThreadTree]) -> float:
    """The same requests without an orchestrator, each after those it followed and as long as it was; seconds."""
    language = Traces("apr")

    async def thread(tree: ThreadTree, thread_id: str) -> None:
        assert tree.started is not None
        rounds = iter(tree.threads[thread_id].rounds)
        for index in range(len(tree.threads[thread_id].calls)):
            request_id = f"{tree.started.rollout}/{thread_id}/{index}"
            if request_id not in recorded.calls:
                return
            prompt, params, answer = recorded.calls[request_id]
            if not answer.token_ids:
                return
            exact = replace(params, max_tokens=len(answer.token_ids), stop_token_ids=())
            await recorded.inner.generate(prompt, exact, request_id=request_id)
            action = language.action((*prompt, *answer.token_ids), 1)
            spawn = next(rounds, None) if isinstance(action, Spawn) else None
            if spawn is not None:
                await asyncio.gather(*(thread(tree, child) for child in spawn.children))

    begun = time.perf_counter()
    await asyncio.gather(*(thread(tree, MAIN) for tree in trees))
    return time.perf_counter() - begun


def _flush(engine: SglangEngine) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{engine.url}/flush_cache", method="POST")).close()


def _shared(calls: Sequence[Call]) -> int:
    """Prompt tokens that some request answered before had already, in its prompt or its answer."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for prompt, _, answer in calls:
        digest, length = 0, 0
        for place, token in enumerate(prompt):
            digest = hash((digest, token))
            if (place, digest) not in seen:
                break
            length = place + 1
        # The last token of a prompt is always computed: its logits are wanted.
        total += min(length, len(prompt) - 1)
        digest = 0
        # The last token that was sampled is in no cache: it was never computed.
        for place, token in enumerate((*prompt, *answer.token_ids[:-1])):
            digest = hash((digest, token))
            seen.add((place, digest))
    return total


def _agreement(engine: SglangEngine, problems: Sequence[apr.Problem]) -> tuple[int, int]:
    """Greedy trees that hold the same tokens as the native engine's, and those that part at a tie."""
    with ExitStack() as stack:
        directory = checkpoint(None, stack)
        native = load_engine("native", directory)
        model = load_model(directory).eval()
    _, ours = asyncio.run(_rollouts(engine, problems, AT_ONCE))
    _, theirs = asyncio.run(_rollouts(native, problems, AT_ONCE))
    equal = ties = 0
    for one, other in zip(ours, theirs, strict=True):
        if _tokens(one) == _tokens(other):
            equal += 1
            continue
        ids_1T, a, b = _parting(one, other)
        with torch.no_grad():
            logits_V = model(torch.tensor([ids_1T])).logits[0, -1]
        ties += bool(abs(logits_V[a] - logits_V[b]) < TIE)
    return equal, ties


def _tokens(tree: ThreadTree) -> dict[str, list[tuple[tuple[int, ...], list[int]]]]:
    """What each thread was given and what it sampled, call by call."""
    return {thread.id: [(call.forced, call.sampled) for call in thread.calls] for thread in tree.threads.values()}


def _parting(one: ThreadTree, other: ThreadTree) -> tuple[list[int], int, int]:
    """Where two trees part: the tokens before it, and the token each goes on with."""
    for thread_id in one.threads.keys() & other.threads.keys():
        pair = one.threads[thread_id].calls, other.threads[thread_id].calls
        ids: list[int] = []
        for ours, theirs in zip(*pair, strict=False):
            if (ours.kept, ours.forced) != (theirs.kept, theirs.forced):
                break
            ids = [*ids[: ours.kept], *ours.forced]
            for a, b in zip(ours.sampled, theirs.sampled, strict=False):
                if a != b:
                    return ids, a, b
                ids.append(a)
    raise AssertionError("two trees differ, but no call of them does")


def sglang(rounds: int) -> list[Result]:
    """All measurements; `rounds` is how often the orchestrator's cost is taken."""

    def result(what: str, value: float, unit: str, target: float, at_least: bool, detail: str = "") -> Result:
        return Result("sglang", f"SGLang: {what}", value, unit, target, at_least, detail)

    results = []
    problems = list(apr.problems(max(CONCURRENCY), 11))
    part = problems[:AT_ONCE]
    with serving() as engine:
        single = Recorder(engine)
        asyncio.run(_rollouts(single, problems[:8], 1))
        calls = list(single.calls.values())
        cached, shared = sum(answer.cached_tokens for _, _, answer in calls), _shared(calls)
        share = 100 * cached / shared
        results.append(
            result("shared prefix tokens from its cache", share, "%", 95, True, f"{cached:,} of {shared:,} tokens")
        )
        equal, ties = _agreement(engine, problems[:COMPARED])
        detail = f"{equal} of {COMPARED} have the same tokens, {ties} part where two logits are within {TIE:g}"
        what = "greedy trees as the native engine's, or parting at a tie"
        results.append(result(what, 100 * (equal + ties) / COMPARED, "%", 100, True, detail))
        for at_once in CONCURRENCY:
            _flush(engine)
            many = Recorder(engine)
            seconds, _ = asyncio.run(_rollouts(many, problems[:at_once], at_once, SHORT))
            rate = sum(len(answer.token_ids) for _, _, answer in many.calls.values()) / seconds
            results.append(result(f"{at_once} problems at once", rate, "/s", 0, True, "sampled tokens a second"))
        costs = []
        for _ in range(rounds):
            _flush(engine)
            recorded = Recorder(engine)
            ours, trees = asyncio.run(_rollouts(recorded, part, AT_ONCE))
            _flush(engine)
            costs.append(100 * (1 - asyncio.run(_directly(recorded, trees)) / ours))
        detail = "against the same token requests, fired in the same order"
        results.append(result("throughput that the orchestrator costs", median(costs), "%", 5, False, detail))
        _flush(engine)
        usual, _ = asyncio.run(_rollouts(Recorder(engine), part, AT_ONCE))
    with serving("--disable-radix-cache") as engine:
        without, _ = asyncio.run(_rollouts(Recorder(engine), part, AT_ONCE))
    results.append(result("radix cache on against off", without / usual, "x", 1, True))
    with serving(overlap=True) as engine:
        overlapped, _ = asyncio.run(_rollouts(Recorder(engine), part, AT_ONCE))
    results.append(result("overlap schedule off against on", overlapped / usual, "x", 0, True))
    return results
