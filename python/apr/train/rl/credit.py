"""What tokens are worth beside their rollout's outcome: credit that only an exact judge can give, no torch.

A `Credit` speaks of a thread's sampled tokens by their number, counted over all its calls, and never of rows: however
threads are cut into rows, a token keeps what it is worth. Means are taken within a group, as those of its rewards are,
and nothing is said of rollouts that are not judged.

outcome   Where it is for decisions alone, the tokens of main threads in which something was decided share in it, and in
          what `rounds` makes of it; what is copied or computed is left to other credit and to lessons.
children  A child is alone with its part of the problem, so all of its tokens share what it made of it: 1 for a solution
          that is one, or for finding nothing where nothing is; 0 for missing what is there; -1 for claiming what is
          false. Less the mean over the group's children whose parts, likewise, have a solution or have none: that is
          known before a child writes its first token, so the mean is a baseline that favours no action.
choices   Of the lines that give a child its part, the tokens in which something was chosen: 1 if the problem could
          still be solved by that child alone, else 0, less the mean over the group's choices before which as many had
          been made: good ones are fewer the more were tried, and a mean over all would blame whatever comes late for
          coming late. The result, the numbers left, the node and its line in the spawn follow from the choice; credit
          for them would reward writing them so, true or not.
rounds    The tokens of a round, the main thread's after so many joins and its children's: what the group's mean reward
          is above that of its rollouts that came to that round, and, likewise, whose last join brought a solution or
          did not. With a weight of 1 this makes the latter the baseline; that a rollout came so far is known before
          the round's first token, so it favours no action either.
lines     The token at which a line left what can stand there, given all before it: with it the line was lost, and what
          follows it was written after a wrong begin. It costs 1, and no token gains by it: what is taught is the
          probability of going wrong, which needs no baseline. Or the token that should stand there is trained by cross
          entropy at that place, where the policy's own text is still right.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import fsum
from typing import TYPE_CHECKING, Any, Literal

from apr.task import Corrects, Decides, Fault, Foresees, Task, Weighs
from apr.threads.language import Trainable
from apr.threads.tree import Thread, ThreadTree
from apr.train.recipes import RlConfig
from apr.train.rl.samples import written_at

if TYPE_CHECKING:
    from apr.train.rl.groups import Group

ChildVerdict = Literal["found", "nothing", "missed", "false"]
"""A solution that is one; none, where none is; none, where one is; one that is none."""

_WORTH: Mapping[ChildVerdict, float] = {"found": 1.0, "nothing": 1.0, "missed": 0.0, "false": -1.0}


@dataclass(slots=True)
class Credit:
    """Of one rollout."""

    advantages: dict[str, list[float]] = field(default_factory=dict)
    """By thread, one for each sampled token, beside the rollout's own; a thread that is not here has none."""
    wanted: dict[str, dict[int, int]] = field(default_factory=dict)
    """By thread and number of the sampled token, the token that should stand in its place."""
    decided: dict[str, frozenset[int]] | None = None
    """By thread, the sampled tokens that share in the outcome, by number; None: all do."""
    counts: Counter[str] = field(default_factory=Counter)
    """What was judged, and how."""

    def add(self, thread: Thread, worth: float, numbers: Sequence[int] | None = None) -> None:
        """Give these sampled tokens of a thread so much; None: all of them."""
        count = sum(len(call.sampled) for call in thread.calls)
        own = self.advantages.setdefault(thread.id, [0.0] * count)
        for number in range(count) if numbers is None else numbers:
            own[number] += worth

    def shares(self, thread: str, number: int) -> bool:
        """Whether a sampled token shares in the outcome."""
        return self.decided is None or number in self.decided.get(thread, ())


def credits_of(groups: Sequence[Group], task: Task[Any], language: Trainable, config: RlConfig) -> list[list[Credit]]:
    """The credit of each rollout of each group."""
    weights, writing = config.credit, _Writing(language)
    found: list[list[Credit]] = []
    for group in groups:
        own = [Credit() for _ in group.trees]
        pairs = zip(group.trees, own, group.rewards, strict=True)
        judged = [_Judged(tree, credit) for tree, credit, reward in pairs if reward is not None]
        problem = group.drawn.problem
        if config.loss.outcome == "decisions" and isinstance(task, Decides):
            for one in judged:
                one.credit.decided = {one.tree.main.id: _decided(task, one.tree.main, writing)}
        if weights.rounds:
            _rounds(judged, group.judged, weights.rounds)
        if weights.children and isinstance(task, Foresees):
            _children(task, problem, judged, weights.children)
        if weights.choices and isinstance(task, Weighs):
            _choices(task, problem, judged, writing, weights.choices)
        if (weights.lines or weights.corrections) and isinstance(task, Corrects):
            _lines(task, problem, judged, writing, weights.lines, correct=bool(weights.corrections))
        found.append(own)
    return found


def child_verdict(task: Any, problem: Any, child: Thread) -> ChildVerdict | None:
    """What a finished child made of its part of the problem; None where that is not its doing, or nobody can tell.

    A child that wrote until its context was full, or whose spawn is not to be, found nothing by its own doing; but it
    is not right to do so where nothing is.
    """
    if child.result is not None:
        verdict = task.judge_child(problem, child.prompt_text, child.result)
        return None if verdict is None else "found" if verdict.correct else "false"
    if child.reason not in _OWN_END:
        return None
    if task.solvable(problem, child.prompt_text):
        return "missed"
    return "nothing" if child.reason == "no_answer" else None


_OWN_END = ("answered", "no_answer", "length", "limit_depth", "malformed_spawn")


@dataclass(frozen=True, slots=True)
class _Judged:
    """A rollout that counts, and the credit that it gets."""

    tree: ThreadTree
    credit: Credit

    def give(self, thread: Thread, worth: float, numbers: range) -> None:
        """So much to those of a thread's sampled tokens that share in the outcome."""
        if worth and (sharing := [number for number in numbers if self.credit.shares(thread.id, number)]):
            self.credit.add(thread, worth, sharing)


def _decided(task: Decides, main: Thread, writing: _Writing) -> frozenset[int]:
    places = [(place, one) for text, one in writing.sequences(main) for place in task.decisions(text)]
    return frozenset(number for (begin, end), one in places for number in one.between(begin, end))


def _children(task: Foresees, problem: Any, judged: Sequence[_Judged], weight: float) -> None:
    alike: dict[bool, list[tuple[Credit, Thread, float]]] = {True: [], False: []}
    for one in judged:
        for child in one.tree.threads.values():
            if child.parent is None or (verdict := child_verdict(task, problem, child)) is None:
                continue
            one.credit.counts[verdict] += 1
            alike[task.solvable(problem, child.prompt_text)].append((one.credit, child, _WORTH[verdict]))
    for several in alike.values():
        for (credit, child, _), gained in zip(several, _less_mean([worth for *_, worth in several]), strict=True):
            credit.add(child, weight * gained)


def _rounds(judged: Sequence[_Judged], rewards: Sequence[float], weight: float) -> None:
    if len(set(rewards)) < 2:
        return
    mean = fsum(rewards) / len(rewards)
    stages = [_stages(one.tree.main) for one in judged]
    came: defaultdict[_Stage, list[float]] = defaultdict(list)
    for own, reward in zip(stages, rewards, strict=True):
        for stage in dict.fromkeys(own):
            came[stage].append(reward)
    above = {stage: weight * (mean - fsum(there) / len(there)) for stage, there in came.items()}
    for one, own in zip(judged, stages, strict=True):
        main, count = one.tree.main, 0
        for call, stage in zip(main.calls, own, strict=True):
            one.give(main, above[stage], range(count, count + len(call.sampled)))
            count += len(call.sampled)
        pairs = zip(main.rounds, dict.fromkeys(own), strict=False)
        spawned = {child: stage for spawn, stage in pairs for child in spawn.children}
        for thread in one.tree.threads.values():
            if thread.parent is None:
                continue
            # Parents open before their children, whose round is theirs.
            stage = spawned[thread.id] if thread.parent == main.id else spawned[thread.parent]
            spawned[thread.id] = stage
            one.give(thread, above[stage], range(thread.sampled_tokens))


_Stage = tuple[int, bool]
"""How many joins there were, and whether the last one brought a solution."""


def _stages(main: Thread) -> list[_Stage]:
    """Where each call of a main thread stands."""
    joins = accumulate(call.cause == "join" for call in main.calls)
    return [(n, n > 0 and "found" in (main.rounds[n - 1].outcomes or ())) for n in joins]


def _choices(task: Weighs, problem: Any, judged: Sequence[_Judged], writing: _Writing, weight: float) -> None:
    made: defaultdict[int, list[tuple[Credit, Thread, list[int], float]]] = defaultdict(list)
    for one in judged:
        main = one.tree.main
        places = writing.places(main)
        prompts = [one.tree.threads[child].prompt_text for child in main.children if child in one.tree.threads]
        if places is None or not prompts:
            continue
        for before, choice in enumerate(task.choices(problem, main.text, prompts)):
            if choice is not None:
                numbers = places.between(choice.begin, choice.end)
                one.credit.counts["choices"] += 1
                one.credit.counts["good_choices"] += choice.good
                made[before].append((one.credit, main, numbers, float(choice.good)))
    for several in made.values():
        for (credit, main, numbers, _), gained in zip(several, _less_mean([good for *_, good in several]), strict=True):
            credit.add(main, weight * gained, numbers)


def _lines(
    task: Corrects, problem: Any, judged: Sequence[_Judged], writing: _Writing, weight: float, *, correct: bool
) -> None:
    for one in judged:
        for thread in one.tree.threads.values():
            places = writing.places(thread)
            wrong: dict[int, int | None] = {}
            for fault in _first_of_lines(task.faults(problem, thread.text), thread.text) if places is not None else ():
                found = places.at(fault.at) if places is not None else None
                if found is not None:
                    number, begin = found
                    right = None if fault.right is None else thread.text[begin : fault.at] + fault.right
                    wrong[number] = None if right is None else writing.first(right)
            if weight:
                one.credit.add(thread, -weight, [*wrong])
            wanted = {number: token for number, token in wrong.items() if token is not None}
            if correct and wanted:
                one.credit.wanted[thread.id] = wanted
            one.credit.counts["wrong_lines"] += len(wrong)


def _first_of_lines(faults: Sequence[Fault], text: str) -> list[Fault]:
    """The first fault of each line: what follows it there was written after a wrong begin."""
    found: dict[int, Fault] = {}
    for fault in sorted(faults, key=lambda fault: fault.at):
        found.setdefault(text.rfind("\n", 0, fault.at), fault)
    return list(found.values())


def _less_mean(values: Sequence[float]) -> list[float]:
    mean = fsum(values) / max(1, len(values))
    return [value - mean for value in values]


class _Writing:
    """Where the characters of threads stand among their tokens."""

    def __init__(self, language: Any) -> None:
        self._language = language
        self._texts: dict[int, str] = {}

    def first(self, text: str) -> int:
        """The token that a text begins with."""
        token: int = self._language.tokenizer.encode(text)[0]
        return token

    def places(self, thread: Thread) -> _Places | None:
        """Of the sequence that it ended with; None if there are none."""
        return next((places for _, places in reversed(self.sequences(thread))), None)

    def sequences(self, thread: Thread) -> list[tuple[str, _Places]]:
        """Of the sequence that each of its calls ended with, its text; none if its tokens are no texts one by one, as
        halves of a character are not, or it wrote none."""
        found: list[tuple[str, _Places]] = []
        for ids, numbers in written_at(thread):
            texts = [self._text(token) for token in ids]
            found.append(("".join(texts), _Places([*accumulate(map(len, texts))], numbers)))
        return found if thread.sampled_tokens and found[-1][0] == thread.text else []

    def _text(self, token: int) -> str:
        if token not in self._texts:
            self._texts[token] = self._language.text((token,))
        return self._texts[token]


@dataclass(frozen=True, slots=True)
class _Places:
    ends: Sequence[int]
    """The character that each token ends before."""
    numbers: Sequence[int | None]
    """Which of the thread's sampled tokens each token is; None: it was forced."""

    def at(self, character: int) -> tuple[int, int] | None:
        """The sampled token that holds a character, by its number, and its first character; None if none does."""
        token = bisect_right(self.ends, character)
        if token == len(self.ends) or (number := self.numbers[token]) is None:
            return None
        return number, self.ends[token - 1] if token else 0

    def between(self, begin: int, end: int) -> list[int]:
        """The sampled tokens that hold characters from `begin` on and before `end`."""
        tokens = range(bisect_right(self.ends, begin), bisect_right(self.ends, end - 1) + 1)
        return [number for token in tokens if (number := self.numbers[token]) is not None]
