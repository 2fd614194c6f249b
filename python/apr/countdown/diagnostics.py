"""What only an exact solver can tell of a rollout: hopeless children, needless work, faults, and what lost it.

Counts are of one rollout and add up over rollouts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from apr._core import Problem, can_reach, check_claim, first_state, inspect
from apr.threads.causes import bound_met, main_failure
from apr.threads.tree import Thread, ThreadTree

FailureCause = Literal[
    "false_answer",  # the main thread claims a solution that is none
    "format",  # the main thread's spawn block could not be read
    "context",  # the main thread, or each child that could have reached the target, met the context's end
    "depth",  # the main thread, or each such child, wanted children where none may be
    "limit",  # the main thread, or each such child, met another limit
    "width",  # no thread's state that was tried could reach the target, for want of width
    "faults",  # each thread that could have reached it wrote wrong results, numbers, states or verdicts
    "child_width",  # one that could made no mistake, and did not try the way
]

_FAULTS = ("wrong_results", "invented_numbers", "wrong_numbers", "wrong_states", "wrong_verdicts", "wrong_trials")


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Counts over all threads of one rollout."""

    children: int
    hopeful_children: int
    """Children whose state can still reach the target."""
    duplicate_children: int
    """Children with the same numbers left as an earlier sibling."""
    child_tokens: int
    """Tokens sampled by children."""
    hopeless_tokens: int
    """Tokens sampled by those whose state cannot reach the target."""
    joined_claims: int
    false_claims: int
    """Claims of children that are none, told to their parents."""
    unreadable: int
    """Lines that are not in the grammar."""
    steps: int
    wrong_results: int
    invented_numbers: int
    wrong_numbers: int
    """Steps that list other numbers than are left."""
    repeated_steps: int
    states: int
    wrong_states: int
    """States that are not those of the node moved to."""
    verdicts: int
    wrong_verdicts: int
    trials: int
    """Lines of divisions written out."""
    wrong_trials: int


def diagnose(tree: ThreadTree) -> Diagnostics:
    """The diagnostics of a finished rollout."""
    children = [thread for thread in tree.threads.values() if thread.parent is not None]
    hopeless = [child for child in children if not hopeful(child.prompt_text)]
    siblings = Counter((child.parent, numbers_left(child.prompt_text)) for child in children)
    claims = [child for child in children if child.result is not None]
    counts = Counter(inspect(""))
    for thread in tree.threads.values():
        counts.update(inspect(thread.text))
    return Diagnostics(
        children=len(children),
        hopeful_children=len(children) - len(hopeless),
        duplicate_children=sum(times - 1 for times in siblings.values()),
        child_tokens=sum(child.sampled_tokens for child in children),
        hopeless_tokens=sum(child.sampled_tokens for child in hopeless),
        joined_claims=len(claims),
        false_claims=sum(not check_claim(child.prompt_text, child.text).correct for child in claims),
        **counts,
    )


def failure_cause(tree: ThreadTree, problem: Problem) -> FailureCause | None:
    """What lost a finished rollout; None if it is solved, or if nothing can be told of it. An unsolvable problem is
    lost to width."""
    end = tree.finished
    if end is None or end.correct is not False:
        return None
    main = tree.main
    if (cause := main_failure(main)) is not None:
        return cause
    if not main.rounds:
        # Alone, a main thread without a mistake has tried all that its width lets it.
        return "faults" if _faulty(main) and _reaches(problem.numbers, problem.target) else "width"
    able = [child for child in tree.threads.values() if child.parent is not None and hopeful(child.prompt_text)]
    if not able or not _reaches(problem.numbers, problem.target):
        return "width"
    ended = [child for child in able if child.reason in ("answered", "no_answer")]
    if not ended:
        return bound_met(able)
    if all(_faulty(child) for child in ended):
        return "faults"
    return "child_width"


def numbers_left(prompt: str) -> tuple[int, ...]:
    """The numbers of the state that a child begins with, smallest first; none if there is no state to read."""
    state = first_state(prompt)
    return () if state is None else tuple(sorted(state[1]))


def hopeful(prompt: str) -> bool:
    """Whether the state that a child begins with can still reach its target."""
    state = first_state(prompt)
    return state is not None and _reaches(state[1], state[0])


def _reaches(numbers: Sequence[int], target: int) -> bool:
    try:
        return can_reach(numbers, target)
    except (ValueError, OverflowError):
        # A model, or a file of problems, may have numbers that no solver takes.
        return False


def _faulty(thread: Thread) -> bool:
    found = inspect(thread.text)
    return any(found[name] for name in _FAULTS)
