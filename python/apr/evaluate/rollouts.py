"""Run a protocol: many rollouts at a time on one engine, their rows in the order of the problems.

A rollout's seed derives from the protocol's seed, the sample and the problem's index, so its tree does not depend on
how many run beside it, nor on where a killed run went on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from apr.evaluate.diagnostics import diagnose, loss
from apr.evaluate.metrics import measure
from apr.evaluate.protocol import Condition, Protocol
from apr.limits import Limits, request_seed
from apr.orchestrator import rollout
from apr.policy import Policy, load_policy
from apr.tree import ThreadTree
from apr.types import SamplingParams

Watch = Callable[[dict[str, Any]], None]
"""Gets each row, in order, as soon as those before it are there."""


async def run_protocol(
    protocol: Protocol,
    problems: Sequence[Any],
    watch: Watch,
    *,
    done: int = 0,
    load: Callable[[str, str | None, Any], Policy] = load_policy,
) -> None:
    """Run all conditions, but for the first `done` rollouts. PolicyError if a model cannot be loaded."""
    policy, loaded = None, None
    try:
        for place, condition in enumerate(protocol.conditions):
            size = condition.samples * len(problems)
            skip, done = min(done, size), max(0, done - size)
            if skip == size:
                continue
            if policy is None or loaded != (condition.model, condition.method):
                if policy is not None:
                    await policy.close()
                loaded = condition.model, condition.method
                policy = load(protocol.engine, condition.model, condition.method)
            await run_condition(place, protocol, problems, policy, watch, skip=skip)
    finally:
        if policy is not None:
            await policy.close()


async def run_condition(
    place: int, protocol: Protocol, problems: Sequence[Any], policy: Policy, watch: Watch, *, skip: int = 0
) -> None:
    """Run the condition at `place`, but for its first `skip` rollouts. An engine failure is a row of its own kind,
    never a wrong answer."""
    condition = protocol.conditions[place]
    finished: dict[int, dict[str, Any]] = {}
    waiting = iter(range(skip, condition.samples * len(problems)))
    told = skip

    async def worker() -> None:
        nonlocal told
        for job in waiting:
            sample, index = divmod(job, len(problems))
            row = await _run(problems[index], sample, index, protocol, condition, policy)
            finished[job] = {"condition": place, **row}
            while told in finished:
                watch(finished.pop(told))
                told += 1

    async with asyncio.TaskGroup() as workers:
        for _ in range(protocol.concurrency):
            workers.create_task(worker())


async def _run(
    problem: Any, sample: int, index: int, protocol: Protocol, condition: Condition, policy: Policy
) -> dict[str, Any]:
    seed = request_seed(protocol.seed, f"sample {sample}", index)
    tree = await rollout(
        problem,
        policy.engine,
        Limits(threads=protocol.max_threads, total_tokens=protocol.max_tokens),
        grammar=policy.grammar,
        params=SamplingParams(temperature=condition.temperature, seed=seed),
        budget=condition.budget,
        join=condition.join,
        rollout_id=f"{sample}/{index}",
    )
    end = tree.finished
    assert end is not None
    return {
        "sample": sample,
        "index": index,
        **policy.grammar.describe(problem),
        "seed": seed,
        "correct": end.correct,
        "failed": end.failed,
        "reason": end.reason,
        "verdict": end.verdict,
        "answer": tree.main.result,
        **asdict(measure(tree, policy.grammar.text)),
        "ends": _ends(tree),
        "loss": loss(tree, problem),
        "diagnostics": asdict(diagnose(tree)),
    }


def _ends(tree: ThreadTree) -> dict[str, str | None]:
    """Why each thread ended."""
    return {thread.id: thread.reason for thread in tree.threads.values()}
