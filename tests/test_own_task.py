"""The page docs/own-task.md: its files do what it says."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pages
from apr.cli import main
from apr.languages.tags import Tags
from apr.origin import Origin, read_origin, write_origin
from apr.task import Search, Task, Teaches, load_task
from apr.testing.scripted import ScriptedEngine
from apr.threads.language import Spawn, load_language
from apr.threads.run import run_threads
from apr.train.model import new_model, save_model
from apr.train.recipes import ModelConfig, rl_recipe
from apr.train.rl.rewards import load_reward
from apr.train.searches import search_samples

PAGE = pages.page("own-task.md")
FILES = pages.files(PAGE)
MODULES = [name.removesuffix(".py") for name in FILES if name.endswith(".py")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the page's files, whose modules can be imported."""
    directory = tmp_path_factory.mktemp("page")
    for name, text in FILES.items():
        (directory / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield directory
    for module in MODULES:
        sys.modules.pop(module, None)


@pytest.fixture
def task(page: Path) -> Task[Any]:
    return load_task("star:PathStar")


def test_the_page_has_its_files() -> None:
    names = {"star.py", "look.py", "star.toml", "scores.py", "rl.toml", "words.py", "pyproject.toml"}
    assert set(FILES) == names


def test_the_example_is_the_page() -> None:
    assert pages.directory("path-star") == FILES


def test_the_reward_and_its_recipe(page: Path, task: Task[Any]) -> None:
    config = rl_recipe(FILES["rl.toml"], "apr")
    reward = load_reward(config.reward)
    assert isinstance(task, Teaches)
    language = Tags()
    search = task.search({}, split="train", seed=0, index=2, progress=1.0)
    star, _ = task.read_prompt(search.prompt)
    texts = [language.text(sample.token_ids) for sample in search_samples(search, language, {})]
    tree = run_threads(star, ScriptedEngine(texts, Tags().tokenizer), task=task, language=language)
    assert tree.correct
    assert reward(tree, config.costs) == 1 / len(tree.threads)


def test_its_run_goes_on_from_a_checkpoint_of_the_page(page: Path, tmp_path: Path) -> None:
    shape = ModelConfig(hidden_size=16, layers=1, heads=2, mlp_size=32, context_length=256)
    tokenizer = Tags().tokenizer
    save_model(new_model(shape, tokenizer, seed=0), tokenizer, tmp_path / "star")
    write_origin(Origin("star:PathStar", "tags", "apr"), tmp_path / "star")
    small = FILES["rl.toml"].replace("groups = 8", "groups = 1").replace("group_size = 8", "group_size = 2")
    (tmp_path / "rl.toml").write_text(small)
    words = ["--recipe", str(tmp_path / "rl.toml"), "--start-from", str(tmp_path / "star"), "--steps", "1"]
    assert main(["train", "rl", *words, "--out", str(tmp_path / "rl"), "--device", "cpu", "--threads", "1"]) == 0
    assert read_origin(tmp_path / "rl" / "checkpoints" / "1") == Origin("star:PathStar", "tags", "apr")


def test_problems(task: Task[Any]) -> None:
    assert isinstance(task, Teaches)
    stars = [star for split in ("train", "val", "test") for star in task.problems(split, 0, 0, 30)]
    assert len({task.key(star) for star in stars}) == 90
    assert task.problems("val", 0, 10, 5) == task.problems("val", 0, 0, 30)[10:15]
    for star in stars:
        assert task.from_json(task.to_json(star)) == star
        assert task.read_prompt(task.prompt(star, None)) == (star, None)
    for values in ({}, {"prompt": 7}, {"prompt": "edges 1-2\nfrom 1 to 2"}):
        with pytest.raises(ValueError, match="star"):
            task.from_json(values)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "no path"),
        ("", "no path"),
        ("41", "no path"),
        ("41-62-35-28\n", "no path"),
        ("٤١-٦٢", "no path"),
        ("41-17-90", "start to the goal"),
        ("62-35-28", "start to the goal"),
        ("41-35-28", "no edge"),
        ("41-62-35-28", "a path"),
    ],
)
def test_the_judge(task: Task[Any], answer: str | None, reason: str) -> None:
    star = task.from_json({"prompt": "edges 41-17 62-35 17-90 41-62 35-28\nfrom 41 to 28"})
    verdict = task.judge(star, answer, "")
    assert reason in verdict.reason
    assert verdict.correct == (reason == "a path")
    assert verdict.steps == (("41-62", "62-35", "35-28") if verdict.correct else ())


def test_children_are_judged(task: Task[Any]) -> None:
    prompt = "edges 41-17 62-35 17-90 41-62 35-28\nfrom 41 to 28"
    star = task.from_json({"prompt": prompt})
    verdict = task.judge_child(star, prompt.replace("from 41", "from 62"), "62-35-28")
    assert verdict is not None
    assert verdict.correct
    assert task.judge_child(star, "what?", "62-35-28") is None
    # A prompt that a model wrote may invent an edge.
    invented = task.judge_child(star, "edges 17-28\nfrom 17 to 28", "17-28")
    assert invented is not None
    assert not invented.correct


def write(search: Search, language: Tags) -> tuple[str, str | None]:
    """The text of a thread that writes this search, and its claim; its children are read from its own spawn."""
    ids = language.open(search.prompt)
    for part in search.parts:
        if not isinstance(part, tuple):
            ids += language.encode(part.text)
            continue
        ids += language.spawn([child.prompt for child in part])
        action = language.action(ids, 1)
        assert isinstance(action, Spawn)
        assert [child.prompt for child in action.children] == [child.prompt for child in part]
        ids += language.join(ids, [write(child, language)[1] for child in part], (), 1).token_ids
    text = language.text(ids + language.end(search.answer))
    return text, language.claim(text)


@pytest.mark.parametrize("method", ["apr", "sos", "sos+"])
def test_the_teacher_is_right(page: Path, method: Any) -> None:
    task, language = load_task("star:PathStar", method), Tags(method)
    assert isinstance(task, Teaches)
    for index in range(40):
        search = task.search({"arms": 4}, split="train", seed=1, index=index, progress=index / 40)
        text, claim = write(search, language)
        star, _ = task.read_prompt(search.prompt)
        assert task.judge(star, claim, text).correct
        assert ("<spawn>" in text) == (method == "apr")
        assert search == task.search({"arms": 4}, split="train", seed=1, index=index, progress=index / 40)
    for data, reason in (({"legs": 2}, "data.legs"), ({"arms": True}, "data.arms"), ({"arms": 10}, "data.arms")):
        with pytest.raises(ValueError, match=reason):
            task.search(data, split="train", seed=0, index=0, progress=0.0)


@pytest.mark.parametrize("join", ["all", "first"])
def test_a_rollout_that_writes_what_the_teacher_does(task: Task[Any], join: Any) -> None:
    assert isinstance(task, Teaches)
    language = Tags()
    search = task.search({}, split="train", seed=0, index=2, progress=1.0)
    texts = [language.text(sample.token_ids) for sample in search_samples(search, language, {})]
    problem, _ = task.read_prompt(search.prompt)
    engine = ScriptedEngine(texts, language.tokenizer)
    tree = run_threads(problem, engine, task=task, language=language, join=join)
    assert tree.correct
    assert len(tree.threads) == 4
    assert tree.main.result == search.answer
    if join == "all":
        assert tree.main.text == texts[0]


def test_the_example_is_what_the_language_writes(task: Task[Any]) -> None:
    """The thread that the page shows, written from its own parts."""
    (example,) = re.findall(r"^```\n(edges (?:(?!```).)*<answer>.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    edges = "edges 41-17 62-35 17-90 41-62 35-28\n"
    arms = (Search(f"{edges}from 17 to 28", (), None), Search(f"{edges}from 62 to 28", (), "62-35-28"))
    assert write(Search(f"{edges}from 41 to 28", (arms,), "41-62-35-28"), Tags())[0] + "\n" == example


def test_the_language_with_phrases(page: Path, tmp_path: Path) -> None:
    language = load_language("words:open_words", None)
    assert isinstance(language, Tags)
    assert len(language.encode("from 41 to ")) == 4
    (tmp_path / "tokenizer.json").write_text(language.tokenizer.to_json())
    read = load_language("words:open_words", tmp_path)
    assert read.open("edges 41-17") == language.open("edges 41-17")


def test_what_a_model_is_taught_is_printed(page: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(page)}
    done = subprocess.run(
        [sys.executable, "look.py"], cwd=page, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("--- thread 0") == 4
    assert "<none/>\n" in done.stdout
    assert "<answer>" in done.stdout


def test_the_recipe_and_the_entry_points_name_what_is_there(page: Path) -> None:
    recipe = tomllib.loads(FILES["star.toml"])
    task = load_task(recipe["task"])
    assert task.name == recipe["task"]
    assert isinstance(task, Teaches)
    search = task.search(recipe["data"], split="train", seed=0, index=0, progress=1.0)
    children = [child for part in search.parts if isinstance(part, tuple) for child in part]
    kinds = {part.kind for child in children for part in child.parts if not isinstance(part, tuple)}
    assert recipe["weights"].keys() <= kinds
    assert load_language(recipe["language"], None).name == recipe["language"]
    points = tomllib.loads(FILES["pyproject.toml"])["project"]["entry-points"]
    for values in points.values():
        for value in values.values():
            module, _, attribute = value.partition(":")
            assert hasattr(importlib.import_module(module), attribute)
