"""What a row must be to be read: its values, and its place in a protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from apr.evaluate.metrics import Measures
from apr.evaluate.profile import Profile
from apr.evaluate.protocol import Protocol
from apr.evaluate.row import Row
from apr.evaluate.schedule import WORKERS
from apr.task import Task

_MOST = 1 << 62


def check_row(value: Any, protocol: Protocol, task: Task[Any]) -> Row:
    """The value, if it is a row of this protocol, with its problem's key. ValueError says what it is not."""
    if not isinstance(value, dict):
        raise ValueError("not a row: no object")
    for name, fits in _SHAPE.items():
        if name not in value:
            raise ValueError(f"not a row: {name} is missing")
        if not fits(value[name]):
            raise ValueError(f"not a row: {name} is {_short(value[name])}")
    for name, fits in _EXTRA.items():
        if name in value and not fits(value[name]):
            raise ValueError(f"not a row: {name} is {_short(value[name])}")
    if value["condition"] >= len(protocol.conditions):
        raise ValueError(f"a row of condition {value['condition']}, which the protocol does not have")
    condition = protocol.conditions[value["condition"]]
    for name, most in (("sample", condition.samples), ("index", condition.problems)):
        if most is not None and value[name] >= most:
            raise ValueError(f"a row of {name} {value[name]}, of which its condition has {most}")
    for contradiction, found in _CONTRADICTIONS.items():
        if found(value):
            raise ValueError(f"a row that contradicts itself: {contradiction}")
    try:
        key = task.key(task.from_json(value["problem"]))
    except ValueError as error:
        raise ValueError(f"not a row: {error}") from None
    return {**value, "key": key}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _number(value: Any) -> bool:
    # NaN is not in any range.
    return type(value) in (int, float) and 0 <= value < _MOST


def _text(value: Any) -> bool:
    # Half of a surrogate pair is no character, and no file takes it.
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _mapping(fits: Callable[[Any], bool], names: Sequence[str] = ()) -> Callable[[Any], bool]:
    """An object that has these names at least."""
    return lambda value: isinstance(value, dict) and value.keys() >= set(names) and all(map(fits, value.values()))


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _seed(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


_SHAPE: dict[str, Callable[[Any], bool]] = {
    "condition": _whole,
    "sample": _whole,
    "index": _whole,
    "problem": _object,
    "seed": _seed,
    "correct": _or_none(_truth),
    "failed": _truth,
    "reason": _text,
    "verdict": _text,
    "answer": _or_none(_text),
    "vote": _or_none(_text),
    **{name: _whole if measure.type == "int" else _number for name, measure in Measures.__dataclass_fields__.items()},
    "makespan": _mapping(_whole, [str(workers) for workers in WORKERS]),
    "profile": _or_none(_mapping(_number, list(Profile.__dataclass_fields__))),
    "width": _or_none(_whole),
    "teacher": _or_none(_truth),
    "teacher_children": _or_none(_whole),
    "teacher_rounds": _or_none(_whole),
    "kind": _or_none(_text),
    "ends": _mapping(_text),
    "loss": _or_none(_text),
    "diagnostics": _mapping(_number),
}
"""What each value of a row must be."""
_EXTRA = {"error": _text, "warm": _truth}
"""What some rows have: why the engine failed; that its cache was not empty when the condition began."""
_CONTRADICTIONS: dict[str, Callable[[Row], bool]] = {
    "a vote without an answer": lambda row: row["answer"] is None and row["vote"] is not None,
    "a part of its tokens is more than all": lambda row: (
        max(row["sequential_tokens"], row["main_tokens"]) > row["total_tokens"]
    ),
    "more tokens were cached than asked for": lambda row: row["cached_tokens"] > row["prompt_tokens"],
}
"""What no rollout can be."""
