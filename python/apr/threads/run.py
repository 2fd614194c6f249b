"""The way in: run one rollout, awaited or on a loop of its own.

Nothing is shared between rollouts, so any number of them run on one engine and one loop. Engine, task and language come
from the caller, or are found by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast
from uuid import uuid4

from apr.engine.base import Engine
from apr.engine.phrases import PhraseEngine
from apr.limits import Limits
from apr.task import Method, Task, load_task
from apr.threads.language import EndsInText, Language, load_language
from apr.threads.rollout import Emit, JoinPolicy, Rollout
from apr.threads.tree import ThreadTree
from apr.types import SamplingParams

T = TypeVar("T")

Cancel: TypeAlias = Callable[[str], bool]
"""Ends a child, by its id, and all below it; its parent is told that it was cancelled. To be called on the loop of its
rollout. False if no such child is open."""


async def rollout(
    problem: Any,
    engine: Engine,
    limits: Limits | None = None,
    *,
    task: Task[Any] | str = "countdown",
    language: Language | str = "traces",
    method: str = "apr",
    params: SamplingParams | None = None,
    budget: int | None = None,
    join: JoinPolicy = "all",
    emit: Emit | None = None,
    rollout_id: str | None = None,
    stream: bool | None = None,
    started: Callable[[Cancel], object] | None = None,
) -> ThreadTree:
    """Run one rollout to its end and return its tree (paper, section 3).

    Defaults are those of `apr solve`: decoding is greedy, the budget is the model's own choice, and at most 64 threads
    run. `problem` is one of the task's, which judges the answer in the end; task and language are objects or names.
    `params` gives temperature, the rollout's seed and, if wanted, a bound on the tokens of one call. `budget` is named
    in the prompt, in the task's measure (for Countdown children of "apr", tokens of "sos+"). `join`: a parent goes on
    when "all" its children have ended, or at the "first" solution, which ends the others. `emit` gets each event as it
    happens, on the loop that runs the rollout. `stream` says whether tokens are emitted as they come (default: if there
    is an `emit`) or once a call. `started` is given, before the first event, what ends a child while the rollout runs.

    An engine that fails raises nothing: `tree.failed` says so, and the rollout counts neither as right nor as wrong.
    ValueError for a join policy, a task or a language that there is not, and for limits, parameters and a budget that
    are none. Cancelling the awaiting task closes the threads as interrupted and emits the end before CancelledError
    goes on."""
    if join not in ("all", "first"):
        raise ValueError(f"join policy {join!r} is neither 'all' nor 'first'")
    limits, params = limits or Limits(), params or SamplingParams()
    if (fault := limits.fault or params.fault) is not None:
        raise ValueError(fault)
    if budget is not None and (type(budget) is not int or budget < 0):
        raise ValueError(f"budget is a whole number from 0 on, or None for the model's choice, not {budget!r:.40}")
    if isinstance(task, str):
        task = load_task(task, cast(Method, method))
    if isinstance(language, str):
        language = load_language(language, None, cast(Method, method))
    run = Rollout(
        problem=problem,
        engine=PhraseEngine(engine, language.settled_stop) if isinstance(language, EndsInText) else engine,
        limits=limits,
        task=task,
        language=language,
        method=method,
        params=params,
        join=join,
        emit=emit,
        id=uuid4().hex[:12] if rollout_id is None else rollout_id,
        stream=emit is not None if stream is None else stream,
        policy_version=engine.policy_version,
    )
    if started is not None:
        started(run.cancel)
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
    """Run one rollout to its end and return its tree, on a loop of its own: `rollout` without `await`, with the same
    defaults (greedy, the budget the model's choice) and errors.

    Where a loop is running already, as in a notebook, that loop waits, and `emit` is called on another thread. Whoever
    wants what was found before a KeyboardInterrupt folds `emit`."""
    return finish(
        rollout(
            problem,
            engine,
            limits,
            task=task,
            language=language,
            method=method,
            params=params,
            budget=budget,
            join=join,
            emit=emit,
            rollout_id=rollout_id,
            stream=stream,
        )
    )


def finish(work: Coroutine[Any, Any, T]) -> T:
    """What some work comes to, done to its end on a loop of its own: on this thread, or beside it where it has a loop
    running. A KeyboardInterrupt cancels the work and waits for its end."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    cancels: list[Callable[[], object]] = []

    async def begin() -> T:
        task = asyncio.ensure_future(work)
        cancels.append(partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel))
        return await task

    with ThreadPoolExecutor(1, thread_name_prefix="apr-rollout") as thread:
        ended = thread.submit(asyncio.run, begin())
        try:
            return ended.result()
        except KeyboardInterrupt:
            for cancel in cancels:
                # A loop that has ended meanwhile has nothing to cancel.
                with suppress(RuntimeError):
                    cancel()
            raise
