"""What an evaluation ran on: machines, and models with their sizes and weights.

DIR/setting.json; an evaluation that goes on elsewhere names all its machines, and goes on with the same weights only.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path

from apr.files import write_atomically

SETTING_FILE = "setting.json"


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and of what the rows of an evaluation came."""

    machines: tuple[str, ...] = ()
    parameters: dict[str, int | None] = field(default_factory=dict)
    """By model, as the conditions name it; None: not known."""
    weights: dict[str, str] = field(default_factory=dict)
    """The digest of each model's weights."""


def read_setting(directory: str | Path) -> Setting:
    """What is noted there; nothing if there is no note that can be read."""
    try:
        values = json.loads((Path(directory) / SETTING_FILE).read_text())
        return Setting(tuple(map(str, values["machines"])), dict(values["parameters"]), dict(values.get("weights", {})))
    except (OSError, ValueError, TypeError, KeyError):
        return Setting()


def note_setting(directory: str | Path, models: Mapping[str, Path]) -> Setting:
    """Add this machine and these models, by name and checkpoint, to what is noted there.

    ValueError if a model's weights are not those that are noted: its rows would be of two models.
    """
    before = read_setting(directory)
    weights = {name: digest_weights(checkpoint) for name, checkpoint in models.items()}
    for name, digest in weights.items():
        if before.weights.get(name, digest) != digest:
            raise ValueError(f"{directory} holds results of other weights of {name}; choose another directory")
    setting = Setting(
        tuple(dict.fromkeys((*before.machines, machine()))),
        {**before.parameters, **{name: count_parameters(checkpoint) for name, checkpoint in models.items()}},
        {**before.weights, **weights},
    )
    write_atomically(Path(directory) / SETTING_FILE, json.dumps(asdict(setting), indent=2) + "\n")
    return setting


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


def digest_weights(directory: str | Path) -> str:
    """SHA-256 over the safetensors files of a checkpoint, the first 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for file in sorted(Path(directory).glob("*.safetensors")):
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
    except (OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError):
        return None
    return total or None
