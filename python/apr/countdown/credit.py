"""What only an exact solver can tell of a main thread's choices."""

from __future__ import annotations

from collections.abc import Sequence

from apr import _core
from apr._core import Problem
from apr.countdown.diagnostics import hopeful, numbers_left
from apr.task import Choice


def choices(problem: Problem, text: str, prompts: Sequence[str]) -> list[Choice | None]:
    """Where each child's step was chosen: its two numbers and the sign between them, in the line that tried it.

    A good one leads, by true arithmetic from the problem's own numbers, to a state that can reach the target and that
    no sibling before it was truly given. A false result is no way to a hopeful state, and a second try of it finds
    nothing new: credit for either would teach to write what pays. A node that was spawned before was chosen then.
    """
    places = _core.choices(text)
    found: list[Choice | None] = []
    given: set[tuple[int, ...]] = set()
    for prompt in prompts:
        node, left = _core.first_node(prompt), numbers_left(prompt)
        follows = _core.follows(problem, prompt)
        good = follows and left not in given and hopeful(prompt)
        if follows:
            given.add(left)
        place = places.pop(node, None) if node is not None else None
        found.append(None if place is None else Choice(*place, good))
    return found
