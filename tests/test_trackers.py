"""What a run tells the dashboards beside its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apr.run import RunDirectory
from apr.trackers import scalars, trackers


def test_nested_numbers_get_names_with_a_slash() -> None:
    line = {"step": 3, "gap": {"main": 0.1, "child": {"deep": 2}}, "alarms": ["fire"], "done": True, "kl": None}
    assert dict(scalars(line)) == {"step": 3.0, "gap/main": 0.1, "gap/child/deep": 2.0}


def test_trackers_get_what_the_log_gets(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.create("")
    got: list[dict[str, Any]] = []
    run.trackers.append(got.append)
    lines = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    for line in lines:
        run.log(line)
    assert got == run.entries() == lines


def test_tensorboard_shows_the_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for track in trackers(tmp_path):
        track({"step": 1, "loss": 0.5, "gap": {"main": 0.25}})
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert [(event.step, event.value) for event in shown.Scalars("gap/main")] == [(1, 0.25)]
    assert [(event.step, event.value) for event in shown.Scalars("loss")] == [(1, 0.5)]
