"""Run a protocol: many rollouts at a time on one engine, their rows as they end.

A rollout's seed derives from the protocol's seed, the sample and the problem's index, so its tree does not depend on
how many run beside it, nor on where a killed run went on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from apr.engine.base import EngineError
from apr.evaluate.metrics import measure
from apr.evaluate.profile import Profile, profile
from apr.evaluate.protocol import Condition, Protocol
from apr.evaluate.row import TEACHER, ProblemKey, Row, RowKey
from apr.evaluate.schedule import WORKERS, makespan
from apr.limits import Limits, request_seed
from apr.policy import Policy, load_policy
from apr.task import Compares, Diagnoses, Sorts, Task, load_task
from apr.threads.events import Event
from apr.threads.tree import ThreadTree
from apr.types import SamplingParams

PATIENCE = 16
"""Rollouts that an engine may fail one after another before nothing more is asked of it."""

Watch = Callable[[Row], None]
"""Gets each row as soon as it is there."""


async def run_protocol(
    protocol: Protocol,
    problems: Sequence[Any],
    watch: Watch,
    *,
    done: Collection[RowKey] = (),
    load: Callable[..., Policy] = load_policy,
    refresh: Callable[[], bool] = lambda: True,
) -> None:
    """Run all conditions on distinct problems, but for the rollouts that are done. PolicyError if a model cannot be
    loaded, EngineError if the engine fails one rollout after another.

    `refresh` is called after each load, to empty a cache that outlives an engine, and says whether it is empty: where
    it is not, rows are marked as warm."""
    key = load_task(protocol.task).key
    keyed = [(key(problem), problem) for problem in problems]
    policy, loaded, fresh = None, None, True
    try:
        for place, condition in enumerate(protocol.conditions):
            jobs = [job for job in _jobs(condition, keyed) if (place, job.key, job.sample) not in done]
            if not jobs:
                continue
            # A fresh engine where latency is measured: it must not find what earlier conditions left in its cache.
            wanted = condition.model, condition.method, condition.concurrency
            if policy is None or loaded != wanted or protocol.at_once(condition) == 1:
                if policy is not None:
                    await policy.close()
                    policy = None
                loaded = wanted
                policy = load(protocol.engine, condition.model, condition.method, task=protocol.task)
                fresh = refresh()
            marks = {"condition": place} if fresh else {"condition": place, "warm": True}
            await _run_condition(protocol, condition, jobs, policy, marks, watch)
    finally:
        if policy is not None:
            await policy.close()


@dataclass(frozen=True, slots=True)
class _Job:
    """A rollout to run."""

    sample: int
    index: int
    key: ProblemKey
    problem: Any


def _jobs(condition: Condition, problems: Sequence[tuple[ProblemKey, Any]]) -> Iterator[_Job]:
    for sample in range(condition.samples):
        for index, (key, problem) in enumerate(problems[: condition.problems]):
            yield _Job(sample, index, key, problem)


async def _run_condition(
    protocol: Protocol, condition: Condition, jobs: Sequence[_Job], policy: Policy, marks: Row, watch: Watch
) -> None:
    """Run some rollouts of a condition, whose rows all have these marks. An engine failure is a row of its own kind,
    never a wrong answer."""
    waiting = iter(jobs)
    failures = 0

    async def worker() -> None:
        nonlocal failures
        for job in waiting:
            row = await _run(job, protocol, condition, policy)
            watch({**marks, **row})
            failures = failures + 1 if row["failed"] else 0
            if failures == PATIENCE:
                raise EngineError(f"the engine failed {PATIENCE} rollouts in a row: {row['error']}")

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(protocol.at_once(condition), len(jobs))):
                workers.create_task(worker())
    except ExceptionGroup as errors:
        # One of them ended all the others.
        raise errors.exceptions[0] from None


async def _run(job: _Job, protocol: Protocol, condition: Condition, policy: Policy) -> Row:
    problem = job.problem
    seed = request_seed(protocol.seed, f"sample {job.sample}", job.index)
    events: list[Event] = []
    task = policy.task
    tree = await policy.rollout(
        problem,
        Limits(threads=protocol.max_threads, total_tokens=protocol.max_tokens),
        params=SamplingParams(temperature=condition.temperature, seed=seed),
        budget=condition.budget,
        join=condition.join,
        emit=events.append,
        rollout_id=f"{job.sample}/{job.index}",
        stream=False,
    )
    return {
        "sample": job.sample,
        "index": job.index,
        "key": job.key,
        "problem": task.to_json(problem),
        "seed": seed,
        **_outcome(tree, task),
        **asdict(measure(tree, policy.language.text)),
        "makespan": {str(workers): makespan(tree, workers) for workers in WORKERS},
        "profile": _plain(profile(events)),
        "kind": task.kind(problem) if isinstance(task, Sorts) else None,
        **_beside_teacher(tree, task, problem, protocol),
        "ends": {thread.id: thread.reason for thread in tree.threads.values()},
        "loss": task.failure_cause(problem, tree) if isinstance(task, Diagnoses) else None,
        "diagnostics": task.diagnose(problem, tree) if isinstance(task, Diagnoses) else {},
    }


def _beside_teacher(tree: ThreadTree, task: Task[Any], problem: Any, protocol: Protocol) -> dict[str, Any]:
    if not isinstance(task, Compares):
        return {"width": None, **dict.fromkeys(TEACHER)}
    teacher = protocol.teacher
    beside: tuple[Any, ...] = (None,) * len(TEACHER)
    if teacher is not None:
        beside = (task.teacher_solves(teacher, problem, tree), *task.teacher_effort(teacher, problem))
    return {"width": task.width(tree), **dict(zip(TEACHER, beside, strict=True))}


def _outcome(tree: ThreadTree, task: Task[Any]) -> dict[str, Any]:
    end, answer = tree.finished, tree.main.result
    assert end is not None
    why = [thread.detail for thread in tree.threads.values() if thread.reason == "engine_error"]
    return {
        **({"error": next(filter(None, why), "no reason given")} if end.failed else {}),
        "correct": end.correct,
        "failed": end.failed,
        "reason": end.reason,
        "verdict": end.verdict,
        "answer": answer,
        # What a majority is taken of.
        "vote": None if answer is None else task.vote(answer),
    }


def _plain(found: Profile | None) -> dict[str, float] | None:
    return None if found is None else asdict(found)
