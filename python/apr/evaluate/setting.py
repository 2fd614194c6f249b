"""What an evaluation ran on, and what its rows are made of: machines, problems, models.

DIR/setting.json; an evaluation that goes on elsewhere names all its machines. It goes on with the same problems and
models only: each is told by a digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from apr.evaluate.problems import digest_problems
from apr.evaluate.row import Row
from apr.files import write_atomically
from apr.jsonl import read
from apr.origin import ORIGIN_FILE
from apr.task import Task

SETTING_FILE = "setting.json"

PARTS = {
    "weights": ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.index.json"),
    "config.json": ("config.json",),
    "tokenizer": ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"),
    "chat template": ("chat_template*",),
    "apr.json": (ORIGIN_FILE,),
}
"""What of a checkpoint decides what it writes, and the files that hold it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and of what the rows of an evaluation came."""

    machines: tuple[str, ...] = ()
    parameters: dict[str, int | None] = field(default_factory=dict)
    """By model, as the conditions name it; None: not known."""
    digests: dict[str, dict[str, str]] = field(default_factory=dict)
    """By model, of each of its `PARTS`."""
    problems: str = ""
    """The problems' digest; empty if it is not known."""
    count: int | None = None
    """How many they are."""
    served: str = ""
    """What a server said it serves; empty if it is what the digests tell of."""

    def identity(self, model: str) -> str:
        """What tells a model from another of the same name; empty if it is not known."""
        parts = self.digests.get(model)
        if not parts:
            return ""
        return hashlib.sha256(json.dumps([sorted(parts.items()), self.served]).encode()).hexdigest()[:8]

    def holds(self, task: Task[Any], rows: Iterable[Row]) -> bool:
        """Whether rows can be of its problems, as far as they are known: all of them are told by their digest."""
        found = {row["index"]: task.from_json(row["problem"]) for row in rows}
        if self.count is None or not found:
            return True
        if max(found) >= self.count:
            return False
        if len(found) < self.count:
            return True
        return self.problems in ("", digest_problems(task, (found[index] for index in sorted(found))))


def read_setting(directory: str | Path) -> Setting:
    """What is noted there; nothing if there is no note. ValueError if it cannot be read."""
    path = Path(directory) / SETTING_FILE
    try:
        return _setting(read(path))
    except FileNotFoundError:
        return Setting()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _setting(values: Any) -> Setting:
    plain = Setting(
        tuple(values.get("machines", ())),
        dict(values.get("parameters", {})),
        {model: dict(parts) for model, parts in values.get("digests", {}).items()},
        values.get("problems", ""),
        values.get("count"),
        values.get("served", ""),
    )
    texts = [
        *plain.machines,
        plain.problems,
        plain.served,
        *(d for own in plain.digests.values() for d in own.values()),
    ]
    counts = [count for count in (*plain.parameters.values(), plain.count) if count is not None]
    if not all(isinstance(text, str) for text in texts) or not all(type(count) is int for count in counts):
        raise ValueError("a value is of another kind")
    return plain


def note_setting(
    directory: str | Path,
    task: Task[Any],
    models: Mapping[str, Path],
    problems: Sequence[Any] | None = None,
    served: str = "",
    *,
    begun: bool = False,
) -> Setting:
    """Add this machine to what is noted there, and what is run: models by name and checkpoint, problems, and what a
    server serves. `begun`: there are rows already.

    ValueError if something is not what is noted: rows would be of two kinds.
    """
    before = read_setting(directory)
    setting = Setting(
        tuple(dict.fromkeys((*before.machines, machine()))),
        {**before.parameters, **{name: count_parameters(checkpoint) for name, checkpoint in models.items()}},
        {**before.digests, **{name: {part: digest(path, part) for part in PARTS} for name, path in models.items()}},
        before.problems if problems is None else digest_problems(task, problems),
        before.count if problems is None else len(problems),
        served,
    )
    for what in _others(before, setting, begun=begun):
        raise ValueError(f"{directory} holds results of {what}; choose another directory")
    write_atomically(Path(directory) / SETTING_FILE, json.dumps(asdict(setting), indent=2) + "\n")
    return setting


def _others(before: Setting, after: Setting, *, begun: bool) -> Iterator[str]:
    """What is not what it was, in words."""
    if begun and not (before.problems and before.digests):
        yield f"models and problems that {SETTING_FILE} does not name"
    for model, parts in before.digests.items():
        for part, known in parts.items():
            if after.digests[model].get(part) != known:
                yield f"other {part} of {model}"
    if before.problems not in ("", after.problems):
        yield "other problems"
    if begun and before.served != after.served:
        yield "another model of a server"


def machine() -> str:
    """This machine in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [_processor(), f"{cores} cores" if cores > 1 else "1 core"]
    with suppress(AttributeError, ValueError, OSError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        parts.append(f"{memory:.0f} GiB")
    return ", ".join([*parts, *_gpus(), platform.system()])


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in names.splitlines() if line.strip()]


def digest(directory: str | Path, part: str) -> str:
    """SHA-256 over the files of one of a checkpoint's `PARTS` and their names, the first 16 hexadecimal digits."""
    whole = hashlib.sha256()
    files = {file for pattern in PARTS[part] for file in Path(directory).glob(pattern) if file.is_file()}
    for file in sorted(files):
        whole.update(file.name.encode() + b"\0")
        with file.open("rb") as handle:
            whole.update(hashlib.file_digest(handle, "sha256").digest())
    return whole.hexdigest()[:16]


def count_parameters(directory: str | Path) -> int | None:
    """Weights in the safetensors files of a checkpoint; None if it has none that can be read."""
    total = 0
    try:
        for file in sorted(Path(directory).glob("*.safetensors")):
            with file.open("rb") as handle:
                header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
            total += sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, MemoryError, RecursionError):
        return None
    return total or None
