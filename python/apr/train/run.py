"""A run directory: recipe, log and checkpoints of one training run, safe to kill at any moment.

RUN/recipe.toml           what was asked for
RUN/start/                the weights it began with, unless they were random
RUN/log.jsonl             one JSON object a line
RUN/checkpoints/STEP/     a checkpoint; complete if it has this name, since it is renamed into place, and sealed

Reinforcement learning keeps more:
RUN/lessons.toml          the recipe of the lessons beside its rollouts, if it has any, as it was when the run began
RUN/watched/STEP.jsonl    the thread events of one group of rollouts, as they came
RUN/groups/STEP.json      rewards, advantages and log-probabilities of that group
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apr.files import sync_directory, write_atomically
from apr.lock import Hold, hold
from apr.train.seal import damage, digest, read_seal, seal
from apr.train.trackers import Tracker

_WEIGHTS = ".safetensors"
_SETTINGS = (".json", ".jinja", ".model", ".txt")
"""What else a model's directory says of it and of its tokenizer."""
_ORIGIN = ("config.json", "tokenizer.json")
"""What makes a start what it is, beside its weights."""


class RunDirectory:
    """One run on disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.log_path = self.path / "log.jsonl"
        self.start = self.path / "start"
        self.trackers: list[Tracker] = []
        """Who gets each line of the log too."""

    def hold(self) -> Hold:
        """Keep every other trainer out, which is a ValueError there."""
        return hold(self.path)

    def check(self, recipe: str, start: Path | None = None) -> None:
        """ValueError if the directory holds a run of another recipe, or one that began with other weights."""
        kept = self.recipe()
        if kept is None:
            if self.steps() or self.log_path.exists():
                raise ValueError(f"{self.path} holds a run whose recipe.toml is gone; put it back, or choose another")
            return
        if kept != recipe:
            raise ValueError(f"{self.path} holds a run of another recipe; choose another directory")
        if start is not None:
            self._check_start(start)

    def create(self, recipe: str, start: Path | None = None) -> None:
        """Begin the run with these weights, or with random ones; or go on with it. ValueError as in `check`."""
        self.check(recipe, start)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for draft in (*self.path.glob(".*.partial"), *self.checkpoints.glob(".*.partial")):
            _remove(draft)
        if self.recipe() is None:
            # A run has begun when its recipe is there: what it begins with has to be there before.
            _remove(self.start)
            _remove(self.path / "lessons.toml")
            if start is not None:
                self.keep_start(start)
            write_atomically(self.path / "recipe.toml", recipe)

    def keep_start(self, start: Path) -> None:
        """Hold on to the weights that the run begins with. ValueError if it began with others."""
        if self.start.exists() or self.steps():
            self._check_start(start)
            return
        draft = self.path / ".start.partial"
        _remove(draft)
        draft.mkdir(parents=True)
        for file in sorted(start.iterdir()):
            if file.suffix in (*_SETTINGS, _WEIGHTS) and file.is_file():
                shutil.copyfile(file, draft / file.name)
        seal(draft, self.start.name)
        draft.rename(self.start)
        sync_directory(self.path)

    def kept_start(self) -> Path | None:
        """Where the weights are that the run began with; None if it keeps none."""
        return self.start if self.start.exists() else None

    def whole_start(self) -> Path | None:
        """The weights that the run began with; None if they were random. ValueError if they are damaged."""
        if not self.start.exists():
            return None
        if (wrong := damage(self.start)) is not None:
            raise ValueError(f"{self.start} is damaged: {wrong}")
        return self.start

    def recipe(self) -> str | None:
        """What was asked for; None before the run has begun."""
        return self._text("recipe.toml")

    def lessons(self) -> str | None:
        """The recipe of the lessons beside its rollouts; None while it keeps none."""
        return self._text("lessons.toml")

    def keep_lessons(self, recipe: str) -> None:
        """Hold on to the recipe of its lessons, whatever becomes of the file that it was read from."""
        if self.lessons() != recipe:
            write_atomically(self.path / "lessons.toml", recipe)

    def steps(self) -> list[int]:
        """Steps that have a complete checkpoint, ascending."""
        if not self.checkpoints.is_dir():
            return []
        return sorted(int(p.name) for p in self.checkpoints.iterdir() if p.name.isascii() and p.name.isdigit())

    def latest(self) -> Path | None:
        """The newest checkpoint that is whole. ValueError if there are checkpoints and all are damaged."""
        steps, damaged = self.steps(), self.damaged()
        if steps and len(damaged) == len(steps):
            raise ValueError(f"no checkpoint in {self.checkpoints} is whole; the newest: {damaged[steps[-1]]}")
        return self.checkpoints / str(steps[-1 - len(damaged)]) if steps else None

    def damaged(self) -> dict[int, str]:
        """What is wrong with the checkpoints that are newer than the newest whole one."""
        found: dict[int, str] = {}
        for step in reversed(self.steps()):
            wrong = damage(self.checkpoints / str(step))
            if wrong is None:
                break
            found[step] = wrong
        return found

    def watched(self, step: int) -> Path:
        """The events of the group that was watched in a step."""
        return self.path / "watched" / f"{step:06d}.jsonl"

    def group(self, step: int) -> Path:
        """What became of that group."""
        return self.path / "groups" / f"{step:06d}.json"

    def draft(self, step: int) -> Path:
        """Where a checkpoint is written before it has its name."""
        return self.checkpoints / f".{step}.partial"

    def save(self, step: int, write: Callable[[Path], None], keep: int) -> Path:
        """Write a checkpoint: `write` fills a fresh directory, which is then sealed and renamed into place. The newest
        `keep` are kept; 0: all."""
        final = self.checkpoints / str(step)
        draft = self.draft(step)
        _remove(draft)
        draft.mkdir(parents=True)
        try:
            write(draft)
            seal(draft, str(step))
        except BaseException:
            _remove(draft)
            raise
        _remove(final)
        draft.rename(final)
        sync_directory(self.checkpoints)
        steps = self.steps()
        # A newer one than the run has come to is one that was damaged.
        for other in [s for s in steps if s > step] + ([s for s in steps if s <= step][:-keep] if keep else []):
            _remove(self.checkpoints / str(other))
        return final

    def log(self, entry: dict[str, Any]) -> None:
        """Append one line to the log."""
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        for track in self.trackers:
            track(entry)

    def entries(self) -> list[dict[str, Any]]:
        """The log's complete lines, as far as they tell of a step."""
        if not self.log_path.is_file():
            return []
        entries = []
        for line in self.log_path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                # A kill cuts at most the line that was being written.
                continue
            if isinstance(entry, dict) and type(entry.get("step")) is int:
                entries.append(entry)
        return entries

    def rewind(self, step: int) -> None:
        """Drop log entries of steps after `step`, which a resumed run makes again, and what is no entry."""
        if self.log_path.exists():
            kept = [entry for entry in self.entries() if entry["step"] <= step]
            write_atomically(self.log_path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def _text(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text("utf-8")
        except FileNotFoundError:
            return None

    def _check_start(self, start: Path) -> None:
        if not self.start.exists():
            raise ValueError(f"{self.path} holds a run that began with random weights; choose another directory")
        _, sealed = read_seal(self.start)
        own = {name: sealed[name] for name in sealed if _of_origin(name)}
        given = {file.name: digest(file) for file in start.iterdir() if file.is_file() and _of_origin(file.name)}
        if own != given:
            raise ValueError(f"{self.path} holds a run that began with other weights; choose another directory")


def _of_origin(name: str) -> bool:
    return name in _ORIGIN or name.endswith(_WEIGHTS)


def _remove(path: Path) -> None:
    """Remove a directory or a file, if it is there, so that no half of it keeps its name."""
    if path.is_dir():
        doomed = path.with_name(f".{path.name.strip('.')}.gone.partial")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
