"""Countdown's own lessons: fresh teacher traces in the tokens of `traces`, a pure function of seed and position.

What they hold is said by a recipe's `[data]`: stages of the run, each a mix of parts, each a kind of trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from apr import _core
from apr.countdown.loss_weights import CODES, KINDS, LossWeights
from apr.countdown.search import Ranking
from apr.fields import Ascending, Count, Filled, Natural, Positive, Range, Share, Span, build
from apr.task import Method, Split
from apr.types import Sample

MISSES = 1000
"""Lessons in a row without a sample that fits, after which there are taken to be none."""

Numbers = Annotated[tuple[int, int], Range(2, 6), Ascending()]
"""Fewest and most numbers of a problem."""


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of teacher trace in a mix."""

    weight: Positive
    """Share of lessons, relative to the other parts."""
    beam_size: Span | None = None
    """Smallest and largest width of the main thread, drawn per problem. In waves: the budget of children that a prompt
    may name, and the steps of a main thread that does not spawn; None: no bound."""
    child_beam_size: Span | None = None
    """Smallest and largest width of children (apr); None: as narrow as can be, in waves without a bound."""
    promising: Share = 0.9
    """Probability that an expanded node is promising; in waves (apr), that the main thread spawns at all."""
    conditioned: Share = 0.8
    """Share of root prompts that carry their condition."""
    numbers: Numbers = (4, 4)
    """Fewest and most numbers of a problem."""
    max_number: Annotated[int, Range(1, 1_000_000)] = 99
    """The largest number of a problem."""
    multiples: Share = 0.0
    """Share of draws that are as a search meets them after a product: the last number is a multiple of the first, and
    all but it are a hundred at most. Exact quotients of large numbers are rare otherwise."""
    missed: Share = 0.0
    """Share of problems made unsolvable: their last number is changed, by twenty ones or twenty tens at most."""
    target: Annotated[tuple[int, int], Range(1, 1_000_000), Ascending()] = (10, 100)
    """Smallest and largest target."""
    rounds: Annotated[int, Range(0, 16)] = 0
    """In waves: fewest of them; problems that are solved sooner are passed over. 0: none is."""
    main: bool = True
    """Whether its main threads are taught. If not, only children are, such as begin with a number above
    `children_above`: what they need is rare in whole searches, and learned where it is used."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is taught up to a point of the run."""

    until: Share
    """Share of the run's steps at which the stage ends; the last is 1."""
    parts: Annotated[tuple[Part, ...], Filled()]


@dataclass(frozen=True, slots=True)
class DataConfig:
    """A recipe's `[data]`."""

    stages: Annotated[tuple[Stage, ...], Filled()]
    ranking: Ranking = "paper"
    """In which order teachers keep, show and follow steps, see `apr.search`. What comes next in any but the paper's
    follows from what stands there: it is learned sooner, and a greedy model repeats itself less."""
    largest: Count | None = None
    """Teachers leave out steps to a greater result: large products, hard to compute and seldom of use."""
    slack: Annotated[int, Range(1, 1000)] | None = None
    """Teachers leave out steps to a number more than so many times what the others could bring down to the target."""
    trials: Count | None = None
    """Before a quotient of a greater number teachers write a trial, the division in full: whether a large number
    divides is not to be seen at once. With two numbers left only the target is tried, by its product, and no other
    quotient is shown. Only with the ranking "kinds"."""
    waves: tuple[Count, ...] = ()
    """Teachers search in waves, whose sizes are drawn from these; one that stands here twice comes twice as often."""
    shuffled: bool = False
    """In waves: the root's steps come in random order, which teaches a main thread without a preference."""
    children: Natural = 3
    """At most so many children of a trace are taught."""
    children_above: Count | None = None
    """Of these, after one that found a solution, children come first that begin with a number above this: they are rare
    in a trace, and the hardest."""
    cancelled: Share = 0.1
    """Share of solved rounds joined as the policy `first` would."""
    held_out_targets: tuple[Count, ...] = ()
    """Targets that neither training nor validation sees."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.trials is not None and self.ranking != "kinds":
            yield "trials", 'they go with ranking = "kinds" only'
        if self.shuffled and not self.waves:
            yield "shuffled", "the order is drawn in a search in waves only"
        ends = [stage.until for stage in self.stages]
        for place, (before, end) in enumerate(pairwise([0.0, *ends])):
            if end <= before:
                yield f"stages[{place}].until", f"{end:g} is not above {before:g}, where the stage begins"
        if ends[-1] != 1:
            yield f"stages[{len(ends) - 1}].until", f"{ends[-1]:g} is not 1, and it is the last stage's"
        for place, stage in enumerate(self.stages):
            for part in stage.parts:
                if part.beam_size is None and not self.waves:
                    yield f"stages[{place}].parts", "a beam_size is missing: only a search in waves needs none"
                narrow = part.child_beam_size
                if self.waves and narrow is not None and narrow[0] != narrow[1]:
                    yield f"stages[{place}].parts", "child_beam_size is one width in a search in waves, not two"
                if part.rounds and not self.waves:
                    yield f"stages[{place}].parts", "rounds are of a search in waves"
                if not part.main and self.children_above is None:
                    yield (
                        f"stages[{place}].parts",
                        "without main threads, children_above says which children are taught",
                    )


class Lessons:
    """The lessons of a run."""

    kinds = KINDS

    def __init__(
        self, method: Method, data: Mapping[str, Any], weights: Mapping[str, Any], *, seed: int, max_tokens: int
    ) -> None:
        """ValueError, by key, for anything that the two tables may not hold."""
        self.tokenizer = _core.Tokenizer()
        self._method: Method = method
        self._data = build(DataConfig, dict(data), "data.")
        weighed = build(LossWeights, dict(weights), "weights.")
        self.weights = tuple(map(weighed.of, range(CODES)))
        self._seed = seed
        self._max_tokens = max_tokens
        self._stages: list[tuple[float, _core.Lessons]] = []
        for place, stage in enumerate(self._data.stages):
            try:
                self._stages.append((stage.until, self._stream(stage.parts, "train", seed)))
            except ValueError as error:
                raise ValueError(f"data.stages[{place}]: {error}") from None

    def check(self) -> None:
        """ValueError if a stage has no lesson that fits the model."""
        for place, (_, stream) in enumerate(self._stages):
            try:
                self._next(stream, 0)
            except ValueError as error:
                raise ValueError(f"data.stages[{place}]: {error}") from None

    def samples(self, position: int, progress: float) -> tuple[list[Sample], int]:
        """The samples of the first lesson from a position on that has any, and the position after it."""
        return self._next(next((s for until, s in self._stages if progress < until), self._stages[-1][1]), position)

    def validation(self, count: int) -> list[Sample]:
        """Held-out samples of the last stage, of so many lessons."""
        stream = self._stream(self._data.stages[-1].parts, "val", self._seed + 1)
        return [s for lesson in stream.get(0, count) for s in _samples(lesson)] or self._next(stream, 0)[0]

    def _next(self, stream: _core.Lessons, position: int) -> tuple[list[Sample], int]:
        for place in range(position, position + MISSES):
            if lesson := _samples(stream.get(place, 1)[0]):
                return lesson, place + 1
        length = self._max_tokens
        raise ValueError(f"of {MISSES} lessons none has a thread of at most model.context_length, {length} tokens")

    def _stream(self, parts: Sequence[Part], split: Split, seed: int) -> _core.Lessons:
        """The endless lessons of a mix of parts."""
        data = self._data
        streams = [
            (
                part.weight,
                _core.Traces(
                    seed,
                    self._method,
                    beam_size=part.beam_size,
                    child_beam_size=part.child_beam_size,
                    promising=part.promising,
                    ranking=data.ranking,
                    largest=data.largest,
                    slack=data.slack,
                    trials=data.trials,
                    waves=data.waves or None,
                    rounds=part.rounds,
                    shuffled=data.shuffled,
                    conditioned=part.conditioned,
                    numbers=part.numbers,
                    max_number=part.max_number,
                    target=part.target,
                    split=split,
                    held_out_targets=list(data.held_out_targets),
                    multiples=part.multiples,
                    missed=part.missed,
                    main=part.main,
                ),
            )
            for part in parts
        ]
        return _core.Lessons(
            seed,
            streams,
            children=data.children,
            children_above=data.children_above,
            cancelled=data.cancelled,
            max_tokens=self._max_tokens,
        )


def _samples(lesson: Sequence[tuple[bytes, bytes]]) -> list[Sample]:
    return [Sample(tuple(ids), tuple(map(bool, kinds)), kinds=kinds) for ids, kinds in lesson]
