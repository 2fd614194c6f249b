"""The results of an evaluation on disk: a directory that a killed run goes on in, one process at a time.

DIR/protocol.json    what was asked for
DIR/rows.jsonl       one JSON object a rollout, as they ended
"""

from __future__ import annotations

import json
from bisect import insort
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from apr.evaluate.protocol import Protocol, build_protocol
from apr.evaluate.row import ProblemKey, Row, RowKey, place, problem_of, row_key
from apr.evaluate.shape import check_row
from apr.files import write_atomically
from apr.jsonl import Appended, read, read_lines, write
from apr.lock import hold
from apr.plugins import noted
from apr.task import GROUP, load_task

PROTOCOL_FILE = "protocol.json"
ROWS_FILE = "rows.jsonl"


class Rows:
    """The rows of one evaluation, in the order of conditions, samples and problems; in memory only if there is no
    directory."""

    def __init__(
        self, protocol: Protocol, directory: str | Path | None = None, problems: Sequence[Any] | None = None
    ) -> None:
        """Begin, or go on with what `directory` holds of these problems; rollouts that the engine failed are forgotten,
        to be run again. ValueError if the directory is in use, of another protocol or problems, or broken."""
        self.rows: list[Row] = []
        self.forgotten = 0
        self._protocol = protocol
        self._task = load_task(protocol.task)
        self._file: Appended | None = None
        self._open = ExitStack()
        if directory is None:
            return
        with ExitStack() as opening:
            held = opening.enter_context(hold(directory))
            self._begin(Path(directory), problems)
            self._open.callback(held.release)
            opening.pop_all()

    def _begin(self, directory: Path, problems: Sequence[Any] | None) -> None:
        told, asked = directory / PROTOCOL_FILE, json.dumps(asdict(self._protocol), indent=2) + "\n"
        if not told.exists():
            write_atomically(told, asked)
        elif not told.is_file() or told.read_text() != asked:
            raise ValueError(f"{directory} holds results of another protocol (see {told}); choose another directory")
        path = directory / ROWS_FILE
        rows = _read(path, self._protocol)
        if problems is not None:
            keys = list(map(self._task.key, problems))
            if any(keys[row["index"] : row["index"] + 1] != [problem_of(row)] for row in rows):
                raise ValueError(f"{directory} holds results of other problems; choose another directory")
        self.rows = [row for row in rows if not row["failed"]]
        self.forgotten = len(rows) - len(self.rows)
        if self.forgotten:
            write_atomically(path, "".join(write(row) + "\n" for row in self.rows))
        self._file = Appended(path)
        self._open.callback(self._file.close)

    @property
    def done(self) -> set[RowKey]:
        """What need not be run."""
        return set(map(row_key, self.rows))

    def append(self, row: Row) -> None:
        """Add a row; it is in the file when this returns. ValueError for what nobody could read again, as a task's own
        judge or diagnosis may bring."""
        row = check_row(row, self._protocol, self._task)
        if self._file is not None:
            self._file.append(row)
        insort(self.rows, row, key=place)

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Rows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_rows(directory: str | Path) -> tuple[Protocol, list[Row]]:
    """What an evaluation's directory holds so far, in order. ValueError if it is none."""
    directory = Path(directory)
    try:
        values = read(directory / PROTOCOL_FILE)
        if isinstance(values, dict) and isinstance(values.get("task"), str):
            noted(GROUP, values["task"], PROTOCOL_FILE)
        protocol = build_protocol(values)
    except (OSError, ValueError) as error:
        raise ValueError(f"{directory} holds no evaluation: {error}") from None
    return protocol, _read(directory / ROWS_FILE, protocol)


def _read(path: Path, protocol: Protocol) -> list[Row]:
    """The rows of the whole lines, in order. ValueError names the line that is none, that is one for the second time,
    or whose problem has the number of another."""
    task = load_task(protocol.task)
    lines: dict[RowKey, int] = {}
    numbered: dict[int, ProblemKey] = {}
    rows = []
    for number, value in read_lines(path):
        try:
            row = check_row(value, protocol, task)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        first = lines.setdefault(row_key(row), number)
        if first != number:
            raise ValueError(f"{path}, line {number}: the rollout of line {first} again")
        if numbered.setdefault(row["index"], problem_of(row)) != problem_of(row):
            raise ValueError(f"{path}, line {number}: problem {row['index']} is another on a line before")
        rows.append(row)
    return sorted(rows, key=place)
