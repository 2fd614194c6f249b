"""The paper's problems, and the teacher's search of one: the core's, as functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from apr import _core
from apr._core import Problem, Trace
from apr.task import Split

Ranking = Literal["paper", "heuristic", "sums_last", "kinds", "smallest"]


def problems(
    n: int,
    seed: int,
    *,
    numbers: int | tuple[int, int] = 4,
    max_number: int = 99,
    min_target: int = 10,
    max_target: int = 100,
    split: Split = "train",
    held_out_targets: Sequence[int] = (),
) -> Iterator[Problem]:
    """The first `n` problems of a seed: solvable, each number used once to reach the target (paper, section 4.1).

    `numbers` is how many a problem has, or the fewest and the most. Splits are disjoint for every seed. Item i of the
    train split is the same for every n; val and test leave out what came before. Targets held out are never seen in
    train and val, and are all there is in test. Raises ValueError for a space out of range or without problems.
    """
    stream = _core.ProblemStream(
        seed,
        numbers=(numbers, numbers) if isinstance(numbers, int) else numbers,
        max_number=max_number,
        target=(min_target, max_target),
        split=split,
        held_out_targets=list(held_out_targets),
    )
    return _first(n, stream, distinct=split != "train")


def _first(n: int, stream: _core.ProblemStream, distinct: bool) -> Iterator[Problem]:
    seen = _core.SeenProblems() if distinct else None
    given, start, chunk = 0, 0, 256
    repeated = 0
    while given < n:
        for problem in stream.get(start, min(chunk, max(16, n - given))):
            start += 1
            if seen is not None and not seen.add(problem):
                repeated += 1
                if repeated > 100_000:
                    raise ValueError(f"the split holds fewer than {n} distinct problems")
                continue
            yield problem
            given += 1
            if given == n:
                return


def search(
    problem: Problem,
    method: Literal["sos", "sos+", "apr"],
    *,
    seed: int | None = None,
    choices: Sequence[bool | int | Sequence[int]] | None = None,
    beam_size: int | None = None,
    child_beam_size: int | None = None,
    promising: float | None = None,
    order: Literal["bfs", "dfs"] = "bfs",
    heuristic: Literal["mult", "sum"] = "mult",
    ranking: Ranking = "paper",
    largest: int | None = None,
    slack: int | None = None,
    trials: int | None = None,
    waves: Sequence[int] | None = None,
    shuffled: bool = False,
) -> Trace:
    """The teacher's search of a problem, written out (paper, section 3; code of arXiv 2504.15466).

    Random choices come from `seed` (0 if not given), or are replayed from `choices`: in the order they are wanted, a
    permutation for a shuffle, a bool for a promising draw and an int for the size of a wave. `promising` is the
    probability that an expanded node is promising: 0.9 for apr and 0.5 for sos+ unless given. `beam_size` is 5 and
    `child_beam_size` (apr) is `beam_size` unless given. `order` is of sos alone.

    `ranking` is the order in which steps are kept, shown and followed. "paper": kept by the heuristic, shown shuffled,
    followed best first; "heuristic": by it throughout; "sums_last": as generated, sums last; "kinds": differences,
    each with the quotient of its pair, then sums, then products; "smallest": the smallest result first. Steps to a
    result above `largest` are left out, and with `slack` those to a number more than so many times what the others
    could bring down to the target; from 1 on that loses no solution. With `trials` ("kinds" only) a number above it is
    divided after a trial: the division in lines like 13*60=780 and 871-780=91, or with two numbers left the product of
    the divisor and the target, if it is not far off; no other quotient is shown then.

    With `waves` (apr and sos+) the root's steps are shown a few at a time, a size drawn from `waves` for each wave, and
    what they lead to is searched to its end before more are shown: by children, or in the main thread if `promising`
    is 0, or in sub searches (sos+). `beam_size` then bounds the steps of all waves together, and neither it nor
    `child_beam_size` is bounded unless given; `shuffled` waves show the root's steps in random order.

    Raises ValueError for parameters out of range or choices that do not fit, OverflowError for numbers beyond 128 bits.
    """
    if seed is not None and choices is not None:
        raise ValueError("give a seed or recorded choices, not both")
    return _core.search(
        problem,
        method,
        beam_size=beam_size,
        child_beam_size=child_beam_size,
        promising=promising,
        order=order,
        heuristic=heuristic,
        ranking=ranking,
        largest=largest,
        slack=slack,
        trials=trials,
        waves=None if waves is None else list(waves),
        shuffled=shuffled,
        seed=seed or 0,
        choices=None if choices is None else list(choices),
    )
