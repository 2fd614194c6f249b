"""A run directory: recipe, log and checkpoints of one training run, safe to kill at any moment.

RUN/recipe.toml           what was asked for
RUN/log.jsonl             one JSON object a line
RUN/checkpoints/STEP/     a checkpoint; complete if it has this name, since it is renamed into place

Reinforcement learning keeps more:
RUN/start/                the policy it began with
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
from apr.trackers import Tracker


class RunDirectory:
    """One run on disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.log_path = self.path / "log.jsonl"
        self.start = self.path / "start"
        self.trackers: list[Tracker] = []
        """Who gets each line of the log too."""

    def create(self, recipe: str) -> None:
        """Begin the run, or go on with it. ValueError if the directory holds another recipe's run."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        kept = self.recipe()
        if kept is None:
            write_atomically(self.path / "recipe.toml", recipe)
        elif kept != recipe:
            raise ValueError(f"{self.path} holds a run of another recipe; choose another directory")

    def recipe(self) -> str | None:
        """What was asked for; None before the run has begun."""
        try:
            return (self.path / "recipe.toml").read_text()
        except FileNotFoundError:
            return None

    def steps(self) -> list[int]:
        """Steps that have a complete checkpoint, ascending."""
        if not self.checkpoints.is_dir():
            return []
        return sorted(int(p.name) for p in self.checkpoints.iterdir() if p.name.isdigit())

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        steps = self.steps()
        return self.checkpoints / str(steps[-1]) if steps else None

    def watched(self, step: int) -> Path:
        """The events of the group that was watched in a step."""
        return self.path / "watched" / f"{step:06d}.jsonl"

    def group(self, step: int) -> Path:
        """What became of that group."""
        return self.path / "groups" / f"{step:06d}.json"

    def save(self, step: int, write: Callable[[Path], None], keep: int) -> Path:
        """Write a checkpoint: `write` fills a fresh directory, which is then renamed into place."""
        final = self.checkpoints / str(step)
        draft = self.checkpoints / f".{step}.partial"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        write(draft)
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
        sync_directory(self.checkpoints)
        for old in self.steps()[:-keep]:
            shutil.rmtree(self.checkpoints / str(old))
        return final

    def log(self, entry: dict[str, Any]) -> None:
        """Append one line to the log."""
        with self.log_path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        for track in self.trackers:
            track(entry)

    def entries(self) -> list[dict[str, Any]]:
        """The log's complete lines."""
        if not self.log_path.exists():
            return []
        lines = self.log_path.read_text().splitlines()
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                # A kill cuts at most the line that was being written.
                continue
        return entries

    def rewind(self, step: int) -> None:
        """Drop log entries of steps after `step`, which a resumed run makes again."""
        kept = [e for e in self.entries() if e.get("step", 0) <= step]
        write_atomically(self.log_path, "".join(json.dumps(e) + "\n" for e in kept))
