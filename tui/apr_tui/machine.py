"""The machine that a screen runs on, in a line. No terminal."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path


def machine() -> str:
    """Its name, processors, memory and load, as far as the system tells."""
    parts = [f"this machine: {platform.node() or 'unnamed'}", f"{os.cpu_count() or 1} processors"]
    memory = _memory()
    if memory is not None:
        parts.append(f"memory {memory[1]:.1f} of {memory[0]:.1f} GiB free")
    with suppress(OSError):
        parts.append(f"load {os.getloadavg()[0]:.1f}")
    return " · ".join(parts)


def _memory() -> tuple[float, float] | None:
    """GiB there are, and GiB that are free; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        told = {name: int(rest.split()[0]) / 2**20 for name, _, rest in (line.partition(":") for line in lines)}
        return told["MemTotal"], told["MemAvailable"]
    except (OSError, ValueError, LookupError):
        return None
