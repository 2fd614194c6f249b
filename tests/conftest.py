"""The golden files: what the authors' reference code does, as data (see golden/README.md)."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A slow machine is no fault.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# Several workers share the processors: threads that wait for each other by spinning would take them from one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Hundreds of processes begin in these tests: each would compile torch anew.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    os.environ["PYTHONPYCACHEPREFIX"] = str(Path(__file__).parents[1] / "target" / "pycache")

# A shell has what it starts in the background (`pytest &` of a script) ignore interrupts, and so all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST = (
    "test_sglang.py",
    "test_scale.py",
    "test_smollm.py",
    "test_grpo.py",
    "test_rl_runs.py",
    "test_shards.py",
    "test_examples.py",
)
"""Begun first, so that in the end no worker is left alone with one of them."""


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: a worker waits a third of its time, for servers and for the other's."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


FOLDER = Path(__file__).parent / "golden"

# The plain twins live beside the benchmarks.
sys.path.append(str(Path(__file__).parents[1]))

Golden = Callable[[str], list[dict[str, Any]]]


@cache
def _rows(name: str) -> list[dict[str, Any]]:
    path = FOLDER / name
    with gzip.open(path, "rt") if name.endswith(".gz") else path.open() as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="session")
def golden() -> Golden:
    """All rows of a golden file."""
    return _rows


@pytest.fixture
def browser() -> Iterator[Any]:
    """A real browser; the test is skipped where there is none. Its driver has a running loop, beside which other tests
    could run none, so it is each test's own."""
    from browsing import chromium

    with chromium() as found:
        yield found
