"""What others bring, found by name; and what is not there, told in one line."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import toy
from apr.cli import main
from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.plugins import find, names
from apr.task import load_task
from apr.threads.language import load_language
from toy import ToyLanguage, ToyTask

INSTALLED = {
    "apr.tasks": {"words": "toy:ToyTask", "lost": "toy:Lost", "needy": "no_such_package.task:task"},
    "apr.languages": {"characters": "toy:ToyLanguage"},
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that bring a task and a language."""

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        found = INSTALLED.get(group, {})
        return [EntryPoint(key, value, group) for key, value in found.items() if name in (None, key)]

    monkeypatch.setattr("apr.plugins.entry_points", entry_points)


@pytest.mark.usefixtures("installed")
def test_what_is_installed_is_found_by_its_name() -> None:
    assert names("apr.tasks") == ("lost", "needy", "words")
    assert names("apr.rewards") == ()
    assert find("apr.tasks", "words") is ToyTask
    assert isinstance(load_task("words", "sos+"), ToyTask)
    assert isinstance(load_language("characters", None), ToyLanguage)


def test_any_module_and_attribute_is_found() -> None:
    assert find("apr.tasks", "toy:ToyTask") is ToyTask
    assert find("apr.rewards", "toy:ToyTask.judge") is ToyTask.judge


def test_a_task_is_there_or_is_made_for_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    made = load_task("toy:ToyTask", "sos")
    assert isinstance(made, ToyTask)
    assert made.method == "sos"
    monkeypatch.setattr(toy, "there", made, raising=False)
    assert load_task("toy:there", "apr") is made
    assert load_task(made.name).name == made.name


def test_a_language_is_opened_over_a_checkpoint_for_the_method(tmp_path: Path) -> None:
    language = load_language("toy:ToyLanguage", tmp_path, "sos+")
    assert isinstance(language, ToyLanguage)
    assert (language.directory, language.method) == (tmp_path, "sos+")
    assert load_language(language.name, None).name == language.name


def test_what_this_package_brings_is_found() -> None:
    assert isinstance(task := load_task("countdown", "sos+"), Countdown)
    assert (task.name, task.method) == ("countdown", "sos+")
    assert isinstance(language := load_language("traces", None), Traces)
    assert language.name == "traces"


WRONG = [
    ("nothing", "unknown task 'nothing': choose one of lost, needy, words, or module:attribute"),
    ("", "unknown task ''"),
    ("no_such_package:task", "the task 'no_such_package:task' needs no_such_package, which is not installed"),
    ("needy", "the task 'needy' needs no_such_package, which is not installed"),
    ("lost", "the task 'lost' cannot be found: module 'toy' has no attribute 'Lost'"),
    ("toy:", "the task 'toy:' cannot be found"),
    ("toy:ToyTask.nothing", "cannot be found"),
    (":ToyTask", "the task ':ToyTask' cannot be found"),
    (".toy:ToyTask", "the task '.toy:ToyTask' cannot be found"),
    ("toy:Characters", "the task 'toy:Characters' is none"),
    ("toy:__doc__", "the task 'toy:__doc__' is none"),
]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("name", "said"), WRONG)
def test_a_task_that_is_not_there_is_told_in_one_line(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^(unknown|the) task ") as told:
        load_task(name)
    assert said in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "unknown language 'nothing': choose one of characters, or module:attribute"),
        ("no_such_package:open", "the language 'no_such_package:open' needs no_such_package, which is not installed"),
        ("toy:nothing", "the language 'toy:nothing' cannot be found"),
        ("toy:__doc__", "the language 'toy:__doc__' is none"),
    ],
)
def test_a_language_that_is_not_there_is_told_in_one_line(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^(unknown|the) language ") as told:
        load_language(name, None)
    assert said in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("words", [["eval", "--problems", "1"], ["solve", "1 2 3"]])
def test_a_command_says_so_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--task", "no_such_package:task"]) == 2
    err: Any = capsys.readouterr().err
    assert "needs no_such_package, which is not installed" in err
    assert len(err.splitlines()) == 1
