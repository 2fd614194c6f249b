"""A language of threads in single characters, so that a test can write a whole rollout in one line.

`[a,b]` spawns children with the prompts `a` and `b`, `{r,s}` is their join (`-` failed, `x` cancelled),
`!word` claims a solution, and a model that writes `{` by itself is made to write `[`. The problem is the word
to find.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from apr.threads.grammar import MalformedSpawn, Resumption, Verdict


class Characters:
    """A token is a character's code; 1 and 2 begin and end."""

    bos, eos = 1, 2

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids if i > 2)


class Toy:
    method = "toy"
    stop_token_ids = (2, ord("]"), ord("{"))

    def describe(self, problem: str) -> dict[str, Any]:
        return {"word": problem}

    def prompt(self, problem: str, budget: int | None) -> str:
        return "?" if budget is None else f"{budget}?"

    def read_prompt(self, prompt: str) -> tuple[str, int | None]:
        raise ValueError("a toy's prompt names no problem")

    def open(self, prompt: str) -> tuple[int, ...]:
        return (1, *map(ord, prompt))

    def text(self, token_ids: Sequence[int]) -> str:
        return Characters().decode(token_ids)

    def replacement(self, token_ids: Sequence[int]) -> Resumption | None:
        return Resumption(len(token_ids) - 1, (ord("["),)) if token_ids[-1] == ord("{") else None

    def spawns(self, token_ids: Sequence[int]) -> bool:
        return token_ids[-1] == ord("]")

    def parse_spawn(self, token_ids: Sequence[int], level: int) -> list[str]:
        text = self.text(token_ids)
        if "[" not in text:
            raise MalformedSpawn("no opening")
        inside = text[text.rindex("[") + 1 : -1]
        return inside.split(",") if inside else []

    def join_message(
        self, token_ids: Sequence[int], results: Sequence[str | None], cancelled: Collection[int], level: int
    ) -> str:
        said = ["x" if i in cancelled else "-" if r is None else r for i, r in enumerate(results)]
        return "{" + ",".join(said) + "}"

    def resume(self, token_ids: Sequence[int], message: str) -> Resumption:
        text_before = self.text(token_ids)
        return Resumption(1 + text_before.rindex("["), tuple(map(ord, message)))

    def settled(self, text: str) -> int:
        return text.rindex("[") if "[" in text else len(text)

    def claim(self, text: str) -> str | None:
        return text.rpartition("!")[2] if "!" in text else None

    def verify_claim(self, problem: str, prompt: str, claim: str) -> Verdict:
        return Verdict(claim == problem, "toy")

    def verify(self, problem: str, text: str) -> Verdict:
        claim = self.claim(text)
        return Verdict(claim == problem, "toy", (problem,) if claim == problem else ())
