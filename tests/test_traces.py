"""`apr traces`: the bytes of an item depend on seed and options alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apr import check_solution, llama2_tokens
from apr.cli import main
from apr.cli.traces import OPTIONS_FILE
from apr.lock import hold

BASE = ["traces", "--count", "23", "--chunk", "5", "--numbers", "3-4", "--beam-size", "2-4", "--seed", "7"]


def write(out: Path, *options: str) -> None:
    assert main([*BASE, "--out", str(out), *options]) == 0


def content(out: Path, suffix: str = "jsonl") -> bytes:
    return b"".join(path.read_bytes() for path in sorted(out.glob(f"*.{suffix}")))


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in content(out).splitlines()]


def test_rows_hold_whole_traces(tmp_path: Path) -> None:
    write(tmp_path)
    found = rows(tmp_path)
    assert [row["item"] for row in found] == list(range(23))
    assert list(found[0]) == [
        "item",
        "numbers",
        "target",
        "method",
        "beam_size",
        "child_beam_size",
        "condition",
        "solved",
        "main_calls",
        "children",
        "llama2_tokens",
    ]
    for row in found:
        text = row["main_calls"][-1]
        verdict = check_solution(row["main_calls"][0], text)
        assert len(row["main_calls"]) == len(row["children"]) + 1
        assert 2 <= row["beam_size"] <= 4
        assert row["llama2_tokens"] >= llama2_tokens(text)
        if not row["children"]:
            assert row["llama2_tokens"] == llama2_tokens(text) + 2
            assert row["solved"] or not verdict.correct
    assert any(row["solved"] and row["children"] for row in found)


@pytest.mark.parametrize("shards", [("1/2", "2/2"), ("2/3", "0/3", "1/3")])
def test_shards_do_not_matter(tmp_path: Path, shards: tuple[str, ...]) -> None:
    write(tmp_path / "one")
    for shard in shards:
        write(tmp_path / "many", "--shard", shard)
    names = [{path.name for path in (tmp_path / d).iterdir()} for d in ("one", "many")]
    assert names[0] == names[1]
    assert content(tmp_path / "one") == content(tmp_path / "many")


def test_chunks_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", "--chunk", "11")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_complete_files_stay(tmp_path: Path) -> None:
    write(tmp_path)
    whole = content(tmp_path)
    files = sorted(tmp_path.glob("*.jsonl"))
    files[1].unlink()
    (tmp_path / f".{files[1].name}.1.partial").write_text("half a li")
    before = files[0].stat().st_mtime_ns
    write(tmp_path)
    assert content(tmp_path) == whole
    assert files[0].stat().st_mtime_ns == before


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    words = ["--count", "6000", "--chunk", "100", "--seed", "3", "--beam-size", "1-2"]
    arguments = [sys.executable, "-m", "apr", "traces", *words, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list((tmp_path / "killed").glob("*.jsonl")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(["traces", *words, "--out", str(tmp_path / "killed")]) == 0
    assert main(["traces", *words, "--out", str(tmp_path / "whole")]) == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_a_shard_has_one_writer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with hold(tmp_path, "shard-1-of-2"):
        assert main([*BASE, "--out", str(tmp_path), "--shard", "1/2"]) == 2
        assert "in use by another process" in capsys.readouterr().err
        # Another shard is another's.
        write(tmp_path, "--shard", "2/2")
    write(tmp_path, "--shard", "1/2")
    assert len(rows(tmp_path)) == 23


def test_other_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert main([*BASE, "--out", str(tmp_path), "--seed", "8"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("apr traces: ")
    assert (tmp_path / OPTIONS_FILE).is_file()


def test_sos_plus(tmp_path: Path) -> None:
    write(tmp_path, "--method", "sos+")
    for row in rows(tmp_path):
        assert row["child_beam_size"] is None
        assert row["children"] == []
        assert row["llama2_tokens"] == llama2_tokens(row["main_calls"][0]) + 2


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path, "--format", "both")
    table = []
    for path in sorted(tmp_path.glob("*.parquet")):
        table += parquet.read_table(path).to_pylist()
    assert [{**row, "children": json.loads(row["children"])} for row in table] == rows(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ["--shard", "3/2"],
        ["--shard", "1"],
        ["--shard", "1/0"],
        ["--numbers", "4-2"],
        ["--numbers", "9"],
        ["--promising", "2"],
        ["--count", "0"],
        ["--beam-size", "0"],
        ["--out", "/dev/null/x"],
        ["--method", "sos+", "--child-beam-size", "2"],
    ],
)
def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    assert main([*BASE, "--out", str(tmp_path / "out"), *options]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert not list(tmp_path.rglob(f"*.{os.getpid()}.partial"))


@pytest.mark.parametrize("shards", [2, 3, 7, 30])
def test_shards_split_below_a_chunk(shards: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    write(whole, "--chunk", "1000")
    assert len(list(whole.glob("*.jsonl"))) == 1
    sizes = []
    for index in range(1, shards + 1):
        before = content(parts).count(b"\n") if parts.exists() else 0
        write(parts, "--chunk", "1000", "--shard", f"{index}/{shards}")
        sizes.append(content(parts).count(b"\n") - before)
    # Each gets about as many, and together, in the order of their names, they are what one run writes.
    assert max(sizes) <= -(-23 // shards)
    assert content(parts) == content(whole)
    assert ("nothing is left for this shard" in capsys.readouterr().err) == (0 in sizes)
    # Another cut into files is another run.
    assert main([*BASE, "--chunk", "1000", "--out", str(parts)]) == 2
