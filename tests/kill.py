"""Kills long commands at random moments and compares what they come to with unbroken runs.

    python -m tests.kill [--rounds N] [--seed N] [NAME ...]

A round starts the command, or goes on with it, and kills its process with SIGKILL at a moment drawn uniformly from the
time that an unbroken run takes. What was killed goes on in the next round; a run that comes to its end is compared with
the unbroken one and another begins. The last is let run to its end. Times and what a cache held differ between any two
runs; all else must not. Commands run in forks of this process, which has loaded what they need, so that a kill seldom
falls into imports.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMES = ("seconds", "step_seconds", "tokens_per_second", "memory", "latency", "profile", "cached_tokens")
"""What differs between two runs of the same."""
SFT_RECIPE = """
steps = 40
tokens_per_step = 600
tokens_per_batch = 600
validate_every = 20
validation_lessons = 2
checkpoint_every = 3

[model]
hidden_size = 32
layers = 1
heads = 2
mlp_size = 64
context_length = 1024

[optimizer]
name = "muon"
learning_rate = 3e-3
warmup_steps = 4

[data]
ranking = "kinds"
slack = 2
waves = [2, 3]

[[methods.apr.stages]]
until = 1.0
parts = [{ weight = 1.0, numbers = [3, 3], promising = 0.5 }]
"""


@dataclass(frozen=True, slots=True)
class Task:
    """A long command and what it leaves."""

    words: Callable[[Path], list[str]]
    """The command's arguments, given the directory that it writes to."""
    result: Callable[[Path], Any]
    """What must not depend on kills; compared with ==."""


def log_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def last_weights(run: Path) -> bytes:
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
    return (newest / "model.safetensors").read_bytes()


def trained(run: Path) -> Any:
    return log_of(run), last_weights(run)


def rows_of(directory: Path) -> Any:
    rows = [json.loads(line) for line in (directory / "rows.jsonl").read_text().splitlines()]
    plain = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
    return sorted(json.dumps(row, sort_keys=True) for row in plain)


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.suffix == ".jsonl"}


def tasks(folder: Path) -> dict[str, Task]:
    """The commands, with what they need laid into a folder."""
    from tests.noisy import RECIPE, save_noisy_model

    (folder / "sft.toml").write_text(SFT_RECIPE)
    (folder / "rl.toml").write_text(RECIPE)
    policy = str(save_noisy_model(folder / "policy"))
    train = ["--device", "cpu", "--threads", "1"]
    of_problems = ["--problems", "40", "--numbers", "3", "--max-tokens", "200", "--concurrency", "4"]
    return {
        "traces": Task(lambda out: ["traces", "--count", "5000", "--chunk", "50", "--out", str(out)], files_of),
        "eval": Task(lambda out: ["eval", "--model", policy, *of_problems, "--out", str(out)], rows_of),
        "sft": Task(
            lambda out: ["train", "sft", "--recipe", str(folder / "sft.toml"), *train, "--out", str(out)], trained
        ),
        "rl": Task(
            lambda out: [
                *("train", "rl", "--recipe", str(folder / "rl.toml"), "--start-from", policy),
                *(*train, "--out", str(out)),
            ],
            trained,
        ),
    }


@contextlib.contextmanager
def started(words: Sequence[str], log: Path) -> Iterator[int]:
    """A fork that runs the command, its output in `log`; killed at the end if it still runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            from apr.cli import main

            status = main(list(words))
            sys.stdout.flush()
        finally:
            os._exit(status)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def run_to_end(words: Sequence[str], log: Path) -> None:
    """Run the command whole. SystemExit with its output if it fails."""
    with started(words, log) as child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise SystemExit(f"apr {' '.join(words)}: status {status}\n{log.read_text()}")


def killed(words: Sequence[str], log: Path, after: float) -> bool:
    """Run the command and kill it after so many seconds; False if it had ended well before. SystemExit if it failed."""
    with started(words, log) as child:
        deadline = time.monotonic() + after
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                if code != 0:
                    raise SystemExit(f"apr {' '.join(words)}: status {code}\n{log.read_text()}")
                return False
            time.sleep(0.002)
        return True


@dataclass(frozen=True, slots=True)
class Tally:
    """What a task's kills came to."""

    kills: int
    compared: int
    """Runs that were killed at least once and then equalled the unbroken one."""


def torture(name: str, task: Task, folder: Path, rounds: int, draw: random.Random) -> Tally:
    """Kill the task's command `rounds` times. SystemExit where a run fails, or comes to something else."""
    log = folder / f"{name}.log"
    whole, out = folder / f"{name}-whole", folder / f"{name}-killed"
    begun = time.monotonic()
    run_to_end(task.words(whole), log)
    lasts = time.monotonic() - begun
    expected = task.result(whole)
    kills = compared = since = 0

    def compare() -> None:
        nonlocal compared, since
        if task.result(out) != expected:
            raise SystemExit(f"{name}: a run that was killed {since} times differs from an unbroken one; see {folder}")
        compared += bool(since)
        since = 0
        shutil.rmtree(out)

    while kills < rounds:
        if killed(task.words(out), log, draw.uniform(0.0, lasts)):
            kills += 1
            since += 1
        else:
            compare()
    run_to_end(task.words(out), log)
    compare()
    return Tally(kills, compared)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description="Kill long commands; compare results.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="traces, eval, sft, rl (default: all)")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="kills of each command (default 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    options = parser.parse_args(arguments)
    # Loaded once, before anything is forked; no thread runs yet.
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="apr-kill-"))
    known = tasks(folder)
    for name in options.names:
        if name not in known:
            parser.error(f"there is no command {name!r}; known: {', '.join(known)}")
    for name in options.names or known:
        begun = time.monotonic()
        tally = torture(name, known[name], folder, options.rounds, random.Random(f"{options.seed} {name}"))
        spent = time.monotonic() - begun
        print(
            f"{name:<7}{tally.kills} kills, {tally.compared} runs equal to the unbroken one  {spent:.0f} s", flush=True
        )
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
