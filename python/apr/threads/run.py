"""The way in: run one rollout, awaited or on a loop of its own.

Nothing is shared between rollouts, so any number of them run on one engine and one loop. Engine, task and language come
from the caller, or are found by name.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from apr.engine.base import Engine
from apr.limits import Limits
from apr.task import Method, Task, load_task
from apr.threads.language import Language, load_language
from apr.threads.rollout import Emit, JoinPolicy, Rollout
from apr.threads.tree import ThreadTree
from apr.types import SamplingParams


async def rollout(
    problem: Any,
    engine: Engine,
    limits: Limits | None = None,
    *,
    task: Task[Any],
    language: Language,
    method: str = "apr",
    params: SamplingParams | None = None,
    budget: int | None = None,
    join: JoinPolicy = "all",
    emit: Emit | None = None,
    rollout_id: str | None = None,
    stream: bool | None = None,
) -> ThreadTree:
    """Run one rollout to its end and return its tree.

    `params` gives temperature, the rollout's seed and, if wanted, a bound on the tokens of one call. `stream`
    says whether tokens are emitted as they come (default: if there is an `emit`) or once a call. Cancelling
    the awaiting task closes the threads as interrupted and emits the end before CancelledError goes on."""
    if join not in ("all", "first"):
        raise ValueError(f"join policy {join!r} is neither 'all' nor 'first'")
    run = Rollout(
        problem=problem,
        engine=engine,
        limits=Limits() if limits is None else limits,
        task=task,
        language=language,
        method=method,
        params=SamplingParams() if params is None else params,
        join=join,
        emit=emit,
        id=uuid4().hex[:12] if rollout_id is None else rollout_id,
        stream=emit is not None if stream is None else stream,
        policy_version=engine.policy_version,
    )
    return await run.run(budget)


def run_threads(
    problem: Any,
    engine: Engine,
    limits: Limits | None = None,
    emit: Emit | None = None,
    *,
    method: Method = "apr",
    task: Task[Any] | str = "countdown",
    language: Language | str = "traces",
    params: SamplingParams | None = None,
    budget: int | None = None,
    join: JoinPolicy = "all",
    rollout_id: str | None = None,
    stream: bool | None = None,
) -> ThreadTree:
    """Run one rollout on a loop of its own; task and language may be named. Whoever wants what was found before a
    KeyboardInterrupt folds `emit`."""
    return asyncio.run(
        rollout(
            problem,
            engine,
            limits,
            task=load_task(task, method) if isinstance(task, str) else task,
            language=load_language(language, None, method) if isinstance(language, str) else language,
            method=method,
            params=params,
            budget=budget,
            join=join,
            emit=emit,
            rollout_id=rollout_id,
            stream=stream,
        )
    )
