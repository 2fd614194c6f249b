"""What screens remember from one run to the next: the theme, and how searches of a task were asked for.

A JSON file in the user's configuration directory. It may be missing, unreadable or anything at all: then nothing is
remembered, and no screen fails for it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from apr.files import write_atomically


def default_path() -> Path:
    """Where it is kept for this user."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "apr" / "screens.json"


class Memory:
    """Values by name; without a path, for this run only."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._values: dict[str, Any] = {}
        if path is not None:
            with suppress(OSError, ValueError, RecursionError):
                values = json.loads(path.read_text("utf-8"))
                self._values = values if isinstance(values, dict) else {}

    def get(self, name: str) -> Any:
        """What was kept under a name, which may have been written by anybody; None if nothing was."""
        return self._values.get(name)

    def keep(self, name: str, value: Any) -> None:
        """Remember a JSON value, as far as there is somewhere to."""
        if self._values.get(name) == value:
            return
        self._values[name] = value
        if self._path is not None:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._path, json.dumps(self._values, indent=1) + "\n")
