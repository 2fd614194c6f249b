"""How a search is asked for, and the models that can be asked: values that keys step through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeVar

from apr.engine import ENGINES
from apr.form import form_of
from apr.policy import Policy
from apr.shown import give
from apr.task import Form, Method, Task

Join = Literal["all", "first"]
Load = Callable[[str, Method], Policy]
"""Loads a policy for an engine and a method; PolicyError if it cannot."""

_METHODS: tuple[Method, ...] = ("apr", "sos+")
_TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
_JOINS: tuple[Join, ...] = ("all", "first")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Settings:
    """One way to search."""

    engine: str = "native"
    method: Method = "apr"
    budget: int | None = None
    """What is named in the prompt; None: the model's choice."""
    temperature: float = 0.0
    join: Join = "all"
    seed: int = 0

    @classmethod
    def of(cls, method: Method, form: Form) -> Settings:
        """The first settings of a method, whose problems are asked for with this form."""
        return cls(method=method, budget=form.budgets[0])

    def next(self, field: str, forms: Callable[[Method], Form]) -> Settings:
        """The same with the next value of one field."""
        match field:
            case "engine":
                return replace(self, engine=after(tuple(ENGINES), self.engine))
            case "method":
                method = after(_METHODS, self.method)
                return replace(self, method=method, budget=forms(method).budgets[0])
            case "budget":
                return replace(self, budget=after(forms(self.method).budgets, self.budget))
            case "temperature":
                return replace(self, temperature=after(_TEMPERATURES, self.temperature))
            case "join":
                return replace(self, join=after(_JOINS, self.join))
            case _:
                return replace(self, seed=self.seed + 1)

    def parts(self) -> list[str]:
        """In words, the most telling first."""
        budget = "free budget" if self.budget is None else f"budget {self.budget:,}"
        heat = f"temperature {self.temperature:g}, seed {self.seed}" if self.temperature else "greedy"
        return [self.method, budget, heat, f"join {self.join}", self.engine]


def after(values: Sequence[_T], value: _T) -> _T:
    """The value that follows; the first one after the last, and after a value that is not there."""
    return values[(values.index(value) + 1) % len(values)] if value in values else values[0]


class Models:
    """Policies, each loaded when it is first wanted and kept until the end, and the task that they are asked."""

    def __init__(self, load: Load, ask: Callable[[Method], Task[Any]]) -> None:
        """`ask` gives the task for a method."""
        self._load = load
        self.task = cache(ask)
        self._loaded: dict[tuple[str, Method], Policy] = {}
        self._lock = asyncio.Lock()

    def form(self, method: Method) -> Form:
        """How people ask for a rollout."""
        return form_of(self.task(method))

    async def policy(self, settings: Settings) -> Policy:
        """The policy these settings ask for. Loading runs beside the loop: it may take a minute."""
        key = (settings.engine, settings.method)
        async with self._lock:
            if key not in self._loaded:
                self.keep(*key, await asyncio.to_thread(self._load, *key))
            return self._loaded[key]

    def keep(self, engine: str, method: Method, policy: Policy) -> None:
        """Use this policy, which is loaded."""
        give(policy.task)
        self._loaded[engine, method] = policy

    async def close(self) -> None:
        for policy in {id(policy): policy for policy in self._loaded.values()}.values():
            await policy.close()
        self._loaded.clear()
