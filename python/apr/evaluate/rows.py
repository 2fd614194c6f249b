"""The results of an evaluation on disk: a directory that a killed run goes on in.

DIR/protocol.json    what was asked for
DIR/rows.jsonl       one JSON object a rollout, in the order of conditions, samples and problems
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from apr.evaluate.protocol import Protocol, build_protocol
from apr.files import write_atomically

PROTOCOL_FILE = "protocol.json"
ROWS_FILE = "rows.jsonl"


class Rows:
    """The rows of one evaluation, appended in order; in memory only if there is no directory."""

    def __init__(self, protocol: Protocol, directory: str | Path | None = None) -> None:
        """Begin, or go on with what `directory` holds. ValueError if that is of another protocol or broken."""
        self.rows: list[dict[str, Any]] = []
        self._file = None
        if directory is None:
            return
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        told, asked = directory / PROTOCOL_FILE, json.dumps(asdict(protocol), indent=2) + "\n"
        if not told.exists():
            write_atomically(told, asked)
        elif told.read_text() != asked:
            raise ValueError(f"{directory} holds results of another protocol (see {told}); choose another directory")
        path = directory / ROWS_FILE
        self.rows, whole = _complete(path)
        self._file = path.open("ab")
        # A killed run leaves at most one line half-written.
        self._file.truncate(whole)

    def append(self, row: dict[str, Any]) -> None:
        """Add the next row; it is in the file when this returns."""
        self.rows.append(row)
        if self._file is not None:
            self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Rows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_rows(directory: str | Path) -> tuple[Protocol, list[dict[str, Any]]]:
    """What an evaluation's directory holds so far. ValueError if it is none."""
    directory = Path(directory)
    try:
        protocol = build_protocol(json.loads((directory / PROTOCOL_FILE).read_text()))
    except (OSError, ValueError) as error:
        raise ValueError(f"{directory} holds no evaluation: {error}") from None
    return protocol, _complete(directory / ROWS_FILE)[0]


def _complete(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of the complete lines, and the bytes these take."""
    if not path.exists():
        return [], 0
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    rows = []
    for number, line in enumerate(data[:whole].splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise ValueError(f"{path}, line {number}: not a row") from None
    return rows, whole
