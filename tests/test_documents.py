"""What README and the pages say: links lead somewhere, commands are taken, the way in stays short."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import apr
from apr.cli.commands import EXTRAS, GROUPS, own
from apr.cli.completion import parser_of
from pages import blocks
from rows import made_row

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each `apr` in what a shell is given."""
    for line in "\n".join(blocks(text, "sh", "bash")).replace("\\\n", " ").splitlines():
        for command in re.split(r";|&&|\|", line.partition(" #")[0].partition(" >")[0]):
            words = shlex.split(command)
            if "apr" in words:
                yield words[words.index("apr") + 1 :]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_are_taken(page: Path) -> None:
    for words in commands(page.read_text()):
        name = words[0]
        assert name.startswith("-") or name in {one for group in GROUPS.values() for one in group} | {"help"}, words
        if name in own() and name not in ("bench", "help"):
            parser = parser_of(name)
            # Tasks of their own have fields of their own.
            parsed, unknown = parser.parse_known_args(words[1:])
            assert parsed is not None
            assert not unknown or "--task" in words, words
        else:
            assert name.startswith("-") or name in ("bench", "help") or name in EXTRAS


def test_the_pages_are_not_empty_of_commands() -> None:
    found = {words[0] for page in PAGES for words in commands(page.read_text())}
    assert {"solve", "problems", "traces", "train", "eval", "report", "serve", "bench", "watch", "completion"} <= found


def test_the_readme_is_two_screens() -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme.count("\n") <= 70
    [program] = blocks(readme, "python")
    compile(program, "README.md", "exec")
    assert set(re.findall(r"\bapr\.(\w+)", program)) <= set(apr.__all__)


def test_the_reference_has_every_name() -> None:
    told = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert {f"apr.{name}" for name in apr.__all__} <= set(told)
    assert len(told) == len(set(told))
    for name in told:
        module, _, attribute = name.rpartition(".")
        assert getattr(import_module(module), attribute).__doc__, name


def test_the_site_has_every_page() -> None:
    listed = re.findall(r"^ +- (?:.+: )?([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(NAMES)


def test_what_stands_in_files_is_told_key_by_key() -> None:
    told = set(re.findall(r"`([\w.]+?)(?:\.\*|\.[A-Z]+)?`", (ROOT / "docs" / "files.md").read_text()))
    for run in ("ordered", "settled"):
        log = (ROOT / "checkpoints" / "runs" / run / "log.jsonl").read_text().splitlines()
        keys = {key for line in log for key in json.loads(line)}
        kinds = {key for key in keys if run == "settled" and key.startswith("validation_")} - {"validation_loss"}
        assert keys - kinds <= told, run
    assert set(made_row(0, True)) <= told


def test_all_places_tell_one_version() -> None:
    said = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert said is not None
    assert said[1] == project["version"] == apr.__version__
    assert f"## {apr.__version__}" in (ROOT / "CHANGELOG.md").read_text()
