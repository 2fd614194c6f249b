"""Streams of problems, traces and lessons: the same items on any number of workers."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Any

import pytest

import apr
from apr._core import Lessons, ProblemStream, Traces
from apr.countdown.loss_weights import CHOICE, JOINED, LINE

SPLITS = ("train", "val", "test")


def traces(seed: int = 3, method: str = "apr") -> Traces:
    return Traces(
        seed, method, beam_size=(1, 5), child_beam_size=(2, 6), promising=0.9, conditioned=0.5, numbers=(3, 5)
    )


def lessons(seed: int = 3) -> Lessons:
    parts = [(2.0, traces(seed)), (1.0, traces(seed, "sos+"))]
    return Lessons(seed, parts, children=3, cancelled=0.3, max_tokens=4096)


def chunk(start: int, count: int) -> list[Any]:
    """Items of all three streams, as plain values."""
    rows: list[Any] = [(p.numbers, p.target) for p in ProblemStream(3).get(start, count)]
    for problem, trace, beam, child_beam, condition in traces().get(start, count):
        children = [[child.main_calls for child in round_] for round_ in trace.children]
        rows.append((problem.numbers, problem.target, trace.main_calls, children, beam, child_beam, condition))
    return [*rows, *lessons().get(start, count)]


def test_workers_make_the_same_items() -> None:
    starts = range(0, 40, 10)
    expected = [chunk(start, 10) for start in starts]
    context = multiprocessing.get_context("spawn")
    for workers in (1, 2):
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            assert list(pool.map(chunk, starts, [10] * len(starts))) == expected


def digest() -> str:
    return hashlib.sha256(repr(chunk(0, 60)).encode()).hexdigest()


def test_threads_make_the_same_items() -> None:
    for threads in ("1", "2", "5"):
        code = "from test_streams import digest; print(digest())"
        paths = os.pathsep.join(p for p in sys.path if p)
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONPATH": paths}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == digest()


def test_a_forked_process_makes_the_same_items() -> None:
    """It has none of the threads that its parent worked with."""
    code = """if True:
        import os
        from test_streams import digest
        told = digest()
        child = os.fork()
        if not child:
            os._exit(digest() != told)
        print(os.waitpid(child, 0)[1])
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "0"


def test_items_do_not_depend_on_how_they_are_asked_for() -> None:
    whole, one = traces().get(0, 30), [traces().get(i, 1)[0] for i in reversed(range(30))]
    assert [item[1] for item in whole] == [item[1] for item in reversed(one)]
    assert lessons().get(7, 5) == [lessons().get(7 + i, 1)[0] for i in range(5)]
    assert lessons(4).get(0, 5) != lessons().get(0, 5)


def test_lessons_are_tokens_with_their_kinds() -> None:
    tokenizer = apr.Tokenizer()
    for samples in lessons().get(0, 40):
        for ids, kinds in samples:
            assert len(ids) == len(kinds) <= 4096
            assert all(kind == 0 or kind & 1 for kind in kinds)
            assert (ids[0], kinds[0], kinds[-1] & ~(JOINED | LINE | CHOICE)) == (tokenizer.bos, 0, 1)
            text = tokenizer.decode(list(ids), skip_special=True)
            assert tokenizer.encode(text) == [i for i in ids if i not in (tokenizer.bos, tokenizer.eos)]


def key(problem: apr.Problem) -> tuple[tuple[int, ...], int]:
    return tuple(sorted(problem.numbers)), problem.target


@pytest.mark.parametrize("split", SPLITS)
def test_problems_are_solvable_and_in_range(split: Any) -> None:
    for problem in apr.problems(200, 5, split=split):
        assert len(problem.numbers) == 4
        assert all(1 <= n <= 99 for n in problem.numbers)
        assert 10 <= problem.target <= 100
        assert apr.can_reach(problem.numbers, problem.target)


def test_splits_are_disjoint_for_all_seeds() -> None:
    kept: dict[tuple[tuple[int, ...], int], str] = {}
    for split in SPLITS:
        for seed in (1, 2):
            for problem in apr.problems(1500, seed, max_number=12, split=split):  # type: ignore[arg-type]
                assert kept.setdefault(key(problem), split) == split


def test_the_ranking_is_a_choice() -> None:
    shuffled = Traces(3, "apr", beam_size=(3, 5), child_beam_size=(3, 5), promising=0.9)
    ranked = Traces(3, "apr", beam_size=(3, 5), child_beam_size=(3, 5), promising=0.9, ranking="sums_last")
    for one, other in zip(shuffled.get(0, 20), ranked.get(0, 20), strict=True):
        assert one[0] == other[0]
        assert one[1] != other[1]
        assert apr.check_trace(other[1].text).correct == other[1].solved


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_problems_are_distinct(split: Any) -> None:
    # A space so small that a plain stream repeats itself.
    plain = ProblemStream(0, numbers=(3, 3), max_number=12, target=(10, 12), split=split).get(0, 200)
    assert len({key(problem) for problem in plain}) < 200
    found = apr.problems(20, 0, numbers=3, max_number=12, min_target=10, max_target=12, split=split)
    assert len({key(problem) for problem in found}) == 20


def test_a_longer_stream_begins_with_the_shorter() -> None:
    for split in SPLITS:
        long = [key(p) for p in apr.problems(300, 9, split=split)]  # type: ignore[arg-type]
        assert [key(p) for p in apr.problems(20, 9, split=split)] == long[:20]  # type: ignore[arg-type]
        assert [key(p) for p in islice(apr.problems(1000, 9, split=split), 20)] == long[:20]  # type: ignore[arg-type]


@pytest.mark.parametrize("largest", [5, 12, 99, 900])
def test_distinct_problems_are_those_of_the_stream_without_repeats(largest: int) -> None:
    """Whether a problem came before is remembered in packed form; the plain way gives the same."""
    space: dict[str, Any] = {"numbers": (4, 4), "max_number": largest, "target": (10, 12), "split": "test"}
    drawn = ProblemStream(5, **space).get(0, 300)
    first: dict[Any, apr.Problem] = {}
    for problem in drawn:
        first.setdefault(key(problem), problem)
    plain = list(first.values())[:150]
    options: dict[str, Any] = {**space, "min_target": 10, "max_target": 12}
    del options["target"]
    assert list(apr.problems(len(plain), 5, **options)) == plain


def test_what_came_before_costs_few_bytes() -> None:
    code = (
        "import resource, sys, apr\n"
        "seen = apr._core.SeenProblems()\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "begun = peak()\n"
        "numbers = ([a, b, c, 1] for a in range(80) for b in range(a, 80) for c in range(b, 80))\n"
        "new = sum(seen.add(apr.Problem(four, 10)) for four in numbers)\n"
        "assert new == 88_560 and not seen.add(apr.Problem([1, 9, 7, 5], 10))\n"
        "print((peak() - begun) / new)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stdout) < 60


def test_held_out_targets() -> None:
    for split in SPLITS:
        for problem in apr.problems(100, 4, split=split, held_out_targets=[24, 77]):  # type: ignore[arg-type]
            assert (problem.target in (24, 77)) == (split == "test")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"numbers": 7}, "numbers per problem run from 2 to 6, not 7"),
        ({"numbers": 1}, "numbers per problem run from 2 to 6, not 1"),
        ({"max_number": 0}, "max_number is 1 to"),
        ({"min_target": 0}, "targets run from 1 to"),
        ({"min_target": 9, "max_target": 8}, "targets run from 1 to 1000000, not 9 to 8"),
        ({"split": "dev"}, 'not "dev"'),
    ],
)
def test_spaces_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        list(apr.problems(1, 0, **options))


@pytest.mark.parametrize("widths", [(0, 3), (0, 2**64 - 1), (4, 2)])
def test_widths_that_make_no_sense_are_refused(widths: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="width"):
        Traces(0, "apr", beam_size=widths, child_beam_size=(1, 2), promising=0.5)


def test_a_seeded_search_is_a_pure_function() -> None:
    problem = next(apr.problems(1, 0))
    for method in ("sos", "sos+", "apr"):
        first = apr.search(problem, method, seed=5)
        assert first == apr.search(problem, method, seed=5)
        assert any(apr.search(problem, method, seed=seed) != first for seed in range(6, 12))
