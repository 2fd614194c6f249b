"""Statistics of shares and votes: pure functions of plain values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

FEW = 30
"""Problems below which intervals are exact, and no claim is judged."""

_Z95 = 1.959963984540054
_SUBSETS = 10_000
"""More subsets of a pool than these are sampled rather than listed."""


def wilson(successes: float, trials: int, z: float = _Z95) -> tuple[float, float]:
    """The Wilson score interval of a share, by default at 95 %; (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return low, high


def exact(successes: float, trials: int) -> tuple[float, float]:
    """The exact interval of a share at 95 % (Clopper and Pearson 1934). Successes may be the sum of values from 0 to 1,
    which vary less than those that are one or the other, so the interval is then wider than it need be."""
    from scipy.special import betaincinv

    low = 0.0 if successes <= 0 else float(betaincinv(successes, trials - successes + 1, 0.025))
    high = 1.0 if successes >= trials else float(betaincinv(successes + 1, trials - successes, 0.975))
    return low, high


def pass_at(n: int, samples: int, correct: int) -> float:
    """Probability that one of `n` samples is correct, unbiased from a pool of `samples` of which `correct` are.

    1 - C(samples - correct, n) / C(samples, n) (Chen et al. 2021, equation 1). ValueError if the pool is too small.
    """
    _check_pool(n, samples)
    return 1 - math.comb(samples - correct, n) / math.comb(samples, n)


def cons_at(n: int, votes: Sequence[Hashable | None], correct: Sequence[bool]) -> float:
    """Probability that the majority among `n` samples is correct, over all ways to take them from a pool.

    `votes[i]` is what sample i answers, None if it answers nothing and does not vote; equal votes are equally correct.
    Of equally frequent answers each is taken with the same probability; without a vote nothing is correct. Large pools
    are estimated from 10,000 subsets, always the same ones. ValueError if the pool is too small.
    """
    _check_pool(n, len(votes))
    right = {vote for vote, good in zip(votes, correct, strict=True) if good and vote is not None}
    subsets: Iterable[Sequence[Hashable | None]]
    if math.comb(len(votes), n) <= _SUBSETS:
        subsets = combinations(votes, n)
    else:
        random = Random(0)
        subsets = (random.sample(votes, n) for _ in range(_SUBSETS))
    total, count = 0.0, 0
    for subset in subsets:
        count += 1
        tally = Counter(vote for vote in subset if vote is not None)
        most = max(tally.values(), default=0)
        winners = [vote for vote, times in tally.items() if times == most]
        if winners:
            total += sum(vote in right for vote in winners) / len(winners)
    return total / count


def _check_pool(n: int, samples: int) -> None:
    if not 1 <= n <= samples:
        raise ValueError(f"{n} of {samples} samples")


@dataclass(frozen=True, slots=True)
class Share:
    """A mean over problems of values from 0 to 1."""

    mean: float
    low: float
    """Ends of the 95 % interval."""
    high: float
    problems: int


def share(values: Sequence[float], *, draws: int = 4000, seed: int = 0) -> Share:
    """The mean of one value a problem, with Wilson's interval where each is 0 or 1, else the bootstrap's over problems.
    Of few problems it is the exact one, and where all came out alike the one that rests on that alone.

    The same seed gives the same interval. ValueError without values."""
    if not values:
        raise ValueError("no values")
    size, total = len(values), sum(values)
    if min(values) == max(values):
        return Share(values[0], *_alike(values[0], size, 0, 1), size)
    if size < FEW:
        return Share(total / size, *exact(total, size), size)
    if all(value in (0, 1) for value in values):
        return Share(total / size, *wilson(round(total), size), size)
    return Share(total / size, *_bootstrap(values, draws, seed), size)


def _alike(value: float, size: int, least: float, most: float) -> tuple[float, float]:
    """The exact 95 % interval of a mean of which one value is all that was seen: as many others as could have stayed
    unseen may be as far off as can be."""
    others = 1 - 0.025 ** (1 / size)
    return value + others * (least - value), value + others * (most - value)


def _bootstrap(values: Sequence[float], draws: int, seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of resampled values."""
    random = Random(seed)
    size = len(values)
    means = sorted(sum(random.choices(values, k=size)) / size for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws) - 1]


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one method is than another on the same problems."""

    mean: float
    low: float
    """Ends of the 95 % interval."""
    high: float
    pairs: int


def paired_bootstrap(
    first: Sequence[float], second: Sequence[float], *, draws: int = 4000, seed: int = 0
) -> Difference:
    """The mean of `first[i] - second[i]`, of values from 0 to 1, over problems i, with an interval from resampled
    problems. Of few problems it is the exact one, and where all differ alike the one that rests on that alone.

    The same seed gives the same interval. ValueError without pairs."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if not differences:
        raise ValueError("no pairs")
    size, total = len(differences), sum(differences)
    if min(differences) == max(differences):
        return Difference(differences[0], *_alike(differences[0], size, -1, 1), size)
    if size < FEW:
        # From -1 to 1, they are shares of that span.
        low, high = exact((total + size) / 2, size)
        return Difference(total / size, 2 * low - 1, 2 * high - 1, size)
    return Difference(total / size, *_bootstrap(differences, draws, seed), size)


def cumulative(costs: Sequence[float], correct: Sequence[bool], limits: Sequence[float]) -> list[float]:
    """For each limit the share of rollouts that are correct at a cost within it (the paper's figure 4b)."""
    good = sorted(cost for cost, right in zip(costs, correct, strict=True) if right)
    return [sum(cost <= limit for cost in good) / max(1, len(costs)) for limit in limits]
