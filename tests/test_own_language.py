"""The page docs/languages.md: its files do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")

import llama_style
import pages

PAGE = pages.page("languages.md")
FILES = pages.files(PAGE)


def test_the_page_names_all_languages() -> None:
    named = re.findall(r"^\| `(\w[\w-]*)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(entry.name for entry in entry_points(group="apr.languages"))


def test_the_example_is_the_page() -> None:
    assert set(FILES) == {"plans.py", "play.py"}
    assert pages.directory("plans") == FILES


def test_the_page_plays(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    llama_style.save(llama_style.train(), tmp_path)
    command = [sys.executable, "play.py", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    threads = done.stdout.split("--- thread ")[1:]
    assert [thread.partition(",")[0] for thread in threads] == ["0", "0.0", "0.1"]
    assert threads[0].endswith("<done>6</done>\n<done>20</done>\n<answer>26</answer>\n")
    assert "found '26'" in threads[0]
    assert threads[1].partition("\n")[2] == "\nNow only: 2*3\n6\n"
    assert "found '20'" in threads[2]
