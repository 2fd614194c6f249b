"""The command line as a program: pipes, terminals, interruptions, what it loads."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

import apr
from apr.threads.events import from_json
from apr.threads.tree import ThreadTree
from tiny import save_tiny_model

SOLVE = ["solve", "22", "26", "31", "53", "--target", "27"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers")
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def shell(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "apr", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]


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


@pytest.mark.parametrize("words", [["problems", "-n", "3"], ["--help"], [*SOLVE, "-q"], [*SOLVE, "--json"], [*SOLVE]])
def test_streams_that_are_closed_or_full_are_no_traceback(words: list[str], model: str) -> None:
    words = [*words, "--model", model, "--max-tokens", "9"] if words[0] == "solve" else words
    command = " ".join([sys.executable, "-m", "apr", *words])
    done = [
        subprocess.run(f"{command} {how}", shell=True, capture_output=True, timeout=120)
        for how in (">/dev/full", ">&-", "<&-", ">/dev/full 2>/dev/full", "<&- >&- 2>&-", "2>&-")
    ]
    full, *others = done
    assert full.stderr.count(b"\n") <= 1
    assert full.returncode == 1
    assert all(b"Traceback" not in one.stderr for one in done)
    assert len({one.returncode for one in others if one is not others[2]}) == 1


@pytest.mark.parametrize("size", ["²", "99999999999", "0", "-1", "x"])
def test_a_terminal_of_a_strange_size(size: str, model: str) -> None:
    environment = {**os.environ, "COLUMNS": size, "LINES": size}
    done = shell(*SOLVE, "--model", model, "--max-tokens", "9", env=environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert shell("solve", "--help", env=environment).returncode == 0


def test_an_encoding_that_cannot_say_it(model: str) -> None:
    done = shell(*SOLVE, "--model", model, "--max-tokens", "9", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (1, "")


SLOW = """
import sys
sys.path.insert(0, {tests!r})
from tiny import teacher_policy
import apr.cli.solve
apr.cli.solve.open_policy = lambda *_, **__: teacher_policy(seconds_per_token=0.04)
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
        stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "dumb"}, start_new_session=True,
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


def test_a_dumb_terminal_is_as_wide_as_it_says(model: str) -> None:
    environment = {**os.environ, "TERM": "dumb"}
    words = [sys.executable, "-m", "apr", *SOLVE, "--model", model, "--max-tokens", "9"]
    for columns in (60, 80):
        environment["COLUMNS"] = str(columns)
        master, slave = pty.openpty()
        done = subprocess.run(words, stdout=slave, stderr=slave, stdin=slave, env=environment, timeout=120)
        shown = os.read(master, 65536).decode()
        os.close(slave)
        os.close(master)
        assert done.returncode == 1
        assert "main" in shown
        assert max(map(len, shown.splitlines())) <= columns
