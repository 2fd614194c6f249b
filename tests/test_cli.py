"""The command line: what it prints where, its exit status, and how it takes interruptions."""

from __future__ import annotations

import json
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import apr
from apr.cli import main
from apr.engine.scripted import Fault
from apr.events import RolloutFinished, from_json
from apr.tree import ThreadTree
from tiny import SOLVED, WRONG_EQUATION, save_tiny_model, teacher_policy

SOLVE = ["solve", "22", "26", "31", "53", "--target", "27"]
BUDGET = 10


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers")
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch)


def play(monkeypatch: pytest.MonkeyPatch, *faults: Fault, budget: int | None = BUDGET) -> None:
    """Let the teacher play the model."""
    monkeypatch.setattr("apr.cli.solve.open_policy", lambda *_: teacher_policy(budget=budget, faults=faults))


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
    assert lines[0].startswith("22 26 31 53 → 27   apr, budget 10")
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


def test_solve_free_budget(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    play(monkeypatch, budget=None)
    assert main([*SOLVE, "--budget", "free", "--json"]) == 0
    assert from_json(capsys.readouterr().out.splitlines()[0]).condition is None  # type: ignore[union-attr]


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
    policy = teacher_policy(budget=BUDGET)
    engine = policy.engine
    engine.texts = [text.replace("26+1=27", WRONG_EQUATION) for text in engine.texts]  # type: ignore[attr-defined]
    monkeypatch.setattr("apr.cli.solve.open_policy", lambda *_: policy)
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


def test_engine_failure_is_told_apart(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    play(monkeypatch, Fault("", "error", after=3))
    assert main(SOLVE) == 1
    out = capsys.readouterr().out
    assert "engine broke down" in out
    assert "scripted error" in out
    assert "unsolved" not in out


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
        [*SOLVE, "--temperature", "-1"],
        [*SOLVE, "--max-threads", "0"],
        [*SOLVE, "--model", "/no/such/place"],
        [*SOLVE, "--model", "/"],
        [*SOLVE, "--json", "--quiet"],
        [*SOLVE, "--nonsense"],
        ["solve", "--replay", "/no/such/log"],
        ["nonsense"],
        ["--nonsense"],
        ["problems", "-n", "x"],
        ["problems", "--split", "dev"],
        ["problems", "--numbers", "1-9"],
        ["eval", "--problems", "0"],
        ["eval", "--problems", "/no/such/file"],
        ["eval", "--model", "/no/such/place", "--problems", "1"],
        ["eval", "--problems", "1", "--concurrency", "0"],
        ["traces", "--out", "x"],
        ["train"],
        ["train", "magic"],
        ["train", "sft"],
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


# apr problems, bench, train, other packages' commands


def test_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems", "-n", "12", "--seed", "3", "--split", "val", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = [{"numbers": p.numbers, "target": p.target} for p in apr.problems(12, 3, split="val")]
    assert lines == expected
    assert main(["problems", "-n", "12", "--seed", "3", "--split", "val"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"{' '.join(map(str, expected[0]['numbers']))} --target {expected[0]['target']}"


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
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [point])
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
    assert "held-out" in err
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
