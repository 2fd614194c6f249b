"""What is told of training while it runs: phases from the first second, and a time left that can be believed."""

from __future__ import annotations

import pytest

from apr.cli.progress import Line, Watch
from apr.cli.tally import Progress


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_phases_are_told_until_the_first_step_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch: Watch[int] = Watch(lambda step: Line(step, "loss 1", True), shown=True, clock=clock)
    with watch:
        watch.phase("loading torch")
        clock.now += 75
        watch.phase("training")
        assert capsys.readouterr().err == "0:00  loading torch\n1:15  training\n"
        clock.now += 5
        assert watch.doing() == "training 0:05"
        watch.begin(4, 10)
        watch.phase("training")
        watch(5)
        watch.phase("saving")
        assert capsys.readouterr().err == "5/10  loss 1\n"


def test_the_first_step_says_nothing_of_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch: Watch[int] = Watch(lambda step: Line(step, "", True), shown=True, clock=clock)
    watch.begin(0, 100)
    # Compiling takes an hour.
    clock.now += 3600
    watch(1)
    assert "left" not in capsys.readouterr().err
    for step in (2, 3):
        clock.now += 2
        watch(step)
    assert capsys.readouterr().err.splitlines()[-1].split() == ["3/100", "3:14", "left"]
    watch(100)
    assert "left" not in capsys.readouterr().err


def test_processes_that_are_not_shown_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Watch(lambda step: Line(step, "", True, ("an alarm",)), shown=False) as watch:
        watch.phase("loading torch")
        watch.begin(0, 2)
        watch(1)
    assert capsys.readouterr().err == ""


def test_rollouts_in_flight_count_for_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    row = {"correct": True, "failed": False, "total_tokens": 10}
    progress = Progress(320, at_once=32)
    # All take as long: 32 of 320 end together after a minute.
    clock.now += 60
    progress.count(row)
    assert 60 * 9 < progress.left < 60 * 20
    for _ in range(31):
        progress.count(row)
    assert progress.left == pytest.approx(60 * (288 - 16) / (32 + 16))
    alone = Progress(10, at_once=1)
    clock.now += 7
    alone.count(row)
    assert 7 * 5 < alone.left < 7 * 9
