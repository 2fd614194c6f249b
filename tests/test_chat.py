"""The task that asks anything and judges nothing."""

from __future__ import annotations

from typing import Any

import pytest

from apr.chat import Chat
from apr.cli.screen import PlainScreen
from apr.conversation import Message
from apr.form import read_text
from apr.languages.tags import Tags
from apr.task import load_task
from apr.testing.scripted import ScriptedEngine
from apr.threads.run import run_threads

TASK = Chat()


def test_it_is_found_by_name() -> None:
    assert isinstance(load_task("chat"), Chat)


@pytest.mark.parametrize(
    "text", ["what?", '{"question": "what?"}', '{"messages": [{"role": "user", "content": "what?"}]}']
)
def test_a_question_in_any_form(text: str) -> None:
    asked, _ = read_text(TASK, text)
    assert asked == (Message("user", "what?"),)
    assert TASK.from_json(TASK.to_json(asked)) == asked
    assert (TASK.title(asked), TASK.key(asked), TASK.fill(asked)) == ("what?", "user: what?", ("what?",))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"messages": []},
        {"messages": "what?"},
        {"messages": ["what?"]},
        {"messages": [{"role": "tool", "content": "what?"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "assistant", "content": "so"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]},
    ],
    ids=str,
)
def test_what_asks_nothing_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"message|conversation"):
        TASK.from_json(values)


def test_nobody_judges(capsys: pytest.CaptureFixture[str]) -> None:
    language = Tags()
    screen = PlainScreen()
    engine = ScriptedEngine(["what?\nsurely\n<answer>this</answer>"], language.tokenizer)
    tree = run_threads(TASK.parse(["what?"]), engine, emit=screen.apply, task=TASK, language=language)
    assert tree.finished is not None
    assert (tree.unjudged, tree.correct, tree.score, tree.solved) == (True, None, None, False)
    assert tree.finished.verdict == "nobody judges it"
    assert tree.main.written == "surely\n<answer>this</answer>"
    screen.finish()
    assert "answered this" in capsys.readouterr().out
