"""A task that a test can follow by eye: a list of digits is summed by its two halves, each a child's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from apr.languages.tags import SPAWN, Tags
from apr.task import Method, Search, Split, Verdict, Written
from apr.threads.language import Resumption


class Sums:
    """The teacher and the judge; a recipe says how many digits there are."""

    name = "sums:Sums"

    def __init__(self, method: Method = "apr") -> None:
        self.method = method

    def judge(self, problem: list[int], answer: str | None, text: str) -> Verdict:
        return Verdict(answer == str(sum(problem)), "a sum")

    def search(self, data: Mapping[str, Any], *, split: Split, seed: int, index: int, progress: float) -> Search:
        if set(data) - {"digits"}:
            raise ValueError(f"data: unknown keys {sorted(set(data) - {'digits'})}")
        random = Random(f"{split} {seed} {index}")
        # Longer lists come later.
        most = int(data.get("digits", 4)) if progress >= 0.5 else 2
        return _sum([random.randrange(10) for _ in range(random.randint(1, most))])


def _sum(digits: list[int]) -> Search:
    total, prompt, half = str(sum(digits)), "+".join(map(str, digits)), len(digits) // 2
    if not half:
        return Search(prompt, (Written("one digit\n"),), total)
    children = (_sum(digits[:half]), _sum(digits[half:]))
    added = f"{children[0].answer}+{children[1].answer}="
    return Search(
        prompt, (Written("halves\n"), children, Written(added), Written(total, "total"), Written("\n")), total
    )


class Cutting(Tags):
    """Tags whose joins stand in the place of the spawns."""

    name = "sums:cutting"

    def join(
        self, token_ids: Sequence[int], results: Sequence[str | None], cancelled: Collection[int], level: int
    ) -> Resumption:
        (spawn,) = self.encode(SPAWN)
        place = max(i for i, token_id in enumerate(token_ids) if token_id == spawn)
        return Resumption(place, super().join(token_ids, results, cancelled, level).token_ids)


def cutting(directory: Path | None, method: Method) -> Cutting:
    return Cutting(method)


class Idle:
    """A task without a teacher."""

    name = "sums:Idle"

    def __init__(self, method: Method) -> None:
        self.method = method

    def judge(self, problem: str, answer: str | None, text: str) -> Verdict:
        return Verdict(False, "idle")
