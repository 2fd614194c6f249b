"""The training monitor without a terminal: what is folded of a run, what is drawn of it, what a killed run leaves."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("textual")

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.widgets import Static, Tab, TabbedContent, Tabs

import apr
from apr.testing.scripted import ScriptedEngine, trace_texts
from apr.threads.events import EventLog, read_events
from apr.threads.run import run_threads
from apr.threads.tree import ThreadTree
from apr.train.run import RunDirectory
from apr_tui.app import AprApp
from apr_tui.browser import Browser, RolloutList
from apr_tui.curves import Chart, Curves, Look, chart
from apr_tui.groups import RolloutFigures, parts, read_group
from apr_tui.keys import Keys
from apr_tui.labels import label, unit
from apr_tui.monitor import MonitorScreen
from apr_tui.monitoring import monitor
from apr_tui.pane import MeterLine
from apr_tui.plain import middle, one_line
from apr_tui.plot import STROKES, Box, draw, smooth
from apr_tui.record import Plan, Run, RunFeed, duration, fold, overview
from apr_tui.state import State, fold_all
from apr_tui.steps import StepTable
from apr_tui.text import ThreadText
from pilots import until

PROBLEM = apr.Problem([66, 3, 4, 22], 40)
SIZES = [(80, 24), (120, 40), (200, 60)]


def lines(*entries: dict[str, object]) -> list[bytes]:
    return [json.dumps(entry).encode() + b"\n" for entry in entries]


def entry(step: int, **more: object) -> dict[str, object]:
    return {
        "step": step,
        "reward": step / 10,
        "accuracy": {"easy": 0.5, "hard": 0.25},
        "seconds": {"generate": 3.0, "wait": 4.0, "train": 1.0},
        "step_seconds": 5.0,
        "tokens_per_second": {"generate": 8000, "train": 6000},
        "memory": 1 << 30,
        **more,
    }


def rl_run(path: Path, steps: int = 4, rollouts: int = 3) -> Path:
    """A run as the trainer writes it, with a watched group of real rollouts of teacher traces at each step."""
    run = RunDirectory(path)
    run.create("# method: apr\n# trainer: rl\nsteps = 20\n")
    (path / "groups").mkdir()
    for step in range(1, steps + 1):
        told = []
        with EventLog(path / "watched" / f"{step:06d}.jsonl") as log:
            for i in range(rollouts):
                trace = apr.search(PROBLEM, "apr", seed=10 * step + i, beam_size=3, child_beam_size=3, promising=0.9)
                engine = ScriptedEngine(trace_texts(trace), apr.Tokenizer())
                tree = run_threads(PROBLEM, engine, emit=log.append, rollout_id=f"{step}-{i}", stream=True)
                told.append(figures(tree, f"{step}-{i}"))
        run.log(entry(step, alarms=["no spawns: the model asks for none"] if step == 2 else []))
        (path / "groups" / f"{step:06d}.json").write_text(json.dumps({"rollouts": told}))
    return path


def figures(tree: ThreadTree, rollout: str) -> dict[str, object]:
    threads = {}
    for thread in tree.threads.values():
        tokens = [token for call in thread.calls for token in call.sampled]
        engine = [-0.5] * len(tokens)
        trainer = [-0.5 if i else -0.9 for i in range(len(tokens))]
        threads[thread.id] = {"tokens": tokens, "logprobs": engine, "trainer": trainer}
    reward = float(bool(tree.correct))
    return {"rollout": rollout, "reward": reward, "advantage": 1.25 if reward else -0.5, "threads": threads}


# ---- what is folded


_ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(1, 6)}, optional={"loss": st.floats(), "seconds": st.just({"train": 1})}
    ),
    max_size=20,
)


@settings(max_examples=60)
@given(_ENTRIES, st.data())
def test_any_batching_gives_the_same_run(entries: list[dict[str, object]], data: st.DataObject) -> None:
    written = lines(*entries)
    cut = data.draw(st.integers(0, len(written)))
    run = Run()
    for line in written:
        run = fold(run, [line])
    assert run == fold(fold(Run(), written[:cut]), written[cut:]) == fold(Run(), written)


def test_figures_are_named_and_the_last_of_a_step_wins() -> None:
    run = fold(Run(), lines(entry(1), entry(2, loss=5.0), entry(2, loss=3.0), {"step": 2, "validation_loss": 1.0}))
    assert run.curve("loss") == [(2.0, 3.0)]
    assert run.figures[2]["validation_loss"] == 1.0
    assert run.curve("accuracy.hard") == [(1.0, 0.25), (2.0, 0.25)]
    assert list(run.groups())[:3] == ["reward", "accuracy", "loss"]


@pytest.mark.parametrize(
    "line",
    [b"null\n", b"{\n", b'"x"\n', b'{"step":"1"}\n', b'{"step":true}\n', b"[" * 100_000 + b"\n", b"\xff\xfe\n", b"\n"],
)
def test_a_line_that_tells_no_step_is_passed_over(line: bytes) -> None:
    assert fold(Run(), [line]) == Run()


def test_a_figure_that_is_no_number_is_an_alarm() -> None:
    run = fold(Run(), [b'{"step":3,"loss":NaN,"reward":1.0}\n'])
    assert run.alarms == ((3, "loss is not a finite number"),)
    assert run.curve("loss") == []
    assert fold(run, [b'{"step":3,"loss":2.0}\n']).alarms == ()


def test_a_run_that_is_killed_and_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    feed = RunFeed(path)
    assert not feed.take()
    assert feed.status(0.0) == "is not there yet"
    run = RunDirectory(path)
    run.create("# method: apr\nsteps = 5\n")
    assert not feed.take()
    begun = (path / "recipe.toml").stat().st_mtime
    assert feed.status(begun + 5) == "stopped before its first step was done, 5 s since it began"
    hold = run.hold()
    assert feed.status(begun + 5) == "step 1: loads, compiles, computes, 5 s since it began"
    for step in (1, 2, 3):
        run.log(entry(step))
    with run.log_path.open("a") as file:
        file.write('{"step": 4, "rew')
    assert feed.take()
    assert feed.run.step == 3
    assert (feed.plan.kind, feed.plan.steps) == ("sft apr", 5)
    now = run.log_path.stat().st_mtime
    assert feed.status(now + 1) == "running"
    assert feed.status(now + 600) == "works, silent for 10 min"
    # What another machine's process does, nobody here can tell.
    (path / ".lock").write_text("1 on some-other-machine")
    assert feed.status(now + 1) == "running"
    assert feed.status(now + 600) == "running or dead, silent for 10 min"
    assert not any("left" in part for part in overview(feed, now + 600))
    hold.release()
    assert feed.status(now + 600) == "stopped at step 3, 10 min ago; the command that began it goes on with it"
    run.rewind(2)
    assert feed.take()
    assert feed.run.step == 2
    for step in (3, 4, 5):
        run.log(entry(step, reward=9.0))
    feed.take()
    assert feed.run.curve("reward")[2:] == [(3.0, 9.0), (4.0, 9.0), (5.0, 9.0)]
    assert feed.status(now) == "finished"


def test_progress_throughput_and_share_of_waiting(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.create("# trainer: rl\nsteps = 10\n")
    run.log(entry(4, validation_accuracy=0.5))
    feed = RunFeed(tmp_path)
    feed.take()
    with run.hold():
        said = overview(feed, os.stat(run.log_path).st_mtime)
    assert said == [
        *("running", "step 4 of 10", "best validation: solved 0.5 at step 4", "30 s left", "5 s a step"),
        *("8,000 tokens/s generated", "6,000 tokens/s trained", "80 % waiting for rollouts", "memory 1,024 MiB"),
    ]
    run.rewind(0)
    run.log(entry(1))
    feed.take()
    with run.hold():
        # The first step loads and compiles: by it alone nobody knows what is left.
        assert overview(feed, os.stat(run.log_path).st_mtime)[:3] == ["running", "step 1 of 10", "5 s a step"]
    assert [duration(s) for s in (5, 600, 7200, 200_000)] == ["5 s", "10 min", "2.0 h", "2.3 days"]


# ---- curves


_POINTS = st.lists(st.tuples(st.integers(0, 50).map(float), st.floats(-1e9, 1e9)), max_size=40).map(sorted)


@given(st.lists(_POINTS, max_size=3), st.integers(1, 40), st.integers(1, 12))
def test_a_curve_fits_its_place(curves: list[list[tuple[float, float]]], width: int, height: int) -> None:
    cells = draw(curves, Box.around(curves), width, height)
    assert [len(row) for row in cells] == [width] * height
    drawn = any(owner is not None for row in cells for _, owner in row)
    assert drawn == any(curves)


def test_a_line_is_a_line() -> None:
    cells = draw([[(0.0, 0.0), (7.0, 7.0)]], Box(0, 7, 0, 7), 4, 2)
    assert ["".join(sign for sign, _ in row) for row in cells] == ["  ⡠⠊", "⡠⠊  "]


@given(_POINTS, st.floats(0, 0.99))
def test_smoothing_stays_within_the_values(points: list[tuple[float, float]], weight: float) -> None:
    values = [y for _, y in points]
    for (x, y), (at, before) in zip(smooth(points, weight), points, strict=True):
        assert x == at
        assert min(values) - 1e-3 <= y <= max(values) + 1e-3 or y == pytest.approx(before)


def test_columns_of_the_steps_are_as_wide_as_their_names() -> None:
    kinds = {"validation_results": 0.125, "validation_large_results": 0.25, "validation_loss": 0.5}
    table = StepTable()
    table._run = fold(Run(), lines({"step": 1, "loss": 1.0, **kinds}))
    table._steps, table._names = [1], table._run.names
    table._title()
    # A list puts its cursor before a line.
    head, line = str(table.head)[1:], str(table.line(0, 200))
    for name, value in kinds.items():
        at = head.index(label(name)) + len(label(name))
        assert line[:at].endswith(f" {value}"), name
    assert len(str(table.line(0, 40))) <= 40


def test_each_run_has_its_stroke() -> None:
    runs = [fold(Run(), lines(*map(entry, range(1, steps)))) for steps in (4, 5, 6, 7)]
    text = chart("reward", runs, Look(smoothing=0), 40, 8).plain
    assert text.splitlines()[0] == "reward ─ 0.3 ┈ 0.4 ╌ 0.5 · 0.6"
    assert max(map(len, text.splitlines())) <= 40
    assert len(text.splitlines()) == 8
    # The cursor reads the values of a step, of each run as far as it came.
    read = chart("reward", runs, Look(smoothing=0, cursor=4.0), 40, 8).plain
    assert read.splitlines()[0] == "reward ─ 0.3 ┈ 0.4 ╌ 0.4 · 0.4"
    before = chart("reward", runs[:2], Look(cursor=0.0), 40, 8).plain
    assert before.splitlines()[0] == "reward ─ – ┈ –"
    # Without colour too: a flat line of each.
    flat = [(0.0, 1.0), (1.0, 1.0)]
    drawn = {str(draw([flat], Box.around([flat]), 8, 1, [stroke])) for stroke in STROKES}
    assert len(drawn) == len(STROKES) == 4


def test_more_runs_than_strokes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert monitor([str(tmp_path / str(number)) for number in range(5)]) == 2
    assert "no more than 4 can be told apart" in capsys.readouterr().err


def test_a_chart_tells_its_unit_and_where_it_is() -> None:
    run = fold(Run(), lines(*map(entry, range(1, 9))))
    text = chart("memory", [run], Look(), 44, 12).plain.splitlines()
    assert text[0] == "memory, MiB 1,024"
    assert [line.split("┤")[0].strip() for line in text if "┤" in line] == ["1,126", "1,024", "921.6"]
    assert text[-1].split() == ["1", "4", "step", "8"]
    assert label("tokens_per_second.train") == "speed: train"
    assert (label("own_figure"), unit("own_figure")) == ("own figure", "")
    assert (label("validation_large_results"), unit("validation_large_results")) == (
        "validation: right large results",
        "share",
    )
    # No two figures of a step have one name.
    for one, other in (("accuracy", "solved"), ("tokens", "total_tokens"), ("rollouts", "children")):
        assert label(one) != label(other)
    one, other = Look().moved(-1, [run]), Look().moved(1, [run])
    assert (one.cursor, other.cursor, one.moved(-99, [run]).cursor) == (7.0, 8.0, 1.0)
    assert Look().moved(1, [Run()]) == Look()


@settings(deadline=None)
@given(st.text(max_size=30), st.integers(1, 20))
def test_a_name_is_cut_in_the_middle(text: str, width: int) -> None:
    shown = one_line(text)
    assert cell_len(middle(shown, width)) <= width
    assert middle(shown, 99) == shown
    assert middle("a-long-name-of-a-run-17", 12) == "a-long…un-17"


# ---- the screen


def test_a_run_from_before_its_start(tmp_path: Path) -> None:
    async def look() -> None:
        app = AprApp(MonitorScreen([tmp_path / "run"]))
        async with app.run_test(size=(80, 24)) as pilot:
            said = lambda: str(app.screen.query(".meters").first(Static).render())  # noqa: E731
            await until(pilot, lambda: "is not there yet" in said())
            await asyncio.to_thread(rl_run, tmp_path / "run", 1)
            await until(pilot, lambda: "step 1 of 20" in said())
            assert "rl apr" in str(app.screen.query(".title").first(Static).render())
            assert {item.group for item in app.screen.query(Chart)} >= {"reward", "accuracy", "seconds"}

    asyncio.run(look())


@pytest.mark.parametrize("size", SIZES)
def test_from_a_step_to_the_text_of_a_thread(tmp_path: Path, size: tuple[int, int]) -> None:
    run = rl_run(tmp_path / "run")

    async def look() -> None:
        app = AprApp(MonitorScreen([run]))
        async with app.run_test(size=size) as pilot:
            await pilot.press("3")
            browser = app.screen.query_one(Browser)
            await until(pilot, lambda: browser.track is not None and len(browser.track.state.rollouts) == 3)
            await until(pilot, lambda: isinstance(app.focused, RolloutList))
            track = browser.track
            assert track is not None
            await pilot.press("down", "down")
            await until(pilot, lambda: track.state.rollout == "4-2")
            rows = app.screen.query_one(RolloutList)
            await until(pilot, lambda: "+1.25" in str(rows.line(2, 40)) or "-0.50" in str(rows.line(2, 40)))
            await pilot.press("c", "c")
            assert browser.colouring == "gap"
            assert browser.query_one(ThreadText)._parts[-1][2] in ("off2", "join", "prompt")
            assert "nats a token" in str(browser.query_one(".headline", Static).render())
            # A new step is followed while the cursor is on the newest.
            with EventLog(run / "watched" / "000005.jsonl") as log:
                for event in track.library.events("4-1"):
                    log.append(event)
            browser._passed = 1.0
            await until(pilot, lambda: browser._step == 5)
            assert all(part.region in browser.region for part in browser.walk_children())

    asyncio.run(look())


def test_all_rollouts_of_a_large_group_are_listed(tmp_path: Path) -> None:
    run = rl_run(tmp_path / "run", steps=1, rollouts=20)

    async def look() -> None:
        app = AprApp(MonitorScreen([run]))
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("3")
            browser = app.screen.query_one(Browser)
            await until(pilot, lambda: browser.track is not None and len(browser.track.state.rollouts) == 20)

    asyncio.run(look())


def test_keys_of_the_monitor(tmp_path: Path) -> None:
    first, second = rl_run(tmp_path / "one", steps=3, rollouts=1), rl_run(tmp_path / "two", steps=2, rollouts=1)

    async def look() -> None:
        screen = MonitorScreen([first, second])
        app = AprApp(screen)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("s", "z")
            assert (screen.look.smoothing, screen.look.last) == (0.9, 500)
            await pilot.press("2", "right")
            await until(pilot, lambda: app.focused is screen.query_one(StepTable))
            table = screen.query_one(StepTable)
            assert str(table.line(1, 80)).split()[0] == "2!"
            await pilot.press("v")
            assert screen.feeds[0].path == second
            await pilot.press("4")
            assert screen.query_one(TabbedContent).active == "alarms-tab"
            await pilot.press("3")
            await until(pilot, lambda: isinstance(app.focused, RolloutList))
            await pilot.press("1")
            await pilot.pause(0.3)
            assert screen.query_one(TabbedContent).active == "curves"
            screen.query(Chart).first().focus()
            await pilot.press("enter")
            assert isinstance(screen.maximized, Chart)
            await pilot.pause()
            assert "Enlarge" in str(screen.query_one(Keys).render())
            assert screen.query_one(Keys).region.bottom == 40
            await pilot.press("enter")
            assert screen.maximized is None
            assert screen.query_one(Curves).display
            # Nothing but a chart is enlarged.
            screen.query_one(Tabs).focus()
            await pilot.press("enter")
            assert screen.maximized is None
            screen.query(Chart).first().focus()
            await pilot.press("left")
            assert screen.look.cursor is not None
            legend = screen.query_one(".legend", MeterLine)
            assert [part.split(" (")[0] for part in legend._parts[:2]] == ["── two", "┈┈ one"]
            assert "values at step" in legend._parts[2]
            await pilot.press("escape")
            assert screen.look.cursor is None
            await pilot.press("5")
            await until(pilot, lambda: "# trainer: rl" in screen.query_one("#recipe-text", ThreadText)._source)
            assert "processors" in str(screen.query_one("#machine", Static).render())
            assert screen.query_one("#calm").display == (not screen.feeds[0].run.alarms)

    asyncio.run(look())


def test_a_snapshot_is_printed_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    runs = []
    for name, steps in (("short", 3), ("long", 5)):
        run = RunDirectory(tmp_path / name)
        run.create("# trainer: sft\n# method: apr\nsteps = 5\n")
        run.log_path.write_bytes(b"".join(lines(*map(entry, range(1, steps + 1)))))
        runs.append(str(tmp_path / name))
    assert monitor([*runs, "--once"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, printed)) <= 80
    assert [line.split(" · ")[0] for line in printed if line.startswith(("──", "┈┈"))] == ["── short", "┈┈ long"]
    assert any("step 3 of 5" in line for line in printed)
    assert any(line.startswith("reward ─ 0.3") and "┈ 0.5" in line for line in printed)
    assert sum("step 5" in line for line in printed) > 3
    assert monitor([str(tmp_path / "shrot"), "--once"]) == 2
    assert "shrot is not there" in capsys.readouterr().err


def test_a_snapshot_is_of_the_whole_log_however_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory(tmp_path)
    run.create("# trainer: sft\n# method: apr\nsteps = 20000\n")
    run.log_path.write_bytes(
        b"".join(lines(*({"step": step, "loss": 2.0} for step in range(1, 20_001)))) + b" " * 2**20
    )
    assert run.log_path.stat().st_size > 1.4 * 2**20
    assert monitor([str(tmp_path), "--once"]) == 0
    assert "finished · step 20,000 of 20,000" in capsys.readouterr().out


def test_values_are_those_measured_and_shares_end_at_one() -> None:
    """However smooth the curve; a validation's few points are drawn as they are."""
    told = ({"step": 1, "loss": 9.0, "validation_results": 0.5}, {"step": 2, "loss": 1.0, "validation_results": 1.0})
    run = fold(Run(), lines(*told))
    look = Look(smoothing=0.9)
    assert chart("loss", [run], look, 60, 8).plain.splitlines()[0] == "loss, nats a token 1"
    results = chart("validation_results", [run], look, 60, 8).plain.splitlines()
    assert results[0].endswith(", share 1")
    assert results[1].split("┤")[0].strip() == "1"


def test_a_supervised_run_says_why_it_has_no_rollouts(tmp_path: Path) -> None:
    RunDirectory(tmp_path).create("# trainer: sft\n# method: apr\nsteps = 5\n")

    async def look() -> None:
        app = AprApp(MonitorScreen([tmp_path]))
        async with app.run_test(size=(80, 24)) as pilot:
            # Whoever clicks on a tab stays there, although there is no curve yet to begin with.
            await pilot.click(app.screen.query(Tab).last())
            await pilot.pause(0.3)
            assert app.screen.query_one(TabbedContent).active == "recipe-tab"
            await pilot.press("3")
            await until(pilot, lambda: "supervised" in str(app.screen.query_one(".none", Static).render()))
            await pilot.press("4")
            await until(pilot, lambda: bool(app.screen.query_one("#calm").region))

    asyncio.run(look())


def test_colours_tell_every_sampled_token(tmp_path: Path) -> None:
    run = rl_run(tmp_path / "run", steps=1, rollouts=1)
    events = list(read_events(run / "watched" / "000001.jsonl"))
    view = fold_all(State(), events).view
    assert view is not None
    figures = read_group(run, 1)["1-0"]
    for thread in view.tree.threads.values():
        by_gap = parts(view, thread, "gap", figures)
        marked = [thread.text[a:b] for a, b, name in by_gap if name == "off2"]
        first = thread.calls[0].sampled[:1]
        assert marked in ([apr.Tokenizer().decode(first)], [])
        by_advantage = parts(view, thread, "advantage", figures)
        assert [a for a, _, _ in by_advantage] == [0, *(b for _, b, _ in by_advantage[:-1])]
        assert by_advantage[-1][1] == len(thread.text)
        told = figures.threads[thread.id]
        worth = tuple(1.0 if apr.Tokenizer().decode([token]).isdigit() else -0.5 for token in told.tokens)
        each = parts(view, thread, "advantage", RolloutFigures(threads={thread.id: replace(told, advantages=worth)}))
        drawn = {tone: "".join(thread.text[a:b] for a, b, name in each if name == tone) for tone in ("good2", "bad1")}
        assert drawn["good2"].isdigit()
        assert not any(map(str.isdigit, drawn["bad1"]))
    assert parts(view, view.tree.main, "gap", None) == view.forced["0"]
    (run / "groups" / "000001.json").write_text('{"rollouts": [{"rollout": 1, "threads": [3]}]}')
    assert read_group(run, 1) == {}


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert monitor([str(tmp_path / "file")]) == 2
    assert monitor([]) == 2
    assert monitor([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_alarms_of_a_long_run_are_those_of_its_steps() -> None:
    lines = [json.dumps({"step": step, "alarms": ["a", "b"]}).encode() for step in range(20_000)]
    run = fold(fold(Run(), lines), lines[5:6])
    assert len(run.alarms) == 40_000
    assert run.alarms[-2:] == ((5, "a"), (5, "b"))
    assert fold(run, [b'{"step": 5}']).alarms[-1] == (19_999, "b")


@pytest.mark.parametrize(
    "line",
    [
        '{"step": %s}' % ("9" * 400), '{"step": 1, "loss": 1e308, "reward": -1e308}', '{"step": -3, "loss": 1}',
        '{"step": 1, "alarms": {"a": 1}}', '{"step": 1, "alarms": [{}, null, 3]}', '{"step": true}', '{"step": null}',
        '{"step": 1, "loss": %s}' % ("9" * 400), '{"event": {}}', "[" * 100_000, '{"step": 1, "seconds": 1e-320}',
        '{"step": 1, "tokens_per_second": 1e-320, "tokens": 1e308, "step_seconds": 1e308, "memory": 1e308}',
    ],
    ids=lambda line: line[:40],
)  # fmt: skip
def test_a_hostile_line_of_a_run_is_shown_or_passed_over(line: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for folder in ("watched", "groups"):
        (run / folder).mkdir(parents=True)
    (run / "recipe.toml").write_text("steps = %s" % ("9" * 400))
    (run / "log.jsonl").write_text(line + "\n" + json.dumps({"step": 7, "loss": 0.5, "step_seconds": 2}) + "\n")
    (run / "watched" / "000001.jsonl").write_text(line + "\n")
    os.mkfifo(run / "groups" / "000001.json")

    async def watch() -> None:
        app = AprApp(MonitorScreen([run]))
        async with app.run_test(size=(100, 30)) as pilot:
            for key in ("2", "3", "4", "1"):
                await pilot.press(key)
                await pilot.pause()

    asyncio.run(watch())


def test_a_run_whose_log_is_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.jsonl")
    assert not RunFeed(tmp_path).take()


def test_a_run_that_may_sample_so_many_tokens_ends_with_them(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.create("# trainer: rl\nsteps = 200\nsampled_tokens = 1000\n")
    feed = RunFeed(tmp_path)
    run.log(entry(4, sampled_tokens=400))
    feed.take()
    now = run.log_path.stat().st_mtime
    with run.hold():
        # A hundred tokens and five seconds a step.
        assert "30 s left" in overview(feed, now)
    run.log(entry(9, sampled_tokens=1050))
    feed.take()
    assert feed.status(now) == "finished"


@pytest.mark.parametrize("step", [1, 1 << 53, (1 << 63) - 1])
def test_a_log_of_one_step_is_drawn_whatever_its_number(step: int) -> None:
    curve = [(float(step), 1.0)]
    assert any(cell.strip() for line in draw([curve], Box.around([curve]), 8, 2) for cell, _ in line)


def test_what_replaces_a_recipes_steps_is_what_the_run_has(tmp_path: Path) -> None:
    for place, (text, steps) in enumerate(
        [
            ("# trainer: rl\n# method: apr\n# steps: 3\n# seed: as written\nsteps = 20\n", 3),
            ("# trainer: rl\n# method: apr\n# steps: as written\n# seed: 4\n# steps: 9\nsteps = 20\n", 20),
        ]
    ):
        run = RunDirectory(tmp_path / str(place))
        run.create(text)
        assert (Plan.read(run).steps, Plan.read(run).trainer) == (steps, "rl")
