"""How a search is asked for, and the models that can be asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal, TypeVar, get_args

from apr.engine import ENGINES, check
from apr.form import form_of
from apr.limits import Limits
from apr.policy import Policy, PolicyError
from apr.shown import give
from apr.task import Form, Method, Task
from apr.types import temperature_fault

Join = Literal["all", "first"]
Load = Callable[[str, Method], Policy]
"""Loads a policy for an engine and a method; PolicyError if it cannot."""

METHODS: tuple[Method, ...] = ("apr", "sos+")
FREE = "free"
"""The budget of a search that may spawn as it likes."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Settings:
    """One way to search."""

    method: Method = "apr"
    budget: int | None = None
    """What is named in the prompt; None: the model's choice."""
    temperature: float = 0.0
    seed: int = 0
    join: Join = "all"
    engine: str = "native"

    @classmethod
    def of(cls, method: Method, form: Form) -> Settings:
        """The first settings of a method, whose problems are asked for with this form."""
        return cls(method=method, budget=form.budgets[0])

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> Settings:
        """Settings by the names of their fields, as people type them. ValueError, in one line that names the field, for
        what is none."""
        read: dict[str, Any] = {name: _choice(name, texts[name], choices) for name, choices in _CHOICES.items()}
        budget = texts["budget"].strip()
        return cls(
            **read,
            budget=None if budget == FREE else natural(budget, "budget"),
            temperature=temperature(texts["temperature"].strip(), "temperature"),
            engine=engine(texts["engine"].strip(), "engine"),
            seed=natural(texts["seed"].strip(), "seed"),
        )

    @classmethod
    def remembered(cls, values: object) -> Settings | None:
        """What was kept of settings; None if that is none of ours."""
        if not isinstance(values, dict):
            return None
        try:
            return cls.read({name: str(values[name]) for name in cls.__slots__})
        except (KeyError, ValueError):
            return None

    def texts(self) -> dict[str, str]:
        """The reverse of `read`."""
        heat = f"{self.temperature:g}"
        return {**{name: str(v) for name, v in asdict(self).items()}, "budget": self._budget, "temperature": heat}

    @property
    def _budget(self) -> str:
        return FREE if self.budget is None else str(self.budget)

    def other(self, form: Callable[[Method], Form]) -> Settings:
        """The same with the method that this one is compared with."""
        method = after(METHODS, self.method)
        return replace(self, method=method, budget=form(method).budgets[0])

    def parts(self) -> list[str]:
        """In words, the most telling first."""
        budget = "free budget" if self.budget is None else f"budget {self.budget:,}"
        heat = f"temperature {self.temperature:g}, seed {self.seed}" if self.temperature else "greedy"
        return [self.method, budget, heat, f"join {self.join}", self.engine]


_CHOICES: Mapping[str, Sequence[str]] = {"method": METHODS, "join": get_args(Join)}
_PRESETS: Mapping[str, Sequence[str]] = {
    **_CHOICES,
    "engine": ENGINES,
    "temperature": ("0", "0.3", "0.7", "1"),
    "seed": ("0", "1", "2"),
}


def presets(field: str, form: Form) -> list[str]:
    """What people try for a field."""
    if field == "budget":
        return [FREE if budget is None else str(budget) for budget in form.budgets]
    return list(_PRESETS[field])


def natural(text: str, name: str = "") -> int:
    """A whole number from 0 on. ValueError for another text."""
    if not (text.isascii() and text.isdigit() and len(text) < 40 and int(text) < 1 << 63):
        raise ValueError(f"{_field(name)}{text[:40]!r} is not a whole number from 0 on, or too large")
    return int(text)


def seconds(text: str) -> float:
    """A time from 0 on. ValueError for another text."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise ValueError(f"{text[:40]!r} is no time in seconds")
    return value


def temperature(text: str, name: str = "") -> float:
    """A temperature. ValueError for another text."""
    value = _number(text)
    if (fault := temperature_fault(value)) is not None:
        raise ValueError(f"{_field(name)}{fault}")
    return value


def _number(text: str) -> float:
    """What a text says; nan if that is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def engine(text: str, name: str = "") -> str:
    """An engine's name, or module:attribute of somebody's own. ValueError for another text."""
    try:
        check(text)
    except ValueError as error:
        raise ValueError(f"{_field(name)}{error}") from None
    return text


def _choice(name: str, text: str, choices: Sequence[str]) -> str:
    if text.strip() not in choices:
        raise ValueError(f"{_field(name)}{text[:40]!r} is none of {', '.join(choices)}")
    return text.strip()


def _field(name: str) -> str:
    return f"{name}: " if name else ""


def after(values: Sequence[_T], value: _T, by: int = 1) -> _T:
    """The value that follows, around the end; the first one after a value that is not there."""
    return values[(values.index(value) + by) % len(values)] if value in values else values[0]


class Models:
    """Policies, each loaded when it is first wanted and kept until the end, and the task that they are asked."""

    def __init__(self, load: Load, ask: Callable[[Method], Task[Any]], limits: Limits | None = None) -> None:
        """`ask` gives the task for a method, and `limits` bound every search."""
        self._load = load
        self.task = cache(ask)
        self.limits = Limits() if limits is None else limits
        self.heard = ""
        """What an engine that starts said last."""
        self._loaded: dict[tuple[str, Method], Policy] = {}
        self._loading: dict[tuple[str, Method], asyncio.Task[None]] = {}
        self._lock = asyncio.Lock()
        self._closed = False

    def form(self, method: Method) -> Form:
        """How people ask for a rollout."""
        return form_of(self.task(method))

    async def policy(self, settings: Settings) -> Policy:
        """The policy these settings ask for. Loading runs beside the loop: it may take a minute, and goes on when the
        search that wanted it is stopped, for the next one."""
        key = (settings.engine, settings.method)
        if key not in self._loaded:
            if key not in self._loading:
                self._loading[key] = asyncio.create_task(self._start(*key))
            await asyncio.shield(self._loading[key])
        return self._loaded[key]

    async def _start(self, engine: str, method: Method) -> None:
        try:
            async with self._lock:
                self.heard = ""
                self.keep(engine, method, await asyncio.to_thread(self._load, engine, method))
        finally:
            del self._loading[engine, method]

    def hear(self, line: str) -> None:
        """An engine that starts says this. PolicyError once nobody waits for it: it ends then."""
        if self._closed:
            raise PolicyError("nobody waits for it any more")
        self.heard = line

    def keep(self, engine: str, method: Method, policy: Policy) -> None:
        """Use this policy, which is loaded."""
        give(policy.task)
        self._loaded[engine, method] = policy

    async def close(self) -> None:
        """End all of them, and what is still loading."""
        self._closed = True
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        for policy in {id(policy): policy for policy in self._loaded.values()}.values():
            await policy.close()
        self._loaded.clear()
