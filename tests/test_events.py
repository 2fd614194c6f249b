"""Events: one line each, there and back; logs that grow, break and resume."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apr import events
from apr.testing.scripted import ScriptedEngine
from apr.threads.events import Event, EventLog, from_json, read_events, to_json
from apr.threads.run import run_threads
from apr.threads.tree import ThreadTree
from toy import Characters, ToyLanguage, ToyTask


def recorded(**options: Any) -> list[Event]:
    """The events of one rollout; all kinds occur."""
    seen: list[Event] = []
    texts = "?think{", "?think[a,b]", "?think{-,win}so!win", "a no", "b yes!win"
    run_threads(
        "win", ScriptedEngine(texts, Characters()), emit=seen.append, task=ToyTask(), language=ToyLanguage(), **options
    )
    return seen


def test_every_kind_there_and_back() -> None:
    seen = recorded()
    assert {type(event) for event in seen} == set(events.Event.__args__)  # type: ignore[attr-defined]
    assert [from_json(to_json(event)) for event in seen] == seen
    assert all("\n" not in to_json(event) for event in seen)


def test_older_logs_name_no_task_no_language_and_no_score() -> None:
    seen = recorded()
    lines = [json.loads(to_json(event)) for event in seen]
    assert (lines[0]["task"], lines[0]["language"], lines[-1]["score"]) == ("toy:ToyTask", "toy:ToyLanguage", 1.0)
    newer = ("task", "language", "score")
    older = [{name: value for name, value in values.items() if name not in newer} for values in lines]
    read = [from_json(json.dumps(values)) for values in older]
    begin, end = read[0], read[-1]
    assert isinstance(begin, events.RolloutStarted)
    assert (begin.task, begin.language) == ("countdown", "traces")
    assert isinstance(end, events.RolloutFinished)
    assert end.score is None
    assert ThreadTree.fold(read).score == ThreadTree.fold(seen).score == 1.0


def test_events_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recorded()[0].time = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        '{"event":"thread_grew","rollout":"r","time":0}',
        '{"event":"thread_spawned","rollout":"r"}',
        '"x"',
        '{"event":{}}',
        '{"event":[]}',
        '{"event":null}',
        "[" * 100_000,
        '{"event":"rollout_started","problem":' + '{"a":' * 100_000,
    ],
    ids=lambda line: line[:40],
)
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not an event"):
        from_json(line)


WRONG: dict[str, list[Any]] = {
    "str": [None, 3, True, [], {}],
    "str | None": [3, False, ["x"], {}],
    "int": [None, True, 1.5, "1", [1], {}, 2**63, -(10**40)],
    "int | None": [True, 1.5, "1", [1], 10**30],
    "float": [None, True, "1", [], {}, 1e300, 10**400],
    "float | None": [True, "1", [], {}, 1e300, 10**400],
    "bool": [None, 0, 1, "true"],
    "bool | None": [0, 1, "x", []],
    "tuple[int, ...]": [None, 3, "12", {}, [None], [1.0], [True], [[1]], [2**63]],
    "tuple[float, ...]": [None, "x", ["0"], [True], [None], [1e300]],
    "tuple[str, ...]": [None, "abc", [1], [None], [["0.0"]]],
    "tuple[Outcome, ...]": [None, "found", ["lost"], [1], [{}]],
    "dict[str, Any]": [None, [], "x", 1],
    "CloseReason": [None, "tired", 1, {}, []],
    "ForcedCause": [None, "split", {}],
    "FinishReason": [None, "halt", []],
}


def test_fields_of_other_types_are_refused() -> None:
    """A log may come from anywhere; whoever folds or draws it relies on the types."""
    tried = 0
    for event in {type(event): event for event in recorded()}.values():
        values = json.loads(to_json(event))
        for field in dataclasses.fields(event):
            for wrong in WRONG[str(field.type)]:
                with pytest.raises(ValueError, match="not an event"):
                    from_json(json.dumps({**values, field.name: wrong}))
                tried += 1
    assert tried > 200


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_refused(word: str) -> None:
    line = to_json(recorded()[0])
    assert '"temperature":0.0' in line
    with pytest.raises(ValueError, match="no number"):
        from_json(line.replace('"temperature":0.0', f'"temperature":{word}'))


def test_a_reader_tells_the_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f"{to_json(recorded()[0])}\n\n")
    with pytest.raises(ValueError, match=r"^line 2: "):
        list(read_events(path))


@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_only_files_are_logs(tmp_path: Path, kind: str) -> None:
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero"), "directory": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(OSError, match=r"regular file|directory"):
        list(read_events(path))


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk's."""
    path, seen = tmp_path / "log.jsonl", recorded()
    code = (
        "import resource, signal, sys\n"
        "from apr.threads.events import EventLog, read_events\n"
        "path, other = sys.argv[1:]\n"
        "events = list(read_events(other))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\n"
        "log, failed = EventLog(path), 0\n"
        "for event in events:\n"
        "    try: log.append(event)\n"
        "    except OSError: failed += 1\n"
        "log.close()\n"
        "sys.exit(0 if failed else 3)\n"
    )
    with EventLog(tmp_path / "other.jsonl") as log:
        for event in seen:
            log.append(event)
    subprocess.run([sys.executable, "-c", code, str(path), str(tmp_path / "other.jsonl")], check=True, timeout=60)
    data = path.read_bytes()
    assert data.endswith(b"\n")
    assert all(event in seen for event in read_events(path))


def test_unknown_field_is_refused() -> None:
    line = to_json(recorded()[0])
    with pytest.raises(ValueError, match="not an event"):
        from_json(line[:-1] + ',"colour":"red"}')


def test_log_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    seen = recorded()
    with EventLog(path) as log:
        for event in seen:
            log.append(event)
    assert list(read_events(path)) == seen
    assert ThreadTree.fold(read_events(path)) == ThreadTree.fold(seen)


@pytest.mark.parametrize("left", [0, 1, 40, 1 << 17])
def test_half_written_last_line(tmp_path: Path, left: int) -> None:
    """Whatever a crash left of the last line is ignored by readers and cut off by the next writer."""
    path = tmp_path / "log.jsonl"
    seen = recorded()
    with EventLog(path) as log:
        for event in seen[:-1]:
            log.append(event)
    with path.open("ab") as file:
        file.write(b"{" * left)
    assert list(read_events(path)) == seen[:-1]
    with EventLog(path) as log:
        log.append(seen[-1])
    assert list(read_events(path)) == seen


def test_a_log_that_is_one_half_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event":')
    with EventLog(path) as log:
        log.append(recorded()[0])
    assert len(list(read_events(path))) == 1
