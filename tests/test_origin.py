"""What a checkpoint was trained to do: noted, read again, and refused in one line where the note is none."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from apr.cli import main
from apr.evaluate.protocol import Protocol
from apr.origin import ORIGIN_FILE, Origin, read_origin, write_origin
from apr.policy import PolicyError, load_policy
from tiny import save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return Path(save_tiny_model(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))


@pytest.mark.parametrize(
    "origin", [Origin(), Origin("sums:Sums", "tags"), Origin("toy:ToyTask", "toy:ToyLanguage", "sos+")]
)
def test_there_and_back(origin: Origin, tmp_path: Path) -> None:
    write_origin(origin, tmp_path)
    assert read_origin(tmp_path) == origin


def test_a_checkpoint_without_a_note_is_the_authors(tmp_path: Path) -> None:
    assert read_origin(tmp_path) == Origin("countdown", "traces", None)
    (tmp_path / ORIGIN_FILE).write_text("{}")
    assert read_origin(tmp_path) == Origin()


def test_a_policy_has_what_its_checkpoint_notes(copy: Path) -> None:
    pytest.importorskip("toy")
    write_origin(Origin("toy:ToyTask", "toy:ToyLanguage"), copy)
    policy = load_policy("native", str(copy), task="toy:ToyTask", language="toy:ToyLanguage")
    assert (policy.task.name, policy.language.name) == ("toy:ToyTask", "toy:ToyLanguage")
    named = load_policy("native", str(copy), task="countdown", language="traces")
    assert (named.task.name, named.language.name) == ("countdown", "traces")


@pytest.mark.parametrize(
    "note",
    [
        "",
        "5",
        "null",
        "[]",
        '["countdown"]',
        "{",
        "[" * 100_000,
        '{"task": NaN}',
        '{"task": 5}',
        '{"task": null}',
        '{"language": ["traces"]}',
        '{"method": "magic"}',
        '{"method": ["apr"]}',
        '{"tasks": "countdown"}',
        '{"a\\nb": 1}',
        b"\xff\xfe",
    ],
    ids=lambda note: repr(note[:16]),
)
def test_a_note_that_is_none_is_told_in_one_line(note: str | bytes, copy: Path) -> None:
    path = copy / ORIGIN_FILE
    path.write_bytes(note.encode() if isinstance(note, str) else note)
    with pytest.raises(ValueError, match="cannot be read: ") as told:
        read_origin(copy)
    assert str(told.value).startswith(f"{path} cannot be read: ")
    with pytest.raises(PolicyError, match="cannot be read: ") as refused:
        load_policy("native", str(copy))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ('{"task": "no_such_task"}', "names the task 'no_such_task', which is not installed; give it with --task"),
        ('{"task": "nobodys_package:task"}', "names the task 'nobodys_package:task', which is not installed"),
        ('{"language": "no_such_language"}', "not installed; give it with --language"),
    ],
)
def test_what_is_noted_and_not_there_is_told_in_one_line(note: str, said: str, copy: Path) -> None:
    (copy / ORIGIN_FILE).write_text(note)
    with pytest.raises(PolicyError, match=said) as refused:
        load_policy("native", str(copy))
    assert len(str(refused.value).splitlines()) == 1


def test_a_note_calls_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A checkpoint may be a stranger's: what it names is not looked up, unless the user gave that very name."""
    monkeypatch.chdir(tmp_path)
    for note in ({"task": "os:mkdir"}, {"language": "os:mkdir"}, {"task": "antigravity:fly", "language": "this:s"}):
        (copy / ORIGIN_FILE).write_text(json.dumps(note))
        with pytest.raises(PolicyError, match="which is not installed"):
            load_policy("native", str(copy))
        assert main(["eval", "--model", str(copy), "--problems", "1"]) == 2
        assert main(["solve", "1", "2", "--target", "3", "--model", str(copy)]) == 2
    assert not Path("apr").exists()
    results = tmp_path / "results"
    results.mkdir()
    (results / "protocol.json").write_text(json.dumps({**asdict(Protocol()), "task": "os:mkdir"}))
    assert main(["report", str(results)]) == 2
    assert not Path("apr").exists()
