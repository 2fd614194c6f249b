"""The problems of an evaluation: the first distinct ones of a split, or those of a file.

Two problems are the same when their sorted numbers and their target are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apr import Problem, Split, problems

_ENDLESS = 1 << 62
_PATIENCE = 20_000
"""Problems seen in a row without a new one, after which a split counts as exhausted."""


def split_problems(count: int, split: Split, seed: int, *, numbers: int | tuple[int, int] = 4) -> list[Problem]:
    """The first `count` distinct problems of a split; ValueError if it has fewer."""
    seen: set[tuple[tuple[int, ...], int]] = set()
    found: list[Problem] = []
    idle = 0
    # The stream of the train split repeats problems, as in the paper's data.
    for problem in problems(_ENDLESS, seed, numbers=numbers, split=split):
        key = (tuple(sorted(problem.numbers)), problem.target)
        idle = idle + 1 if key in seen else 0
        if idle > _PATIENCE:
            raise ValueError(f"the {split} split has only {len(found)} such problems")
        if not idle:
            seen.add(key)
            found.append(problem)
        if len(found) == count:
            break
    return found


def read_problems(path: str | Path) -> list[Problem]:
    """The problems of a file: JSON lines `{"numbers": [...], "target": n}`, or one JSON list of `{"nums": [...],
    "target": n}` as the authors' data has it. ValueError names what is bad."""
    text = Path(path).read_text()
    found = [_problem(entry, f"{path}, {where}") for where, entry in _entries(text)]
    if not found:
        raise ValueError(f"{path} has no problems")
    return found


def _entries(text: str) -> Iterator[tuple[str, Any]]:
    """What stands for a problem each, and where it stands."""
    if text.lstrip().startswith("["):
        try:
            entries = json.loads(text)
        except ValueError:
            entries = [text]
        yield from ((f"entry {number}", entry) for number, entry in enumerate(entries, 1))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except ValueError:
                yield f"line {number}", line


def _problem(entry: Any, where: str) -> Problem:
    try:
        return Problem(entry["nums"] if "nums" in entry else entry["numbers"], entry["target"])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"{where}: not a problem: {error}") from None
