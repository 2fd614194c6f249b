"""How a problem is asked for, whatever its task: as people type it in, as JSON, as a prompt, or at random.

A task that brings no form has one of a single field, for the problem's JSON or its prompt.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from apr.jsonl import parse, write
from apr.selection import problems_of
from apr.task import Asks, Field, Form, Selects, Task

_PLAIN = Form((Field("problem", "a problem, as JSON or as a prompt", ""),))


def form_of(task: Task[Any]) -> Form:
    """The task's form, or the one that does for all."""
    return task.form if isinstance(task, Asks) else _PLAIN


def example(task: Task[Any]) -> tuple[str, ...]:
    """The fields of a problem that an empty form stands for."""
    if isinstance(task, Asks):
        return tuple(field.example for field in task.form.fields)
    found = task.problems("test", 0, 0, 1)
    return fill(task, found[0]) if found else ("",)


def read(task: Task[Any], texts: Sequence[str]) -> Any:
    """The problem that the form's fields name. ValueError, in one line for people, if they name none."""
    return task.parse(texts) if isinstance(task, Asks) else read_text(task, texts[0])[0]


def read_text(task: Task[Any], text: str) -> tuple[Any, int | None]:
    """The problem of one text, JSON, what the form's only field takes, or a prompt, and the budget that a prompt names.
    ValueError if it is none."""
    if text.lstrip().startswith("{"):
        return task.from_json(parse(text)), None
    if isinstance(task, Asks) and len(task.form.fields) == 1:
        return task.parse([text]), None
    return task.read_prompt(text)


def fill(task: Task[Any], problem: Any) -> tuple[str, ...]:
    """The fields of a problem."""
    return task.fill(problem) if isinstance(task, Asks) else (write(task.to_json(problem)),)


def draw(task: Task[Any], kind: str | None) -> Any:
    """A problem at random, of the split that no model of ours was trained on. ValueError if there is none."""
    kinds = form_of(task).kinds
    if kind is not None and kind in kinds and isinstance(task, Selects):
        task = task.select(kinds[kind].options)
    for problem in problems_of(task, "test", random.SystemRandom().randrange(1 << 62)):
        return problem
    raise ValueError("there are no problems to choose from")
