"""The way in from Python: a model in a line, rollouts in scripts and notebooks, trees that print themselves."""

from __future__ import annotations

import asyncio
import inspect
import io
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import apr
from apr.cli.solve import parser
from apr.origin import read_origin
from apr.policy import SHIPPED_MODELS, Policy, shipped_models, ships_for
from apr.testing.scripted import Fault, ScriptedEngine
from apr.threads.events import Event, RolloutFinished, RolloutStarted, ThreadClosed
from tiny import SOLVED, teacher_policy
from toy import Characters, ToyLanguage, ToyTask

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e[bold red]&amp;"


@pytest.fixture
def policy() -> Policy:
    return teacher_policy()


@pytest.fixture
def events(policy: Policy) -> list[Event]:
    seen: list[Event] = []
    policy.run(SOLVED, emit=seen.append)
    return seen


@pytest.mark.parametrize("method", SHIPPED_MODELS)
def test_a_model_ships_for_each_method(method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with apr.load(method=method) as model:
        assert (model.method, model.task.name, model.language.name) == (method, "countdown", "traces")
        tree = model.run(apr.Problem([3, 4], 7), apr.Limits(total_tokens=8))
        assert 0 < tree.total_tokens <= 8
        assert tree.started is not None
        # The defaults that are told.
        assert (tree.started.method, tree.started.temperature, tree.started.budget) == (method, 0.0, None)


@pytest.mark.parametrize("method", SHIPPED_MODELS)
def test_a_task_finds_the_model_that_was_trained_for_it(method: Any) -> None:
    assert ships_for("countdown", method) == SHIPPED_MODELS[method]
    assert ships_for("chat", method) is None
    with apr.load(task="sudoku", method=method) as model:
        assert (model.method, model.task.name, model.language.name) == (method, "sudoku", "tags")


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_is_found_by_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with apr.load(name) as model:
        (problem,) = model.task.problems("test", 0, 0, 1)
        tree = model.run(problem, apr.Limits(total_tokens=8))
        assert 0 < tree.total_tokens <= 8
    # A directory of that name goes before it.
    (tmp_path / name).mkdir()
    with pytest.raises(apr.PolicyError, match="holds no model"):
        apr.load(name)


def test_a_checkpoint_is_run_by_the_method_it_was_trained_for() -> None:
    place = Path(apr.__file__).parent / "checkpoints" / SHIPPED_MODELS["sos+"]
    assert read_origin(place).method == "sos+"
    assert apr.load(place).method == "sos+"
    with pytest.raises(apr.PolicyError, match=r"was trained for the method sos\+, not apr") as refused:
        apr.load(place, method="apr")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("options", [{"method": "sos"}, {"model": "/nope"}, {"engine": "nope"}, {"task": "nope"}])
def test_what_cannot_be_loaded_is_told_in_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(apr.PolicyError) as refused:
        apr.load(**options)
    assert len(str(refused.value).splitlines()) == 1


def test_the_defaults_of_the_command_line_are_those_of_the_functions() -> None:
    command = parser()
    assert command.get_default("temperature") == apr.SamplingParams().temperature == 0
    for function in (apr.rollout, apr.run_threads):
        given = {name: value.default for name, value in inspect.signature(function).parameters.items()}
        assert (given["budget"], given["params"], given["limits"]) == (command.get_default("budget"), None, None)
        assert given["join"] == command.get_default("join")
        assert "greedy" in str(function.__doc__)
    assert command.get_default("max_threads") == apr.Limits().threads


def on_a_loop(work: Callable[[], Any]) -> Any:
    """What a call comes to inside a running loop, as in a cell of a notebook."""

    async def cell() -> Any:
        return work()

    return asyncio.run(cell())


@pytest.mark.filterwarnings("error")
def test_a_notebook_runs_and_awaits_rollouts(policy: Policy) -> None:
    language, task = policy.language, policy.task
    plain = policy.run(SOLVED)
    assert plain.solved
    same = on_a_loop(lambda: policy.run(SOLVED))
    assert [t.text for t in same.threads.values()] == [t.text for t in plain.threads.values()]
    assert on_a_loop(lambda: apr.run_threads(SOLVED, policy.engine, language=language, task=task)).solved
    assert asyncio.run(apr.rollout(SOLVED, policy.engine)).solved
    with pytest.raises(ValueError, match="unknown task 'nope'"):
        on_a_loop(lambda: apr.run_threads(SOLVED, policy.engine, task="nope"))


def test_an_interrupt_in_a_notebook_ends_the_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes to the cell's thread while that waits for the rollout's."""
    engine = ScriptedEngine(["?a[b,c]", "b", "c"], Characters(), faults=[Fault("b", "delay", seconds=3600)])
    seen: list[Event] = []
    running = threading.Event()

    def emit(event: Event) -> None:
        seen.append(event)
        if getattr(event, "thread", None) == "0.1":
            running.set()

    def interrupted(*_: Any) -> None:
        assert running.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.Future.result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        on_a_loop(lambda: apr.run_threads("a", engine, emit=emit, task=ToyTask(), language=ToyLanguage()))
    assert isinstance(seen[-1], RolloutFinished)
    assert seen[-1].reason == "interrupted"


def test_a_tree_is_one_line(events: list[Event]) -> None:
    tree = apr.Tree.fold(events)
    assert repr(tree).startswith(
        '<ThreadTree countdown {"numbers":[22,26,31,53],"target":27}, apr: solved, 7 threads, '
    )
    assert len(repr(tree)) < 200
    assert all("token_ids" not in repr(thread) for thread in tree.threads.values())
    assert repr(apr.Tree()) == "<ThreadTree without events>"
    for end in range(1, len(events), 7):
        part = apr.Tree.fold(events[:end])
        assert "running" in repr(part)
        assert "\n" not in repr(part)


def hostile(events: list[Event]) -> list[Event]:
    """The same rollout, as a hostile log tells it."""
    changed: list[Event] = []
    for event in events:
        match event:
            case RolloutStarted():
                changed.append(replace(event, problem={"numbers": HOSTILE}, task=HOSTILE, method=HOSTILE))
            case ThreadClosed(result=None):
                changed.append(replace(event, detail=HOSTILE))
            case ThreadClosed():
                changed.append(replace(event, result=HOSTILE))
            case _:
                changed.append(event)
    return changed


def printed(tree: apr.Tree, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=False).print(tree)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_tree_prints_itself_in_rich(events: list[Event], width: int) -> None:
    lines = printed(apr.Tree.fold(events), width)
    assert len(lines) == 8
    assert lines[1].startswith("✓ main  claims")
    assert lines[2].startswith("   – 0.0  nothing f")
    assert all(len(line) <= width and line.isprintable() for line in lines)
    evil = printed(apr.Tree.fold(hostile(events)), width)
    assert len(evil) == 8
    assert all(line.isprintable() for line in evil)
    assert width < 80 or "[bold red]" in evil[1]


class Elements(HTMLParser):
    """The names of what is opened and closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_tree_is_html_that_holds_no_other(events: list[Event]) -> None:
    shown = apr.Tree.fold(events)._repr_html_()
    assert shown.count("<details") == 7
    evil = Elements(apr.Tree.fold(hostile(events))._repr_html_())
    assert (evil.found, evil.open) == (Elements(shown).found, [])
    assert "script" not in evil.found
    assert apr.Tree()._repr_html_().startswith("<div")


PUBLIC = [name for name in apr.__all__ if name != "events"]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_told(name: str) -> None:
    found = getattr(apr, name)
    assert len(inspect.getdoc(found) or "") > 30, name
    if inspect.isclass(found) and found.__module__.startswith("apr"):
        # The fields of a dataclass are told below each.
        own = {method for method in vars(found) if not method.startswith("_")} - set(getattr(found, "__slots__", ()))
        for method in own:
            assert inspect.getdoc(getattr(found, method)), f"{name}.{method}"


NO_NUMBERS = [lambda: apr.solve("abc", 3), lambda: apr.Problem("12", 3), lambda: apr.Problem([1, "x"], 2)]  # type: ignore


@pytest.mark.parametrize("call", NO_NUMBERS)
def test_numbers_that_are_none_are_told_in_words(call: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match="a list of whole numbers, not "):
        call()
    assert apr.Problem((1, 2), 3) == apr.Problem([1, 2], 3)
    with pytest.raises(OverflowError):
        apr.Problem([1 << 200], 3)


def test_the_shortest_program_is_three_lines(tmp_path: Path) -> None:
    """As the package's documentation has it, run anywhere."""
    program = "\n".join(line[4:] for line in str(apr.__doc__).splitlines() if line.startswith("    "))
    assert len([line for line in program.splitlines() if line]) == 3
    program = program.replace("27))", "27), apr.Limits(total_tokens=8))")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("<ThreadTree countdown")
