"""The golden files through the public interface, and hostile text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import apr
from benchmarks import twin
from conftest import FOLDER, Golden


def test_combinations(golden: Golden) -> None:
    for row in golden("combine.jsonl"):
        assert [list(result) for result in apr.combine(row["a"], row["b"])] == row["out"]


def test_heuristics(golden: Golden) -> None:
    for row in golden("heuristics.jsonl"):
        numbers, target = row["nums"], row["target"]
        assert apr.heuristic(numbers, target, "sum") == row["sum"]
        if row["mult"] == "raises:ValueError":
            with pytest.raises(ValueError, match="at least 2"):
                apr.heuristic(numbers, target, "mult")
        else:
            assert apr.heuristic(numbers, target, "mult") == row["mult"]


def test_expansions(golden: Golden) -> None:
    from apr._core import expand

    for row in golden("expand.jsonl.gz"):
        kept = expand(row["nums"], row["target"], row["heuristic"], max(1, len(row["kept"])))
        assert [[score, left, equation] for score, left, equation in kept] == row["kept"]


@pytest.mark.parametrize("file", ["solve.jsonl", "problems.jsonl"])
def test_first_solutions(golden: Golden, file: str) -> None:
    for row in golden(file):
        found = apr.solve(row["nums"], row["target"])
        assert (found and found.steps) == row["solution"]


def test_all_solutions_hold_the_first(golden: Golden) -> None:
    for row in islice(golden("problems.jsonl"), 0, None, 10):
        found = apr.solve_all(row["nums"], row["target"])
        expressions = [solution.expression for solution in found]
        assert len(set(expressions)) == len(expressions)
        steps = {tuple(sorted(solution.steps)) for solution in found}
        shortest = apr.solve_shortest(row["nums"], row["target"])
        assert shortest is not None
        assert tuple(sorted(shortest.steps)) in steps
        assert shortest.expression == expressions[0]


def test_sos_plus_traces(golden: Golden) -> None:
    for row in golden("sosp_traces.jsonl.gz"):
        trace = apr.search(
            apr.Problem(row["nums"], row["target"]),
            "sos+",
            choices=row["events"],
            beam_size=row["beam_size"],
            heuristic=row["heuristic"],
        )
        assert trace.main_calls == [row["trace"]]
        assert trace.solved == row["solved"]


def replayed(row: dict[str, Any], choices: Sequence[bool | Sequence[int]]) -> apr.Trace:
    return apr.search(
        apr.Problem(row["nums"], row["target"]),
        "apr",
        choices=choices,
        beam_size=row["beam_size"],
        child_beam_size=row["sub_call_beam_size"],
        heuristic=row["heuristic"],
    )


def test_apr_traces(golden: Golden) -> None:
    exact = 0
    for row in golden("apr_traces.jsonl.gz"):
        trace = replayed(row, row["events"])
        theirs = row["trace_dict"]
        assert trace.solved == row["solved"]
        assert trace.text == trace.main_calls[-1]
        children = [[child.main_calls for child in round_] for round_ in trace.children]
        assert children == [[child["main_calls"] for child in round_] for round_ in theirs["sub_calls"]]
        exact += trace.main_calls == theirs["main_calls"]
    # The others hold the reference's cursor slip; the Rust tests look at where they differ.
    assert exact >= 270


def test_choices_that_do_not_fit_are_refused(golden: Golden) -> None:
    row = next(row for row in golden("apr_traces.jsonl.gz") if row["spawn_rounds"] == 1)
    events = row["events"]
    for wrong in ([], events[:-1], [*events, True], [True, *events], [[0] * len(events[0]), *events[1:]]):
        with pytest.raises(ValueError, match="choice"):
            replayed(row, wrong)


@settings(max_examples=60)
@given(
    numbers=st.lists(st.integers(0, 99), min_size=2, max_size=5),
    target=st.integers(2, 100),
    beam_size=st.integers(1, 6),
    child_beam_size=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_the_search_equals_its_plain_twin(
    numbers: list[int], target: int, beam_size: int, child_beam_size: int, seed: int
) -> None:
    choices = twin.Noted(seed)
    expected = twin.Search(target, child_beam_size, 0.8, choices).run(numbers, beam_size)
    found = apr.search(
        apr.Problem(numbers, target),
        "apr",
        choices=choices.events,
        beam_size=beam_size,
        child_beam_size=child_beam_size,
    )
    assert found.main_calls == expected.main_calls
    assert found.solved == expected.solved
    texts = [[child.main_calls for child in round_] for round_ in expected.children]
    assert [[child.main_calls for child in round_] for round_ in found.children] == texts


@settings(max_examples=60)
@given(numbers=st.lists(st.integers(0, 30), min_size=1, max_size=4), target=st.integers(1, 60))
def test_the_solver_equals_its_plain_twin(numbers: list[int], target: int) -> None:
    found = apr.solve(numbers, target)
    assert (found and found.steps) == twin.solve(numbers, target)


def test_judgements(golden: Golden) -> None:
    for row in golden("checks.jsonl.gz"):
        verdict = apr.check_solution(row["prefix"], row["solution"])
        assert verdict.correct == row["strict"], (row["kind"], verdict.reason)
        assert bool(verdict) == verdict.correct
        assert twin.check_solution(row["prefix"], row["solution"]) == row["strict"], row["kind"]


def test_judgements_of_traces(golden: Golden) -> None:
    for row in golden("trace_checks.jsonl.gz"):
        verdict = apr.check_trace(row["text"])
        assert verdict.correct == row["strict"], (row["kind"], verdict.reason)


def test_spawns_and_joins(golden: Golden) -> None:
    joined = 0
    for row in golden("fork_join.jsonl.gz"):
        parent = row["parent"]
        # The reference goes on without an opening line, and loses the parent's text.
        if row["error"] is not None or row["kind"] == "no_open_line":
            with pytest.raises(ValueError, match=r"line|block"):
                apr.child_prompts(parent)
            continue
        # The public call lets children inherit the parent's own token budget, as the reference's trainer does.
        if row["budget"] is None and not parent.startswith("Token Budget"):
            assert apr.child_prompts(parent) == row["child_prompts"]
        if row.get("child_texts"):
            assert apr.join(parent, row["child_texts"]) == row["joined"]
            joined += 1
    assert joined > 50


def test_results_of_threads(golden: Golden) -> None:
    for row in golden("search_result.jsonl.gz"):
        assert apr.search_result(row["text"]) == row["result"]


def test_llama2_costs() -> None:
    for run, cost in json.loads((FOLDER / "llama2_cost.json").read_text()).items():
        assert apr.llama2_tokens("7" if run == "<digit>" else run) == cost


def pieces() -> st.SearchStrategy[str]:
    """Text near the grammar: lines of a golden parent, cut and mixed with anything, lone surrogates included."""
    rows = [json.loads(line) for line in _parents()]
    lines = st.sampled_from(sorted({line for row in rows for line in row.split("\n")}))
    anything = st.text(st.characters(exclude_categories=[]), max_size=12)
    cut = st.builds(lambda line, a, b: line[a : a + b], lines, st.integers(0, 30), st.integers(0, 60))
    piece = st.one_of(lines, lines, cut, anything, st.sampled_from(["\ud800", "\udfff\n", "9" * 40, "\u0663"]))
    return st.lists(piece, max_size=10).map("\n".join)


def _parents() -> list[str]:
    import gzip

    with gzip.open(FOLDER / "fork_join.jsonl.gz", "rt") as file:
        return [json.dumps(json.loads(line)["parent"]) for line in islice(file, 0, None, 8)]


TEXTS = pieces()


@settings(max_examples=300)
@given(prompt=TEXTS, text=TEXTS)
def test_a_judge_never_raises(prompt: str, text: str) -> None:
    for verdict in (apr.check_solution(prompt, text), apr.check_trace(prompt), apr.check_trace(prompt + text)):
        assert verdict.reason
    assert apr.search_result(text) is None or "Goal Reached" in text
    assert apr.llama2_tokens(text) >= 0


@settings(max_examples=300)
@given(parent=TEXTS, block=TEXTS, texts=st.lists(TEXTS, max_size=3))
def test_hostile_spawns_raise_value_errors_at_most(parent: str, block: str, texts: list[str]) -> None:
    for text in (parent, f"{parent}\n<Calling Sub Searches>\n{block}\n<End Calling Sub Searches>"):
        try:
            prompts = apr.child_prompts(text)
        except ValueError:
            continue
        assert all(prompt.endswith("]") for prompt in prompts)
        try:
            joined = apr.join(text, texts[: len(prompts)])
        except ValueError:
            continue
        assert joined.endswith("<End Sub Searches>\n")


@settings(max_examples=100)
@given(
    numbers=st.lists(st.integers(-(2**70), 2**140), max_size=8),
    target=st.integers(-(2**70), 2**140),
    kind=st.sampled_from(["mult", "sum"]),
)
def test_numbers_out_of_range_are_errors(numbers: list[int], target: int, kind: Any) -> None:
    small = [n % 50 for n in numbers]
    for numbers_, target_ in ((numbers, target), (small, target), (numbers, target % 90)):
        if len(numbers_) > 5:
            continue
        for call in (
            lambda n, t: apr.solve(n, t),
            lambda n, t: apr.heuristic(n, t, kind),
            lambda n, t: apr.search(apr.Problem(n, t), "apr", beam_size=2, heuristic=kind),
        ):
            try:
                call(numbers_, target_)
            except (ValueError, OverflowError):
                continue
