"""Path stars: several paths leave one place; which of them leads to the goal?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import count, pairwise
from random import Random
from typing import Any

from apr.task import Method, Search, Split, Verdict, Written

Edge = tuple[int, int]
PROMPT = re.compile(r"edges((?: \d\d-\d\d)+)\nfrom (\d\d) to (\d\d)\n?", re.ASCII)
PATH = re.compile(r"\d\d(-\d\d)+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Star:
    """A problem."""

    edges: tuple[Edge, ...]
    """In the order in which they are told."""
    start: int
    goal: int


class PathStar:
    """The task, for one method: a serial search writes for itself what children would."""

    name = "star:PathStar"

    def __init__(self, method: Method = "apr") -> None:
        self.method = method

    # What is asked.

    def problems(self, split: Split, seed: int, start: int, count: int) -> list[Star]:
        return [draw(split, seed, index, arms=3) for index in range(start, start + count)]

    def to_json(self, problem: Star) -> dict[str, Any]:
        return {"prompt": ask(problem)}

    def from_json(self, values: Mapping[str, Any]) -> Star:
        return read(str(values.get("prompt")))

    def key(self, problem: Star) -> str:
        return ask(problem)

    def prompt(self, problem: Star, budget: int | None) -> str:
        return ask(problem)  # A star's search costs what it costs: there is no budget to name.

    def read_prompt(self, prompt: str) -> tuple[Star, int | None]:
        return read(prompt), None

    # What is right.

    def judge(self, problem: Star, answer: str | None, text: str) -> Verdict:
        if answer is None or not PATH.fullmatch(answer):
            return Verdict(False, "no path")
        places = [int(place) for place in answer.split("-")]
        if (places[0], places[-1]) != (problem.start, problem.goal):
            return Verdict(False, "it does not lead from the start to the goal")
        steps = list(pairwise(places))
        if not set(steps) <= set(problem.edges):
            return Verdict(False, "it takes a step that is no edge")
        return Verdict(True, "a path", tuple(f"{a}-{b}" for a, b in steps))

    def judge_child(self, problem: Star, prompt: str, claim: str) -> Verdict | None:
        try:
            start = read(prompt).start
        except ValueError:
            return None  # A prompt that asks for something else: nobody can tell.
        return self.judge(Star(problem.edges, start, problem.goal), claim, claim)

    def vote(self, answer: str) -> str | None:
        return answer if PATH.fullmatch(answer) else None

    # Who teaches it.

    def search(self, data: Mapping[str, Any], *, split: Split, seed: int, index: int, progress: float) -> Search:
        for key in data.keys() - {"arms"}:
            raise ValueError(f"data.{key}: unknown key; a star has arms")
        most = data.get("arms", 3)
        if type(most) is not int or not 2 <= most <= 9:
            raise ValueError(f"data.arms: {most!r} is not a number from 2 to 9")
        star = draw(split, seed, index, arms=2 if progress < 0.2 else most)
        arms = [self.follow(Star(star.edges, b, star.goal)) for a, b in star.edges if a == star.start]
        found = next(arm.answer for arm in arms if arm.answer is not None)
        answer = f"{star.start}-{found}"
        if self.method == "apr":
            return Search(ask(star), (tuple(arms),), answer)
        return Search(ask(star), tuple(part for arm in arms for part in arm.parts), answer)

    def follow(self, star: Star) -> Search:
        """A child: walk to the end of the one path that begins there."""
        after = dict(star.edges)
        places = [star.start]
        while places[-1] in after:
            places.append(after[places[-1]])
        path = "-".join(map(str, places))
        found = path if places[-1] == star.goal else None
        return Search(ask(star), (Written(path, kind="steps"), Written("\n")), found)


def ask(star: Star) -> str:
    edges = " ".join(f"{a}-{b}" for a, b in star.edges)
    return f"edges {edges}\nfrom {star.start} to {star.goal}"


def read(prompt: str) -> Star:
    """ValueError if the prompt asks for no star."""
    found = PROMPT.fullmatch(prompt)
    if found is None:
        raise ValueError("no edges, start and goal of a star in it")
    edges = [edge.split("-") for edge in found[1].split()]
    return Star(tuple((int(a), int(b)) for a, b in edges), int(found[2]), int(found[3]))


def draw(split: Split, seed: int, index: int, *, arms: int, length: int = 3) -> Star:
    """Item `index` of a stream: the first star of its own that belongs to the split."""
    for attempt in count():
        random = Random(f"{seed} {index} {attempt} {arms}")
        start, *places = random.sample(range(10, 100), 1 + arms * length)
        paths = [[start, *places[i::arms]] for i in range(arms)]
        edges = [edge for path in paths for edge in pairwise(path)]
        random.shuffle(edges)
        star = Star(tuple(edges), start, paths[0][-1])
        if split_of(star) == split:
            return star
    raise AssertionError("unreachable")


def split_of(star: Star) -> Split:
    """By a digest, so that no star of one split is in another, whatever the seed."""
    share = sha256(ask(star).encode()).digest()[0]
    return "test" if share < 26 else "val" if share < 52 else "train"
