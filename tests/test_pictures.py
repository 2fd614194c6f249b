"""Rollouts of a log as pictures: what is drawn, that nothing is loaded, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("apr_tui")

from apr.cli import main
from apr.report.recorded import rollouts
from apr.report.timeline import svg
from apr.threads.events import Event, RolloutStarted, ThreadClosed, ThreadOpened, to_json
from recorded import APR, TWO_SEARCHES

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert(1)</script>]]>\x00\ud800\u202e&"


def drawn(events: list[Event]) -> ElementTree.Element:
    [rollout] = rollouts(events)
    return ElementTree.fromstring(svg(rollout))


def bars(picture: ElementTree.Element) -> dict[str, list[tuple[str, float, float]]]:
    """Thread -> its bars: what is done, from and to."""
    groups = [group for group in picture.iter(f"{SVG}g") if group.get("class", "").startswith("thread")]
    return {
        group.findtext(f"{SVG}title", "").partition(":")[0]: [
            (bar.get("class", ""), float(bar.get("x", "")), float(bar.get("x", "")) + float(bar.get("width", "")))
            for bar in group.iter(f"{SVG}rect")
        ]
        for group in groups
    }


def chain(picture: ElementTree.Element) -> list[str]:
    groups = [group for group in picture.iter(f"{SVG}g") if group.get("class") == "thread chain"]
    return [group.findtext(f"{SVG}title", "").partition(":")[0] for group in groups]


def test_a_bar_for_every_thread_as_long_as_its_time() -> None:
    [rollout] = rollouts(APR)
    picture = drawn(APR)
    told = bars(picture)
    assert list(told) == ["main", *(f"0.{i}" for i in range(10))]
    left, right = min(told["main"])[1], 0.0
    for _, begin, end in told["main"]:
        left, right = min(left, begin), max(right, end)
    scale = (right - left) / rollout.seconds
    for thread, lane in rollout.lanes.items():
        if thread == "0":
            continue
        end = max(bar[2] for bar in told[thread])
        assert end - left == pytest.approx((lane.closed or 0.0) * scale, abs=1)
    assert {kind for kind, _, _ in told["main"]} == {"queue", "prefill", "decode", "waiting"}
    last = max(rollout.lanes, key=lambda thread: (thread != "0", rollout.lanes[thread].closed or 0.0))
    assert chain(picture) == ["main", last]
    assert len([path for path in picture.iter(f"{SVG}path") if path.get("class") == "tick"]) == 4
    assert {text.text for text in picture.iter(f"{SVG}text")} >= {"spawn", "join", "longest chain", "0.5"}


def test_a_search_that_runs_is_drawn_as_far_as_it_is_known() -> None:
    [rollout] = rollouts(APR[: len(APR) // 2])
    picture = drawn(APR[: len(APR) // 2])
    assert chain(picture) == ["main"]
    assert set(bars(picture)) == {"main" if thread == "0" else thread for thread in rollout.tree.threads}
    assert drawn(APR[:1]) is not None


def test_what_a_model_wrote_draws_nothing() -> None:
    def worse(event: Event) -> Event:
        match event:
            case RolloutStarted():
                return replace(event, problem={HOSTILE: HOSTILE}, method=HOSTILE, task="nobody's")
            case ThreadOpened():
                return replace(event, text=HOSTILE, prompt=HOSTILE)
            case ThreadClosed():
                return replace(event, result=HOSTILE, detail=HOSTILE)
        return event

    tags = {element.tag for element in drawn(APR).iter()}
    evil = drawn([worse(event) for event in APR])
    assert {element.tag for element in evil.iter()} == tags
    assert f"{SVG}script" not in tags
    names = {name for element in evil.iter() for name in element.attrib}
    assert not {name for name in names if name.startswith("on") or "href" in name}


def test_a_log_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "search.jsonl"
    log.write_text("".join(f"{to_json(event)}\n" for event in APR))
    assert main(["report", str(log)]) == 0
    assert f"written: {tmp_path / 'search.html'} and search.svg" in capsys.readouterr().err
    picture = (tmp_path / "search.svg").read_text()
    ElementTree.fromstring(picture)
    page = (tmp_path / "search.html").read_text()
    assert picture in page
    assert page.count("<details") == 11
    assert main(["report", str(TWO_SEARCHES), "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "two_searches-1.svg",
        "two_searches-2.svg",
        "two_searches.html",
    ]


def test_logs_of_one_name_are_not_written_over_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[Any]) -> None:
    logs = [tmp_path / name / "log.jsonl" for name in ("one", "two")]
    for log in logs:
        log.parent.mkdir()
        log.write_text("".join(to_json(event) + "\n" for event in APR))
    assert main(["report", *map(str, logs)]) == 0
    assert all(log.with_suffix(".svg").is_file() for log in logs)
    assert main(["report", *map(str, logs), "--out", str(tmp_path / "out")]) == 2
    assert f"is another log's already: give {logs[1]} a directory of its own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "holds no rollout"), ("{}\n", "cannot read"), (to_json(APR[1]) + "\n", "does not belong here")],
)
def test_a_log_that_is_none_is_refused(
    text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[Any]
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(text)
    assert main(["report", str(log)]) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [log]


def test_pages_load_nothing(browser: Any, tmp_path: Path) -> None:
    from browsing import Visit

    assert main(["report", str(TWO_SEARCHES), "--out", str(tmp_path)]) == 0
    visit = Visit(browser)
    visit.page.goto((tmp_path / "two_searches.html").as_uri())
    assert len(visit.page.query_selector_all("svg .thread")) == 12
    assert visit.hosts == {""}
    assert not visit.complaints
