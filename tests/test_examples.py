"""The examples run, on models and logs of a second."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import apr
from apr.train.recipes import sft_recipe
from pages import EXAMPLES, ROOT
from test_serving import serving
from tiny import SOLVED, save_tiny_model, teacher_policy
from tiny_runs import SFT


def run(name: str, *arguments: object) -> str:
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100"}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_the_index_has_them_all() -> None:
    linked = re.findall(r"\]\(([\w./-]+)\)", (EXAMPLES / "README.md").read_text())
    top = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    assert top <= set(linked)
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == {name.partition("/")[0] for name in linked if "/" in name} - {".."}


def test_solve() -> None:
    lines = run("solve.py", 3, 5, 8, 24).splitlines()
    assert lines[0].startswith('countdown {"numbers":[3,5,8],"target":24}, apr: ')
    assert lines[-1].startswith(("solved: ", "not solved"))


def test_an_engine_gives_what_the_torch_engine_gives(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model = save_tiny_model(tmp_path)
    with apr.load(model, engine="torch") as loaded:
        tree = loaded.run(apr.Problem([3, 5, 8], 24), apr.Limits(total_tokens=256))
    printed = run("engine.py", model)
    assert printed.rpartition(", ")[0] == repr(tree).rpartition(", ")[0]


def test_a_client_prints_the_threads() -> None:
    with serving(teacher_policy(budget=6)) as url:
        *threads, verdict = run("client.py", url).splitlines()
    assert threads[0].startswith("0 answered ")
    assert len(threads) == 7
    assert "53-22=31" in verdict


def test_training(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(SFT)
    out = run("train.py", "--recipe", recipe, "--out", tmp_path / "run", "--seconds", 600, "--problems", 2)
    assert re.search(r"^step 4: [012] of 2 solved$", out, re.MULTILINE)
    sft_recipe((EXAMPLES / "sums.toml").read_text(), "apr")


def test_a_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    with apr.events.EventLog(log) as written:
        tree = teacher_policy().run(SOLVED, emit=written.append)
    head, *rows, last = run("read_log.py", log).splitlines()
    assert head.split() == ["opened", "closed", "tokens", "cached", "reason"]
    assert {row.split()[0]: int(row.split()[3]) for row in rows if "." in row and row.split()[0] in tree.threads} == {
        thread.id: thread.sampled_tokens for thread in tree.threads.values()
    }
    assert last.startswith(f"{tree.total_tokens} tokens, ")


def test_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "python"), *sys.path]))
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    shown = [str(output.data) for cell in cells for output in cell.outputs if output.output_type == "execute_result"]
    assert sum("<details" in one for one in shown) == 2
    assert any("thread" in one and "answered" in one for one in shown)
