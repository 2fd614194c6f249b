"""What a model's children find, by how large the numbers are that they begin with.

States are those that the root's steps of test problems lead to, as many of each size that lead on as that do not; each
is given to a child alone, greedily, and an exact solver says what was there. Nothing here is a time.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

import apr
from apr import _core
from apr.policy import Policy
from benchmarks.teacher import ALL

SIZES = (200, 999, 99_999)
"""Largest numbers of a state, class by class."""
_MOST = 100_000
"""More problems than are asked for."""


@dataclass(frozen=True, slots=True)
class State:
    """What a child is given."""

    problem: apr.Problem
    prompt: str
    size: int
    """The place of its class."""
    leads_on: bool
    """Its numbers can reach the target."""


@dataclass(slots=True)
class Tally:
    """What the children of a class came to."""

    states: int = 0
    claims: int = 0
    found: int = 0
    """Claims that are right."""
    tokens: int = 0
    steps: int = 0
    wrong: int = 0
    """Steps with a wrong result."""


def states(each: int) -> Iterator[State]:
    """So many of each class, in the order of problems."""
    missing = dict.fromkeys(((size, leads) for size in range(len(SIZES)) for leads in (True, False)), each)
    for problem in apr.problems(_MOST, 0, split="test"):
        if not any(missing.values()):
            return
        parent = apr.search(problem, "apr", ranking="kinds", waves=ALL).main_calls[0].removesuffix("\n")
        taken = set()
        for prompt in _core.child_prompts(parent):
            state = _core.first_state(prompt)
            assert state is not None
            target, numbers = state
            size = next(place for place, most in enumerate(SIZES) if max(numbers) <= most)
            kind = size, _core.can_reach(numbers, target)
            # One of a kind of each problem: the steps of one are alike.
            if missing[kind] and kind not in taken:
                taken.add(kind)
                missing[kind] -= 1
                yield State(problem, prompt, *kind)


async def tallies(policy: Policy, given: Sequence[State]) -> dict[tuple[int, bool], Tally]:
    """What a policy's children come to, by size and whether the state leads on."""

    async def child(place: int, state: State) -> tuple[State, str, int]:
        language = policy.language
        prompt = language.open(state.prompt)
        params = apr.SamplingParams(stop_token_ids=tuple(language.stop_token_ids))
        done = await policy.engine.generate(prompt, params, request_id=str(place))
        return state, language.text([*prompt, *done.token_ids]), len(done.token_ids)

    found: dict[tuple[int, bool], Tally] = {}
    for state, text, tokens in await asyncio.gather(*(child(*item) for item in enumerate(given))):
        tally = found.setdefault((state.size, state.leads_on), Tally())
        claim = policy.language.claim(text, len(state.prompt), 1)
        verdict = None if claim is None else policy.task.judge_child(state.problem, state.prompt, claim)
        tally.states += 1
        tally.claims += claim is not None
        tally.found += verdict is not None and verdict.correct
        tally.tokens += tokens
        seen = _core.inspect(text)
        tally.steps += seen["steps"]
        tally.wrong += seen["wrong_results"]
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks children", description=__doc__)
    parser.add_argument("--model", metavar="DIR", help="default: the one that ships")
    parser.add_argument("--states", type=int, default=40, metavar="N", help="of each class (default 40)")
    options = parser.parse_args(arguments)
    table = Table(box=None, header_style="")
    for column in ("largest number", "leads on", "states", "found", "false claims", "wrong results", "tokens"):
        table.add_column(column, justify="right")
    with apr.load(options.model, engine="native") as policy:
        found = asyncio.run(tallies(policy, list(states(options.states))))
    for (size, leads_on), tally in sorted(found.items()):
        table.add_row(
            f"<= {SIZES[size]:,}",
            "yes" if leads_on else "no",
            f"{tally.states}",
            f"{tally.found}" if leads_on else "-",
            f"{tally.claims - tally.found}",
            f"{tally.wrong / max(1, tally.steps):.1%}",
            f"{tally.tokens / tally.states:,.0f}",
        )
    Console(width=100).print(table)
    return 0
