"""Recorded dialogues, one for each way to fork and join (`golden/dialogues`), and what plays or learns them.

`main` is what the main thread samples and what is forced behind it, in turn; a child's `begins` is what it is opened
with behind what it inherits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr.languages.markup import Marked
from apr.languages.published import MARKUPS
from apr.languages.tags import MARKUP as TAGS
from apr.task import Verdict
from apr.threads.events import Event
from apr.threads.language import Spawn
from apr.threads.run import run_threads
from apr.threads.tree import ThreadTree
from apr.tokenizer import ForeignTokenizer
from apr.types import SamplingParams

MODEL = Path(__file__).parent / "golden" / "dialogues" / "model"
"""A tiny Llama that knows the dialogues by heart (`memorise.py`)."""
FOLDER = Path(__file__).parent / "golden" / "dialogues"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Dialogue:
    language: str
    prompt: str
    main: list[str]
    children: list[dict[str, str]]
    answer: str

    @classmethod
    def read(cls, name: str) -> Dialogue:
        return cls(**json.loads((FOLDER / f"{name}.json").read_text("utf-8")))

    def written_in(self, tokenizer: ForeignTokenizer) -> Marked:
        return Marked(TAGS if self.language == "tags" else MARKUPS[self.language], "apr", tokenizer)

    def texts(self, language: Marked) -> list[str]:
        """Whole threads, as a script has them: the main thread's, then its children's."""
        opened = language.open(self.prompt)
        ids = (*opened, *language.tokenizer.encode(self.main[0], special=False))
        spawn = language.action(ids, 1)
        assert isinstance(spawn, Spawn), spawn
        begun = [language.text(child.token_ids) for child in spawn.children]
        whole = language.text(opened) + "".join(self.main)
        return [*(begin + child["writes"] for begin, child in zip(begun, self.children, strict=True)), whole]


class Asked:
    """The task: to answer as the dialogue does."""

    name = "dialogue"

    def prompt(self, problem: Dialogue, budget: int | None) -> str:
        return problem.prompt

    def to_json(self, problem: Dialogue) -> dict[str, Any]:
        return {"prompt": problem.prompt}

    def judge(self, problem: Dialogue, answer: str | None, text: str) -> Verdict:
        return Verdict(answer == problem.answer, "as recorded")

    def judge_child(self, problem: Dialogue, prompt: str, claim: str) -> Verdict | None:
        return None


class Played:
    """What a script needs of the tokenizer."""

    def __init__(self, tokenizer: ForeignTokenizer) -> None:
        self.tokenizer, self.eos = tokenizer, tokenizer.eos

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special=True)


def modelled(name: str, engine: Any) -> tuple[Dialogue, ThreadTree, list[Event]]:
    """The dialogue as the model that knows it writes it on an engine."""
    dialogue, events = Dialogue.read(name), list[Event]()
    language = dialogue.written_in(ForeignTokenizer.read(MODEL))
    task: Any = Asked()
    tree = run_threads(
        dialogue,
        engine,
        emit=events.append,
        params=SamplingParams(temperature=0.0),
        task=task,
        language=language,
    )
    return dialogue, tree, events


def check(dialogue: Dialogue, tree: ThreadTree, events: list[Event]) -> None:
    """That it went as recorded."""
    assert tree.correct
    assert ThreadTree.fold(events) == tree
    main = tree.main
    assert main.written == "".join(dialogue.main)
    children = [tree.threads[child] for child in main.children]
    assert [child.result for child in children] == [child["result"] for child in dialogue.children]
    for child, recorded in zip(children, dialogue.children, strict=True):
        assert child.written == recorded["writes"]
        assert child.text[: child.begin] == recorded.get("begins", child.text[: child.begin])


def inherited_cached(tree: ThreadTree) -> list[tuple[int, int]]:
    """Of each child that inherits: tokens that its first request did not compute, and those that its parent held."""
    spawn = tree.main.calls[0]
    held = spawn.prompt_tokens + len(spawn.sampled)
    return [(child.calls[0].cached_tokens, held) for child in list(tree.threads.values())[1:]]
