"""One rollout's row: a JSON object, known by its condition, its problem and its sample, never by where it stands.

A row with an engine failure is neither right nor wrong: it is in no figure but the count of failures.
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
ProblemKey = str
"""As the task tells problems from each other."""
RowKey = tuple[int, ProblemKey, int]
"""Condition, problem and sample: there is one row of each."""

TEACHER = ("teacher", "teacher_children", "teacher_rounds")
"""Where a row tells of the teacher: whether it solves the problem as widely as the rollout searched, and the children
and rounds of its own search. None where there is none to compare with."""


def problem_of(row: Row) -> ProblemKey:
    """The problem of a row."""
    key: ProblemKey = row["key"]
    return key


def row_key(row: Row) -> RowKey:
    return row["condition"], problem_of(row), row["sample"]


def place(row: Row) -> tuple[int, int, int]:
    """Rows are told in this order: conditions, samples, problems."""
    return row["condition"], row["sample"], row["index"]


def judged(row: Row) -> bool:
    """Whether it counts: the judge has spoken, and no engine failed."""
    return row["correct"] is not None and not row["failed"]
