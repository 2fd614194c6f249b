"""A protocol run: every problem once on one engine, many at a time, reported in the order of the problems.

A rollout's seed derives from the run's seed and the problem's index, so its tree does not depend on how many
run beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from apr.engine.base import Engine
from apr.evaluate.metrics import Outcome, measure, summarise
from apr.grammar import Grammar
from apr.limits import Limits, request_seed
from apr.orchestrator import rollout
from apr.threads import JoinPolicy
from apr.tree import ThreadTree
from apr.types import SamplingParams


@dataclass(frozen=True, slots=True)
class Protocol:
    """How each problem is run."""

    budget: int | None = None
    """The condition in the prompt; None: the model's free choice."""
    temperature: float = 0.0
    seed: int = 0
    join: JoinPolicy = "all"
    limits: Limits = field(default_factory=Limits)
    concurrency: int = 32
    """Rollouts in flight."""


Watch = Callable[[dict[str, Any]], None]
"""Gets each row, in the order of the problems, as soon as those before it are there."""


async def evaluate(
    problems: Sequence[Any],
    engine: Engine,
    grammar: Grammar,
    protocol: Protocol,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Run all problems; the summary. An engine failure is a row of its own kind, never a wrong answer."""
    finished: dict[int, tuple[Outcome, dict[str, Any]]] = {}
    outcomes: list[Outcome] = []
    waiting = iter(enumerate(problems))

    async def worker() -> None:
        for index, problem in waiting:
            finished[index] = await _run(index, problem, engine, grammar, protocol)
            while len(outcomes) in finished:
                outcome, row = finished.pop(len(outcomes))
                outcomes.append(outcome)
                if watch is not None:
                    watch(row)

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(protocol.concurrency, len(problems))):
            workers.create_task(worker())
    return summarise(outcomes)


async def _run(
    index: int, problem: Any, engine: Engine, grammar: Grammar, protocol: Protocol
) -> tuple[Outcome, dict[str, Any]]:
    seed = request_seed(protocol.seed, "problem", index)
    tree = await rollout(
        problem,
        engine,
        protocol.limits,
        grammar=grammar,
        params=SamplingParams(temperature=protocol.temperature, seed=seed),
        budget=protocol.budget,
        join=protocol.join,
        rollout_id=f"{index}",
    )
    measures = measure(tree, grammar.text)
    end = tree.finished
    assert end is not None
    outcome = Outcome(end.correct, end.failed, end.reason, measures)
    return outcome, {
        "index": index,
        **grammar.describe(problem),
        "seed": seed,
        "correct": end.correct,
        "failed": end.failed,
        "reason": end.reason,
        "verdict": end.verdict,
        "answer": tree.main.result,
        **asdict(measures),
        "ends": _ends(tree),
    }


def _ends(tree: ThreadTree) -> dict[str, str | None]:
    """Why each thread ended."""
    return {thread.id: thread.reason for thread in tree.threads.values()}
