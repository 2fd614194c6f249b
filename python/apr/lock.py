"""One writer at a time: a lock on a directory, held by the operating system for the process that works there.

The lock file stands in the directory as long as somebody works there. One that a killed process left behind locks
nothing: the lock itself ended with its process.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"


class Hold:
    """A directory, held until `release` or the end of a `with` block."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self._path = path
        self._lock = lock

    def release(self) -> None:
        """Let others in; a second call does nothing."""
        if self._lock.is_locked:
            # Whoever waits for the file that is removed finds that it has no name and begins anew.
            self._path.unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def hold(directory: str | Path, part: str = "", *, seconds: float = 0.0) -> Hold:
    """Hold a directory, or a named part of what is written there, for this process alone; it is made if there is none.

    ValueError if another process holds it, and still does after so many seconds; it says who. OSError if no file can
    be made there."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / (f"{LOCK_FILE}-{part}" if part else LOCK_FILE)
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=seconds, poll_interval=0.02)
    except Timeout:
        raise ValueError(f"{directory} is in use by another process{_holder(path)}") from None
    # Words for whoever finds it held; no file system has to take them.
    with suppress(OSError):
        path.write_text(f"{os.getpid()} on {platform.node()}")
    return Hold(path, lock)


def working(directory: str | Path, part: str = "") -> bool | None:
    """Whether a process works in a directory, as far as the words of its lock file tell; nothing is locked for it.
    None: nobody here can tell, as of another machine's processes."""
    try:
        process, _, node = (
            (Path(directory) / (f"{LOCK_FILE}-{part}" if part else LOCK_FILE)).read_text().partition(" on ")
        )
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return None
    if node.strip() != platform.node() or not (process.isascii() and process.isdigit() and 0 < len(process) < 10):
        return None
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _holder(path: Path) -> str:
    try:
        who = path.read_text(errors="replace")[:200].strip()
    except OSError:
        who = ""
    return f" ({who})" if who.isprintable() and who else ""
