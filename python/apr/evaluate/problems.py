"""The problems of an evaluation: the first distinct ones of a split, or those of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from apr.jsonl import parse, write
from apr.selection import problems_of
from apr.task import Split, Task

_KINDS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\xff\xfe\0\0": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""First bytes of files that are no UTF-8 text."""


def distinct(task: Task[Any], found: Iterable[Any]) -> list[Any]:
    """The first of each problems that are the same, in order."""
    first: dict[str, Any] = {}
    for problem in found:
        first.setdefault(task.key(problem), problem)
    return list(first.values())


def digest_problems(task: Task[Any], found: Iterable[Any]) -> str:
    """SHA-256 over the problems in order, the first 16 hexadecimal digits."""
    plain = [task.to_json(problem) for problem in found]
    return hashlib.sha256(write(plain).encode()).hexdigest()[:16]


def split_problems(task: Task[Any], count: int, split: Split, seed: int) -> list[Any]:
    """The first `count` distinct problems of a split; ValueError if it has fewer."""
    found = list(islice(problems_of(task, split, seed), count))
    if len(found) < count:
        raise ValueError(f"the {split} split has only {len(found)} such problems")
    return found


def read_problems(task: Task[Any], path: str | Path) -> list[Any]:
    """The problems of a file: JSON lines, or one JSON list, of what the task takes for one. ValueError names what is
    bad."""
    found = [_problem(task, entry, f"{path}, {where}") for where, entry in _entries(_text(path), str(path))]
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


def _problem(task: Task[Any], entry: Any, where: str) -> Any:
    try:
        if not isinstance(entry, dict):
            raise ValueError("no object")
        return task.from_json(entry)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: not a problem: {error}") from None
