"""How training is shown on stderr: a bar in a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from apr.cli.common import note

if TYPE_CHECKING:
    from apr.train.sft import Progress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Line:
    """What there is to see of a step."""

    step: int
    text: str
    due: bool
    """Worth a line of its own where there is no bar."""
    warnings: tuple[str, ...] = ()


class Watch(Generic[T]):
    """Called with what a trainer tells of each step."""

    def __init__(self, step: int, steps: int, describe: Callable[[T], Line], *, shown: bool) -> None:
        self.step, self.steps, self.shown = step, steps, shown
        self._describe = describe
        self._begun = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Watch[T]:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

            console = Console(stderr=True)
            columns: list[ProgressColumn] = [TextColumn("{task.description}")]
            if console.width >= 110:
                columns.append(BarColumn(bar_width=16))
            self._bar = Progress(*columns, console=console)
            self._bar.start()
            self._bar.add_task("...", total=self.steps, completed=self.step)
        return self

    def __call__(self, told: T) -> None:
        line = self._describe(told)
        left = (time.monotonic() - self._begun) / (line.step - self.step) * (self.steps - line.step)
        text = f"{line.step}/{self.steps}  {line.text}  {_duration(left)} left"
        if not self.shown:
            return
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=line.step, description=text)
        elif line.due or line.step == self.steps:
            note(text)
        for warning in line.warnings:
            note(f"warning: {warning}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class SftLine:
    """A supervised step; what was held out last stays to be seen."""

    EVERY = 10

    def __init__(self) -> None:
        self._held_out = ""

    def __call__(self, progress: Progress) -> Line:
        if progress.validation_loss is not None:
            self._held_out = f"  held-out {progress.validation_loss:.3f}"
            if progress.validation_results is not None:
                self._held_out += f"  right {progress.validation_results:.1%}"
        text = f"loss {progress.loss:.3f}{self._held_out}  {progress.tokens_per_second:,.0f} tokens/s"
        return Line(progress.step, text, progress.step % self.EVERY == 0 or progress.validation_loss is not None)


def rl_line(told: dict[str, Any]) -> Line:
    """A step of reinforcement learning."""
    words = [
        f"reward {told.get('reward', 0.0):.3f}",
        f"children {told.get('children', 0.0):.1f}",
        *([f"entropy {told['entropy']:.3f}"] if "entropy" in told else ["nothing to learn from"]),
        *([f"kl {told['kl']:.4f}"] if "kl" in told else []),
        *([f"validation {told['validation_accuracy']:.1%}"] if "validation_accuracy" in told else []),
        f"{told['tokens_per_second']['generate']:,.0f} tokens/s",
        f"{told['step_seconds']:.0f} s",
    ]
    return Line(told["step"], "  ".join(words), True, tuple(told["alarms"]))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
