"""`apr bench`: the benchmarks of a checkout, which are no part of the package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from apr.arguments import Parser, UsageError


def parser() -> Parser:
    """What is passed on to the benchmarks, which have options of their own."""
    made = Parser(
        prog="apr bench",
        description="Run the benchmarks of a checkout: ratios to peers in the same run. In one, --help lists them.",
        examples=["apr bench", "apr bench teacher", "apr bench training"],
        add_help=False,
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="some of them (default: those that take seconds)")
    return made


def run(arguments: Sequence[str]) -> int:
    here = Path(__file__).resolve()
    for root in (Path.cwd(), *Path.cwd().parents, here.parents[3]):
        if (root / "benchmarks" / "__main__.py").is_file() and (root / "pyproject.toml").is_file():
            return subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=root).returncode
    if {"-h", "--help"}.intersection(arguments):
        parser().print_help()
        return 0
    raise UsageError("the benchmarks are in the repository, not in the package: run it inside a checkout")
