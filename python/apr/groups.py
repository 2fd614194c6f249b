"""Groups of rollouts: several whole thread trees of each of a few problems, all of them in flight at once.

What a step draws is a pure function of the run's seed and the place of its problems in their stream; what the model
answers depends on the weights alone, since every rollout has a seed of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from apr import Problem
from apr._core import ProblemStream, solve_all
from apr.config import Costs, RlConfig
from apr.engine.base import Engine
from apr.grammar import Grammar
from apr.limits import Limits, request_seed
from apr.orchestrator import rollout
from apr.processes import Processes
from apr.threads import Emit
from apr.tree import ThreadTree
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


def tasks(config: RlConfig, start: int, count: int) -> list[Task]:
    """The first `count` tasks from place `start` of the run's stream on."""
    stream = ProblemStream(
        config.seed, numbers=config.numbers, split="train", held_out_targets=list(config.held_out_targets)
    )
    places = (place for first in itertools.count(start, count) for place in enumerate(stream.get(first, count), first))
    most = config.max_solutions
    wanted = ((index, problem) for index, problem in places if most is None or solutions(problem) <= most)
    return [Task(index, problem, _budget(config, index)) for index, problem in itertools.islice(wanted, count)]


def solutions(problem: Problem) -> int:
    """How many distinct solutions a problem has."""
    return len(solve_all(list(problem.numbers), problem.target))


def validation_tasks(config: RlConfig) -> list[Task]:
    """Problems that training never sees, under the same conditions."""
    stream = ProblemStream(config.seed + 1, numbers=config.numbers, split="val")
    drawn = enumerate(stream.get(0, config.validation_problems))
    return [Task(index, problem, _budget(config, index)) for index, problem in drawn]


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
    position: int
    seconds: float
    """How long sampling them took."""


async def draw_groups(
    engine: Engine,
    grammar: Grammar,
    config: RlConfig,
    position: int,
    processes: Processes,
    emit: Emit | None = None,
) -> Draw:
    """This process's share of a step's groups from place `position` on. `emit` gets the events of the first.

    With `refill`, groups whose rewards are all equal are replaced by others as long as turns are left; the first stays.
    """
    begun = time.monotonic()
    groups: list[Group] = []
    wanted = len(range(processes.rank, config.groups, processes.count))
    for turn in range(1 + config.refill):
        missing = wanted - sum(group.signal for group in groups)
        if turn and not processes.any(missing > 0):
            break
        drawn = tasks(config, position, config.groups)
        position = drawn[-1].index + 1
        own = drawn[processes.rank :: processes.count][:missing]
        groups += await run_groups(own, engine, grammar, config, emit=emit if not turn else None)
    rest = sorted(groups[1:], key=lambda group: not group.signal)
    return Draw((*groups[:1], *rest[: wanted - 1]), position, time.monotonic() - begun)


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
    events of the first task's rollouts."""
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

    async with asyncio.TaskGroup() as running:
        members = range(config.group_size if size is None else size)
        started = [
            (task, [running.create_task(run(task, m, None if place else emit)) for m in members])
            for place, task in enumerate(wanted)
        ]
    groups = []
    for task, rollouts in started:
        trees = tuple(done.result() for done in rollouts)
        groups.append(Group(task, trees, tuple(reward(tree, config.costs) for tree in trees)))
    return groups
