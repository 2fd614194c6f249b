"""Rows of an evaluation, made by hand."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from apr import Problem
from apr.countdown.diagnostics import Diagnostics
from apr.countdown.task import Countdown
from apr.evaluate.metrics import Measures
from apr.evaluate.profile import Profile
from apr.evaluate.rollouts import WORKERS

TASK = Countdown()


def made_row(
    index: int, correct: bool | None, *, condition: int = 0, cost: float = 50, sample: int = 0, **values: Any
) -> dict[str, Any]:
    """A rollout of which everything costs the same."""
    problem = Problem([index, 2, 1], 9)
    return {
        "condition": condition,
        "sample": sample,
        "index": index,
        "key": TASK.key(problem),
        "problem": TASK.to_json(problem),
        "seed": 0,
        "correct": correct,
        "failed": correct is None,
        "reason": "answered",
        "verdict": "made",
        "answer": "8+1=9" if correct else None,
        "vote": "8+1=9" if correct else None,
        **dict.fromkeys((field.name for field in fields(Measures)), cost),
        "makespan": dict.fromkeys(map(str, WORKERS), cost),
        "profile": dict.fromkeys((field.name for field in fields(Profile)), 0.1),
        "width": 2,
        "teacher": True,
        "teacher_children": 3,
        "teacher_rounds": 1,
        "kind": f"3:{1 << index % 3}",
        "ends": {"0": "answered"},
        "loss": None if correct else "width",
        "diagnostics": dict.fromkeys((field.name for field in fields(Diagnostics)), 0),
        **values,
    }
