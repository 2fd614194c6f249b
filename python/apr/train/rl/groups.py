"""Groups of rollouts: several whole thread trees of each of a few problems, all of them in flight at once.

What a step draws is a pure function of the run's seed and the place of its problems in their stream; what the model
answers depends on the weights alone, since every rollout has a seed of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apr import Problem
from apr._core import ProblemStream, solve_all
from apr.engine.base import Engine
from apr.limits import Limits, request_seed
from apr.threads.grammar import Grammar
from apr.threads.rollout import Emit
from apr.threads.run import rollout
from apr.threads.tree import ThreadTree
from apr.train.processes import Processes
from apr.train.recipes import Costs, RlConfig
from apr.train.stop import Stop
from apr.types import SamplingParams


@dataclass(frozen=True, slots=True)
class Task:
    """What a group is to solve."""

    index: int
    """Place of the problem in the run's stream."""
    problem: Problem
    budget: int | None
    """The condition in the prompt; None: the model's free choice."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of a task."""

    task: Task
    trees: tuple[ThreadTree, ...]
    """Finished."""
    rewards: tuple[float | None, ...]
    """Of each tree; None where the engine failed, which is no fault of the policy's."""

    @property
    def judged(self) -> tuple[float, ...]:
        """The rewards there are."""
        return tuple(reward for reward in self.rewards if reward is not None)

    @property
    def signal(self) -> bool:
        """Some rollouts did better than others."""
        return len(set(self.judged)) > 1


PASSED_OVER = 1000
"""Problems in a row with more solutions than are wanted, after which there are taken to be no others."""


def tasks(config: RlConfig, start: int, count: int) -> list[Task]:
    """The first `count` tasks from place `start` of the run's stream on. ValueError if the recipe wants problems that
    there are none of."""
    return _tasks(config, config.seed, "train", start, count)


def validation_tasks(config: RlConfig) -> list[Task]:
    """Problems that training never sees, chosen as its are and under the same conditions."""
    return _tasks(config, config.seed + 1, "val", 0, config.validation_problems)


def _tasks(config: RlConfig, seed: int, split: str, start: int, count: int) -> list[Task]:
    held_out = list(config.held_out_targets)
    stream = ProblemStream(seed, numbers=config.numbers, split=split, held_out_targets=held_out)
    most = config.max_solutions

    def wanted() -> Iterator[Task]:
        passed = 0
        for first in itertools.count(start, count):
            for index, problem in enumerate(stream.get(first, count), first):
                if most is None or solutions(problem) <= most:
                    passed = 0
                    yield Task(index, problem, _budget(config, index))
                elif (passed := passed + 1) == PASSED_OVER:
                    raise ValueError(f"max_solutions: {passed} problems in a row have more than {most}")

    return list(itertools.islice(wanted(), count))


def solutions(problem: Problem) -> int:
    """How many distinct solutions a problem has."""
    return len(solve_all(list(problem.numbers), problem.target))


def _budget(config: RlConfig, index: int) -> int | None:
    budget = config.budgets[request_seed(config.seed, "budget", index) % len(config.budgets)]
    return None if budget == "free" else budget


def reward(tree: ThreadTree, costs: Costs) -> float | None:
    """1 if the judge accepts the main thread's answer, less the costs; else 0. None if the engine failed."""
    if tree.failed or tree.correct is None:
        return None
    if not tree.correct:
        return 0.0
    cost = (
        costs.per_1000_tokens * tree.total_tokens / 1000
        + costs.per_thread * tree.children
        + costs.per_second * (tree.latency or 0.0)
    )
    return max(0.0, 1.0 - cost)


@dataclass(frozen=True, slots=True)
class Draw:
    """The groups of one step, and the place in the stream that the next step begins at."""

    groups: tuple[Group, ...]
    """Of this process, in the order of their tasks."""
    watched: Group | None
    """The one whose events were emitted; it need not be of the step."""
    position: int
    version: int
    """Of the policy that drew them."""
    seconds: float
    """How long sampling them took."""


async def draw_groups(
    engine: Engine,
    grammar: Grammar,
    config: RlConfig,
    position: int,
    processes: Processes,
    emit: Emit | None = None,
    stop: Stop | None = None,
) -> Draw | None:
    """This process's share of a step's groups from place `position` on; None if it was stopped. `emit` gets the events
    of the first.

    With `refill`, as many others are drawn as there are groups whose rewards are all equal, as long as turns are left;
    those with different rewards are kept first.
    """
    begun, version = time.monotonic(), engine.policy_version
    stop = stop or Stop()
    groups: list[Group] = []
    for turn in range(1 + config.refill):
        missing = config.groups
        if turn:
            seen = processes.gather([(group.task.index, group.signal) for group in groups])
            missing -= sum(signal for _, signal in seen)
        if not missing:
            break
        drawn = tasks(config, position, missing)
        position = drawn[-1].index + 1
        own = drawn[processes.rank :: processes.count]
        # Cut short, it goes through all turns with the other processes, which wait for it there.
        work = run_groups(own, engine, grammar, config, emit=emit if not turn else None)
        groups += await stop.attempt(work) or []
    if stop.asked:
        return None
    watched = groups[0] if groups else None
    if config.refill:
        seen = processes.gather([(not group.signal, group.task.index) for group in groups])
        chosen = {index for _, index in sorted(seen)[: config.groups]}
        groups = [group for group in groups if group.task.index in chosen]
    return Draw(tuple(groups), watched, position, version, time.monotonic() - begun)


async def run_groups(
    wanted: Sequence[Task],
    engine: Engine,
    grammar: Grammar,
    config: RlConfig,
    *,
    size: int | None = None,
    temperature: float | None = None,
    emit: Emit | None = None,
) -> list[Group]:
    """All rollouts of these tasks; `size` of each and at `temperature` instead of the configured ones. `emit` gets the
    events of the first task's rollouts; what it raises comes out here."""
    limits = Limits(threads=config.max_threads, total_tokens=config.max_tokens)
    heat = config.temperature if temperature is None else temperature

    async def run(task: Task, member: int, emit: Emit | None) -> ThreadTree:
        return await rollout(
            task.problem,
            engine,
            limits,
            grammar=grammar,
            params=SamplingParams(temperature=heat, seed=request_seed(config.seed, f"task {task.index}", member)),
            budget=task.budget,
            emit=emit,
            rollout_id=f"{task.index}-{member}",
            stream=emit is not None,
        )

    members = range(config.group_size if size is None else size)
    try:
        async with asyncio.TaskGroup() as running:
            started = [
                (task, [running.create_task(run(task, m, None if place else emit)) for m in members])
                for place, task in enumerate(wanted)
            ]
    except ExceptionGroup as errors:
        # One of them ended all the others.
        raise errors.exceptions[0] from None
    groups = []
    for task, rollouts in started:
        trees = tuple(done.result() for done in rollouts)
        groups.append(Group(task, trees, tuple(reward(tree, config.costs) for tree in trees)))
    return groups
