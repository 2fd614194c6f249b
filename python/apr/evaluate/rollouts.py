"""Run a protocol: many rollouts at a time on one engine, their rows in the order of the problems.

A rollout's seed derives from the protocol's seed, the sample and the problem's index, so its tree does not depend on
how many run beside it, nor on where a killed run went on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from apr._core import claimed_steps
from apr.evaluate.diagnostics import diagnose, loss
from apr.evaluate.metrics import measure
from apr.evaluate.profile import Profile, profile
from apr.evaluate.protocol import Condition, Protocol
from apr.evaluate.schedule import makespan
from apr.evaluate.teacher import solves, width
from apr.events import Event
from apr.limits import Limits, request_seed
from apr.orchestrator import rollout
from apr.policy import Policy, load_policy
from apr.tree import ThreadTree
from apr.types import SamplingParams

WORKERS = (2, 4, 8, 16)
"""Processors for which a rollout's time is simulated."""

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
            size = condition.rollouts(len(problems))
            skip, done = min(done, size), max(0, done - size)
            if skip == size:
                continue
            # A fresh engine where latency is measured: it must not find what earlier conditions left in its cache.
            wanted = condition.model, condition.method, condition.concurrency
            if policy is None or loaded != wanted:
                if policy is not None:
                    await policy.close()
                loaded = wanted
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
    problems = problems[: condition.problems]
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
        for _ in range(condition.concurrency or protocol.concurrency):
            workers.create_task(worker())


async def _run(
    problem: Any, sample: int, index: int, protocol: Protocol, condition: Condition, policy: Policy
) -> dict[str, Any]:
    seed = request_seed(protocol.seed, f"sample {sample}", index)
    events: list[Event] = []
    tree = await rollout(
        problem,
        policy.engine,
        Limits(threads=protocol.max_threads, total_tokens=protocol.max_tokens),
        grammar=policy.grammar,
        params=SamplingParams(temperature=condition.temperature, seed=seed),
        budget=condition.budget,
        join=condition.join,
        emit=events.append,
        rollout_id=f"{sample}/{index}",
        stream=False,
    )
    return {
        "sample": sample,
        "index": index,
        **policy.grammar.describe(problem),
        "seed": seed,
        **_outcome(tree),
        **asdict(measure(tree, policy.grammar.text)),
        "makespan": {str(workers): makespan(tree, workers) for workers in WORKERS},
        "profile": _plain(profile(events)),
        "width": width(tree),
        "teacher": None if protocol.teacher is None else solves(protocol.teacher, problem, condition.method, tree),
        "ends": {thread.id: thread.reason for thread in tree.threads.values()},
        "loss": loss(tree, problem),
        "diagnostics": asdict(diagnose(tree)),
    }


def _outcome(tree: ThreadTree) -> dict[str, Any]:
    end, answer = tree.finished, tree.main.result
    assert end is not None
    return {
        "correct": end.correct,
        "failed": end.failed,
        "reason": end.reason,
        "verdict": end.verdict,
        "answer": answer,
        # What a majority is taken of.
        "vote": None if answer is None else claimed_steps(answer),
    }


def _plain(found: Profile | None) -> dict[str, float] | None:
    return None if found is None else asdict(found)
