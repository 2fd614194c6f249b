"""The lock of directories: one writer at a time, and no trap."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from apr.lock import hold

HOLDS = "import sys, apr.lock; h = apr.lock.hold(sys.argv[1]); print(flush=True); sys.stdin.read()"


def test_a_directory_is_held_once(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(ValueError, match=f"in use by another process .{os.getpid()} on "):
        hold(tmp_path)
    held = hold(tmp_path / "new")
    # Parts of what is written there are held apart.
    with hold(tmp_path / "new", "a"), hold(tmp_path / "new", "b"):
        pass
    held.release()
    held.release()
    assert list((tmp_path / "new").iterdir()) == []
    hold(tmp_path / "new").release()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ValueError, match=f"in use by another process .{process.pid} on "):
            hold(tmp_path, seconds=0.05)
        process.kill()
    assert list(tmp_path.iterdir()) != []
    hold(tmp_path).release()
