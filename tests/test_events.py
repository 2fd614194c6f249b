"""Events: one line each, there and back; logs that grow, break and resume."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from apr import events
from apr.engine.scripted import ScriptedEngine
from apr.events import Event, EventLog, from_json, read_events, to_json
from apr.orchestrator import run_threads
from apr.tree import ThreadTree
from toy import Characters, Toy


def recorded(**options: Any) -> list[Event]:
    """The events of one rollout; all kinds occur."""
    seen: list[Event] = []
    texts = "?think{", "?think[a,b]", "?think{-,win}so!win", "a no", "b yes!win"
    run_threads("win", ScriptedEngine(texts, Characters()), emit=seen.append, grammar=Toy(), **options)
    return seen


def test_every_kind_there_and_back() -> None:
    seen = recorded()
    assert {type(event) for event in seen} == set(events.Event.__args__)  # type: ignore[attr-defined]
    assert [from_json(to_json(event)) for event in seen] == seen
    assert all("\n" not in to_json(event) for event in seen)


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
    ],
)
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not an event"):
        from_json(line)


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
