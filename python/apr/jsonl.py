"""Files of JSON lines: a JSON value a line, each appended whole.

A kill cuts at most the line that is being written. Half a line at the end stands for nothing, and goes before another
is appended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn


def parse(text: str | bytes) -> Any:
    """A JSON value of text, or of UTF-8. ValueError, in few words, for anything else, NaN, infinities and bottomless
    nesting included."""
    try:
        return json.loads(text if isinstance(text, str) else text.decode(), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ValueError(f"not JSON: byte {error.start + 1} is no UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise ValueError("not JSON that can be read: it nests too deep") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is no number")


def read(path: Path) -> Any:
    """A file's one value. ValueError for any other text, and for what is no regular file: a pipe would be waited
    for. OSError as `open` raises it."""
    _refuse_pipes(path)
    return parse(path.read_bytes())


def write(value: Any) -> str:
    """A value as one line, without its end. ValueError for NaN and infinities."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The values of a file's whole lines, numbered from 1; none where there is no file. ValueError names file and line
    of what is no JSON."""
    _refuse_pipes(path)
    with suppress(FileNotFoundError):
        data = path.read_bytes()
        for number, line in enumerate(data[: _whole(data)].split(b"\n"), 1):
            if line.strip():
                try:
                    value = parse(line)
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from None
                yield number, value


class Appended:
    """A file that grows by a line at a time."""

    def __init__(self, path: Path) -> None:
        """Go on after the file's last whole line."""
        # Nothing waits in a buffer: what cannot be written is known at once.
        self._file = path.open("ab", buffering=0)
        try:
            self._size = _whole(path.read_bytes())
            self._file.truncate(self._size)
        except BaseException:
            self._file.close()
            raise

    def append(self, value: Any) -> None:
        """Add a line; the operating system has it when this returns. OSError leaves the lines before as they are."""
        line = write(value).encode() + b"\n"
        left = memoryview(line)
        try:
            while left:
                left = left[self._file.write(left) :]
        except BaseException:
            with suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size += len(line)

    def close(self) -> None:
        """Let go of the file, with all lines on the disk."""
        if not self._file.closed:
            try:
                os.fsync(self._file.fileno())
            finally:
                self._file.close()


def _refuse_pipes(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file")


def _whole(data: bytes) -> int:
    """Bytes of the whole lines."""
    return data.rfind(b"\n") + 1
