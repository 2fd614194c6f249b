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
from typing import Any

from apr.limits import Limits, request_seed
from apr.policy import Policy
from apr.selection import problems_of
from apr.task import Selects, Sorts, Task
from apr.threads.rollout import Emit
from apr.threads.tree import ThreadTree
from apr.train.processes import Processes
from apr.train.recipes import RlConfig
from apr.train.rl.edge import Edge, Tried
from apr.train.rl.rewards import load_reward
from apr.train.stop import Stop
from apr.types import SamplingParams


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a group is to solve."""

    index: int
    """Place of the problem in the run's stream."""
    problem: Any
    budget: int | None
    """The condition in the prompt; None: the model's free choice."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of a problem."""

    drawn: Drawn
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

    @property
    def split(self) -> bool:
        """Some rollouts are right and some are wrong, whatever they cost."""
        pairs = zip(self.trees, self.rewards, strict=True)
        return len({tree.correct for tree, reward in pairs if reward is not None}) > 1


PASSED_OVER = 1000
"""Problems in a row that are not wanted, after which there are taken to be no others."""


def draw(task: Task[Any], config: RlConfig, start: int, count: int, edge: Edge | None = None) -> list[Drawn]:
    """The first `count` problems from place `start` of the run's stream on that are near the edge, if one is known.
    ValueError if the recipe wants problems that there are none of."""
    # The seed's own stream begins with what lessons of the same seed taught.
    seed = request_seed(config.seed, "problems", 0) // 2

    def taken(problem: Any, index: int) -> bool:
        if isinstance(task, Selects) and not task.accepts(problem):
            return False
        if edge is None or not edge.power or not isinstance(task, Sorts):
            return True
        return edge.takes(task.kind(problem), seed, index)

    def wanted() -> Iterator[Drawn]:
        passed = 0
        for first in itertools.count(start, count):
            found = task.problems("train", seed, first, count)
            for index, problem in enumerate(found, first):
                if taken(problem, index):
                    passed = 0
                    yield Drawn(index, problem, _budget(config, index))
                elif (passed := passed + 1) == PASSED_OVER:
                    raise ValueError(f"of {passed} problems in a row none is of the kind that the recipe wants")
            if len(found) < count:
                raise ValueError(f"the train split of {task.name} ends after {first + len(found)} problems")

    return list(itertools.islice(wanted(), count))


def draw_validation(task: Task[Any], config: RlConfig) -> list[Drawn]:
    """Distinct problems that training never sees, chosen as its are and under the same conditions. ValueError if there
    are too few."""
    count = config.validation_problems
    found = list(itertools.islice(problems_of(task, "val", config.seed + 1), count))
    if len(found) < count:
        raise ValueError(f"validation_problems: {task.name} has {len(found)} for them")
    return [Drawn(index, problem, _budget(config, index)) for index, problem in enumerate(found)]


def _budget(config: RlConfig, index: int) -> int | None:
    budget = config.budgets[request_seed(config.seed, "budget", index) % len(config.budgets)]
    return None if budget == "free" else budget


@dataclass(frozen=True, slots=True)
class Draw:
    """The groups of one step, and the place in the stream that the next step begins at."""

    groups: tuple[Group, ...]
    """Of this process, in the order of their problems."""
    watched: Group | None
    """The one whose events were emitted; it need not be of the step."""
    position: int
    version: int
    """Of the policy that drew them."""
    seconds: float
    """How long sampling them took."""
    sampled: int
    """Tokens of all groups that were drawn, those not kept too."""
    tried: tuple[Tried, ...]
    """Those groups, where the recipe looks for the edge."""


async def draw_groups(
    policy: Policy,
    config: RlConfig,
    position: int,
    processes: Processes,
    emit: Emit | None = None,
    stop: Stop | None = None,
    edge: Edge | None = None,
) -> Draw | None:
    """This process's share of a step's groups from place `position` on, near an edge if one is known; None if it was
    stopped. `emit` gets the events of the first.

    With `refill`, as many others are drawn as there are groups whose rollouts are all right or all wrong, as long as
    turns are left. Those that are split are kept first, then those whose rewards differ by what they cost.
    """
    begun, version = time.monotonic(), policy.engine.policy_version
    stop = stop or Stop()
    groups: list[Group] = []
    for turn in range(1 + config.refill):
        missing = config.groups
        if turn:
            seen = processes.gather([(group.drawn.index, group.split) for group in groups])
            missing -= sum(split for _, split in seen)
        if not missing:
            break
        drawn = draw(policy.task, config, position, missing, edge)
        position = drawn[-1].index + 1
        own = drawn[processes.rank :: processes.count]
        # Cut short, it goes through all that is left with the other processes, which wait for it there.
        work = run_groups(own, policy, config, emit=emit if not turn else None)
        groups += await stop.attempt(work) or []
    watched = groups[0] if groups else None
    sampled = sum(tree.total_tokens for group in groups for tree in group.trees)
    tried = _tried(policy.task, config, groups)
    if config.refill:
        seen = processes.gather([(not group.split, not group.signal, group.drawn.index) for group in groups])
        chosen = {index for *_, index in sorted(seen)[: config.groups]}
        groups = [group for group in groups if group.drawn.index in chosen]
    if stop.asked:
        return None
    return Draw(tuple(groups), watched, position, version, time.monotonic() - begun, sampled, tried)


def _tried(task: Task[Any], config: RlConfig, groups: Sequence[Group]) -> tuple[Tried, ...]:
    if not config.edge or not isinstance(task, Sorts):
        return ()
    return tuple((task.kind(group.drawn.problem), group.split) for group in groups if len(group.judged) > 1)


REDONE_AFTER_S = (0.5, 1.0, 2.0)
"""Pauses before a rollout whose engine failed is done again: of several servers one may have died, and a router takes a
moment to send nothing more to it."""


async def run_groups(
    wanted: Sequence[Drawn],
    policy: Policy,
    config: RlConfig,
    *,
    size: int | None = None,
    temperature: float | None = None,
    emit: Emit | None = None,
) -> list[Group]:
    """All rollouts of these problems; `size` of each and at `temperature` instead of the configured ones. One whose
    engine failed is done again, under a name of its own. `emit` gets the events of the first problem's rollouts; what
    it raises comes out here."""
    limits = Limits(threads=config.max_threads, total_tokens=config.max_tokens)
    heat = config.temperature if temperature is None else temperature

    async def run(drawn: Drawn, member: int, emit: Emit | None) -> ThreadTree:
        for again in itertools.count():
            tree = await policy.rollout(
                drawn.problem,
                limits,
                params=SamplingParams(temperature=heat, seed=request_seed(config.seed, f"task {drawn.index}", member)),
                budget=drawn.budget,
                emit=emit,
                rollout_id=f"{drawn.index}-{member}" + (f"-{again}" if again else ""),
                stream=emit is not None,
            )
            if not tree.failed or again == len(REDONE_AFTER_S):
                return tree
            await asyncio.sleep(REDONE_AFTER_S[again])
        raise AssertionError("unreachable")

    members = range(config.group_size if size is None else size)
    try:
        async with asyncio.TaskGroup() as running:
            started = [
                (drawn, [running.create_task(run(drawn, m, None if place else emit)) for m in members])
                for place, drawn in enumerate(wanted)
            ]
    except ExceptionGroup as errors:
        # One of them ended all the others.
        raise errors.exceptions[0] from None
    groups = []
    reward = load_reward(config.reward)
    for drawn, rollouts in started:
        trees = tuple(done.result() for done in rollouts)
        groups.append(Group(drawn, trees, tuple(reward(tree, config.costs) for tree in trees)))
    return groups


def failure(groups: Sequence[Group]) -> str:
    """What the engine said of the first failed thread."""
    for group in groups:
        for tree in group.trees:
            for thread in tree.threads.values():
                if thread.reason == "engine_error":
                    return thread.detail or "an engine error without a word"
    return "there were none"
