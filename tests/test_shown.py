"""Rollouts of any task on the screens of the command line, and problems as people ask for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import apr
from apr import form
from apr.cli import main
from apr.countdown.task import Countdown
from apr.plugins import names
from apr.policy import Policy
from apr.shown import Shown, give
from apr.task import GROUP, Verdict, load_task
from apr.testing.scripted import ScriptedEngine
from apr.threads.events import Event, RolloutFinished, RolloutStarted, to_json
from apr.threads.run import run_threads
from apr.threads.tree import ThreadTree
from tiny import teacher_policy
from toy import Characters, ToyLanguage, ToyTask

TEXTS = ["?a[b,c]", "b!win", "c!lose", "?a{win,lose}!win"]


class ShownToy(ToyTask):
    """A toy that says what it can."""

    name = "test_shown:ShownToy"

    def title(self, problem: str) -> str:
        return f"find {problem}"

    def label(self, prompt: str) -> str:
        return prompt.upper()

    def answer(self, problem: str, verdict_steps: Sequence[str]) -> str:
        if not verdict_steps:
            raise ValueError("no steps")
        return f"it is {verdict_steps[-1]}"


class Broken(ToyTask):
    """A task that fails at whatever a screen asks."""

    name = "broken"
    fails = True

    def from_json(self, values: Any) -> str:
        return "problem"

    def judge_child(self, problem: str, prompt: str, claim: str) -> Verdict | None:
        raise RuntimeError("judge")

    def title(self, problem: str) -> str:
        raise RuntimeError("title")

    def label(self, prompt: str) -> str:
        raise KeyError("label")

    def answer(self, problem: str, verdict_steps: Sequence[str]) -> str:
        raise IndexError("answer")

    def solve(self, problem: str) -> None:
        raise ZeroDivisionError


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test before named is known."""
    monkeypatch.setattr("apr.shown._given", {})


def toy_policy(task: ToyTask) -> Policy:
    return Policy(ScriptedEngine(TEXTS, Characters()), task, ToyLanguage(), "apr")


def recorded(task: Any = None) -> list[Event]:
    """A rollout of the toy: one child is right, one is wrong, and so is what the log says of the answer."""
    events: list[Event] = []
    asked = ToyTask() if task is None else task
    engine = ScriptedEngine(TEXTS, Characters())
    run_threads("win", engine, emit=events.append, task=asked, language=ToyLanguage(), rollout_id="r")
    return events


def write(path: Path, events: list[Event], **start: Any) -> str:
    changed = [replace(event, **start) if isinstance(event, RolloutStarted) else event for event in events]
    path.write_text("".join(f"{to_json(event)}\n" for event in changed))
    return str(path)


def replayed(log: str, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["solve", "--replay", log, *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(line.isprintable() for line in out.split("\n"))
    return out.splitlines()


HOSTILE = (
    *("nowhere", "toy:ToyTask", "os:system", "planted:task", "planted", "apr.countdown.task:countdown", "__main__:x"),
    *("", ":", "a:", ":b", "..:..", "\x1b[2J\ud800", "countdown ", "x" * 10_000, "countdown\n"),
)


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:24])
def test_a_log_of_a_task_nobody_knows_is_shown_and_nothing_is_imported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef task(method): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    log = write(tmp_path / "log.jsonl", recorded(), task=name)
    lines = replayed(log, capsys)
    assert not (tmp_path / "ran").exists()
    assert lines[0].startswith('{"word":"win"}   apr, free budget')
    assert lines[1].startswith("✓ main   found win")
    assert lines[2].startswith("├─ ? 0.0    claims win")
    assert lines[3].startswith("└─ ? 0.1    claims lose")
    assert [line for line in lines if line.startswith("solved")] == ["solved   win"]
    assert lines[-1] == "         the judge says: toy"
    assert replayed(log, capsys, "--quiet") == ["win"]


def test_what_the_events_say_is_all_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rollout of an unknown task that was wrong, or of which nobody can tell."""
    for correct, mark, end in (
        (False, "✗ main   claims a solution that is none: win", "its answer is wrong: no"),
        (None, "? main   claims win", "answered win"),
    ):
        events = [
            replace(e, correct=correct, steps=(), verdict="no") if isinstance(e, RolloutFinished) else e
            for e in recorded()
        ]
        assert main(["solve", "--replay", write(tmp_path / "log.jsonl", events)]) == (correct is False)
        out = capsys.readouterr().out
        assert mark in out
        assert end in out
        assert "--show-solution" not in out


def test_right_without_steps_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [replace(e, steps=()) if isinstance(e, RolloutFinished) else e for e in recorded()]
    assert "solved   win" in replayed(write(tmp_path / "log.jsonl", events), capsys)


def test_a_task_that_the_user_names_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path / "log.jsonl", recorded())
    lines = replayed(log, capsys, "--task", "toy:ToyTask")
    assert lines[2].startswith("├─ ✓ 0.0    found win")
    assert lines[3].startswith("└─ ✗ 0.1    claims a solution that is none: lose")


def test_a_task_that_shows_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path / "log.jsonl", recorded(ShownToy()))
    assert replayed(log, capsys)[0].startswith('{"word":"win"}')
    lines = replayed(log, capsys, "--task", "test_shown:ShownToy")
    assert lines[0].startswith("find win   apr")
    assert lines[2].startswith("├─ ✓ 0.0    B            found win")
    assert "solved   it is win" in lines
    assert replayed(log, capsys, "--task", "test_shown:ShownToy", "--quiet") == ["it is win"]


def test_a_problem_that_its_task_cannot_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path / "log.jsonl", recorded(), problem={"word": 3})
    assert replayed(log, capsys)[0].startswith('{"word":3}')
    assert main(["solve", "--replay", log, "--task", "toy:ToyTask"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("task", sorted(names(GROUP)))
def test_a_toys_log_in_the_name_of_an_installed_task(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", "--replay", write(tmp_path / "log.jsonl", recorded(), task=task)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_task_that_fails_is_shown_plainly() -> None:
    give(Broken())
    start = recorded()[0]
    assert isinstance(start, RolloutStarted)
    shown = Shown.of(replace(start, task="broken", method="\x1b"))
    assert shown.task is not None
    assert (shown.title(), shown.label("a")) == ('{"word":"win"}', "")
    assert (shown.claim("a\nb\x1b"), shown.judge("a", "b"), shown.answer(["c"]), shown.found("d")) == (
        *("a b␛", None, None, None),
    )
    assert (shown.known(), shown.unit, shown.checked) == ((None, None), "", None)


def test_a_task_of_any_kind_is_solved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("apr.cli.solve.open_policy", lambda *_, **__: toy_policy(ShownToy()))
    words = ["solve", "--task", "test_shown:ShownToy"]
    assert main([*words, "--problem", '{"word": "win"}']) == 0
    assert capsys.readouterr().out.startswith("find win   apr, free budget")
    assert main([*words, '{"word":', '"win"}', "--json"]) == 0
    tree = ThreadTree.fold(map(apr.threads.events.from_json, capsys.readouterr().out.splitlines()))
    assert tree.started is not None
    assert (tree.started.task, tree.started.budget, tree.correct) == ("test_shown:ShownToy", None, True)
    for more in (
        [],
        ["win"],
        ["--problem", "{"],
        ["--problem", "{}"],
        ["--problem", "win"],
        ["win", "--problem", '{"word": "win"}'],
        ["--problem", '{"word": "win"}', "--target", "3"],
        ["--problem", '{"word": "win"}', "--task", "nowhere"],
        ["--problem", '{"word": "win"}', "--task", "nowhere:task"],
    ):
        assert main([*words, *more]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
    assert main([*words, "--help"]) == 0
    assert "--target" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["22", "26", "31", "53", "--target", "27"],
        ["22,26", "31", "53", "-t", "27"],
        ["--problem", '{"numbers": [22, 26, 31, 53], "target": 27}'],
        ["--problem", apr._core.prompt(apr.Problem([22, 26, 31, 53], 27), "apr")],
    ],
)
def test_a_countdown_problem_is_asked_for_in_three_ways(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("apr.cli.solve.open_policy", lambda *_, **__: teacher_policy())
    assert main(["solve", *words, "--quiet"]) == 0
    assert capsys.readouterr().out == "26+(53-22)/31\n"


@pytest.mark.parametrize("name", sorted(names(GROUP)))
def test_forms_of_installed_tasks(name: str) -> None:
    task = load_task(name)
    asked = form.form_of(task)
    example = form.read(task, form.example(task))
    assert task.key(example) != ""
    # Some have no problems of their own.
    drawn = [form.draw(task, kind) for kind in (None, *asked.kinds)] if task.problems("test", 0, 0, 1) else []
    for problem in (example, *drawn):
        texts = form.fill(task, problem)
        assert len(texts) == len(asked.fields)
        assert task.key(form.read(task, texts)) == task.key(problem)
        assert task.key(form.read_text(task, json.dumps(task.to_json(problem)))[0]) == task.key(problem)
        for field, text in zip(asked.fields, texts, strict=True):
            assert not field.keys or set(text) <= set(field.keys)


def test_a_form_for_tasks_that_bring_none() -> None:
    task = ToyTask()
    assert [field.name for field in form.form_of(task).fields] == ["problem"]
    assert form.example(task) == ('{"word":"test-0-0"}',)
    assert form.read(task, form.fill(task, "win")) == "win"
    assert form.draw(task, "hard").startswith("test-")


def test_problems_of_any_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems", "-n", "2", "--task", "toy:ToyTask"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        """--problem '{"word":"test-0-0"}'""",
        """--problem '{"word":"test-0-1"}'""",
    ]
    assert main(["problems", "-n", "300", "--task", "toy:ToyTask", "--json", "--split", "train"]) == 0
    assert capsys.readouterr().out.splitlines()[299] == '{"word":"train-0-299"}'
    assert main(["problems", "--task", "toy:ToyTask", "--numbers", "4"]) == 2
    assert main(["problems", "--task", "nowhere"]) == 2


def test_what_countdown_tells() -> None:
    task = Countdown()
    problem = apr.Problem([22, 26, 31, 53], 27)
    steps = task.solve(problem)
    assert steps is not None
    assert task.solution(problem, task.answer(problem, steps)).endswith(" = 27")
    assert task.solve(apr.Problem([2, 4, 6], 97)) is None
