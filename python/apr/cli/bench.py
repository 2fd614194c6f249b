"""`apr bench`: the benchmarks of a checkout, which are no part of the package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from apr.cli.common import UsageError


def run(arguments: Sequence[str]) -> int:
    here = Path(__file__).resolve()
    for root in (Path.cwd(), *Path.cwd().parents, here.parents[3]):
        if (root / "benchmarks" / "__main__.py").is_file() and (root / "pyproject.toml").is_file():
            return subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=root).returncode
    raise UsageError("the benchmarks are in the repository, not in the package: run it inside a checkout")
