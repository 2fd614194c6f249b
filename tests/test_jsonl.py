"""JSON lines: whole ones are read, half ones are no lines, a full disk leaves what was there."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from apr.files import replace_atomically
from apr.jsonl import Appended, parse, read_lines


def test_lines_are_read_as_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert list(read_lines(path)) == []
    values = [{"a": "b\u2028\n"}, [1, 2.5], None]
    for value in values:
        lines = Appended(path)
        lines.append(value)
        lines.close()
        # Half a line, as a kill leaves it.
        with path.open("a") as file:
            file.write('{"a": 1')
    assert list(read_lines(path)) == list(enumerate(values, 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "Expecting property name enclosed in double quotes at column 2"),
        ("x", "Expecting value at column 1"),
        ("", "Expecting value at column 1"),
        ("NaN", "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ("[" * 100_000, "it nests too deep"),
        ("1" * 5000, "4300 digits"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        parse(text)
    assert len(str(refused.value).splitlines()) == 1
    if text:
        (tmp_path / "lines").write_text(f"[]\n{text}\n")
        with pytest.raises(ValueError, match=f"lines, line 2: .*{says}"):
            list(read_lines(tmp_path / "lines"))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"[]\n\xff\n")
    with pytest.raises(ValueError, match="lines, line 2: not JSON: byte 1 is no UTF-8"):
        list(read_lines(tmp_path / "lines"))


def test_a_line_that_does_not_fit_leaves_those_before(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    lines = Appended(path)
    lines.append("first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            lines.append("x" * 200)
        with pytest.raises(OSError, match="too large"):
            replace_atomically(path, lambda draft: draft.write_text("x" * 200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == '"first"\n'
    lines.append("second")
    lines.close()
    assert path.read_text() == '"first"\n"second"\n'
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
