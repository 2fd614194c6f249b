"""An evaluation in lines of text: as it runs, and what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, cast, get_args

from apr.cli.common import note
from apr.evaluate.row import judged
from apr.plain import one_line
from apr.threads.causes import end_of
from apr.threads.events import CloseReason


class Progress:
    """One line on stderr: rewritten in place in a terminal, else written now and then."""

    def __init__(self, total: int, before: Sequence[dict[str, Any]] = (), at_once: int = 1) -> None:
        """`at_once` is how many rollouts are in flight."""
        self.total = total
        self.at_once = at_once
        self.begin = time.monotonic()
        self.seconds = 0.0
        self.before = len(before)
        self.done = len(before)
        self.judged = sum(map(judged, before))
        self.correct = sum(bool(row["correct"]) for row in before)
        self.failures = 0
        self.tokens = 0
        self._told = 0.0
        self._in_place = sys.stderr.isatty()

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def left(self) -> float:
        """Seconds that it may take yet. Rollouts in flight are half done in the mean: by what has ended alone, the
        first one to end would promise days."""
        waiting = self.total - self.done
        halves = min(self.at_once, waiting) / 2
        return self.seconds / (self.done - self.before + halves) * (waiting - halves)

    def count(self, row: dict[str, Any]) -> None:
        """Take in one finished rollout."""
        self.done += 1
        self.judged += judged(row)
        self.correct += bool(row["correct"])
        self.failures += row["failed"]
        self.tokens += row["total_tokens"]
        now = time.monotonic()
        self.seconds = now - self.begin
        if now - self._told >= (0.1 if self._in_place else 10.0) or self.done == self.total:
            self._told = now
            self._tell()

    def _tell(self) -> None:
        share = f"{self.correct / self.judged:.1%} solved" if self.judged else "none judged"
        line = f"{self.done}/{self.total}  {share}  {self.tokens_per_second:,.0f} tokens/s  {self.left:.0f} s left"
        if self.failures:
            line += f"  {self.failures} engine failures"
        if self._in_place:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        else:
            note(line)

    def end(self) -> None:
        """Leave the line."""
        if self._in_place and self.done > self.before:
            sys.stderr.write("\n")


def report(summary: dict[str, Any]) -> str:
    """The summary for people."""
    counted, failures = summary["judged"], summary["engine_failures"]
    if not counted:
        return f"no rollout could be judged: {failures} engine failures{_why(summary)}"
    lines = [
        f"accuracy      {summary['accuracy']:.1%}  ({summary['correct']} of {counted}; 95 % interval "
        f"{summary['accuracy_low']:.1%} to {summary['accuracy_high']:.1%})",
    ]
    if failures:
        lines.append(f"failures      {failures} by the engine, not counted above{_why(summary)}")
    if unjudged := summary["rollouts"] - counted - failures:
        lines.append(f"unjudged      {unjudged}, not counted above")
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
    warm = ", some cached before this evaluation" if summary["warm"] else ""
    lines.append(f"{'cached':<14}{summary['cached_share']:>10.1%} of prompt tokens{warm}")
    ends = ", ".join(f"{_end(name)} {share:.1%}" for name, share in summary["reasons"].items())
    lines.append(f"ended         {ends}")
    return "\n".join(lines)


def _end(reason: str) -> str:
    """In words, unless a row says what nobody knows."""
    return end_of(cast(CloseReason, reason)) if reason in get_args(CloseReason) else one_line(reason)


def _why(summary: dict[str, Any]) -> str:
    """Why the first rollout failed."""
    error = summary["engine_error"]
    return "" if error is None else f" ({one_line(error)})"
