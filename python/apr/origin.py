"""What a checkpoint was trained to do: its task, its language and its method, noted beside its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from apr.jsonl import read
from apr.task import Method

ORIGIN_FILE = "apr.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """Without a note a checkpoint is taken to write Countdown in the authors' traces, as theirs do."""

    task: str = "countdown"
    language: str = "traces"
    method: Method | None = None
    """None: any."""


def read_origin(directory: str | Path) -> Origin:
    """What is noted in a checkpoint. ValueError if the note cannot be read."""
    path = Path(directory) / ORIGIN_FILE
    if not path.is_file():
        return Origin()
    try:
        values = read(path)
        if not isinstance(values, dict) or not values.keys() <= {"task", "language", "method"}:
            raise ValueError("it holds task, language and method")
        origin = Origin(**values)
        if not isinstance(origin.task, str) or not isinstance(origin.language, str):
            raise ValueError("task and language are names")
        if origin.method not in (None, *get_args(Method)):
            raise ValueError(f"no method {origin.method!r}")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    return origin


def write_origin(origin: Origin, directory: str | Path) -> None:
    """Note it in a checkpoint that is being written."""
    (Path(directory) / ORIGIN_FILE).write_text(json.dumps(asdict(origin), indent=2) + "\n", "utf-8")
