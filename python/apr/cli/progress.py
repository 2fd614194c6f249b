"""How training is shown on stderr, from its first second on: a bar in a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from apr.cli.common import note
from apr.plain import one_line

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
    """Called with what a trainer tells of each step; before, and between, it is told the phase."""

    def __init__(
        self, describe: Callable[[T], Line], *, shown: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.shown = shown
        self.steps = 0
        self._describe = describe
        self._clock = clock
        self._begun = clock()
        self._phase, self._since = "", self._begun
        self._first: tuple[int, float] | None = None
        """The first step that ended here, and when: what it took says nothing of the others."""
        self._noted: set[str] = set()
        self._bar: Any = None

    def __enter__(self) -> Watch[T]:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
            from rich.text import Text

            watch = self

            class Phase(ProgressColumn):
                """What is being done, and for how long."""

                def render(self, task: Any) -> Text:
                    return Text(watch.doing(), "cyan", no_wrap=True, overflow="ellipsis")

            console = Console(stderr=True)
            columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)]
            if console.width >= 120:
                columns.append(BarColumn(bar_width=16))
            self._bar = Progress(*columns, Phase(), console=console)
            self._bar.start()
            self._bar.add_task("", total=None)
        return self

    @property
    def live(self) -> bool:
        """What is told last is what is seen."""
        return self._bar is not None

    def doing(self) -> str:
        """The phase, and how long it has lasted."""
        return f"{self._phase} {duration(self._clock() - self._since)}" if self._phase else ""

    def phase(self, name: str) -> None:
        """Something begins that may take a while."""
        self._phase, self._since = one_line(name), self._clock()
        # Without a bar each phase is told once: later ones are those of later steps.
        if self.shown and self._bar is None and self._first is None and name not in self._noted:
            self._noted.add(name)
            note(f"{duration(self._since - self._begun)}  {name}")

    def begin(self, step: int, steps: int) -> None:
        """The run goes on after this step of so many."""
        self.steps = steps
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, total=steps, description=f"{step}/{steps}")

    def __call__(self, told: T) -> None:
        line = self._describe(told)
        text = f"{line.step}/{self.steps}  {line.text}{self._left(line.step)}"
        if not self.shown:
            return
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=line.step, description=text)
        elif line.due or line.step == self.steps:
            note(text)
        for warning in line.warnings:
            note(f"warning: {warning}")

    def _left(self, step: int) -> str:
        """How long the steps that are left will take, as far as that can be told."""
        now = self._clock()
        if self._first is None:
            self._first = step, now
        first, then = self._first
        if step in (first, self.steps):
            return ""
        return f"  {duration((now - then) / (step - first) * (self.steps - step))} left"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._phase = ""
            self._bar.stop()


class SftLine:
    """A supervised step; what was held out last stays to be seen."""

    EVERY = 10

    def __init__(self) -> None:
        self._held_out = ""

    def __call__(self, progress: Progress) -> Line:
        if progress.validation_loss is not None:
            self._held_out = f"  validation {progress.validation_loss:.3f}"
            if progress.validation_results is not None:
                self._held_out += f"  right results {progress.validation_results:.1%}"
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


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
