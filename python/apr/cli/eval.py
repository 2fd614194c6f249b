"""`apr eval`: accuracy, tokens, context and latency of a model on many problems."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.cli.common import (
    Parser,
    UsageError,
    add_model_arguments,
    compact,
    natural,
    note,
    open_policy,
    positive,
    span,
)

if TYPE_CHECKING:
    from apr.policy import Policy


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr eval",
        description="Run a model on many problems at once. Accuracy is the share of answers that the exact "
        "judge accepts; engine failures are reported apart.",
        epilog="example: apr eval --problems 200 --budget 10",
    )
    add = made.add_argument
    add("--problems", default="200", metavar="N|FILE", help="a count (default 200), or a file of JSON lines")
    add("--split", choices=("train", "val", "test"), default="test")
    add("--numbers", type=span, default=(4, 4), metavar="N", help="how many, `4` (default) or `2-6`")
    add("--budget", type=natural, metavar="N", help="child threads (apr) or tokens (sos+) to ask for; "
        "default: the model's choice")  # fmt: skip
    add_model_arguments(made)
    add("--max-threads", type=positive, default=64, metavar="N", help="of a rollout (default 64)")
    add("--max-tokens", type=positive, metavar="N", help="sampled tokens of a rollout")
    add("--concurrency", type=positive, default=32, metavar="N", help="rollouts at once (default 32)")
    add("--out", metavar="FILE", help="write a JSON line for each problem")
    add("--json", action="store_true", help="end with one JSON object")
    return made


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(list(arguments))
    problems = _problems(options)
    with _rows(options.out) as write:
        policy = open_policy(options.engine, options.model, options.method)
        progress = Progress(len(problems))

        def watch(row: dict[str, Any]) -> None:
            write(row)
            progress.count(row)

        try:
            summary = asyncio.run(_evaluate(problems, policy, options, watch))
        finally:
            progress.end()
    seconds = time.monotonic() - progress.begin
    summary["seconds"] = seconds
    summary["tokens_per_second"] = progress.tokens / seconds if seconds > 0 else 0.0
    print(compact(_setting(options) | summary) if options.json else report(summary))
    return 0


async def _evaluate(
    problems: Sequence[Any], policy: Policy, options: Any, watch: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    from apr.evaluate.protocol import Protocol, evaluate
    from apr.limits import Limits

    protocol = Protocol(
        budget=options.budget,
        temperature=options.temperature,
        seed=options.seed,
        join=options.join,
        limits=Limits(threads=options.max_threads, total_tokens=options.max_tokens),
        concurrency=options.concurrency,
    )
    try:
        return await evaluate(problems, policy.engine, policy.grammar, protocol, watch)
    finally:
        await policy.close()


def _problems(options: Any) -> list[Any]:
    from apr.evaluate.problems import read_problems, split_problems

    wanted = options.problems
    try:
        if not (wanted.isascii() and wanted.isdigit()):
            return list(read_problems(wanted))
        if int(wanted) < 1:
            raise ValueError("at least one is needed")
        return list(split_problems(int(wanted), options.split, options.seed, numbers=options.numbers))
    except (OSError, ValueError) as error:
        raise UsageError(f"--problems: {error}") from None


@contextmanager
def _rows(path: str | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What takes the rows: a file, or nothing."""
    if path is None:
        yield lambda row: None
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    with open(path, "w", encoding="utf-8") as file:

        def write(row: dict[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        yield write


def _setting(options: Any) -> dict[str, Any]:
    names = ("engine", "model", "method", "split", "budget", "temperature", "seed", "join")
    return {name: getattr(options, name) for name in names}


class Progress:
    """One line on stderr: rewritten in place in a terminal, else written now and then."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.begin = time.monotonic()
        self.done = 0
        self.correct = 0
        self.failures = 0
        self.tokens = 0
        self._told = 0.0
        self._in_place = sys.stderr.isatty()

    def count(self, row: dict[str, Any]) -> None:
        """Take in one finished problem."""
        self.done += 1
        self.correct += bool(row["correct"])
        self.failures += row["correct"] is None
        self.tokens += row["total_tokens"]
        now = time.monotonic()
        if now - self._told >= (0.1 if self._in_place else 10.0) or self.done == self.total:
            self._told = now
            self._tell(now - self.begin)

    def _tell(self, seconds: float) -> None:
        judged = self.done - self.failures
        share = f"{self.correct / judged:.1%} solved" if judged else "none judged"
        left = seconds / self.done * (self.total - self.done)
        speed = self.tokens / max(seconds, 1e-9)
        line = f"{self.done}/{self.total}  {share}  {speed:,.0f} tokens/s  {left:.0f} s left"
        if self.failures:
            line += f"  {self.failures} engine failures"
        if self._in_place:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        else:
            note(line)

    def end(self) -> None:
        """Leave the line."""
        if self._in_place and self.done:
            sys.stderr.write("\n")


def report(summary: dict[str, Any]) -> str:
    """The summary for people."""
    judged = summary["judged"]
    if not judged:
        return f"no rollout could be judged: {summary['engine_failures']} engine failures"
    lines = [
        f"accuracy      {summary['accuracy']:.1%}  ({summary['correct']} of {judged}; 95 % interval "
        f"{summary['accuracy_low']:.1%} to {summary['accuracy_high']:.1%})",
    ]
    if summary["engine_failures"]:
        lines.append(f"failures      {summary['engine_failures']} by the engine, not counted above")
    lines.append(f"{'':14}{'mean':>10}{'max':>10}   {'Llama-2 mean':>12}{'max':>10}")
    for label, name in (
        ("total tokens", "total_tokens"),
        ("sequential", "sequential_tokens"),
        ("context", "context"),
    ):
        ours, theirs = summary[name], summary[f"llama2_{name}"]
        lines.append(
            f"{label:<14}{ours:>10,.0f}{summary[f'{name}_max']:>10,}   {theirs:>12,.0f}"
            f"{summary[f'llama2_{name}_max']:>10,}"
        )
    lines.append(f"{'threads':<14}{summary['threads']:>10.1f}{summary['threads_max']:>10,}")
    lines.append(f"{'latency, s':<14}{summary['latency']:>10.2f}{summary['latency_max']:>10.2f}")
    lines.append(f"{'cached':<14}{summary['cached_share']:>10.1%} of prompt tokens")
    ends = ", ".join(f"{name} {share:.1%}" for name, share in summary["reasons"].items())
    lines.append(f"ended         {ends}")
    lines.append(f"in all        {summary['seconds']:.1f} s, {summary['tokens_per_second']:,.0f} tokens/s")
    return "\n".join(lines)
