"""The problems of an evaluation: the first distinct ones of a split, or those of a file.

Two problems are the same when their sorted numbers and their target are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from apr import Problem, Split, problems
from apr.jsonl import parse, write

ProblemKey = tuple[tuple[int, ...], int]
"""Sorted numbers and target."""

_ENDLESS = 1 << 62
_PATIENCE = 20_000
"""Problems seen in a row without a new one, after which a split counts as exhausted."""
_KINDS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""First bytes of files that are no UTF-8 text."""


def key_of(numbers: Sequence[int], target: int) -> ProblemKey:
    """What makes a problem the same as another."""
    return tuple(sorted(numbers)), target


def distinct(found: Iterable[Problem]) -> list[Problem]:
    """The first of each problems that are the same, in order."""
    first: dict[ProblemKey, Problem] = {}
    for problem in found:
        first.setdefault(key_of(problem.numbers, problem.target), problem)
    return list(first.values())


def digest_problems(found: Iterable[Problem]) -> str:
    """SHA-256 over the problems in order, the first 16 hexadecimal digits."""
    plain = [[list(problem.numbers), problem.target] for problem in found]
    return hashlib.sha256(write(plain).encode()).hexdigest()[:16]


def split_problems(count: int, split: Split, seed: int, *, numbers: int | tuple[int, int] = 4) -> list[Problem]:
    """The first `count` distinct problems of a split; ValueError if it has fewer."""
    seen: set[ProblemKey] = set()
    found: list[Problem] = []
    idle = 0
    # The stream of the train split repeats problems, as in the paper's data.
    for problem in problems(_ENDLESS, seed, numbers=numbers, split=split):
        key = key_of(problem.numbers, problem.target)
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
    found = [_problem(entry, f"{path}, {where}") for where, entry in _entries(_text(path), str(path))]
    if not found:
        raise ValueError(f"{path} has no problems")
    return found


def _text(path: str | Path) -> str:
    data = Path(path).read_bytes()
    for begin, kind in _KINDS.items():
        if data.startswith(begin):
            raise ValueError(f"{path} is {kind}; problems are read from UTF-8 text, JSON lines or a JSON list")
    try:
        # Editors of some systems put a mark before UTF-8 text.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: byte {error.start + 1} is {data[error.start]:#04x}") from None


def _entries(text: str, path: str) -> Iterator[tuple[str, Any]]:
    """What stands for a problem each, and where it stands."""
    if text.lstrip().startswith("["):
        try:
            entries = parse(text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        yield from ((f"entry {number}", entry) for number, entry in enumerate(entries, 1))
        return
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if line.strip():
            try:
                entry = parse(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
            yield f"line {number}", entry


def _problem(entry: Any, where: str) -> Problem:
    try:
        if not isinstance(entry, dict):
            raise ValueError("no object with numbers and a target")
        numbers, target = entry.get("nums", entry.get("numbers")), entry.get("target")
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise ValueError("its numbers are no list of integers")
        if type(target) is not int:
            raise ValueError("its target is no integer")
        return Problem(numbers, target)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: not a problem: {error}") from None
