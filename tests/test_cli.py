"""The command line: what it prints where, its exit status, and how it takes interruptions."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import fields, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import apr
from apr._core import prompt
from apr.arguments import UsageError
from apr.cli import main
from apr.testing.scripted import Fault, ScriptedEngine
from apr.threads.events import Event, RolloutFinished, RolloutStarted, ThreadClosed, ThreadSpawned, from_json, to_json
from apr.threads.run import run_threads
from apr.threads.tree import ThreadTree
from tiny import SOLVED, WRONG_EQUATION, save_tiny_model, teacher_policy
from toy import Characters, ToyLanguage, ToyTask

SOLVE = ["solve", "22", "26", "31", "53", "--target", "27"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers")
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch)


def play(monkeypatch: pytest.MonkeyPatch, *faults: Fault, budget: int | None = None) -> None:
    """Let the teacher play the model."""
    monkeypatch.setattr("apr.cli.solve.open_policy", lambda *_, **__: teacher_policy(budget=budget, faults=faults))


def value(text: str) -> int:
    assert re.fullmatch(r"[0-9+*/()-]+", text)
    return eval(text)


# apr solve


@pytest.mark.usefixtures("teacher")
def test_solve_prints_tree_and_solution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SOLVE) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].startswith("22 26 31 53 → 27   apr, free budget")
    assert lines[1].startswith("✓ main   found 53-22=31, 31/31=1, 26+1=27")
    assert sum(line.startswith(("├─", "└─")) for line in lines) == 6
    assert re.search(r"threads 7 · tokens [\d,]+ \([\d,]+ sequential\) · context \d+ · cached \d+", out)
    found = re.search(r"solved +(\S+) = 27", out)
    assert found is not None
    assert value(found[1]) == 27


@pytest.mark.usefixtures("teacher")
def test_solve_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SOLVE, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert value(out.strip()) == 27
    assert sorted(map(int, re.findall(r"\d+", out))) == sorted(SOLVED.numbers)


@pytest.mark.parametrize(("words", "budget"), [([], None), (["--budget", "free"], None), (["--budget", "10"], 10)])
def test_solve_asks_for_a_budget(
    words: list[str], budget: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, budget=budget)
    assert main([*SOLVE, *words, "--json"]) == 0
    assert from_json(capsys.readouterr().out.splitlines()[0]).budget == budget  # type: ignore[union-attr]


@pytest.mark.usefixtures("teacher")
def test_solve_json_is_the_log(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*SOLVE, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    tree = ThreadTree.fold(from_json(line) for line in out.splitlines())
    assert tree.correct
    log = tmp_path / "events.jsonl"
    log.write_text(out)
    assert main(["solve", "--replay", str(log)]) == 0
    shown = capsys.readouterr().out
    assert "solved   26+(53-22)/31 = 27" in shown
    # A log that was cut off is a rollout that was stopped.
    log.write_text("".join(f"{line}\n" for line in out.splitlines()[:40]))
    assert main(["solve", "--replay", str(log)]) == 1
    assert "stopped" in capsys.readouterr().out


def test_wrong_answer_is_not_solved(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    policy = teacher_policy()
    engine = policy.engine
    engine.texts = [text.replace("26+1=27", WRONG_EQUATION) for text in engine.texts]  # type: ignore[attr-defined]
    monkeypatch.setattr("apr.cli.solve.open_policy", lambda *_, **__: policy)
    assert main(SOLVE) == 1
    out = capsys.readouterr().out
    assert "its answer is wrong" in out
    assert "claims a solution that is none" in out
    assert "26+(" not in out
    assert main([*SOLVE, "--quiet"]) == 1
    assert capsys.readouterr().out == ""


def test_what_a_child_found_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    play(monkeypatch, Fault("Goal Reached in Sub Search", "error"))
    assert main(SOLVE) == 1
    assert "a child thread found 26+(53-22)/31 = 27" in capsys.readouterr().out


def test_known_solution_is_shown_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, Fault("", "text", text="nothing"))
    assert main(SOLVE) == 1
    assert "one exists" in capsys.readouterr().out
    assert main([*SOLVE, "--show-solution"]) == 1
    assert re.search(r"a solution is \S+ = 27", capsys.readouterr().out)


def rows_of_all_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, list[Event]]:
    """The first events of a rollout of each command that runs any."""
    from starlette.testclient import TestClient

    from apr.serving import thread_server

    assert main([*SOLVE, "--json"]) == 0
    found = {"solve": [from_json(line) for line in capsys.readouterr().out.splitlines()]}
    with TestClient(thread_server(teacher_policy(), "teacher")) as made:
        body = {"prompt": apr._core.prompt(SOLVED, "apr"), "temperature": 0, "stream": True, "apr": {"events": True}}
        lines = [line[6:] for line in made.post("/v1/completions", json=body).text.splitlines() if line[5:7] == " {"]
    told = [json.loads(line)["apr"] for line in lines]
    found["serve"] = [from_json(json.dumps(one["event"])) for one in told if "event" in one]
    return found


@pytest.mark.usefixtures("teacher")
def test_the_children_a_spawn_may_have_do_not_differ_by_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many as there may be threads, whoever runs the rollout."""
    pytest.importorskip("starlette")
    for name, events in rows_of_all_commands(tmp_path, capsys).items():
        [start] = [event for event in events if isinstance(event, RolloutStarted)]
        assert (start.limits["threads"], start.limits["children"]) == (64, None), name
    words = [f"a{i}" for i in range(63)]
    texts = [f"?think[{','.join(words)}]", *(f"{word} no" for word in words), "?think{" + ",".join("-" * 63) + "}!win"]
    tree = run_threads("win", ScriptedEngine(texts, Characters()), task=ToyTask(), language=ToyLanguage())
    assert (tree.main.reason, len(tree.threads)) == ("answered", 64)
    texts[0] = texts[0].replace("]", ",b]")
    tree = run_threads("win", ScriptedEngine(texts, Characters()), task=ToyTask(), language=ToyLanguage())
    assert (tree.main.reason, len(tree.threads)) == ("limit_threads", 1)


def test_engine_failure_is_told_apart(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    play(monkeypatch, Fault("", "error", after=3))
    assert main(SOLVE) == 1
    out = capsys.readouterr().out
    assert "engine broke down" in out
    assert "scripted error" in out
    assert "unsolved" not in out


@pytest.fixture(scope="module")
def recorded() -> list[Event]:
    """The events of a search that failed at its end."""
    events: list[Event] = []
    policy = teacher_policy(faults=[Fault("Goal Reached in Sub Search", "error")])
    run_threads(SOLVED, policy.engine, emit=events.append, task=policy.task, language=policy.language)
    return events


def write_log(path: Path, events: list[Event]) -> str:
    path.write_text("".join(f"{to_json(event)}\n" for event in events))
    return str(path)


def changed(events: list[Event], kind: type[Event], **values: Any) -> list[Event]:
    return [replace(e, **values) if isinstance(e, kind) else e for e in events]


def solved_by_nothing(events: list[Event]) -> list[Event]:
    return changed(events, RolloutFinished, correct=True, failed=False, steps=("1+1=27",))


HOSTILE: dict[str, Callable[[list[Event]], list[Event]]] = {
    "nothing": lambda events: [],
    "no start": lambda events: events[1:],
    "no problem": lambda events: changed(events, RolloutStarted, problem={}),
    "numbers of texts": lambda events: changed(events, RolloutStarted, problem={"numbers": ["a"], "target": 3}),
    "a number as a text": lambda events: changed(events, RolloutStarted, problem={"numbers": "12", "target": "x"}),
    "many numbers": lambda events: changed(events, RolloutStarted, problem={"numbers": [1] * 99, "target": 3}),
    "large numbers": lambda events: changed(events, RolloutStarted, problem={"numbers": [10**60, 2], "target": 3}),
    "two starts": lambda events: [events[0], *events],
    "a cycle": lambda events: changed(events, ThreadSpawned, children=("0",)),
    "an orphan": lambda events: [e for e in events if not isinstance(e, ThreadSpawned)],
    "no threads": lambda events: [events[0], events[-1]],
    "solved by nothing": solved_by_nothing,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_log_that_is_none_is_one_line(
    name: str, recorded: list[Event], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.jsonl", HOSTILE[name](recorded))
    assert main(["solve", "--replay", log]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)


@pytest.mark.parametrize("line", ['{"event":{}}', "[" * 100_000, "\x1b[2J", "\ud800", '{"event":"thread_opened"}'])
def test_a_line_that_is_no_event_is_one_line(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.jsonl").write_text(line + "\n", errors="surrogatepass")
    assert main(["solve", "--replay", str(tmp_path / "log.jsonl")]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.isprintable() or err[:-1].isprintable()


def test_a_log_that_is_a_directory_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--replay", str(tmp_path)]) == 2
    assert f"cannot replay {tmp_path}: not a regular file" in capsys.readouterr().err


def test_a_prompt_brings_its_budget(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["solve", "--problem", prompt(SOLVED, "apr", 6), "--model", model, "--max-tokens", "9", "--json"]
    for words, budget in ((asked, 6), ([*asked, "--budget", "3"], 3), ([*asked, "--budget", "free"], None)):
        main(words)
        assert json.loads(capsys.readouterr().out.splitlines()[0])["budget"] == budget


def test_a_log_that_is_a_pipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["solve", "--replay", str(tmp_path / "pipe")]) == 2
    assert "not a regular file" in capsys.readouterr().err


def test_a_log_of_many_rollouts_shows_the_first(
    recorded: list[Event], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.jsonl", recorded)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write("what follows is not read\n")
    assert main(["solve", "--replay", log]) == 1
    assert "the engine broke down" in capsys.readouterr().out


EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\ud800\r\nsecond"


def test_no_text_of_a_log_commands_the_terminal(
    recorded: list[Event], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def bad(name: str, text: str) -> str:
        # Later events say how much of a thread's text they keep.
        return (EVIL + text)[: len(text)] if name == "text" else EVIL

    texts = {"text", "detail", "error", "result", "verdict", "method", "join"}
    named = [{f.name: getattr(e, f.name) for f in fields(e) if f.name in texts} for e in recorded]
    hostile = [
        replace(event, **{name: bad(name, text) for name, text in own.items() if text is not None})
        for event, own in zip(recorded, named, strict=True)
    ]
    log = write_log(tmp_path / "log.jsonl", hostile)
    shown: list[str] = []
    for events in (hostile, hostile[: len(hostile) // 2], changed(hostile, RolloutFinished, failed=False)):
        write_log(tmp_path / "log.jsonl", events)
        assert main(["solve", "--replay", log]) == 1
        shown.append(capsys.readouterr().out)
    for out in shown:
        assert all(line.isprintable() for line in out.split("\n"))
    assert any("owned" in out for out in shown)


def test_an_error_of_a_server_commands_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise UsageError(EVIL)

    monkeypatch.setattr("apr.cli.solve.open_policy", refuse)
    assert main(SOLVE) == 2
    assert all(line.isprintable() for line in capsys.readouterr().err.split("\n"))


@pytest.mark.parametrize("arguments", [["1", "1", "--target", "50"], ["2", "4", "6", "--target", "97"]])
def test_unsolvable_is_said_while_the_model_tries(
    model: str, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["solve", *arguments, "--model", model]) == 1
    out = capsys.readouterr().out
    assert "There is no solution" in out
    assert "rightly so" in out
    assert "threads 1" in out


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("method", ["apr", "sos+"])
def test_engines_and_methods(model: str, capsys: pytest.CaptureFixture[str], engine: str, method: str) -> None:
    options = "--model", model, "--engine", engine, "--method", method, "--json"
    assert main([*SOLVE, *options]) == 1
    end = from_json(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(end, RolloutFinished)
    assert end.correct is False
    assert end.total_tokens > 0


def test_limits_reach_the_rollout(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*SOLVE, "--model", model, "--max-tokens", "7", "--max-threads", "3", "--timeout", "9", "--json"])
    lines = capsys.readouterr().out.splitlines()
    start, end = json.loads(lines[0]), json.loads(lines[-1])
    assert (start["limits"]["threads"], start["limits"]["total_tokens"], start["limits"]["seconds"]) == (
        3,
        7,
        9,
    )
    assert end["total_tokens"] <= 7


@pytest.mark.parametrize(
    "arguments",
    [
        ["solve", "22", "x", "--target", "27"],
        ["solve", "22", "1.5", "--target", "27"],
        ["solve", "22", "--target", "22"],
        ["solve", "22", "26", "--target", "0"],
        ["solve", "22", "26", "--target", "-3"],
        ["solve", "22", "26", "--target", "y"],
        ["solve", "-22", "26", "--target", "4"],
        ["solve", "22", "26"],
        ["solve", "--target", "27"],
        ["solve", *"123456789", "--target", "27"],
        ["solve", "1", "9" * 39, "--target", "27"],
        ["solve", "1", "9" * 99, "--target", "27"],
        ["solve"],
        [*SOLVE, "--engine", "magic"],
        [*SOLVE, "--method", "magic"],
        [*SOLVE, "--join", "some"],
        [*SOLVE, "--budget", "-1"],
        [*SOLVE, "--temperature", "hot"],
        *([*SOLVE, "--temperature", heat] for heat in ("-1", "5e-5", "1e5", "nan", "inf", "x")),
        ["eval", "--temperature", "5e-5"],
        *([*SOLVE, option, "9" * 20] for option in ("--budget", "--seed", "--max-threads", "--max-tokens")),
        [*SOLVE, "--budget", "9" * 5000],
        ["problems", "-n", "9" * 20],
        ["problems", "--seed", "9" * 20],
        *(["eval", option, "9" * 20] for option in ("--budget", "--seed", "--samples", "--problems", "--concurrency")),
        [*SOLVE, "--max-threads", "0"],
        [*SOLVE, "--model", "/no/such/place"],
        [*SOLVE, "--model", "/"],
        [*SOLVE, "--json", "--quiet"],
        [*SOLVE, "--nonsense"],
        *([*SOLVE, option, ""] for option in ("--model", "--task", "--engine")),
        [*SOLVE, "--engine", "os:getcwd"],
        [*SOLVE, "--engine", "json:dumps"],
        [*SOLVE, "--language", "os:getcwd"],
        ["solve", "--task", "chat", "hello"],
        ["solve", "--replay", "/no/such/log"],
        ["serve", "--threads", "--api-key", ""],
        ["serve", "--threads", "--servers", "1"],
        ["serve", "--running", "64"],
        ["nonsense"],
        ["--nonsense"],
        ["problems", "-n", "x"],
        ["problems", "--split", "dev"],
        ["problems", "--numbers", "1-9"],
        ["eval", "--problems", "0"],
        ["eval", "--problems", "/no/such/file"],
        ["eval", "--problems", "-1"],
        ["eval", "--problems", __file__, "--split", "val"],
        ["eval", "--problems", __file__, "--numbers", "3"],
        ["eval", "--task", "chat", "--problems", "1"],
        ["eval", "--model", "/no/such/place", "--problems", "1"],
        ["eval", "--problems", "1", "--concurrency", "0"],
        ["traces", "--out", "x"],
        ["train"],
        ["train", "magic"],
        ["train", "sft"],
        ["train", "sft", "--out", ""],
        ["train", "sft", "--out", "x", "--recipe", "no-such-recipe"],
        ["train", "sft", "--out", "x", "--recipe", "/no/such/recipe.toml"],
        ["train", "sft", "--out", "x", "--start-from", "/no/such/place"],
    ],
    ids=lambda words: " ".join(words)[:60],
)
def test_bad_input_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("apr")
    assert len(err) > 20


def test_a_broken_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert main([*SOLVE, "--model", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    (tmp_path / "tokenizer.json").write_text("{}")
    assert main([*SOLVE, "--model", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_could_not_be_read_is_quoted(
    recorded: list[Event], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a problem without a solution, too."""
    start, opened = replace(recorded[0], problem={"numbers": [1, 1], "target": 99}), recorded[1]
    close = ThreadClosed(
        rollout=start.rollout, time=1.0, thread="0", reason="malformed_spawn", detail="line 2 is malformed"
    )
    ended = {"reason": "malformed_spawn", "failed": False, "correct": False, "steps": ()}
    (end,) = changed(recorded[-1:], RolloutFinished, **ended)
    events = [start, opened, close, end]
    assert main(["solve", "--replay", write_log(tmp_path / "log.jsonl", events)]) == 1
    told = f'line 2 is malformed: "{ThreadTree.fold(events).main.text.splitlines()[1]}"'
    out = capsys.readouterr().out
    assert f"it spawned what nobody can read: {told}" in out
    assert "rightly so" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["eval", "--problems", "2"], "apr eval: stopped after 0 of 2 rollouts - nothing is kept without --out"),
        (
            ["eval", "--problems", "2", "--out", "x"],
            "stopped after 0 of 2 rollouts - the same command goes on from there",
        ),
        (["traces", "--count", "2", "--out", "x"], "stopped; the same command goes on behind the files that are there"),
    ],
)
def test_interrupted_work_says_how_it_goes_on(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("apr.evaluate.rollouts.run_protocol", interrupt)
    monkeypatch.setattr("apr.cli.traces.replace_atomically", interrupt)
    assert main(words) == 130
    assert told in capsys.readouterr().err


# apr problems, bench, train, other packages' commands


def test_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems", "-n", "12", "--seed", "3", "--split", "val", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = [{"numbers": p.numbers, "target": p.target} for p in apr.problems(12, 3, split="val")]
    assert lines == expected
    assert main(["problems", "-n", "12", "--seed", "3", "--split", "val"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"{' '.join(map(str, expected[0]['numbers']))} --target {expected[0]['target']}"


def test_a_split_that_ends_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems", "--task", "chat"]) == 2
    assert "the test split has only 0 such problems" in capsys.readouterr().err


def test_bench_needs_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("apr.cli.bench.__file__", str(tmp_path / "a/b/c/bench.py"))
    assert main(["bench"]) == 2
    assert "checkout" in capsys.readouterr().err
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__main__.py").write_text("import sys; sys.exit(len(sys.argv) + 4)")
    (tmp_path / "pyproject.toml").touch()
    assert main(["bench", "--quick", "all"]) == 7


def test_commands_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def watch(arguments: list[str]) -> int:
        seen.append(arguments)
        return 5

    class Point(EntryPoint):
        def load(self) -> object:
            return watch

    point = Point("watch", "other:watch", "apr.commands")
    monkeypatch.setattr("apr.cli.commands.entry_points", lambda **_: [point])
    assert main(["watch", "a", "--b"]) == 5
    assert seen == [["a", "--b"]]


MICRO = """
steps = 4
tokens_per_step = 256
tokens_per_batch = 512
validate_every = 2
validation_lessons = 1
checkpoint_every = 2
autocast = "none"

[model]
hidden_size = 16
layers = 1
heads = 2
mlp_size = 32
context_length = 512

[optimizer]
warmup_steps = 1

[[methods.apr.stages]]
until = 1.0
parts = [{ weight = 1.0, numbers = [2, 2], beam_size = [2, 3], child_beam_size = [2, 3] }]
"""


def test_train_sft_stops_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    recipe = tmp_path / "micro.toml"
    recipe.write_text(MICRO)
    words = ["train", "sft", "--recipe", str(recipe), "--device", "cpu", "--seed", "3", "--out"]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    assert main([*words, whole]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(Path(whole) / "checkpoints" / "4")
    assert "validation" in err
    assert main([*words, parts, "--until", "2"]) == 0
    assert main([*words, parts]) == 0
    assert "going on from step 2" in capsys.readouterr().err
    weights = [Path(run, "checkpoints", "4", "model.safetensors").read_bytes() for run in (whole, parts)]
    assert weights[0] == weights[1]
    # A run goes on with its own recipe where none is named.
    assert main(["train", "sft", "--device", "cpu", "--out", parts]) == 0
    assert "last step" in capsys.readouterr().err
    # Another recipe's run is not overwritten.
    assert main([*words, parts, "--steps", "9"]) == 2
    assert main([*words, str(tmp_path / "x"), "--device", "nonsense"]) == 2
    assert main([*SOLVE, "--model", f"{whole}/checkpoints/4", "--max-tokens", "20", "--quiet"]) == 1


@pytest.mark.usefixtures("teacher")
@pytest.mark.parametrize("size", ["\u00b2", "x", "", "0", "-3", "9" * 30])
def test_sizes_that_are_none_are_not_believed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    monkeypatch.setenv("COLUMNS", size)
    monkeypatch.setenv("LINES", size)
    assert main(SOLVE) == 0
    assert "solved" in capsys.readouterr().out


def test_an_answer_is_shown_beside_an_engine_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = apr.run_threads(SOLVED, (policy := teacher_policy()).engine, task=policy.task, language=policy.language)
    useless = next(t for t in tree.threads.values() if t.parent is not None and t.result is None)
    play(monkeypatch, Fault(useless.prompt_text, "error"))
    assert main([*SOLVE, "--json"]) == 0
    end = from_json(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(end, RolloutFinished)
    assert (end.failed, end.correct, bool(end.steps)) == (True, None, True)


def test_a_cut_log_lasts_until_its_last_event(
    recorded: list[Event], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = [replace(event, time=float(place)) for place, event in enumerate(recorded[:30])]
    assert main(["solve", "--replay", write_log(tmp_path / "log.jsonl", part)]) == 1
    assert " · 29.00 s · " in capsys.readouterr().out
