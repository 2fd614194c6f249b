"""A task whose problem is the word to find, and a language of threads in single characters, so that a test can write
a whole rollout in one line.

`[a,b]` spawns children with the prompts `a` and `b`, `{r,s}` is their join (`-` failed, `x` cancelled),
`!word` claims a solution, and a model that writes `{` by itself is made to write `[`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from apr.task import Method, Split, Verdict
from apr.threads.language import Action, Child, Done, Ids, Malformed, Replace, Resumption, Spawn


class Characters:
    """A token is a character's code; 1 and 2 begin and end."""

    bos, eos = 1, 2

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids if i > 2)


class ToyTask:
    name = "toy:ToyTask"

    def __init__(self, method: Method = "apr") -> None:
        self.method = method

    def problems(self, split: Split, seed: int, start: int, count: int) -> list[str]:
        return [f"{split}-{seed}-{i}" for i in range(start, start + count)]

    def to_json(self, problem: str) -> dict[str, Any]:
        return {"word": problem}

    def from_json(self, values: Mapping[str, Any]) -> str:
        if not isinstance(word := values.get("word"), str):
            raise ValueError("its word is no text")
        return word

    def key(self, problem: str) -> str:
        return problem

    def prompt(self, problem: str, budget: int | None) -> str:
        return "?" if budget is None else f"{budget}?"

    def read_prompt(self, prompt: str) -> tuple[str, int | None]:
        raise ValueError("a toy's prompt names no problem")

    def judge(self, problem: str, answer: str | None, text: str) -> Verdict:
        return Verdict(answer == problem, "toy", (problem,) if answer == problem else ())

    def judge_child(self, problem: str, prompt: str, claim: str) -> Verdict | None:
        return Verdict(claim == problem, "toy")

    def vote(self, answer: str) -> str | None:
        return answer


class ToyLanguage:
    name = "toy:ToyLanguage"
    stop_token_ids: Ids = (2, ord("]"), ord("{"))

    def __init__(self, directory: Path | None = None, method: Method = "apr") -> None:
        self.directory, self.method = directory, method

    def open(self, prompt: str) -> Ids:
        return (1, *map(ord, prompt))

    def text(self, token_ids: Sequence[int]) -> str:
        return Characters().decode(token_ids)

    def action(self, token_ids: Sequence[int], level: int) -> Action:
        if token_ids[-1] == ord("{"):
            return Replace(Resumption(len(token_ids) - 1, (ord("["),)))
        if token_ids[-1] != ord("]"):
            return Done()
        _, opening, inside = self.text(token_ids[:-1]).rpartition("[")
        if not opening:
            return Malformed("no opening")
        return Spawn(tuple(Child(self.open(prompt), prompt) for prompt in inside.split(",") if inside))

    def join(
        self, token_ids: Sequence[int], results: Sequence[str | None], cancelled: Collection[int], level: int
    ) -> Resumption:
        said = ["x" if i in cancelled else "-" if r is None else r for i, r in enumerate(results)]
        kept = 1 + self.text(token_ids).rindex("[")
        return Resumption(kept, tuple(map(ord, "{" + ",".join(said) + "}")))

    def settled(self, text: str) -> int:
        return text.rindex("[") if "[" in text else len(text)

    def claim(self, text: str, begin: int = 0, depth: int = 0) -> str | None:
        return text.rpartition("!")[2] if "!" in text else None
