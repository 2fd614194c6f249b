"""Files that are replaced whole: whoever reads one sees the old or the new, after a kill and on a full disk too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's text so that a reader sees the old or the new, whole."""
    replace_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file by what `write` puts into a draft beside it; a reader sees the old or the new, whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
