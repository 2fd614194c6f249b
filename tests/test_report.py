"""The report: claims judged on hand-made results, the page, the figures, the command."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from apr.cli import main
from apr.evaluate.comparison import Claim, Result, diagnostics, judge, paper, results, trade_off, within
from apr.evaluate.page import page, verdict
from apr.evaluate.protocol import Condition, Protocol
from apr.evaluate.rows import Rows

MEAN = Claim("same total tokens", "llama2_total_tokens", 100, "Llama-2 tokens", False, {"apr": 0.8, "sos+": 0.6})
EACH = Claim("same context", "llama2_context", 100, "Llama-2 tokens", True, {"apr": 0.8, "sos+": 0.6})


def row(index: int, correct: bool | None, *, condition: int = 0, cost: float = 50, sample: int = 0) -> dict[str, Any]:
    measures = dict.fromkeys(
        (
            "total_tokens",
            "sequential_tokens",
            "context",
            "llama2_total_tokens",
            "llama2_sequential_tokens",
            "llama2_context",
            "threads",
            "prompt_tokens",
            "cached_tokens",
            "latency",
        ),
        cost,
    )
    where = {"condition": condition, "sample": sample, "index": index, "numbers": [index, 2, 1], "target": 9}
    return {**where, "correct": correct, "failed": correct is None, "reason": "answered", **measures}


def result(method: Any, correct: list[bool], cost: float = 50, budget: int | None = None) -> Result:
    rows = tuple(row(i, right, cost=cost) for i, right in enumerate(correct))
    return Result(Condition(method=method, budget=budget), rows, 0)


def test_a_claim_takes_the_best_condition_within_the_limit() -> None:
    found = [
        result("apr", [True] * 6 + [False] * 4, cost=80, budget=5),
        result("apr", [True] * 9 + [False] * 1, cost=200, budget=10),
        result("apr", [True] * 5 + [False] * 5, cost=60, budget=4),
        result("sos+", [True] * 2 + [False] * 8),
    ]
    outcome = judge(MEAN, found)
    assert outcome.standings["apr"].result.condition.budget == 5
    assert outcome.standings["apr"].accuracy == 0.6
    assert outcome.lead is not None
    assert outcome.lead.mean == pytest.approx(0.4)
    assert outcome.lead.pairs == 10


def test_a_claim_on_each_rollout_counts_what_fits() -> None:
    rows = tuple(row(i, i < 8, cost=90 if i < 5 else 110) for i in range(10))
    outcome = judge(EACH, [Result(Condition(), rows, 0)])
    assert outcome.standings["apr"].accuracy == 0.5
    assert outcome.lead is None
    assert "not shown, for want of a condition of SoS+" in verdict(outcome)


def test_samples_of_a_problem_are_one_pair() -> None:
    many = Result(Condition(samples=2), tuple(row(i, s == 0, sample=s) for s in range(2) for i in range(10)), 0)
    outcome = judge(MEAN, [many, result("sos+", [False] * 10)])
    assert outcome.lead is not None
    assert (outcome.lead.mean, outcome.lead.pairs) == (0.5, 10)


@pytest.mark.parametrize(
    ("apr", "sos", "words"),
    [
        (90, 40, "holds: APR is ahead"),
        (50, 40, "holds in part"),
        (40, 90, "does not hold: SoS+ is ahead"),
        (50, 50, "is open"),
    ],
)
def test_words_say_what_the_interval_says(apr: int, sos: int, words: str) -> None:
    found = [result(m, [i < n for i in range(100)]) for m, n in (("apr", apr), ("sos+", sos))]
    assert words in verdict(judge(MEAN, found))


def test_trade_off_and_windows() -> None:
    found = [
        result("apr", [True, True, False, False], cost=80, budget=8),
        result("apr", [True, False, False, False], cost=40, budget=2),
    ]
    points = trade_off(found, "llama2_total_tokens")["apr"]
    assert [(p.label, p.cost, p.accuracy) for p in points] == [("2", 40, 0.25), ("8", 80, 0.5)]
    assert within(found, "llama2_context", [30, 40, 80]) == {"apr": [0, 0.25, 0.5]}


def test_the_paper_is_quoted_with_its_source() -> None:
    source, model, claims = paper()
    assert "Pan et al." in source
    assert "228M" in model
    assert [(claim.paper["apr"], claim.paper["sos+"]) for claim in claims] == [
        (0.834, 0.600),
        (0.801, 0.666),
        (0.752, 0.573),
    ]


def evaluation(directory: Path) -> Path:
    conditions = (Condition(budget=4), Condition(method="sos+", model="elsewhere"), Condition(budget=8))
    with Rows(Protocol(conditions), directory) as rows:
        for condition in (0, 1):
            for i in range(20):
                rows.append(row(i, None if i == 19 else i < 12 - 6 * condition, condition=condition))
    return directory


def test_results_leave_failures_and_unstarted_conditions_out(tmp_path: Path) -> None:
    found = results([evaluation(tmp_path)])
    assert [(r.condition.method, len(r.rows), r.failures) for r in found] == [("apr", 19, 1), ("sos+", 19, 1)]
    text = page(found, [judge(claim, found) for claim in paper()[2]], "the source", "their model", ["a.svg"])
    assert "| same total tokens | APR | 63.2% |" in text
    assert "| 80.1% |" in text
    assert "![a](a.svg)" in text


def test_command_writes_page_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["report", str(evaluation(tmp_path / "in")), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "63.2%" in out
    assert "report.md" in err
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"report.md", "accuracy-context.svg", "accuracy-total-tokens.png", "accuracy-latency.svg"} <= names
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert all(name in (tmp_path / "out" / "report.md").read_text() for name in names if name.endswith(".svg"))
    assert main(["report", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "accuracy-context.png").read_bytes() == before["accuracy-context.png"]


def test_command_refuses_what_is_no_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no evaluation" in capsys.readouterr().err
    (tmp_path / "protocol.json").write_text(json.dumps(asdict(Protocol())))
    assert main(["report", str(tmp_path)]) == 2
    assert "no judged rollout" in capsys.readouterr().err


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
    rows = tuple({**row(i, i == 0), "loss": None if i == 0 else "width", "diagnostics": counts} for i in range(4))
    found = diagnostics(rows)
    assert found["hopeful children"] == 0.4
    assert found["child tokens spent on hopeless states"] == 0.25
    assert found["wrong results per 1,000 steps"] == 10
    assert found["joined claims that are false"] == 0
    assert found["lost to width"] == 0.75
    assert diagnostics([row(0, True)]) == {}
    text = page([Result(Condition(), rows, 0), result("sos+", [True])], [], "", "", [])
    assert "| lost to width | 75.0% | - |" in text
    assert "| wrong results per 1,000 steps | 10.0 | - |" in text
