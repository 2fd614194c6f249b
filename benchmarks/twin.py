"""Plain Python twins of the Rust teacher, problem generator and judge: what the fast ones are measured against.

They follow the same written rules and nothing else, so equality of the two is a test, and the ratio of their times says
what Rust is worth. Written to be read: no caches, no tricks.
"""

from __future__ import annotations

import heapq
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol


def combine(a: int, b: int) -> list[tuple[int, str]]:
    """What two numbers of a state can become: sum, product, difference, exact quotient."""
    high, low = (b, a) if a <= b else (a, b)
    results = [(a + b, f"{a}+{b}={a + b}"), (a * b, f"{a}*{b}={a * b}"), (high - low, f"{high}-{low}={high - low}")]
    if low != 0 and high % low == 0:
        results.append((high // low, f"{high}/{low}={high // low}"))
    return results


def children(numbers: Sequence[int]) -> Iterator[tuple[list[int], str]]:
    """Every state one step on: the numbers left with the result last, and the equation."""
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
            for result, equation in combine(numbers[i], numbers[j]):
                yield [*rest, result], equation


def divisors(target: int) -> list[int]:
    return [d for d in range(2, target + 1) if target % d == 0]


def distance(numbers: Sequence[int], factors: Sequence[int]) -> int:
    """The mult heuristic: every number's distance to the nearest divisor of the target."""
    return sum(min(abs(n - d) for d in factors) for n in numbers)


class Choices(Protocol):
    """Where the random choices of a search come from."""

    def shuffle(self, n: int) -> list[int]:
        """A permutation: position p takes element order[p]."""
        ...

    def promising(self, probability: float) -> bool: ...


class Drawn:
    """Choices drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def shuffle(self, n: int) -> list[int]:
        order = list(range(n))
        self._random.shuffle(order)
        return order

    def promising(self, probability: float) -> bool:
        return self._random.random() < probability


class Noted:
    """Choices drawn from a seed and written down, for another search to replay."""

    def __init__(self, seed: int) -> None:
        self._drawn = Drawn(seed)
        self.events: list[bool | list[int]] = []

    def shuffle(self, n: int) -> list[int]:
        self.events.append(self._drawn.shuffle(n))
        return list(self.events[-1])

    def promising(self, probability: float) -> bool:
        self.events.append(self._drawn.promising(probability))
        return bool(self.events[-1])


@dataclass(slots=True)
class Node:
    """A state on the way."""

    id: str
    numbers: list[int]
    operations: list[str]
    score: int
    parent: Node | None = None

    def __lt__(self, other: Node) -> bool:
        return self.score < other.score


@dataclass(slots=True)
class Trace:
    """A written search: the main thread's texts, and per spawn round the children."""

    main_calls: list[str] = field(default_factory=list)
    children: list[list[Trace]] = field(default_factory=list)
    solved: bool = False


@dataclass(slots=True)
class Search:
    """An APR search of one problem."""

    target: int
    child_beam_size: int
    promising: float
    choices: Choices

    def run(self, numbers: Sequence[int], beam_size: int) -> Trace:
        trace = Trace()
        root = Node("0", list(numbers), [], 0)
        lines, goal = self.thread(root, beam_size, trace)
        trace.main_calls.append("".join(lines))
        trace.solved = goal is not None
        return trace

    def thread(self, start: Node, beam_size: int, trace: Trace | None) -> tuple[list[str], Node | None]:
        """One thread's lines, and the goal if it was reached. Without a trace to put children in, none are spawned."""
        lines = [f"Moving to Node #{start.id}\n"]
        heap = [start]
        while heap:
            batch = [heapq.heappop(heap) for _ in range(min(beam_size, len(heap)))]
            for index, node in enumerate(batch):
                goal, internal = self.expand(node, beam_size, lines)
                if goal is None and trace is not None and len(internal) > 1 and self.choices.promising(self.promising):
                    goal = self.spawn(internal, lines, trace)
                    internal = []
                if goal is not None:
                    lines.append(f"{self.target},{self.target} equal: Goal Reached\n")
                    lines += self.summary(start, goal)
                    return lines, goal
                for child in internal:
                    heapq.heappush(heap, child)
                if index + 1 < len(batch):
                    lines.append(f"Moving to Node #{batch[index + 1].id}\n")
            if heap:
                lines.append(f"Moving to Node #{heap[0].id}\n")
        lines.append("No solution found.\n")
        return lines, None

    def expand(self, node: Node, beam_size: int, lines: list[str]) -> tuple[Node | None, list[Node]]:
        """Shows a node and its kept children in shuffled order; the goal, or the children, best first."""
        lines.append(f"Current State: {self.target}:{node.numbers}, Operations: {node.operations}\n")
        factors = divisors(self.target)
        scored = [(distance(left, factors), left, equation) for left, equation in children(node.numbers)]
        kept = sorted(scored, key=lambda child: child[0])[:beam_size]
        internal: list[Node] = []
        for position in self.choices.shuffle(len(kept)):
            score, left, equation = kept[position]
            lines.append(f"Exploring Operation: {equation}, Resulting Numbers: {left}\n")
            child = Node(f"{node.id},{len(internal)}", left, [*node.operations, equation], score, node)
            if len(left) > 1:
                lines.append(f"Generated Node #{child.id}: {self.target}:{left} Operation: {equation}\n")
                internal.append(child)
            elif left[0] == self.target:
                return child, []
            else:
                lines.append(f"{left[0]},{self.target} unequal: No Solution\n")
        return None, sorted(internal, key=lambda child: child.score)

    def spawn(self, nodes: Sequence[Node], lines: list[str], trace: Trace) -> Node | None:
        """Runs every child, closes the text with the spawn block and goes on with the join block in its place."""
        first: Node | None = None
        spawned, joined, round_ = [], [], []
        for index, node in enumerate(nodes):
            child_lines, goal = self.thread(node, self.child_beam_size, None)
            round_.append(Trace(["".join(child_lines)], [], goal is not None))
            spawned.append(f"<Start Sub Search {index} at level 1> Moving to Node #{node.id}\n")
            if goal is None:
                joined.append(f"<No Solution in Sub Search {index} at level 1 at Node #{node.id}>\n")
            else:
                joined.append(f"<Goal Reached in Sub Search {index} at level 1 at Node #{node.id}>\n")
                joined += self.summary(node, goal)
                first = first or goal
        block = ["<Calling Sub Searches>\n", *spawned, "<End Calling Sub Searches>\n"]
        trace.main_calls.append("".join(lines + block))
        trace.children.append(round_)
        lines += ["<Sub Searches>\n", *joined, "<End Sub Searches>\n"]
        return first

    def summary(self, start: Node, goal: Node) -> list[str]:
        """The path from one node to the goal, without what led nowhere."""
        path = [goal]
        while path[0] is not start:
            assert path[0].parent is not None
            path.insert(0, path[0].parent)
        lines = [f"Moving to Node #{start.id}\n"]
        for node, child in pairwise(path):
            equation = child.operations[-1]
            lines.append(f"Current State: {self.target}:{node.numbers}, Operations: {node.operations}\n")
            lines.append(f"Exploring Operation: {equation}, Resulting Numbers: {child.numbers}\n")
            if child is not goal:
                lines.append(f"Generated Node #{child.id}: {self.target}:{child.numbers} Operation: {equation}\n")
                lines.append(f"Moving to Node #{child.id}\n")
        lines.append(f"{self.target},{self.target} equal: Goal Reached\n")
        return lines


def solve(numbers: Sequence[int], target: int) -> list[str] | None:
    """The first solution of a depth-first walk, as equations."""
    if len(numbers) == 1:
        return [] if numbers[0] == target else None
    for left, equation in children(numbers):
        rest = solve(left, target)
        if rest is not None:
            return [equation, *rest]
    return None


def problem(draw: random.Random, numbers: int = 4) -> tuple[list[int], int]:
    """A solvable problem: a target, and numbers drawn until they reach it."""
    target = draw.randint(10, 100)
    while True:
        drawn = [draw.randint(1, 99) for _ in range(numbers)]
        if solve(drawn, target) is not None:
            return drawn, target


STATE = re.compile(r"Current State: (\d{1,30}):\[(\d{1,30}(?:, \d{1,30})*)\]", re.ASCII)
STEP = re.compile(
    r"Exploring Operation: (\d{1,30})([-+*/])(\d{1,30})=(\d{1,30}), "
    r"Resulting Numbers: \[(\d{1,30}(?:, \d{1,30})*)\]",
    re.ASCII,
)
GOAL = re.compile(r"(\d{1,30}),(\d{1,30}) equal: Goal Reached", re.ASCII)


def calculate(left: int, sign: str, right: int) -> int | None:
    """The result of an operation; None if it is negative or not exact."""
    if sign == "+":
        return left + right
    if sign == "*":
        return left * right
    if sign == "-":
        return left - right if left >= right else None
    return left // right if right != 0 and left % right == 0 else None


def check_solution(prompt: str, text: str) -> bool:
    """The strict judge: every step exact on the multiset of numbers left, and the first goal line true."""
    start = prompt.find("Current State")
    state = STATE.match(prompt, start) if start >= 0 else None
    if state is None:
        return False
    target = int(state[1])
    numbers = Counter(int(n) for n in state[2].split(", "))
    for line in text.split("\n"):
        if "Exploring Operation" in line:
            step = STEP.fullmatch(line)
            if step is None:
                return False
            left, right, result = int(step[1]), int(step[3]), int(step[4])
            for operand in (left, right):
                if numbers[operand] == 0:
                    return False
                numbers[operand] -= 1
            if calculate(left, step[2], right) != result:
                return False
            numbers[result] += 1
            if +numbers != Counter(int(n) for n in step[5].split(", ")):
                return False
        elif "Goal Reached" in line:
            goal = GOAL.fullmatch(line)
            return goal is not None and int(goal[1]) == int(goal[2]) == target and +numbers == Counter([target])
    return False
