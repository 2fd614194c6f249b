"""Directories of weights for servers to read: in memory where a system has such a place, and gone after a kill too."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

MEMORY = Path("/dev/shm")
"""Where a directory costs no disk, on systems that have it."""
_PREFIX = "apr-weights-"


@contextmanager
def directory_of_weights() -> Iterator[Path]:
    """A fresh directory, for as long as it is needed. Those that killed processes left behind are removed."""
    place = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
    _sweep(place)
    # The lock is there before the directory: one without it has no owner any more.
    handle, name = tempfile.mkstemp(prefix=_PREFIX, suffix=".lock", dir=place)
    os.close(handle)
    lock = Path(name)
    directory = lock.with_suffix("")
    with FileLock(lock):
        try:
            directory.mkdir(mode=0o700)
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _sweep(place: Path) -> None:
    for directory in place.glob(f"{_PREFIX}*"):
        if not directory.is_dir():
            continue
        lock = directory.with_name(f"{directory.name}.lock")
        # Another user's, or one that another process removes.
        with suppress(OSError, Timeout), FileLock(lock, timeout=0):
            shutil.rmtree(directory, ignore_errors=True)
            lock.unlink(missing_ok=True)
