"""Rules that hold for the whole tree of files: who loads what, where the grammar lives, how long a file is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import apr

ROOT = Path(__file__).parents[1]
HEAVY = (
    *("torch", "transformers", "sglang", "rich", "textual", "numpy", "safetensors", "pyarrow", "matplotlib"),
    *("aiohttp", "starlette", "uvicorn"),
)
LONGEST_FILE = 400


def python_files() -> Iterator[Path]:
    for folder in ("python", "tui"):
        yield from (ROOT / folder).rglob("*.py")


def sources() -> Iterator[Path]:
    yield from python_files()
    for crate in ("random", "countdown", "sudoku", "decoder", "bindings"):
        yield from (ROOT / "rust" / crate / "src").rglob("*.rs")


def phrases() -> list[str]:
    """What lines of traces are made of, as far as prose would not say it: words in a row, one with a capital."""
    vocabulary = json.loads(apr.Tokenizer().to_json())["model"]["vocab"]
    tokenizer = apr.Tokenizer()
    texts = [tokenizer.decode([id_]) for id_ in vocabulary.values()]
    words = [text.strip(" \n<>[]',:#") for text in texts]
    return sorted({text for text in words if " " in text and text != text.lower()})


def test_the_grammar_is_in_no_python_file() -> None:
    tags = phrases()
    assert len(tags) > 20
    found = [(path.name, tag) for path in python_files() for tag in tags if tag in path.read_text()]
    assert not found


def test_nothing_is_evaluated() -> None:
    call = re.compile(r"(?<![\w.])(eval|exec)\s*\(")
    found = [path.name for path in python_files() if call.search(path.read_text())]
    assert not found


def test_a_refusal_is_told_by_its_words() -> None:
    """A pattern that any text matches asserts nothing."""
    anything = re.compile(r"""match=r?(["'])(\\[wWsSdD][*+]?|\.[*+]?|)\1""")
    found = [path.name for path in (ROOT / "tests").glob("*.py") if anything.search(path.read_text())]
    assert not found


def test_files_are_short() -> None:
    long = {str(path.relative_to(ROOT)): count for path in sources() if (count := lines(path)) >= LONGEST_FILE}
    assert not long


def lines(path: Path) -> int:
    return path.read_text().count("\n")


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_package_loads_nothing_heavy() -> None:
    for module in (
        "apr",
        "apr.cli",
        "apr.engine.native",
        "apr.engine.sglang.server",
        "apr.task",
        "apr.threads.run",
        "apr.threads.tree",
    ):
        assert not loaded_by(module) & set(HEAVY), module


def test_the_extension_is_a_tasks_or_of_no_task() -> None:
    """What rooms that know no task take from it; commands about Countdown's traces are its own."""
    tasks = ("countdown", "sudoku", "__init__.py", "cli/traces.py")
    general = {"Decoder", "Tokenizer", "architecture", "llama2_tokens", "__version__"}
    package = ROOT / "python" / "apr"
    for path in python_files():
        if path.is_relative_to(package) and str(path.relative_to(package)).startswith(tasks):
            continue
        text = path.read_text()
        taken = {
            name.strip() for names in re.findall(r"from apr\._core import ([^(\n]+)", text) for name in names.split(",")
        }
        taken |= set(re.findall(r"\b_core\.(\w+)", text))
        assert taken <= general, path


def test_installing_pulls_nothing_heavy() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^\w-]", dependency)[0] for dependency in project["dependencies"]}
    assert needed <= {"filelock", "rich"}
