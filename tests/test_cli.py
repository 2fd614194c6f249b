"""The command line: what it prints where, its exit status, and how it takes interruptions."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from itertools import islice
from pathlib import Path

import pytest

import apr
from apr.cli import main
from apr.cli.answer import equations, expression
from apr.cli.view import Glyphs, render, wrap
from apr.engine.scripted import Fault
from apr.events import Event, RolloutFinished, from_json
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


def shell(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "apr", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]


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
    play(monkeypatch, Fault("", "truncate", after=3))
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


# As a program


def test_program_without_a_terminal(model: str) -> None:
    done = shell(*SOLVE, "--model", model)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "unsolved" in done.stdout
    assert done.stderr == ""
    ascii_only = shell(*SOLVE, "--model", model, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert ascii_only.stdout.isascii()
    assert ascii_only.returncode == 1
    bad = shell("solve", "a")
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)


def test_help_and_version() -> None:
    assert shell("--version").stdout == f"apr {apr.__version__}\n"
    shown = shell("--help")
    assert shown.returncode == 0
    assert "apr solve 22 26 31 53 --target 27" in shown.stdout
    for command in re.findall(r"^  (\w+)  ", shown.stdout, re.MULTILINE):
        if command != "bench":
            assert f"usage: apr {command}" in shell(command, "--help").stdout


def test_a_reader_that_leaves_is_no_error(model: str) -> None:
    command = f"{sys.executable} -m apr problems -n 100000 | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    words = " ".join([sys.executable, "-m", "apr", *SOLVE, "--json", "--model", model])
    done = subprocess.run(f"{words} | head -n 1", shell=True, capture_output=True, text=True, timeout=120)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


SLOW = """
import sys
sys.path.insert(0, {tests!r})
from tiny import teacher_policy
import apr.cli.solve
apr.cli.solve.open_policy = lambda *_: teacher_policy(budget=10, seconds_per_token=0.01)
sys.exit(apr.cli.main({arguments!r}))
"""


def slow_solve(*options: str) -> list[str]:
    tests = str(Path(__file__).parent)
    return [sys.executable, "-c", SLOW.format(tests=tests, arguments=[*SOLVE, *options])]


def test_interrupt_ends_cleanly() -> None:
    process = subprocess.Popen(
        slow_solve("--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    first = list(islice(process.stdout, 5))
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 130
    tree = ThreadTree.fold(from_json(line) for line in (*first, *rest.splitlines()))
    assert tree.finished is not None
    assert tree.finished.reason == "interrupted"


def in_terminal(arguments: list[str], columns: int, lines: int, *, interrupt_at: str | None = None) -> tuple[str, int]:
    """Run in a terminal of this size; all it wrote, and its status."""
    master, slave = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": str(lines), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        arguments, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **size}, start_new_session=True
    )
    os.close(slave)
    written, until = b"", time.monotonic() + 120
    while time.monotonic() < until:
        if not select.select([master], [], [], 1.0)[0]:
            continue
        try:
            new = os.read(master, 65536)
        except OSError:
            break
        if not new:
            break
        written += new
        if interrupt_at is not None and interrupt_at.encode() in written:
            process.send_signal(signal.SIGINT)
            interrupt_at = None
    os.close(master)
    return written.decode(errors="replace"), process.wait(timeout=10)


def test_live_view_shows_growth_and_stops_cleanly() -> None:
    shown, status = in_terminal(slow_solve(), 80, 24, interrupt_at="waits for 6 threads")
    assert status == 130
    assert "Traceback" not in shown
    assert "interrupted" in shown
    assert "stopped" in shown
    # The cursor was hidden while drawing, and is back.
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert max(map(len, re.split(r"[\r\n]", plain))) <= 80


def test_dialogue(model: str) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "apr", "solve", "--model", model],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    os.write(master, b"22 x\n5\n22 26 31 53\n27\n\n")
    written = b""
    while True:
        try:
            new = os.read(master, 65536)
        except OSError:
            break
        if not new:
            break
        written += new
    assert process.wait(timeout=60) == 1
    assert b"'x' is not a whole number" in written
    assert b"unsolved" in written


def test_solve_loads_nothing_heavy(model: str) -> None:
    code = (
        "import sys, apr.cli; apr.cli.main(sys.argv[1:]); "
        "print([m for m in ('torch', 'transformers', 'numpy', 'textual', 'pyarrow') if m in sys.modules])"
    )
    words = [sys.executable, "-c", code, *SOLVE, "--model", model, "--quiet"]
    assert subprocess.run(words, capture_output=True, text=True, timeout=60).stdout == "[]\n"


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
    assert main([*words, parts]) == 0
    assert "last step" in capsys.readouterr().err
    # Another recipe's run is not overwritten.
    assert main([*words, parts, "--steps", "9"]) == 2
    assert main([*words, str(tmp_path / "x"), "--device", "nonsense"]) == 2
    assert main([*SOLVE, "--model", f"{whole}/checkpoints/4", "--max-tokens", "20", "--quiet"]) == 1


# What a solution looks like


def test_expression_agrees_with_the_solver() -> None:
    for problem in apr.problems(40, 5, numbers=(2, 5)):
        for solution in apr.solve_all(problem.numbers, problem.target)[:40]:
            text = expression(problem.numbers, problem.target, solution.steps)
            assert text == solution.expression
            assert value(text) == problem.target


@pytest.mark.parametrize(
    "steps",
    [
        [],
        ["53-22=31", "31/31=1"],
        ["53-22=31", "31/31=1", "26+1=28"],
        ["53-22=31", "31/31=1", "27+1=28"],
        ["53-22=31", "53-22=31", "31/31=1"],
        ["53-22=31", "31/0=1", "26+1=27"],
        ["26+1=27"],
        ["nonsense"],
    ],
)
def test_no_expression_without_proof(steps: list[str]) -> None:
    assert expression([22, 26, 31, 53], 27, steps) is None


def test_equations_of_a_search() -> None:
    trace = apr.search(SOLVED, "apr", seed=1, beam_size=6, promising=1.0)
    steps = equations(apr.search_result(trace.text.removesuffix("\n")) or "")
    assert expression(SOLVED.numbers, 27, steps) is not None
    assert equations("") == ()


# The view


@pytest.fixture(scope="module")
def events() -> list[Event]:
    seen: list[Event] = []
    policy = teacher_policy(budget=BUDGET, beam_size=15, faults=[Fault("#0,4", "error", after=30)])
    apr.run_threads(SOLVED, policy.engine, emit=seen.append, budget=BUDGET, grammar=policy.grammar)
    return seen


@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize("height", [3, 6, 10, 24, None])
def test_every_picture_fits(events: list[Event], width: int, height: int | None) -> None:
    tree = ThreadTree()
    for index, event in enumerate(events):
        tree.apply(event)
        if index % 97 == 0 or index > len(events) - 30:
            lines = render(
                tree, Glyphs.of("utf-8"), lambda _: True, seconds=1.5, width=width, height=height, frame=index
            )
            assert height is None or len(lines) <= height
            assert all(line.cell_len <= width and "\n" not in line.plain for line in lines)
    assert "scripted error" in "".join(line.plain for line in render(
        tree, Glyphs.of("utf-8"), lambda _: True, seconds=1, width=120))  # fmt: skip


def test_hidden_threads_are_counted(events: list[Event]) -> None:
    tree = ThreadTree.fold(events)
    lines = [line.plain for line in render(tree, Glyphs.of("ascii"), lambda _: True, seconds=1, width=120, height=10)]
    assert len(lines) == 10
    hidden = re.search(r"(\d+) more", "\n".join(lines))
    assert hidden is not None
    shown = sum(" tok" in line and "threads" not in line for line in lines)
    assert shown + int(hidden[1]) == len(tree.threads)
    assert all(line.isascii() for line in lines)
    # What was found stays in sight.
    assert sum("found 5" in line for line in lines) == 2


def test_wrap_fills_lines_evenly() -> None:
    assert wrap(["aa", "bb", "cc", "dd"], "-", 11) == ["aa-bb-cc-dd"]
    assert wrap(["aa", "bb", "cc", "dd"], "-", 8) == ["aa-bb", "cc-dd"]
    assert wrap(["aaaa"], "-", 2) == ["aa"]
