"""Evaluations on disk: what is read is what was run, once each, by one process at a time, and goes on with the same."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apr import Problem
from apr.cli import main
from apr.cli.tally import report
from apr.countdown.task import Countdown
from apr.engine.base import EngineError
from apr.evaluate.metrics import summarise
from apr.evaluate.problems import digest_problems, split_problems
from apr.evaluate.protocol import Condition, Protocol
from apr.evaluate.rollouts import PATIENCE, run_protocol
from apr.evaluate.rows import Rows, read_rows
from apr.evaluate.schedule import WORKERS
from apr.lock import hold
from apr.plugins import vouch
from apr.policy import Policy
from apr.report.results import load
from apr.testing.scripted import Fault, ScriptedEngine
from rows import TASK, made_row
from tiny import save_tiny_model, teacher_policy
from toy import Characters, ToyLanguage, ToyTask


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers")
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def run(problems: list[Problem], rows: Rows, protocol: Protocol | None = None, *faults: Fault) -> None:
    protocol = protocol or Protocol()
    policy = teacher_policy(problems, faults=faults)
    asyncio.run(run_protocol(protocol, problems, rows.append, done=rows.done, load=lambda *_, **__: policy))


def told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("condition", "sample", "index", "correct", "failed", "reason", "total_tokens", "seed", "ends")
    return [tuple(row[name] for name in names) for row in rows]


def lines(directory: Path) -> list[str]:
    return (directory / "rows.jsonl").read_text().splitlines()


def test_a_directory_keeps_to_its_protocol(tmp_path: Path) -> None:
    Rows(Protocol(), tmp_path).close()
    with pytest.raises(ValueError, match="another protocol"):
        Rows(Protocol(seed=1), tmp_path)
    # Whoever is refused leaves the directory free.
    Rows(Protocol(), tmp_path).close()
    with pytest.raises(ValueError, match="holds no evaluation"):
        read_rows(tmp_path / "nowhere")


def test_a_directory_has_one_writer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Rows(Protocol(), tmp_path), pytest.raises(ValueError, match="in use by another process"):
        Rows(Protocol(), tmp_path)
    with hold(tmp_path / "out"):
        assert main(["eval", "--problems", "1", "--out", str(tmp_path / "out")]) == 2
    assert "in use by another process" in capsys.readouterr().err


def test_a_row_that_is_missing_is_run_again(tmp_path: Path) -> None:
    """Wherever it stood, and in whatever order the others stand."""
    problems = split_problems(Countdown(), 6, "test", 1)
    protocol = Protocol(conditions=(Condition(samples=2), Condition(problems=3)))
    with Rows(protocol, tmp_path, problems) as rows:
        run(problems, rows, protocol)
        whole = told(rows.rows)
    kept = lines(tmp_path)
    assert len(kept) == len(whole) == 15
    (tmp_path / "rows.jsonl").write_text("".join(line + "\n" for line in reversed(kept[:4] + kept[6:13])))
    with Rows(protocol, tmp_path, problems) as rows:
        assert len(rows.rows) == 11
        run(problems, rows, protocol)
        assert told(rows.rows) == whole
    assert told(read_rows(tmp_path)[1]) == whole
    assert len(lines(tmp_path)) == 15


def test_rollouts_that_the_engine_failed_are_run_again(tmp_path: Path) -> None:
    problems = split_problems(Countdown(), 6, "test", 1)
    numbers = ", ".join(map(str, problems[2].numbers))
    with Rows(Protocol(), tmp_path, problems) as rows:
        run(problems, rows, Protocol(), Fault(f"[{numbers}]", "error", after=5))
        (failed,) = [row for row in rows.rows if row["failed"]]
        assert (failed["index"], failed["correct"], failed["error"]) == (2, None, "scripted error")
        assert load([tmp_path]).results[0].failures == 1
    with Rows(Protocol(), tmp_path, problems) as rows:
        assert (len(rows.rows), rows.forgotten) == (5, 1)
        run(problems, rows)
    with Rows(Protocol(), tmp_path, problems) as rows:
        assert (len(rows.rows), rows.forgotten) == (6, 0)
        assert summarise(rows.rows)["judged"] == 6


def test_a_failed_rollout_is_in_no_figure_right_or_wrong(tmp_path: Path) -> None:
    """Rows with a failure and a verdict beside it, as a child's failure beside a right answer once made them."""
    protocol = replace(Protocol(), problems=replace(Protocol().problems, count=6))
    with Rows(protocol, tmp_path) as rows:
        for i, (right, failed) in enumerate([(1, 0), (1, 0), (0, 0), (1, 1), (0, 1), (None, 1)]):
            rows.append(made_row(i, None if right is None else bool(right), failed=bool(failed), error="broken"))
        found = summarise(rows.rows)
    assert (found["accuracy"], found["correct"], found["judged"], found["engine_failures"]) == (2 / 3, 2, 3, 3)
    assert found["engine_error"] == "broken"
    (result,) = load([tmp_path]).results
    assert (result.accuracy.mean, result.accuracy.problems, result.failures) == (2 / 3, 3, 3)


class Asked(ToyTask):
    """Calls the values of its problems as rows call theirs."""

    name = "test_rows:Asked"

    def to_json(self, problem: str) -> dict[str, Any]:
        return {"answer": problem, "key": 1, "index": 7, "correct": True, "budget": [2**70, None], "seed": {"a": 1}}

    def from_json(self, values: Mapping[str, Any]) -> str:
        return str(values["answer"])


def test_a_problem_calls_its_values_as_it_likes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from apr.report.parquet import write_parquet

    problems = ["win", "won"]
    # As `--task` does.
    vouch(Asked.name)
    protocol = Protocol(task=Asked.name)
    policy = Policy(ScriptedEngine(("?!win",), Characters()), Asked(), ToyLanguage(), "apr")
    for _ in range(2):
        with Rows(protocol, tmp_path, problems) as rows:
            watch, done = rows.append, rows.done
            asyncio.run(run_protocol(protocol, problems, watch, done=done, load=lambda *_, **__: policy))
    found = read_rows(tmp_path)[1]
    assert [(row["index"], row["key"], row["answer"], row["correct"]) for row in found] == [
        (0, "win", "win", True),
        (1, "won", "win", False),
    ]
    assert load([tmp_path]).results[0].accuracy.mean == 0.5
    assert main(["report", str(tmp_path)]) == 0
    assert "Traceback" not in capsys.readouterr().err
    table = parquet.read_table(write_parquet(protocol, found, tmp_path)).to_pylist()
    assert [(row["answer"], row["problem_answer"], row["problem_budget"]) for row in table] == [
        ("win", problem, [str(2**70), None]) for problem in problems
    ]


def test_an_engine_that_fails_one_rollout_after_another_ends_the_run(tmp_path: Path) -> None:
    problems = split_problems(Countdown(), 3 * PATIENCE, "test", 1)
    protocol = Protocol(concurrency=2)
    with Rows(protocol, tmp_path, problems) as rows:
        with pytest.raises(EngineError, match=f"failed {PATIENCE} rollouts in a row: scripted error"):
            run(problems, rows, protocol, Fault("", "error"))
        assert PATIENCE <= len(rows.rows) <= PATIENCE + 1


def test_a_slow_rollout_keeps_no_other_from_the_disk(tmp_path: Path) -> None:
    problems = split_problems(Countdown(), 8, "test", 1)
    numbers = ", ".join(map(str, problems[0].numbers))
    fault = Fault(f"[{numbers}]", "delay", seconds=3600)
    written: list[int] = []

    async def watched(rows: Rows) -> None:
        done = asyncio.Event()

        def watch(row: dict[str, Any]) -> None:
            rows.append(row)
            written.append(len(lines(tmp_path)))
            if len(written) == 7:
                done.set()

        policy = teacher_policy(problems, faults=[fault])
        running = asyncio.create_task(run_protocol(Protocol(), problems, watch, load=lambda *_, **__: policy))
        await done.wait()
        running.cancel()
        await asyncio.wait([running])

    with Rows(Protocol(), tmp_path, problems) as rows:
        asyncio.run(watched(rows))
    assert written == list(range(1, 8))
    assert [row["index"] for row in read_rows(tmp_path)[1]] == list(range(1, 8))


def test_what_nobody_judges_is_kept_and_is_no_failure(tmp_path: Path) -> None:
    unjudged = made_row(0, True) | {"correct": None}
    with Rows(Protocol(), tmp_path) as rows:
        rows.append(unjudged)
        rows.append(made_row(1, True) | {"answer": None, "vote": None})
    with Rows(Protocol(), tmp_path) as rows:
        assert (len(rows.rows), rows.forgotten) == (2, 0)
        figures = summarise(rows.rows)
    assert (figures["rollouts"], figures["judged"], figures["correct"], figures["engine_failures"]) == (2, 1, 1, 0)
    assert "unjudged      1, not counted above" in report(figures)


def test_a_row_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    with Rows(Protocol(), tmp_path) as rows, pytest.raises(ValueError, match="diagnostics is "):
        rows.append(made_row(0, True) | {"diagnostics": {"steps": -1}})
    assert read_rows(tmp_path)[1] == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("5", "not a row: no object"),
        ("[]", "not a row: no object"),
        ("null", "not a row: no object"),
        ("{}", "not a row: condition is missing"),
        ("{", "not JSON: "),
        (json.dumps(made_row(1, True)).replace("0.1", "1e999"), "profile is "),
        ("nonsense", "not JSON: Expecting value at column 1"),
        ("[" * 100_000, "nests too deep"),
        ({"latency": float("nan")}, "NaN is no number"),
        ({"latency": 1e400}, "Infinity is no number"),
        ({"latency": "1"}, "latency is '1'"),
        ({"total_tokens": -1}, "total_tokens is -1"),
        ({"total_tokens": 10**400}, r"total_tokens is 10+\.\.\."),
        ({"total_tokens": True}, "total_tokens is True"),
        ({"correct": 1}, "correct is 1"),
        ({"correct": "true"}, "correct is 'true'"),
        ({"failed": None}, "failed is None"),
        ({"problem": {"numbers": [1, 2.0]}}, "not a row: its numbers are no list of integers"),
        ({"problem": {"numbers": "1 2"}}, "not a row: its numbers are no list of integers"),
        ({"problem": {"numbers": [1, 2], "target": False}}, "not a row: its target is no integer"),
        ({"problem": [1, 2]}, r"problem is \[1, 2\]"),
        ({"reason": None}, "reason is None"),
        ({"reason": "\ud800"}, "reason is "),
        ({"vote": [1]}, r"vote is \[1\]"),
        ({"makespan": {"2": 1}}, "makespan is "),
        ({"makespan": dict.fromkeys(map(str, WORKERS), 0.5)}, "makespan is "),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"profile": {}}, "profile is {}"),
        ({"diagnostics": {"steps": None}}, "diagnostics is "),
        ({"ends": []}, r"ends is \[\]"),
        ({"condition": 1}, "condition 1, which the protocol does not have"),
        ({"condition": -1}, "condition is -1"),
        ({"sample": 1}, "sample 1, of which its condition has 1"),
        ({"index": 1}, "the rollout of line 1 again"),
        ({"index": 0, "problem": {"numbers": [5, 2, 1], "target": 9}}, "problem 0 is another on a line before"),
        ({"total_tokens": 50.5}, "total_tokens is 50.5"),
        ({"index": 1, "correct": False, "answer": None}, "contradicts itself: a vote without an answer"),
        ({"index": 1, "sequential_tokens": 51}, "contradicts itself: a part of its tokens is more than all"),
        ({"index": 1, "cached_tokens": 51}, "contradicts itself: more tokens were cached than asked for"),
    ],
)
def test_what_is_no_row_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: Any, says: str
) -> None:
    Rows(Protocol(), tmp_path).close()
    if not isinstance(line, str):
        line = json.dumps(made_row(1, True) | {"problem": {"numbers": [0, 2, 1], "target": 9}} | line)
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(made_row(0, True))}\n{line}\n")
    with pytest.raises(ValueError, match=f"rows.jsonl, line 2: .*{says}"):
        read_rows(tmp_path)
    for command in (["report", str(tmp_path)], ["eval", "--out", str(tmp_path)]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert "rows.jsonl, line 2: " in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("change", [{"count": 1}, {"problems": "0123456789abcdef"}])
def test_a_report_is_of_the_problems_that_were_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    rows = [made_row(index, True) for index in range(2)]
    of = digest_problems(Countdown(), [TASK.from_json(row["problem"]) for row in rows])
    Rows(Protocol(), tmp_path).close()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "setting.json").write_text(json.dumps({"count": 2, "problems": of}))
    assert len(load([tmp_path]).results[0].rows) == 2
    (tmp_path / "setting.json").write_text(json.dumps({"count": 2, "problems": of} | change))
    assert main(["report", str(tmp_path)]) == 2
    assert "has rows of other problems than setting.json names" in capsys.readouterr().err


def evaluate(model: str, directory: Path, *options: str) -> int:
    where = ["--problems", str(directory / "p.jsonl"), "--model", model, "--out", str(directory / "out")]
    return main(["eval", *where, *options])


def write_problems(directory: Path, count: int = 3, seed: int = 0) -> None:
    found = split_problems(Countdown(), count, "test", seed)
    entries = ({"numbers": problem.numbers, "target": problem.target} for problem in found)
    (directory / "p.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def drop_rows(directory: Path, kept: int = 2) -> None:
    whole = lines(directory / "out")
    (directory / "out" / "rows.jsonl").write_text("".join(line + "\n" for line in whole[:kept]))


def add_space(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda at: write_problems(at, 4), "other problems"),
        (lambda at: write_problems(at, 3, 1), "other problems"),
        (lambda at: (at / "p.jsonl").write_text("".join(sorted((at / "p.jsonl").open()))), "other problems"),
        (lambda at: add_space(at / "model" / "config.json"), "other config.json of"),
        (lambda at: add_space(at / "model" / "tokenizer.json"), "other tokenizer of"),
        (lambda at: (at / "model" / "apr.json").write_text("{}"), "other apr.json of"),
        (lambda at: (at / "model" / "chat_template.jinja").write_text("{{ 1 }}"), "other chat template of"),
        (lambda at: (at / "model" / "pytorch_model.bin").write_bytes(b"weights"), "other weights of"),
        (lambda at: (at / "out" / "setting.json").unlink(), "does not name"),
        (lambda at: (at / "out" / "setting.json").write_text("{}"), "does not name"),
        (lambda at: (at / "out" / "setting.json").write_text("5"), "cannot be read"),
        (lambda at: (at / "out" / "setting.json").write_text('{"digests": {"m": {"weights": 5}}}'), "cannot be read"),
    ],
    ids=[
        "more",
        "others",
        "shuffled",
        "config",
        "tokenizer",
        "origin",
        "template",
        "bin",
        "unnoted",
        "empty",
        "broken",
        "wrong",
    ],
)
def test_it_goes_on_with_the_same_only(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], object], says: str
) -> None:
    shutil.copytree(model, tmp_path / "model")
    write_problems(tmp_path)
    assert evaluate(str(tmp_path / "model"), tmp_path) == 0
    drop_rows(tmp_path)
    capsys.readouterr()
    change(tmp_path)
    assert evaluate(str(tmp_path / "model"), tmp_path) == 2
    err = capsys.readouterr().err
    assert says in err
    assert len(err.splitlines()) == 1
    assert len(lines(tmp_path / "out")) == 2


def test_without_rows_nothing_has_begun(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(model, tmp_path / "model")
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    (tmp_path / "model" / "model.safetensors").write_bytes(weights[:-9])
    write_problems(tmp_path)
    assert evaluate(str(tmp_path / "model"), tmp_path) == 2
    (tmp_path / "model" / "model.safetensors").write_bytes(weights)
    assert evaluate(str(tmp_path / "model"), tmp_path) == 0
    assert main(["eval", "--engine", "none", "--out", str(tmp_path / "other")]) == 2
    assert "unknown engine 'none'" in capsys.readouterr().err
    assert main(["eval", "--language", "none", "--out", str(tmp_path / "other")]) == 2
    assert "unknown language 'none'" in capsys.readouterr().err
    (tmp_path / "rival.toml").write_text("[[conditions]]\nmodel = 'apr-tiny'\nmethod = 'sos+'\n")
    assert main(["eval", "--recipe", str(tmp_path / "rival.toml"), "--out", str(tmp_path / "other")]) == 2
    assert "trained for the method apr, not sos+" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["protocol.json", "setting.json", "rows.jsonl"])
def test_a_pipe_in_a_file_s_place_is_not_waited_for(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Rows(Protocol(), tmp_path) as rows:
        rows.append(made_row(0, True))
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    for words in (["report", str(tmp_path)], ["eval", "--out", str(tmp_path)]):
        assert main(words) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_problems_that_are_the_same_count_once(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_problems(tmp_path)
    (tmp_path / "p.jsonl").write_text((tmp_path / "p.jsonl").read_text() * 2)
    assert evaluate(model, tmp_path, "--samples", "2", "--json") == 0
    out, err = capsys.readouterr()
    assert "3 of 6" in err
    summary = json.loads(out)
    assert (summary["problems"], summary["rollouts"], summary["judged"]) == (3, 6, 6)
    drop_rows(tmp_path, 3)
    assert evaluate(model, tmp_path, "--samples", "2", "--json") == 0
    assert "going on after 3 of 6 rollouts" in capsys.readouterr().err
    rows = read_rows(tmp_path / "out")[1]
    assert [(row["sample"], row["index"]) for row in rows] == [(s, i) for s in range(2) for i in range(3)]


def test_rows_that_make_no_table_are_told_and_stay(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    write_problems(tmp_path)
    assert evaluate(model, tmp_path) == 0
    kept = map(json.loads, lines(tmp_path / "out"))
    strange = [json.dumps({**row, "more": more}) for row, more in zip(kept, ("a", 1, None), strict=True)]
    (tmp_path / "out" / "rows.jsonl").write_text("".join(line + "\n" for line in strange))
    capsys.readouterr()
    assert evaluate(model, tmp_path) == 1
    assert "rows cannot be kept: more of all rows makes no column" in capsys.readouterr().err
    assert lines(tmp_path / "out") == strange


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    """A bound on files' sizes stands for the disk."""
    command = [sys.executable, "-m", "apr", "eval", "--problems", "8", "--max-tokens", "60", "--out", str(tmp_path)]

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    # Python would cut its compiled modules to that size too, and not notice.
    unkept = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    full = subprocess.run(command, capture_output=True, text=True, preexec_fn=bound, env=unkept)
    assert full.returncode == 1
    assert [line for line in full.stderr.splitlines() if "cannot be written: File too large" in line]
    assert "Traceback" not in full.stderr
    kept = lines(tmp_path)
    assert 0 < len(kept) < 8
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"going on after {len(kept)} of 8" in again.stderr
    assert lines(tmp_path)[: len(kept)] == kept
    assert len(read_rows(tmp_path)[1]) == 8
