"""Plain values as frozen dataclasses, told by the key's full name what they may not be.

A field's annotation says what it takes: a type, and in `Annotated` the values of it that make sense. What several
fields have to agree on, a dataclass tells by a method `faults`.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, TypeVar, runtime_checkable

from apr.plain import hint

T = TypeVar("T")

_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "a table"}
LARGEST = 2**63 - 1
"""No integer is greater: what counts beside Python has 64 bits."""
_LARGEST_FLOAT = 1e36
"""What is computed with has 32 bits, which end at 3e38."""


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that a field may be; of a tuple, each of its items."""

    least: float = -math.inf
    most: float = math.inf
    open: bool = False
    """The bounds themselves are left out."""

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value; None if nothing is."""
        items = value if isinstance(value, tuple) else (value,)
        wrong = next((item for item in items if not self._holds(item)), None)
        return None if wrong is None else f"{wrong} is not {self._words()}"

    def _holds(self, value: float) -> bool:
        return self.least < value < self.most if self.open else self.least <= value <= self.most

    def _words(self) -> str:
        if self.most == math.inf:
            return f"above {self.least:g}" if self.open else f"at least {self.least:g}"
        return f"between {self.least:g} and {self.most:g}" if self.open else f"from {self.least:g} to {self.most:g}"


@dataclass(frozen=True, slots=True)
class Ascending:
    """A smallest and a largest value, in this order."""

    def fault(self, value: Sequence[Any]) -> str | None:
        return None if value[0] <= value[1] else f"{list(value)} is no interval: the smaller value comes first"


@dataclass(frozen=True, slots=True)
class Filled:
    """At least one item."""

    def fault(self, value: Sequence[Any]) -> str | None:
        return None if value else "there is none"


Count = Annotated[int, Range(least=1)]
Natural = Annotated[int, Range(least=0)]
Positive = Annotated[float, Range(least=0.0, open=True)]
NotNegative = Annotated[float, Range(least=0.0)]
Share = Annotated[float, Range(0.0, 1.0)]
Span = Annotated[tuple[int, int], Range(least=1), Ascending()]


@runtime_checkable
class Agreeing(Protocol):
    """A dataclass whose fields have to agree."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Names of fields, and what is wrong with each."""


def read_toml(text: str) -> dict[str, Any]:
    """The plain values of TOML. ValueError for any other text."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
    except RecursionError:
        raise ValueError("not TOML that anyone would write: it is nested too deep") from None


class _OutOfRange(ValueError):
    """The type is right, the value is not."""


def build(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """Make a config from plain values.

    Raises ValueError, with the key's full name, for an unknown or missing key and for a value of the wrong type or out
    of its range.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    names = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise ValueError(f"unknown key {where}{key}; known: {', '.join(sorted(names))}{hint(str(key), names)}")
    made = {key: _convert(hints[key], value, f"{where}{key}") for key, value in values.items()}
    if lacking := [f"{where}{f.name}" for f in dataclasses.fields(kind) if _needed(f) and f.name not in made]:  # type: ignore[arg-type]
        raise ValueError(f"missing {'key' if len(lacking) == 1 else 'keys'} {', '.join(lacking)}")
    built = kind(**made)
    if isinstance(built, Agreeing):
        for key, fault in built.faults():
            raise _OutOfRange(f"{where}{key}: {fault}")
    return built


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        converted = _convert(args[0], value, where)
        for rule in args[1:]:
            if (fault := rule.fault(converted)) is not None:
                raise _OutOfRange(f"{where}: {fault}")
        return converted
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return build(typing.cast(type, kind), value, f"{where}.")
    if origin is tuple and isinstance(value, list | tuple):
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(args) == len(value):
            return tuple(
                _convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(args, value, strict=True))
            )
    if origin is Literal and value in args:
        return value
    if origin in (types.UnionType, typing.Union):
        for option in args:
            try:
                return _convert(option, value, where)
            except _OutOfRange:
                raise
            except ValueError:
                if dataclasses.is_dataclass(option) and isinstance(value, dict):
                    # A table is what this option wants: what is wrong is inside.
                    raise
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, where)
    if origin is dict and isinstance(value, dict):
        # Whoever it is for looks into it.
        return dict(value)
    if isinstance(kind, type) and type(value) is kind:
        if isinstance(value, int) and abs(value) > LARGEST:
            raise _OutOfRange(f"{where}: {value} has more than 64 bits")
        return value
    raise ValueError(f"{where}: {value!r} is not {_name(kind)}")


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _OutOfRange(f"{where}: {number} is not a finite number")
    if abs(number) > _LARGEST_FLOAT:
        raise _OutOfRange(f"{where}: {number} is not finite in 32 bits")
    return number


def _name(kind: Any) -> str:
    """A type in words."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _name(args[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_name(option) for option in args)
    if origin is Literal:
        return " or ".join(repr(option) for option in args)
    if origin is tuple:
        return "a list" if Ellipsis in args else f"a list of {len(args)}"
    if kind is type(None):
        return "none"
    return "a table" if dataclasses.is_dataclass(kind) else _NAMES.get(kind) or str(getattr(kind, "__name__", kind))
