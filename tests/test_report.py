"""The report: claims judged on hand-made results, curves, the page, the figures, the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from apr.cli import main
from apr.evaluate.protocol import Condition, Protocol
from apr.evaluate.row import Row
from apr.evaluate.rows import Rows
from apr.evaluate.setting import note_setting
from apr.evaluate.statistics import FEW, exact
from apr.policy import checkpoint
from apr.report import tables
from apr.report.claims import Claim, judge, matched, paper
from apr.report.page import page, verdict
from apr.report.results import Evaluations, Line, Result, load, names
from apr.report.series import (
    TITLES,
    diagnostics,
    distances,
    efforts,
    losses,
    profiles,
    simulations,
    stages,
    temperatures,
    trade_off,
    within,
)
from apr.report.votes import votes
from rows import TASK, made_row

PAPER = {"apr": 0.8, "sos+": 0.6}
MEAN = Claim("same total tokens", "authors_total_tokens", 100, "Llama-2 tokens", False, False, PAPER)
EACH = Claim("same context", "llama2_context", 100, "Llama-2 tokens", True, False, PAPER)
ALONE = Claim("same latency", "latency", 100, "seconds", False, True, PAPER)
APR = Line("apr", "apr-tiny")
MODELS = {"apr": "apr-tiny", "sos+": "sos-plus-tiny"}


def result(method: Any, correct: Sequence[bool], cost: float = 50, *, at_once: int = 32, **condition: Any) -> Result:
    model = condition.get("model", MODELS[method])
    rows = tuple(made_row(i, right, cost=cost) for i, right in enumerate(correct))
    return Result(Condition(method=method, **condition), model, rows, concurrency=at_once)


def some(right: int, of: int = 10) -> list[bool]:
    return [i < right for i in range(of)]


def said(found: Sequence[Result], claim: Claim = MEAN) -> str:
    return verdict(judge(claim, found), Evaluations(tuple(found)))


def test_a_claim_takes_the_best_condition_within_the_limit() -> None:
    found = [
        result("apr", some(6), cost=80, budget=5),
        result("apr", some(9), cost=200, budget=10),
        result("apr", some(5), cost=60, budget=4),
        result("sos+", some(2)),
    ]
    outcome = judge(MEAN, found)
    assert outcome.standings["apr"].label == "budget 5"
    assert outcome.standings["apr"].accuracy.mean == 0.6
    assert outcome.lead is not None
    assert outcome.lead.mean == pytest.approx(0.4)
    assert outcome.lead.pairs == 10


def test_a_claim_on_each_rollout_counts_what_fits() -> None:
    rows = tuple(made_row(i, i < 8, cost=90 if i < 5 else 110) for i in range(10))
    found = [Result(Condition(), "apr-tiny", rows)]
    outcome = judge(EACH, found)
    assert outcome.standings["apr"].accuracy.mean == 0.5
    assert outcome.lead is None
    assert "not shown, for want of a condition of SoS+" in said(found, EACH)


def test_latency_is_that_of_one_problem_at_a_time() -> None:
    crowded = [result("apr", some(9)), result("sos+", some(1))]
    assert "ran one problem at a time" in said(crowded, ALONE)
    found = [*crowded, result("apr", some(7), at_once=1), result("sos+", some(3), at_once=1)]
    assert judge(ALONE, found).standings["apr"].accuracy.mean == 0.7
    # What ran alone ran on fewer problems; it does not stand where others do.
    assert judge(MEAN, found).standings["apr"].accuracy.mean == 0.9


def test_samples_of_a_problem_are_one_pair() -> None:
    rows = tuple(made_row(i, s == 0, sample=s, cost=60) for s in range(2) for i in range(10))
    many = Result(Condition(samples=2), "apr-tiny", rows)
    outcome = judge(MEAN, [many, result("sos+", some(0))])
    assert outcome.lead is not None
    assert (outcome.lead.mean, outcome.lead.pairs) == (0.5, 10)
    # Ten problems, not twenty.
    assert outcome.standings["apr"].accuracy.problems == 10


def pool(votes_of: Sequence[Sequence[tuple[str | None, bool]]], cost: float = 10) -> Result:
    rows = [
        made_row(index, right, sample=sample, cost=cost, vote=vote)
        for index, samples in enumerate(votes_of)
        for sample, (vote, right) in enumerate(samples)
    ]
    return Result(Condition(method="sos+", samples=3, temperature=1.0), "sos-plus-tiny", tuple(rows))


def test_one_pool_serves_every_n() -> None:
    made = votes(
        pool(
            [
                [("a", True), ("b", False), ("b", False)],
                [("a", True), ("a", True), (None, False)],
                [(None, False), (None, False), ("c", True)],
            ]
        )
    )
    assert [one.n for one in made] == [1, 2, 3]
    assert list(made[0].majority.values()) == pytest.approx([1 / 3, 2 / 3, 1 / 3])
    assert list(made[2].majority.values()) == [0, 1, 1]
    assert list(made[2].any.values()) == [1, 1, 1]
    # Of a with b: half; a with b: half; b with b: nothing.
    assert next(iter(made[1].majority.values())) == pytest.approx(1 / 3)


def test_the_majority_of_samples_stands_for_a_method_at_their_cost() -> None:
    samples = pool([[("a", True), ("a", True), ("b", False)]] * 10, cost=30)
    found = [result("apr", some(4), cost=100), samples]
    assert judge(MEAN, found).standings["sos+"].label == "budget free, temperature 1, cons@3"
    assert judge(replace(MEAN, limit=80), found).standings["sos+"].label == "budget free, temperature 1"
    (match,) = matched(found, "authors_total_tokens")
    assert match.rival is not None
    assert (match.rival.cost, match.rival.accuracy.mean) == (90, 1)
    assert match.lead is not None
    assert match.lead.mean == pytest.approx(-0.6)


def test_matches_pair_a_condition_with_what_costs_no_more() -> None:
    found = [
        result("apr", some(5), cost=10, budget=0),
        result("apr", some(8), cost=60, budget=4),
        result("sos+", some(3), cost=20, budget=512),
        result("sos+", some(6), cost=61, budget=1024),
    ]
    cheap, dear = matched(found, "total_tokens")
    assert (cheap.ours.label, cheap.rival, cheap.lead) == ("budget 0", None, None)
    assert dear.rival is not None
    assert dear.rival.label == "budget 512"
    assert dear.lead is not None
    assert dear.lead.mean == 0.5


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (90, 40, "holds: APR is ahead"),
        (50, 40, "holds in part"),
        (40, 90, "does not hold: SoS+ is ahead"),
        (50, 50, "is open"),
    ],
)
def test_words_say_what_the_interval_says(ours: int, theirs: int, words: str) -> None:
    found = [result("apr", some(ours, 100)), result("sos+", some(theirs, 100))]
    assert words in said(found)
    assert "no more than APR's own 50.00 Llama-2 tokens" in said(found)


@pytest.mark.parametrize("pairs", [1, 3, FEW - 1, FEW])
def test_a_claim_needs_enough_problems(pairs: int) -> None:
    found = [result("apr", some(pairs, pairs)), result("sos+", some(0, pairs))]
    lead = judge(MEAN, found).lead
    assert lead is not None
    assert lead.low < lead.mean == 1
    words = "holds: APR is ahead" if pairs >= FEW else f"is open: {pairs} problems are too few to tell"
    assert words in said(found)


def test_trade_off_and_windows() -> None:
    found = [
        result("apr", some(2, 4), cost=80, budget=8),
        result("apr", some(1, 4), cost=40, budget=2),
        result("apr", some(4, 4), cost=40, budget=2, temperature=0.5),
        result("apr", some(4, 4), cost=10, budget=2, at_once=1),
    ]
    points = trade_off(found, "authors_total_tokens")[APR]
    assert [(p.label, p.cost, p.accuracy.mean) for p in points] == [("2", 40, 0.25), ("8", 80, 0.5)]
    assert [(p.cost, p.accuracy.mean) for p in trade_off(found, "latency", alone=True)[APR]] == [(10, 1)]
    shares = within(found, "llama2_context", [30, 40, 80])[APR]
    assert [one.mean for one in shares] == [0, 0.25, 0.5]
    assert (shares[1].low, shares[1].high) == exact(1, 4)


def test_ways_to_join_are_told_apart() -> None:
    found = [
        result("apr", some(9), cost=90),
        result("apr", some(6), cost=30, join="first"),
        result("apr", some(8), cost=90, temperature=1.0),
        result("apr", some(5), cost=30, join="first", temperature=1.0),
        result("sos+", some(2), cost=20),
        result("sos+", some(5), cost=60, budget=2048),
    ]
    assert [one.label for one in found[:2]] == ["budget free", "budget free, join first"]
    assert [row.budget for row in temperatures(found)] == ["free", "free, join first"]
    # Of equal names it is the one that stands that is compared at equal cost.
    assert "spend no more than APR's own 90.00 Llama-2 tokens, the lead is +40.0" in said(found)


def test_of_two_runs_of_a_condition_the_one_that_stands_is_compared() -> None:
    found = [
        result("apr", some(6), cost=30),
        result("apr", some(9), cost=90),
        result("sos+", some(2), cost=20),
        result("sos+", some(5), cost=60, budget=2048),
    ]
    assert "spend no more than APR's own 90.00 Llama-2 tokens, the lead is +40.0" in said(found)


def test_temperatures_are_compared_at_one_budget() -> None:
    found = [
        result("apr", some(8), budget=10),
        result("apr", some(6), budget=10, temperature=1.0),
        result("apr", some(5), budget=4),
        result("sos+", some(3), budget=10, temperature=0.1),
    ]
    (row,) = temperatures(found)
    assert (row.line, row.budget) == (APR, "10")
    assert {heat: one.mean for heat, one in row.accuracy.items()} == {0.0: 0.8, 1.0: 0.6}


def test_models_of_a_method_are_compared_free_and_enforced() -> None:
    found = [
        result("apr", some(5), model="before"),
        result("apr", some(8), model="after"),
        result("apr", some(6), model="before", budget=10),
        result("apr", some(7), model="before", budget=4),
        result("apr", some(8), model="after", budget=10),
        result("sos+", some(3), model="only"),
    ]
    shown = [(stage.result.line.model, stage.result.budget, stage.enforced) for stage in stages(found)]
    assert shown == [("before", "free", False), ("after", "free", False), ("before", "10", True), ("after", "10", True)]
    assert stages(found[:1]) == []
    assert names(one.line for one in found) == {
        Line("apr", "before"): "APR before",
        Line("apr", "after"): "APR after",
        Line("sos+", "only"): "SoS+",
    }


def test_simulated_latency_is_the_speed_of_a_lone_thread() -> None:
    makespan = {"2": 60, "4": 40, "8": 30, "16": 30}
    lone = {"prefill": 0.1, "decode": 0.9, "queue": 5.0, "waiting": 7.0}
    alone = Result(Condition(budget=4), "apr-tiny", (made_row(0, True, main_tokens=100, profile=lone),), concurrency=1)
    crowded = Result(Condition(budget=10), "apr-tiny", (made_row(0, True, makespan=makespan, sequential_tokens=20),))
    (found,) = simulations([alone, crowded])
    assert found.result is crowded
    assert found.per_token == pytest.approx(0.01)
    assert found.seconds == pytest.approx({2: 0.6, 4: 0.4, 8: 0.3, 16: 0.3, None: 0.2})
    assert simulations([crowded]) == []
    assert [one.decode for _, one in profiles([result("apr", some(2), at_once=1), crowded])] == [pytest.approx(0.1)]


def test_diagnostics_are_rates_and_shares() -> None:
    counts = {
        "children": 10,
        "hopeful_children": 4,
        "duplicate_children": 1,
        "child_tokens": 1000,
        "hopeless_tokens": 250,
        "joined_claims": 0,
        "false_claims": 0,
        "steps": 500,
        "wrong_results": 5,
    }
    rows = [made_row(i, i == 0, diagnostics=counts) for i in range(4)]
    found = diagnostics(rows)
    assert found["children that can reach the target"] == 0.4
    assert found["child tokens on hopeless states"] == 0.25
    assert found["wrong results per 1,000 steps"] == 10
    assert found["joined claims that are false"] is None
    assert losses(rows) == {"width": 0.75}


def test_distance_to_the_teacher() -> None:
    rows = tuple(made_row(i, i < 3, teacher=i < 5) for i in range(10))
    (found,) = distances([Result(Condition(), "apr-tiny", rows)])
    assert found.teacher.mean == 0.5
    assert found.kept is not None
    assert found.kept.mean == 0.6
    assert distances([Result(Condition(), "apr-tiny", (made_row(0, True, teacher=None),))]) == []


def test_effort_is_told_by_the_kind_of_problem_in_the_order_of_numbers() -> None:
    def row(index: int, kind: str, threads: int, rounds: int) -> Row:
        return made_row(index, True, kind=kind, threads=threads, rounds=rounds, teacher_children=8, teacher_rounds=2)

    rows = (row(0, "4:16", 3, 1), row(1, "4:2", 9, 2), row(2, "4:2", 11, 3), row(3, "3:4", 1, 0))
    (one,) = efforts([Result(Condition(), "apr-tiny", rows), Result(Condition(budget=5), "apr-tiny", rows[:1])])
    assert [(effort.kind, effort.problems) for effort in one.model] == [("3:4", 1), ("4:2", 2), ("4:16", 1)]
    assert (one.model[1].children, one.model[1].rounds) == (9, 2.5)
    assert {(effort.children, effort.rounds) for effort in one.teacher} == {(8, 2)}
    assert tables.efforts_table([Result(Condition(), "apr-tiny", rows)], {one.line: "A"})[2] == [
        *("A", "4:2", "2", "9.0", "8.0", "2.50", "2.00"),
    ]


def test_the_paper_is_quoted_with_its_source() -> None:
    quoted = paper()
    assert "Pan et al." in quoted.source
    assert "228M" in quoted.model
    assert [(claim.paper["apr"], claim.paper["sos+"]) for claim in quoted.claims] == [
        (0.834, 0.600),
        (0.801, 0.666),
        (0.752, 0.573),
    ]


def evaluation(directory: Path) -> Path:
    conditions = (Condition(budget=4), Condition(method="sos+", model="elsewhere"), Condition(budget=8))
    protocol = Protocol(conditions=conditions)
    with Rows(protocol, directory) as rows:
        for condition in (0, 1):
            for i in range(20):
                rows.append(made_row(i, None if i == 19 else i < 12 - 6 * condition, condition=condition))
    with ExitStack() as files:
        note_setting(directory, TASK, {"apr-tiny": checkpoint(None, files), "elsewhere": directory})
    return directory


def test_the_page_names_what_is_missing(tmp_path: Path) -> None:
    found = load([evaluation(tmp_path)])
    assert [(r.condition.method, len(r.rows), r.failures) for r in found.results] == [("apr", 19, 1), ("sos+", 19, 1)]
    text = page(found, paper(), ["samples"])
    assert "| same total tokens | APR | 63.2% |" in text
    assert "| 80.1% |" in text
    assert "APR is `apr-tiny` (3.45M parameters), SoS+ is `elsewhere` (unknown size)" in text
    missing = text[text.index("## What is missing") :]
    for words in (
        "condition apr, budget 8 (apr-tiny): 0 of 200 rollouts",
        "condition apr, budget 4 (apr-tiny): 20 of 200 rollouts",
        "two checkpoints of one method",
        "a budget at two temperatures",
        "several samples a problem",
        "the figure `accuracy-total-tokens`",
    ):
        assert words in missing
    assert "`samples`" not in missing


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Two evaluations of one name: with the same weights they are one model, with others two."""
    for name in ("a", "b", "c"):
        checkpoint_ = tmp_path / f"weights-{name}"
        checkpoint_.mkdir()
        (checkpoint_ / "model.safetensors").write_bytes(b"other" if name == "c" else b"same")
        with Rows(Protocol(conditions=(Condition(model="one"),)), tmp_path / name) as rows:
            rows.append(made_row(0, name == "c"))
        note_setting(tmp_path / name, TASK, {"one": checkpoint_})
    same = load([tmp_path / "a", tmp_path / "b", tmp_path / "a" / ".." / "a"])
    assert len(same.results) == 2
    assert len({one.line for one in same.results}) == 1
    assert set(names(one.line for one in same.results).values()) == {"APR"}
    other = load([tmp_path / "a", tmp_path / "c"])
    first, second = (one.line for one in other.results)
    assert first != second
    assert names([first, second]) == {line: f"APR one ({line.identity})" for line in (first, second)}
    assert [len(points) for points in trade_off(other.results, "total_tokens").values()] == [1, 1]
    assert [stage.result.accuracy.mean for stage in stages(other.results)] == [0, 1]
    assert f"`one ({first.identity})`" in page(other, paper(), [])


def everything(directory: Path) -> Path:
    """An evaluation that has all that the paper shows."""
    conditions = (
        Condition(budget=4),
        Condition(budget=4, model="after"),
        Condition(method="sos+"),
        Condition(method="sos+", samples=3, temperature=1.0),
        Condition(method="sos+", concurrency=1),
        Condition(concurrency=1),
    )
    protocol = replace(Protocol(conditions=conditions), problems=replace(Protocol().problems, count=4))
    with Rows(protocol, directory) as rows:
        for place, condition in enumerate(conditions):
            for sample in range(condition.samples):
                for i in range(4):
                    rows.append(made_row(i, (i + place) % 3 == 0, condition=place, sample=sample))
    return directory


def test_command_writes_every_figure_and_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    whole = everything(tmp_path / "in")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["report", str(whole), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "Same total tokens" in out
    # Headings are broken between words alone.
    assert {"sequential", "context", "seconds", "interval"} <= set(out.split())
    assert f"report.md and {len(TITLES)} figures" in err
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(written) == {"report.md", *(f"{name}.{kind}" for name in TITLES for kind in ("svg", "png"))}
    text = written["report.md"].decode()
    assert all(f"({name}.svg)" in text for name in TITLES)
    assert "Nothing: each condition ran whole, each figure is drawn." in text
    # The same results give the same files.
    assert main(["report", str(whole), "--out", str(tmp_path / "out")]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == written


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_a_notebook_s_windows_are_no_trap(tmp_path: Path, backend: str) -> None:
    pytest.importorskip("matplotlib")
    with Rows(replace(Protocol(), problems=replace(Protocol().problems, count=1)), tmp_path) as rows:
        rows.append(made_row(0, True))
    environment = {**os.environ, "MPLBACKEND": backend, "COLUMNS": "\u00b2"}
    command = [sys.executable, "-m", "apr", "report", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "figures, as SVG and PNG" in done.stderr


def test_command_takes_the_newest_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 2
    assert "apr eval --recipe" in capsys.readouterr().err
    evaluation(tmp_path / "results" / "one")
    assert main(["report"]) == 0
    assert (tmp_path / "results" / "one" / "report.md").is_file()


def test_names_command_neither_a_terminal_nor_a_formula(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    strange = "[/red]\x1b[2J$\\frac{$"
    protocol = replace(Protocol(), problems=replace(Protocol().problems, count=4))
    with Rows(protocol, tmp_path) as rows:
        for place in range(4):
            rows.append({**made_row(place, place > 1), "loss": strange, "kind": strange})
    assert main(["report", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "[/red]" in out
    assert "figures, as SVG and PNG" in err


def test_command_refuses_what_is_no_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none")]) == 2
    assert f"there is no {tmp_path / 'none'}" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no evaluation" in capsys.readouterr().err
    for broken in ("5", "[]", "null", "{", "[" * 100_000, '{"conditions": [5]}', '{"seed": true}', "\x00"):
        (tmp_path / "protocol.json").write_text(broken)
        assert main(["report", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert "holds no evaluation: " in err
        assert len(err.splitlines()) == 1
    (tmp_path / "protocol.json").write_text(json.dumps(asdict(Protocol())))
    assert main(["report", str(tmp_path)]) == 2
    assert "no judged rollout" in capsys.readouterr().err
