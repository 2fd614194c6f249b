"""What a run tells the dashboards beside its log."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apr.train.run import RunDirectory
from apr.train.trackers import scalars, trackers


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


def test_tensorboard_shows_a_step_once_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begun, steps in ((0, (1, 2, 3, 4)), (2, (3, 4))):
        for track in trackers(tmp_path, begun):
            for step in steps:
                track({"step": step, "loss": step + begun / 10})
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert [(event.step, round(event.value, 1)) for event in shown.Scalars("loss")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.2),
        (4, 4.2),
    ]


def test_what_comes_again_is_purged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, where tensorboard is not installed."""
    asked: list[dict[str, Any]] = []
    writer = SimpleNamespace(SummaryWriter=lambda directory, **words: asked.append(words))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writer)
    monkeypatch.setattr("apr.train.trackers.find_spec", lambda name: name == "tensorboard" or None)
    for step in (0, 7):
        trackers(tmp_path, step)
    assert asked == [{"purge_step": 1}, {"purge_step": 8}]


def test_runs_of_one_name_are_two_runs_to_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "modules"
    fake.mkdir()
    (fake / "wandb.py").write_text("asked = []\ndef init(**words):\n    asked.append(words)\n")
    monkeypatch.syspath_prepend(str(fake))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    runs = [tmp_path / place / "run" for place in ("here", "there")]
    for run in (*runs, runs[0]):
        run.mkdir(parents=True, exist_ok=True)
        trackers(run)
    here, there, again = sys.modules["wandb"].asked
    assert here["id"] == again["id"] != there["id"]
    assert here["name"] == there["name"] == "run"
    assert here["resume"] == "allow"
