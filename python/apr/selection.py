"""Which problems of a task: those of a split that are wanted, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from apr.task import Selects, Split, Task

_CHUNK = 256
"""The most problems that a task is asked for at once."""
_PATIENCE = 20_000
"""Problems seen in a row without one that is new and wanted, after which a split counts as exhausted."""


def selected(task: Task[Any], options: Mapping[str, Any]) -> Task[Any]:
    """The task with the problems of these options only; itself if there are none. ValueError, by key, for what it does
    not take."""
    if not options:
        return task
    if not isinstance(task, Selects):
        raise ValueError(f"{next(iter(options))}: {task.name} has no kinds of problems to select")
    return task.select(options)


def problems_of(task: Task[Any], split: Split, seed: int, *, distinct: bool = True) -> Iterator[Any]:
    """The problems of a split that the task accepts, in order, and `distinct` ones once: a stream may repeat problems,
    as the train split does in the paper's data. They end with the split, or where it brings nothing new any more."""
    seen: set[str] = set()
    idle, start, chunk = 0, 0, 1
    while True:
        found = task.problems(split, seed, start, chunk)
        for problem in found:
            wanted = not isinstance(task, Selects) or task.accepts(problem)
            if wanted and (key := task.key(problem)) not in seen:
                idle = 0
                if distinct:
                    seen.add(key)
                yield problem
            elif (idle := idle + 1) > _PATIENCE:
                return
        if len(found) < chunk:
            return
        # Who wants one problem does not wait for many.
        start, chunk = start + chunk, min(2 * chunk, _CHUNK)
