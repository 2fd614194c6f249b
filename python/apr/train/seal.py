"""A directory that can tell whether it is whole: digests of its files stand beside them, and all of it is on disk."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

SEAL_FILE = "digests.json"


def seal(directory: Path, name: str) -> None:
    """Write the digests of a directory's files beside them, and see that everything is on disk. Whatever changes
    afterwards is damage, and so is another name than this one."""
    digests = {file: digest(directory / file) for file in _files(directory)}
    (directory / SEAL_FILE).write_text(json.dumps({"name": name, "files": digests}, indent=1) + "\n")
    for path in (directory, *directory.rglob("*")):
        _sync(path)


def damage(directory: Path) -> str | None:
    """What is wrong with a sealed directory, in words; None if it is whole."""
    try:
        name, sealed = read_seal(directory)
        if name != directory.name:
            return f"it is a copy of {name}"
        found = _files(directory)
        for file in sorted({*sealed, *found}):
            if file not in found:
                return f"{file} is missing"
            if file not in sealed:
                return f"{file} does not belong there"
            if digest(directory / file) != sealed[file]:
                return f"{file} is not what was written"
    except (ValueError, OSError) as error:
        return str(error)
    return None


def read_seal(directory: Path) -> tuple[str, dict[str, str]]:
    """The name, and the digests of the files, that were sealed. ValueError if there is no seal."""
    path = directory / SEAL_FILE
    if not path.is_file():
        raise ValueError(f"{SEAL_FILE} is missing")
    try:
        sealed = json.loads(path.read_bytes())
        name, files = str(sealed["name"]), dict(sealed["files"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"{SEAL_FILE} holds no digests") from None
    return name, files


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(directory: Path) -> list[str]:
    """Regular files, at any depth, but the seal."""
    names = (path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    return sorted(name for name in names if name != SEAL_FILE)


def _sync(path: Path) -> None:
    """Write a file, or a directory's names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
