"""A training run as its directory tells it: steps with their figures, folded from the lines of its log.

A step that comes again, as in a run that was resumed, takes the place of what it was. Nested objects are groups of
figures: `{"seconds": {"train": 4}}` is the figure `seconds.train`.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from statistics import fmean, median
from typing import Any

from apr.lock import working
from apr.train.run import RunDirectory
from apr_tui.labels import label
from apr_tui.log import LineTail

_FIRST = (
    *("reward", "accuracy", "loss", "validation_loss", "validation_results", "children", "depth", "tokens"),
    *(
        "sequential_tokens",
        "entropy",
        "spawn_entropy",
        "kl",
        "clipped",
        "ratio",
        "logprob_gap",
        "zero_signal",
        "truncated",
    ),
    *("wrong_results", "wrong_states", "wrong_trials", "credit", "correction", "replay", "edge"),
    *("failures", "gradient_norm", "rate", "seconds", "tokens_per_second", "memory"),
)
"""Groups of figures in the order they are shown; others follow by name."""
_SPEEDS = {
    "": "tokens_per_second",
    " generated": "tokens_per_second.generate",
    " trained": "tokens_per_second.train",
}
_SILENT_S = 120.0
"""Seconds without news after which a run may be dead; or so many steps' time."""
_SILENT_STEPS = 5
_LARGEST = 1 << 63
"""No step is beyond it: a log may come from anywhere."""
_RECENT = 50
"""Steps that tell how fast a run is now."""

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """A run so far."""

    figures: Mapping[int, Figures] = field(default_factory=dict)
    """Step -> its figures by name, in order of writing."""
    alarms: tuple[tuple[int, str], ...] = ()
    """Step and what was wrong in it."""
    names: tuple[str, ...] = ()
    """All figures there are, in the order they are shown."""

    @property
    def step(self) -> int:
        """The last step; 0 before the first."""
        return max(self.figures, default=0)

    @property
    def sampled(self) -> float | None:
        """The tokens that were sampled since it began, if the log tells."""
        return self.figures[self.step].get("sampled_tokens") if self.figures else None

    def groups(self) -> dict[str, list[str]]:
        """Group -> its figures."""
        groups: dict[str, list[str]] = {}
        for name in self.names:
            groups.setdefault(name.partition(".")[0], []).append(name)
        return groups

    def curve(self, name: str) -> list[tuple[float, float]]:
        """Step and value, where there is one, in order of steps."""
        return sorted((float(step), entry[name]) for step, entry in self.figures.items() if name in entry)

    def best(self) -> str | None:
        """The best of what was held out, and when; None if nothing was."""
        for name, pick in (("validation_results", max), ("validation_accuracy", max), ("validation_loss", min)):
            if points := self.curve(name):
                value = pick(value for _, value in points)
                step = next(step for step, one in points if one == value)
                return f"best {label(name)} {value:.4g} at step {step:,.0f}"
        return None

    def recent(self) -> list[Figures]:
        """The figures of the last steps."""
        return [self.figures[step] for step in sorted(self.figures)[-_RECENT:]]


def fold(run: Run, lines: Iterable[bytes]) -> Run:
    """The run after these lines of its log. What is no JSON object with a step is passed over."""
    figures, names = dict(run.figures), dict.fromkeys(run.names)
    alarms: dict[int, list[str]] = {}
    for place, text in run.alarms:
        alarms.setdefault(place, []).append(text)
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        step = entry.get("step") if isinstance(entry, dict) else None
        if not isinstance(step, int) or isinstance(step, bool) or abs(step) >= _LARGEST:
            continue
        values = dict(_numbers(entry, ""))
        values.pop("step", None)
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if step in figures and not values.keys() <= figures[step].keys():
            finite = {**figures[step], **finite}  # a second line about one step, such as a validation's
        figures[step] = finite
        names.update(dict.fromkeys(finite))
        # The last alarm is that of the last line that had one.
        alarms.pop(step, None)
        said = entry.get("alarms")
        raised = [str(text) for text in (said if isinstance(said, list) else ())]
        raised += (f"{name} is not a finite number" for name in values if name not in finite)
        if raised:
            alarms[step] = raised
    told = tuple((place, text) for place, texts in alarms.items() for text in texts)
    return replace(run, figures=figures, alarms=told, names=tuple(sorted(names, key=_rank)))


def _rank(name: str) -> tuple[int, str]:
    group = name.partition(".")[0]
    return (_FIRST.index(group) if group in _FIRST else len(_FIRST), name)


def _numbers(value: Any, name: str) -> Iterable[tuple[str, float]]:
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        try:
            yield name, float(value)
        except OverflowError:
            return
    elif isinstance(value, dict) and name.count(".") < 3:
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}" if name else str(key))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe asks for, as far as a screen needs it."""

    trainer: str = "sft"
    method: str = ""
    steps: int | None = None
    sampled: int | None = None
    """The tokens that end the run once they are sampled, be it before its last step."""
    text: str = ""
    """The recipe as the run keeps it."""

    @property
    def kind(self) -> str:
        """How it trains what, in a word or two."""
        return " ".join(part for part in (self.trainer, self.method) if part)

    @classmethod
    def read(cls, run: RunDirectory) -> Plan:
        """The plan of a run's recipe; an empty one if there is none to be read."""
        try:
            text = run.recipe() or ""
            recipe = tomllib.loads(text)
        except (OSError, ValueError):
            return cls()
        # The comments before the recipe say what stands beside it, or replaces its own.
        said: dict[str, str] = {}
        for line in takewhile(lambda line: line.startswith("#"), text.splitlines()):
            name, _, value = line[1:].replace(" ", "").partition(":")
            said.setdefault(name, value)
        told = said.get("steps", "")
        steps = int(told) if told.isascii() and told.isdigit() and len(told) < 20 else recipe.get("steps")
        sampled = recipe.get("sampled_tokens")
        return cls(said.get("trainer", "sft"), said.get("method", ""), _count(steps), _count(sampled), text)

    def ended(self, run: Run) -> bool:
        """Whether nothing of it is left to do."""
        sampled = run.sampled
        return (self.steps is not None and run.step >= self.steps) or (
            self.sampled is not None and sampled is not None and sampled >= self.sampled
        )

    def left(self, run: Run) -> float | None:
        """The steps that are left, if the log tells."""
        left = [] if self.steps is None else [float(self.steps - run.step)]
        sampled = run.sampled
        if self.sampled is not None and sampled and run.step:
            left.append((self.sampled - sampled) / (sampled / run.step))
        return max(0.0, min(left)) if left else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST else None


class RunFeed:
    """The log of a run directory, which may not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = Run()
        self._directory = RunDirectory(path)
        self.plan = Plan.read(self._directory)
        self._tail = LineTail(self._directory.log_path)
        self._restarts = 0

    def take(self) -> bool:
        """Take in what has come; whether anything has."""
        lines = self._tail.poll()
        restarted = self._tail.restarts != self._restarts
        if restarted:
            # A resumed run drops what it does again.
            self._restarts, self.run = self._tail.restarts, Run()
        if self.plan.steps is None:
            self.plan = Plan.read(self._directory)
        if lines:
            self.run = fold(self.run, lines)
        return bool(lines) or restarted

    def age(self, now: float) -> float | None:
        """Seconds since the log last grew; None before it is there. `now`: seconds since the epoch."""
        changed = _changed(self._directory.log_path)
        return None if changed is None else now - changed

    def status(self, now: float) -> str:
        """How the run stands, in a few words."""
        plan, step = self.plan, self.run.step
        if not self.path.is_dir():
            return "is not there yet"
        works = working(self.path)
        if plan.ended(self.run):
            return "finished" if not works else "ends"
        if not self.run.figures:
            return self._phase(now, works)
        age = self.age(now)
        if works is False:
            return f"stopped at step {step:,}, {duration(age or 0.0)} ago; the command that began it goes on with it"
        if age is not None and age > max(_SILENT_S, _SILENT_STEPS * (seconds_per_step(self.run) or 0.0)):
            return f"{'works' if works else 'running or dead'}, silent for {duration(age)}"
        return "running"

    def running(self, now: float) -> bool:
        """Whether it goes on by itself, as far as anybody can tell."""
        return self.status(now) == "running" or self.status(now).startswith("works")

    def _phase(self, now: float, works: bool | None) -> str:
        """What it does before its first step is done."""
        begun = _changed(self.path / "recipe.toml")
        if begun is None:
            return "has not started"
        since = f", {duration(max(0.0, now - begun))} since it began"
        if works is False:
            return f"stopped before its first step was done{since}"
        if self.plan.trainer != "rl":
            return f"step 1: loads, compiles, computes{since}"
        watched = self._directory.watched(1)
        if _changed(watched) is None:
            return f"step 1: loads the weights and the engine{since}"
        if _changed(self._directory.group(1)) is None:
            return f"step 1: samples rollouts, to be seen in {watched.parent.name}{since}"
        return f"step 1: updates the weights{since}"


def _changed(path: Path) -> float | None:
    """When a file last changed, in seconds since the epoch; None if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def seconds_per_step(run: Run) -> float | None:
    """What a step takes now, if the log tells."""
    taken = [seconds for entry in run.recent() if (seconds := _seconds(entry)) is not None]
    return median(taken) if taken else None


def _seconds(entry: Figures) -> float | None:
    if (taken := entry.get("step_seconds")) is not None:
        return taken
    tokens, speed = entry.get("tokens"), entry.get("tokens_per_second")
    return tokens / speed if tokens and speed else None


def overview(feed: RunFeed, now: float) -> list[str]:
    """The figures of a run that fit a line: progress, time left, throughput, share of waiting, memory."""
    run, plan = feed.run, feed.plan
    whole = f" of {plan.steps:,}" if plan.steps is not None else ""
    parts = [feed.status(now), f"step {run.step:,}{whole}"]
    if (best := run.best()) is not None:
        parts.append(best)
    each, recent = seconds_per_step(run), run.recent()
    # What the first step took says nothing of the others: it loads and compiles.
    left = plan.left(run)
    if left and each is not None and run.step > 1 and feed.running(now):
        parts.append(f"{duration(left * each)} left")
    if each is not None:
        parts.append(f"{each:,.0f} s a step" if each >= 10 else f"{each:.2g} s a step")
    for what, name in _SPEEDS.items():
        if speeds := [entry[name] for entry in recent if entry.get(name)]:
            parts += [f"{median(speeds):,.0f} tokens/s{what}"]
    if waits := [entry.get("seconds.wait", 0.0) / taken for entry in recent if (taken := entry.get("step_seconds"))]:
        parts.append(f"{100 * fmean(waits):.0f} % waiting for rollouts")
    if recent and (memory := recent[-1].get("memory")):
        parts.append(f"memory {memory / 2**20:,.0f} MiB")
    return parts


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
