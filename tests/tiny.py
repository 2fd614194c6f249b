"""A random Llama of a few thousand weights with the real vocabulary, and teachers that play as engines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from apr import Problem, Tokenizer, search
from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.policy import Policy
from apr.testing.scripted import Fault, ScriptedEngine, trace_texts

SOLVED = Problem([22, 26, 31, 53], 27)
WRONG_EQUATION = "26+1=28"


def save_tiny_model(directory: Path, context_length: int = 96) -> str:
    """A checkpoint that writes noise until its context is full."""
    from apr.train.model import new_model, save_model
    from apr.train.recipes import ModelConfig

    shape = ModelConfig(hidden_size=16, layers=1, heads=2, mlp_size=32, context_length=context_length)
    tokenizer = Tokenizer()
    save_model(new_model(shape, tokenizer, seed=0), tokenizer, directory)
    return str(directory)


def teacher_texts(problem: Problem, *, budget: int | None = None, **parameters: Any) -> list[str]:
    """All thread texts of the teacher's search."""
    trace = search(problem, "apr", seed=1, **{"beam_size": 6, "promising": 1.0, **parameters})
    task = Countdown("apr")
    head = task.prompt(problem, budget).removesuffix(task.prompt(problem, None))
    return trace_texts(trace, head)


def teacher_policy(
    problems: Iterable[Problem] = (SOLVED,),
    *,
    budget: int | None = None,
    faults: Iterable[Fault] = (),
    seconds_per_token: float = 0.0,
    **parameters: Any,
) -> Policy:
    """A policy that searches as the teacher does."""
    texts = [text for p in problems for text in teacher_texts(p, budget=budget, **parameters)]
    engine = ScriptedEngine(texts, Tokenizer(), faults=faults, seconds_per_token=seconds_per_token)
    return Policy(engine, Countdown("apr"), Traces("apr"), "apr")
