"""What only the solution can tell of a rollout: hopeless children, faults, and what lost it.

Counts are of one rollout and add up over rollouts.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from apr._core import SudokuProblem, sudoku_inspect
from apr.threads.causes import bound_met, main_failure
from apr.threads.tree import Thread, ThreadTree

Cause = Literal[
    "false_answer",  # the main thread claims a solution that is none
    "format",  # the main thread's spawn cannot be read
    "context",  # the main thread, or each child that could have found the solution, met the context's end
    "depth",  # the main thread, or each such child, wanted children where none may be
    "limit",  # the main thread, or each such child, met another limit
    "children",  # the main thread spawned, and no child had a grid that the solution completes
    "faults",  # a thread that could have found the solution wrote or claims something wrong
    "join",  # a child found the solution, and the main thread answers nothing
    "gave_up",  # nothing wrong is written, and the solution is not found
]

_FAULTS = ("unreadable", "wrong_candidates", "short_scans", "wrong_grids", "wrong_sums", "wrong_picks", "wrong_tries")


def diagnose(problem: SudokuProblem, tree: ThreadTree) -> dict[str, float]:
    """The counts of a finished rollout."""
    children = [thread for thread in tree.threads.values() if thread.parent is not None]
    able = [child for child in children if hopeful(problem, child.prompt_text)]
    siblings = Counter((child.parent, _grid(problem, child)) for child in children)
    claims = [child for child in children if child.result is not None]
    counts = Counter(sudoku_inspect("", ""))
    for thread in tree.threads.values():
        counts.update(_inspect(thread))
    return {
        "children": len(children),
        "hopeful_children": len(able),
        "duplicate_children": sum(times - 1 for times in siblings.values()),
        "child_tokens": sum(child.sampled_tokens for child in children),
        "hopeless_tokens": sum(child.sampled_tokens for child in children if child not in able),
        "joined_claims": len(claims),
        "false_claims": sum(not _found(problem, child) for child in claims),
        **{name: float(count) for name, count in counts.items()},
    }


def failure_cause(problem: SudokuProblem, tree: ThreadTree) -> Cause | None:
    """What lost a finished rollout; None if it is solved, or if nothing can be told of it."""
    end = tree.finished
    if end is None or end.correct is not False:
        return None
    main = tree.main
    if (cause := main_failure(main)) is not None:
        return cause
    if not main.rounds:
        return "faults" if _faulty(main) else "gave_up"
    children = [thread for thread in tree.threads.values() if thread.parent is not None]
    able = [child for child in children if hopeful(problem, child.prompt_text)]
    if not able:
        return "children"
    if any(_found(problem, child) for child in able):
        return "join"
    ended = [child for child in able if child.reason in ("answered", "no_answer")]
    if not ended:
        return bound_met(able)
    return "faults" if any(child.result is not None or _faulty(child) for child in ended) else "gave_up"


def _grid(problem: SudokuProblem, thread: Thread) -> str | None:
    found = problem.first_grid(thread.prompt_text)
    return None if found is None else found[0]


def hopeful(problem: SudokuProblem, prompt: str) -> bool:
    """Whether the problem's solution completes the grid that a child begins with."""
    found = problem.first_grid(prompt)
    return found is not None and found[1]


def _found(problem: SudokuProblem, child: Thread) -> bool:
    return child.result is not None and problem.judge_child(child.prompt_text, child.result)[0]


def _inspect(thread: Thread) -> dict[str, int]:
    return sudoku_inspect(thread.prompt_text, thread.text.removeprefix(thread.prompt_text))


def _faulty(thread: Thread) -> bool:
    found = _inspect(thread)
    return any(found[name] for name in _FAULTS)
