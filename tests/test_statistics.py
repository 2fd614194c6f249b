"""Statistics of the evaluator against definitions, enumerations and known values."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.evaluate.statistics import cons_at, cumulative, exact, paired_bootstrap, pass_at, share, wilson


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (5, 10), (10, 10), (83, 1000), (1, 1), (999, 1000)])
def test_wilson_ends_are_just_not_rejected(successes: int, trials: int) -> None:
    # The interval holds each p whose score test does not reject the share: |share - p| <= z sqrt(p (1 - p) / n).
    share = successes / trials
    for end in wilson(successes, trials):
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / trials), rel=1e-5)
    assert wilson(successes, trials)[0] <= share <= wilson(successes, trials)[1]


def test_wilson_without_trials() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_is_the_share_of_subsets_with_a_correct_sample(pool: list[bool], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(pool)))
    subsets = list(combinations(pool, n))
    assert pass_at(n, len(pool), sum(pool)) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_cons_at_takes_the_majority_of_those_that_answer() -> None:
    votes = ["x", "x", "y", None]
    assert cons_at(4, votes, [True, True, False, False]) == 1
    assert cons_at(4, votes, [False, False, True, False]) == 0
    # Alone, each sample decides; a sample without an answer is wrong.
    assert cons_at(1, votes, [True, True, False, False]) == 0.5
    # x y, x y, x None twice: right in half, half, 1, 1; x x: 1; y None: 0.
    assert cons_at(2, votes, [True, True, False, False]) == pytest.approx((0.5 + 0.5 + 1 + 1 + 1 + 0) / 6)
    assert cons_at(2, [None, None], [False, False]) == 0


@given(st.lists(st.sampled_from(["right", "wrong", "other", None]), min_size=1, max_size=7))
def test_one_vote_is_one_sample(votes: list[str | None]) -> None:
    correct = [vote == "right" for vote in votes]
    assert cons_at(1, votes, correct) == pytest.approx(pass_at(1, len(votes), sum(correct)))
    assert cons_at(len(votes), votes, correct) <= pass_at(len(votes), len(votes), sum(correct))


def test_large_pools_are_sampled_and_close() -> None:
    votes = ["right"] * 24 + ["wrong"] * 16
    correct = [vote == "right" for vote in votes]
    exact = sum(
        math.comb(24, k) * math.comb(16, 9 - k) for k in range(5, 10)
    ) / math.comb(40, 9)  # fmt: skip
    assert cons_at(9, votes, correct) == pytest.approx(exact, abs=0.02)
    assert cons_at(9, votes, correct) == cons_at(9, votes, correct)


@pytest.mark.parametrize(("n", "pool"), [(0, 3), (4, 3), (1, 0)])
def test_too_small_a_pool_is_refused(n: int, pool: int) -> None:
    with pytest.raises(ValueError, match="samples"):
        pass_at(n, pool, 0)
    with pytest.raises(ValueError, match="samples"):
        cons_at(n, [None] * pool, [False] * pool)


def test_paired_bootstrap_knows_a_difference_from_none() -> None:
    better, worse = [1.0] * 60 + [0.0] * 40, [1.0] * 40 + [0.0] * 60
    found = paired_bootstrap(better, worse)
    assert found.mean == pytest.approx(0.2)
    # The mean of 100 differences, a fifth of them 1: a standard error of 0.04.
    assert found.low == pytest.approx(0.2 - 1.96 * 0.04, abs=0.015)
    assert found.high == pytest.approx(0.2 + 1.96 * 0.04, abs=0.015)
    assert found == paired_bootstrap(better, worse)
    same = paired_bootstrap(better, better)
    assert (same.mean, same.pairs) == (0, 100)
    # Unpaired, the same shares differ in both directions.
    shuffled = [0.0] * 40 + [1.0] * 60
    assert paired_bootstrap(better, shuffled).low < 0 < paired_bootstrap(better, shuffled).high
    with pytest.raises(ValueError, match="no pairs"):
        paired_bootstrap([], [])


@pytest.mark.parametrize(("successes", "trials"), [(0, 3), (1, 3), (3, 3), (7, 20), (29, 29), (1, 1)])
def test_exact_ends_are_just_not_rejected(successes: int, trials: int) -> None:
    # Each end is the share at which so many successes, or so few, come with a probability of 2.5 %.
    def probability(counts: range, share: float) -> float:
        return sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in counts)

    low, high = exact(successes, trials)
    assert probability(range(successes, trials + 1), low) == pytest.approx(0.025 if successes else 1)
    assert probability(range(successes + 1), high) == pytest.approx(0.025 if successes < trials else 1)


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.5], [1.0] * 3, [0.0] * 3, [0.25] * 200, [1.0] * 200, [0.1, 0.9]])
def test_no_interval_is_without_width(values: list[float]) -> None:
    found = share(values)
    assert found.low < found.high
    assert 0 <= found.low <= found.mean <= found.high <= 1
    if len(values) == 200:
        # 0.025 ** (1 / 200) = 0.982: at most 1.8 % others may have stayed unseen.
        assert found.high - found.low < 0.019
    lead = paired_bootstrap(values, [0.0] * len(values))
    assert -1 <= lead.low < lead.high <= 1
    assert (lead.low > 0) == (len(values) == 200)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_an_interval_holds_its_mean(values: list[float]) -> None:
    found = share(values)
    assert 0 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= 1


def test_cumulative_accuracy_counts_only_what_fits() -> None:
    assert cumulative([10, 20, 30, 40], [True, False, True, True], [5, 10, 30, 99]) == [0, 0.25, 0.5, 0.75]
    assert cumulative([], [], [1]) == [0]
