"""The screens without a terminal: what is folded, what is drawn, what a form refuses."""

from __future__ import annotations

import ast
import asyncio
import copy
import errno
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("textual")

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.events import Key, Paste
from textual.widget import Widget
from textual.widgets import Input, Static

import apr
import apr_tui
from apr.cli import main
from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.limits import Limits
from apr.policy import Policy, PolicyError
from apr.shown import give
from apr.task import Method
from apr.testing.scripted import Fault, ScriptedEngine, trace_texts
from apr.threads.causes import unreadable
from apr.threads.events import (
    Event,
    EventLog,
    RolloutFinished,
    RolloutStarted,
    ThreadClosed,
    ThreadSpawned,
    TokensForced,
    to_json,
)
from apr.threads.marks import SIGNS
from apr.threads.run import run_threads
from apr.threads.tree import MAIN, ThreadTree
from apr_tui import state as states
from apr_tui.app import AprApp
from apr_tui.base import FRAME
from apr_tui.commands import DRIVER_VARIABLE, demo_app, watch
from apr_tui.dialogs import LeaveScreen, SettingsScreen
from apr_tui.feed import Solve
from apr_tui.figures import Row, compared, meters, row, sources, title
from apr_tui.form import spread
from apr_tui.groups import RolloutFigures, parts
from apr_tui.help import HelpScreen
from apr_tui.help import rows as keyed
from apr_tui.keys import Keys
from apr_tui.log import LineTail, LogFeed
from apr_tui.memory import Memory, default_path
from apr_tui.pane import SearchPane, pack
from apr_tui.plain import clean, cut
from apr_tui.player import Player
from apr_tui.search import SearchScreen
from apr_tui.settings import Models, Settings
from apr_tui.solve import SolveScreen
from apr_tui.state import State, expect, fold, fold_all, select_thread, show
from apr_tui.text import ThreadText, wrap
from apr_tui.threads import ThreadList, draw_row
from apr_tui.track import Track
from apr_tui.verdict import headline, revealable, solution
from pilots import until
from toy import Characters, ToyLanguage, ToyTask

PROBLEM = apr.Problem([66, 3, 4, 22], 40)
SIZES = [(80, 24), (120, 40), (200, 60)]


def teacher() -> apr.Trace:
    """A trace that spawns once, with a child that fails before one that solves."""
    for seed in range(200):
        trace = apr.search(PROBLEM, "apr", seed=seed, beam_size=3, child_beam_size=3, promising=0.5)
        if trace.solved and [[c.solved for c in spawn] for spawn in trace.children] == [[False, True, False]]:
            return trace
    raise AssertionError("no such trace")


TRACE = teacher()


def scripted(**options: object) -> ScriptedEngine:
    # `apr watch` asks with a budget, a recorded log here without one.
    head = apr._core.prompt(PROBLEM, "apr", 10).removesuffix(apr._core.prompt(PROBLEM, "apr"))
    texts = [*trace_texts(TRACE), *trace_texts(TRACE, head)]
    return ScriptedEngine(texts, apr.Tokenizer(), **options)  # type: ignore[arg-type]


def recorded(rollout: str = "a", **options: object) -> list[Event]:
    seen: list[Event] = []
    run_threads(PROBLEM, scripted(**options), emit=seen.append, rollout_id=rollout, stream=True)
    return seen


def write(path: Path, events: Sequence[Event], half: str = "") -> Path:
    path.write_text("".join(to_json(event) + "\n" for event in events) + half)
    return path


def rows(view: states.View) -> list[Row]:
    return [row(view, thread, sources(view)) for thread in view.tree.ordered()]


def marks(view: states.View) -> dict[str, str]:
    return {row.thread: row.mark for row in rows(view)}


def watching(log: Path) -> AprApp:
    return AprApp(SearchScreen([Track.of_log(log)], "no events yet"))


def solving(**options: object) -> AprApp:
    models = Models(lambda engine, method: Policy(scripted(**options), Countdown(), Traces(), "apr"), Countdown)
    return AprApp(SolveScreen(models), models)


# ---- the fold


def test_the_fold_is_the_tree_and_leaves_old_states_as_they_were() -> None:
    events = recorded()
    state = State()
    before: list[tuple[State, State]] = []
    for event in events:
        # What asks the task is no part of the value, and need not be one that can be copied.
        asks = [who for view in state.rollouts.values() for who in (view.shown, view.solvable)]
        before.append((state, copy.deepcopy(state, {id(who): who for who in asks})))
        state = fold(state, event)
    assert all(kept == copied for kept, copied in before)
    assert state.view is not None
    assert state.view.tree == ThreadTree.fold(events)
    assert fold_all(State(), events) == state


RECORDED = recorded()


def renamed(rollout: str) -> list[Event]:
    return [replace(event, rollout=rollout) for event in RECORDED]


@settings(max_examples=60)
@given(st.data())
def test_any_prefix_in_any_batching_gives_the_same_state(data: st.DataObject) -> None:
    pair = [event for two in zip(RECORDED, recorded("b"), strict=True) for event in two]
    prefix = pair[: data.draw(st.integers(0, len(pair)))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(prefix)), max_size=8)))
    batched = State()
    for a, b in zip([0, *cuts], [*cuts, len(prefix)], strict=True):
        batched = fold_all(batched, prefix[a:b])
    single = State()
    for event in prefix:
        single = fold(single, event)
    assert batched == single == fold_all(State(), prefix)
    assert list(batched.rollouts) == list(single.rollouts)


def test_every_state_on_the_way_can_be_drawn() -> None:
    state = State()
    seen = set()
    for event in recorded():
        state = fold(state, event)
        assert state.view is not None
        drawn = rows(state.view)
        seen |= {row.mark for row in drawn}
        figures = meters(state.view)
        assert figures.threads == len(drawn)
        assert figures.total_tokens >= figures.sequential_tokens
        headline(state.view)
    assert seen == {"running", "waiting", "found", "nothing"}


def test_marks_and_headline_of_the_end() -> None:
    view = fold_all(State(), recorded()).view
    assert view is not None
    assert marks(view) == {"0": "found", "0.0": "nothing", "0.1": "found", "0.2": "nothing"}
    said, tone = headline(view)
    assert tone == "good"
    assert solution(view) in said
    assert solution(view).endswith("= 40")
    assert {row.thread: row.note for row in rows(view)}["0.0"] == "nothing found"
    assert {row.thread: row.label for row in rows(view)}["0"] == ""
    assert all(row.label for row in rows(view) if row.thread != MAIN)
    assert sources(view) == ("0", "0.1")


def test_forced_text_is_prompt_and_join() -> None:
    events = recorded()
    view = fold_all(State(), events).view
    assert view is not None
    main_thread = view.tree.main
    joins = [event for event in events if isinstance(event, TokensForced) and event.cause == "join"]
    texts = [(main_thread.text[a:b], origin) for a, b, origin in view.forced[MAIN]]
    assert texts == [(main_thread.prompt_text, "prompt"), (joins[-1].text, "join")]


def test_failures_have_their_own_marks() -> None:
    children = [spawn.main_calls[0].splitlines()[0] for spawn in TRACE.children[0]]
    view = fold_all(State(), recorded(faults=[Fault(children[0], "error", after=3)])).view
    assert view is not None
    assert marks(view)["0.0"] == "failed"
    assert headline(view)[0].startswith(("the engine failed", "solved"))


def test_a_false_claim_is_wrong() -> None:
    events = recorded()
    false = [
        ThreadClosed(rollout="a", time=e.time, thread=e.thread, reason="answered", result="40,40 equal")
        if isinstance(e, ThreadClosed) and e.thread == "0.0"
        else e
        for e in events
    ]
    view = fold_all(State(), false).view
    assert view is not None
    assert marks(view)["0.0"] == "wrong"


def toy_rollout(rollout: str = "t", **start: Any) -> list[Event]:
    """A rollout of another task, in which one child is right and one is wrong."""
    seen: list[Event] = []
    engine = ScriptedEngine(["?a[b,c]", "b!win", "c!lose", "?a{win,lose}!win"], Characters())
    run_threads("win", engine, emit=seen.append, task=ToyTask(), language=ToyLanguage(), rollout_id=rollout)
    return [replace(event, **start) if isinstance(event, RolloutStarted) else event for event in seen]


@pytest.mark.parametrize("task", ["toy:ToyTask", "nowhere", "os:system", "", "\x1b[2J\ud800", "x" * 10_000])
def test_a_task_that_nobody_knows_is_shown_by_its_events(task: str) -> None:
    view = fold_all(State(), toy_rollout(task=task)).view
    assert view is not None
    assert marks(view) == {"0": "found", "0.0": "claimed", "0.1": "claimed"}
    assert [row.note for row in rows(view)] == ["found win", "claims win", "claims lose"]
    assert title(view) == '{"word":"win"} · apr, free budget, greedy'
    assert headline(view) == ("solved: win, says the judge", "good")
    assert sources(view) == (MAIN,)
    assert parts(view, view.tree.main, "gap", RolloutFigures()) == view.forced[MAIN]


def test_a_task_that_was_given_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apr.shown._given", {})
    give(ToyTask())
    view = fold_all(State(), toy_rollout()).view
    assert view is not None
    assert marks(view) == {"0": "found", "0.0": "found", "0.1": "wrong"}
    assert [row.note for row in rows(view)] == ["found win", "found win", "claims a solution that is none: lose"]


def test_problems_that_a_task_cannot_read_are_shown_as_they_are() -> None:
    for problem in ({}, {"numbers": 3, "target": []}, {"numbers": [1] * 99, "target": 10**30}):
        view = fold_all(State(), toy_rollout(task="countdown", problem=problem)).view
        assert view is not None
        assert title(view).startswith(json.dumps(problem, separators=(",", ":")))
        assert marks(view) == {"0": "found", "0.0": "claimed", "0.1": "claimed"}
        assert headline(view)[0] == "solved: win, says the judge"


def test_an_event_out_of_place_is_a_problem_and_keeps_what_was_good() -> None:
    events = recorded()
    cut = [*events[:5], events[-1], events[-1], *events[5:]]
    state = fold_all(State(), cut)
    assert state.problem is not None
    assert state.view is not None
    assert state.view.tree.finished is not None
    assert fold_all(state, events[5:]) == state
    headless = fold_all(State(), events[3:])
    assert headless.problem is not None
    assert headless.view is None


def test_interleaved_rollouts_and_following() -> None:
    first, second, third = recorded("a"), recorded("b"), recorded("c")
    mixed = [event for pair in zip(first, second, strict=True) for event in pair]
    state = fold_all(State(), mixed)
    assert state.rollout == "a"
    state = fold_all(state, third)
    assert state.rollout == "c"
    back = show(select_thread(state, "0.1"), "b")
    assert (back.rollout, back.thread, back.follow) == ("b", MAIN, False)
    assert fold_all(back, recorded("d")).rollout == "b"
    assert select_thread(state, "0.77") == show(state, "nowhere") == state
    # What is expected is shown, though the rollout on screen never ended.
    broken = fold_all(State(), first[:9])
    assert fold_all(broken, second).rollout == "a"
    assert fold_all(expect(broken), second).rollout == "b"


def test_old_rollouts_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "KEEP", 2)
    state = State()
    for rollout in "abcd":
        state = fold_all(state, recorded(rollout))
    assert list(state.rollouts) == ["c", "d"]


def test_a_rollout_that_starts_again_takes_its_own_place() -> None:
    begin, rest = RECORDED[:20], RECORDED[20:]
    whole, part = fold_all(State(), RECORDED), fold_all(State(), begin)
    again = fold_all(whole, begin)
    assert again.view == part.view
    assert fold_all(again, rest).view == whole.view


def test_children_that_cannot_be_are_refused() -> None:
    hostile = [replace(e, children=("0",)) if isinstance(e, ThreadSpawned) else e for e in recorded()]
    state = fold_all(State(), hostile)
    assert state.problem is not None
    assert "cannot be its children" in state.problem


# ---- feeds and forms


def taken(feed: LogFeed) -> list[Event]:
    """All that has come, however many frames that takes."""
    events = list(feed.take())
    while feed.behind:
        events += feed.take()
    return events


def settle(track: Track) -> None:
    """Until all of the log is read, however many frames that takes."""
    assert isinstance(track.feed, LogFeed)
    track.tick(0)
    while track.feed.behind:
        track.tick(0)


def test_a_growing_log_with_a_half_written_line(tmp_path: Path) -> None:
    events = recorded()
    line = to_json(events[10])
    path = tmp_path / "log.jsonl"
    feed = LogFeed(path)
    assert taken(feed) == []
    write(path, events[:10], half=line[:20])
    assert taken(feed) == events[:10]
    with path.open("a") as file:
        file.write(line[20:] + "\n" + "".join(to_json(e) + "\n" for e in events[11:]))
    assert taken(feed) == events[10:]
    assert taken(feed) == []
    assert feed.restarts == 0


def test_a_log_that_is_cut_off_or_replaced_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", recorded("a"))
    track = Track.of_log(path)
    settle(track)
    assert list(track.state.rollouts) == ["a"]
    write(path, recorded("b")[:9])
    settle(track)
    assert list(track.state.rollouts) == ["b"]
    write(tmp_path / "new", [*recorded("c"), *recorded("d")]).replace(path)
    settle(track)
    assert list(track.state.rollouts) == ["c", "d"]
    path.unlink()
    settle(track)
    assert list(track.state.rollouts) == ["c", "d"]


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=30), st.data())
@settings(max_examples=40)
def test_a_tail_gives_each_whole_line_once(tmp_path_factory: Any, lines: list[bytes], data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("tail") / "log"
    whole = b"".join(line + b"\n" for line in lines)
    tail, seen, written = LineTail(path), [], 0
    while written < len(whole):
        step = data.draw(st.integers(1, len(whole)))
        with path.open("ab") as file:
            file.write(whole[written : written + step])
        written += step
        seen += tail.poll()
    assert b"".join(seen) == whole


def test_of_a_long_log_the_last_is_read_and_the_rest_found(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [event for i in range(9) for event in renamed(f"r{i}")])
    track = Track.of_log(path)
    track.feed = LogFeed(path, keep=3)
    settle(track)
    assert list(track.state.rollouts) == ["r6", "r7", "r8"]
    assert track.library.position("r8") == (9, 9)
    for _ in range(7):
        track.step(-1)
    assert track.state.rollout == "r1"
    assert track.state.view is not None
    assert track.state.view.tree == ThreadTree.fold(renamed("r1"))
    assert track.save(tmp_path / "saved.jsonl") == len(recorded())
    assert (tmp_path / "saved.jsonl").read_text() == "".join(to_json(e) + "\n" for e in renamed("r1"))


def test_a_player_gives_every_event_at_any_speed() -> None:
    timed = tuple(replace(event, time=i / 10) for i, event in enumerate(recorded()))
    player = Player(timed)
    assert player.state == fold_all(State(), timed[:1])
    player.faster(1)
    assert player.speed == 2.0
    player.advance(1.0)
    assert player.state == fold_all(State(), timed[:21])
    player.finish()
    assert player.state == fold_all(State(), timed)
    assert player.ended
    assert player.whole == player.state.view


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=6), st.integers(1, 300))
def test_a_player_set_to_any_moment_shows_that_moment(moments: list[float], apart: int) -> None:
    events = tuple(RECORDED)
    player = Player(events)
    player._apart = apart
    player._snapshots = [fold_all(State(), events[:at]) for at in range(0, len(events) + apart, apart)]
    for moment in moments:
        player.seek(moment * player.length)
        come = [event for event in events if event.time <= player.now]
        assert player.state == fold_all(State(), come)


@pytest.mark.parametrize(
    "line",
    [
        "null",
        "[" * 100_000,
        '{"event":"none of ours"}',
        '{"event":"tokens_sampled","rollout":"a","time":0,"thread":"0","token_ids":3,"text":"x"}',
        '{"event":"tokens_sampled","rollout":7,"time":0,"thread":"0","token_ids":[],"text":"x"}',
        '{"event":"thread_closed","rollout":"a","time":"soon","thread":"0","reason":"answered"}',
    ],
)
def test_a_line_that_is_no_event_is_told_and_passed_over(tmp_path: Path, line: str) -> None:
    events = recorded()
    path = write(tmp_path / "log.jsonl", events[:9], half=line + "\n")
    with path.open("a") as file:
        file.writelines(to_json(event) + "\n" for event in events[9:])
    track = Track.of_log(path)
    settle(track)
    assert track.complaint is not None
    assert track.state == fold_all(State(), events)


@pytest.mark.parametrize(
    ("numbers", "target", "said"),
    [
        ("", "27", "two to six numbers are wanted"),
        ("5", "27", "two to six numbers are wanted"),
        ("1 2 3 4 5 6 7", "27", "two to six numbers are wanted"),
        ("1 2 x", "27", "'x' is not a whole number"),
        ("1 2.5", "27", "'2.5' is not a whole number"),
        ("1 ²", "27", "is not a whole number"),
        ("1 2", "", "give the target"),
        ("1 2", "many", "'many' is not a whole number"),
        ("1 2", "0", "target"),
        ("1 -2", "5", "-2"),
        ("1 2", "9" * 40, "too large"),
        ("1 2", "9" * 9999, "too large"),
    ],
)
def test_what_a_form_refuses(numbers: str, target: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Countdown().parse((numbers, target))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_a_form_reads() -> None:
    problem = Countdown().parse((" 22, 26 31  53 ", " 27 "))
    assert (list(problem.numbers), problem.target) == ([22, 26, 31, 53], 27)
    problem = Countdown().parse(("12 13 14 15 = 99", ""))
    assert (list(problem.numbers), problem.target) == ([12, 13, 14, 15], 99)


# ---- the screen


def screen(app: AprApp) -> SearchScreen:
    assert isinstance(app.first, SearchScreen)
    return app.first


def listed(app: AprApp) -> dict[str, str]:
    """Thread -> its line in the list."""
    threads = screen(app).query(ThreadList).first()
    return {thread: str(threads.line(i, 60)).strip("├└─ ") for i, thread in enumerate(threads._order)}


def drawn(app: AprApp) -> str:
    """The text pane as it stands on the screen, without its margin."""
    pane = screen(app).query(ThreadText).first()
    height = pane.scrollable_content_region.height
    return "\n".join(pane.render_line(y).text[2:].rstrip() for y in range(height))


def said(app: AprApp, part: str) -> str:
    return str(screen(app).query(f".{part}").first(Static).render())


@pytest.mark.parametrize("size", SIZES)
def test_a_recorded_log_on_screen(tmp_path: Path, size: tuple[int, int]) -> None:
    log = write(tmp_path / "log.jsonl", recorded())

    async def look() -> None:
        app = watching(log)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            lines = listed(app)
            assert list(lines) == ["0", "0.0", "0.1", "0.2"]
            for thread, mark in {"0": "found", "0.0": "nothing", "0.1": "found", "0.2": "nothing"}.items():
                assert lines[thread].split()[:1] == [SIGNS[mark].sign]  # type: ignore[index]
            view = screen(app).track.shown.view
            assert view is not None
            assert [lines[child].split()[1] for child in view.tree.main.children] == view.tree.main.children
            assert "★" in lines["0.1"]
            assert said(app, "title").startswith("66 3 4 22 → 40")
            assert "parallelism 1." in said(app, "meters")
            # Of a thread that has ended, whoever comes to it reads from the begin.
            await pilot.press("down", "up")
            await until(pilot, lambda: drawn(app).startswith("Moving to Node #0\n"))
            await pilot.press("down", "down")
            await pilot.pause()
            state = screen(app).track.state
            assert (state.thread, state.view is not None) == ("0.1", True)
            assert drawn(app).splitlines()[0] == state.view.tree.threads["0.1"].text.splitlines()[0]  # type: ignore[union-attr]
            assert str(screen(app).query(ThreadText).first().border_title).startswith("0.1: ")
            await pilot.click(ThreadList, offset=(6, 3))
            await pilot.pause()
            assert screen(app).track.state.thread == "0.0"
            # Nothing on screen is wider or higher than the screen.
            assert all(widget.region in app.screen.region for widget in app.screen.walk_children() if widget.region)

    asyncio.run(look())


def test_a_log_that_grows_under_the_screen(tmp_path: Path) -> None:
    events = recorded()
    spawned = next(i for i, e in enumerate(events) if getattr(e, "thread", None) == "0.1") + 1
    line = to_json(events[spawned])
    log = write(tmp_path / "log.jsonl", events[:spawned], half=line[:30])

    async def look() -> None:
        app = watching(log)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: len(listed(app)) == 3)
            assert listed(app)["0"].startswith(SIGNS["waiting"].sign)
            await pilot.press("down")
            # What the user chose stays chosen while threads come in.
            rest = "".join(to_json(event) + "\n" for event in events[spawned + 1 :])
            with log.open("a") as file:
                file.write(f"{line[30:]}\n{rest}")
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            assert screen(app).track.state.thread == screen(app).query(ThreadList).first().selected == "0.0"

    asyncio.run(look())


def test_several_rollouts_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with EventLog(log) as file:
        for event in [*recorded("a"), *recorded("b")]:
            file.append(event)

    async def watch() -> None:
        app = watching(log)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "rollout 2 of 2" in said(app, "title"))
            await pilot.press("left_square_bracket")
            await until(pilot, lambda: "rollout 1 of 2" in said(app, "title"))
            assert len(listed(app)) == 4

    asyncio.run(watch())


async def fill(app: AprApp, pilot: object, numbers: str, target: str) -> None:
    screen(app).query_one("#ask-numbers", Input).value = numbers
    screen(app).query_one("#ask-target", Input).value = target
    screen(app).query_one("#ask-target", Input).focus()
    await pilot.press("enter")  # type: ignore[attr-defined]
    await pilot.pause()  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", SIZES)
def test_a_live_solve(size: tuple[int, int]) -> None:
    async def watch() -> None:
        app = solving()
        async with app.run_test(size=size) as pilot:
            await pilot.press(*"66 3 4 22", "enter")
            assert app.focused is screen(app).query_one("#ask-target")
            await pilot.press("4", "0", "enter")
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            assert len(listed(app)) == 4
            view = screen(app).track.shown.view
            assert view is not None
            assert view.tree.started is not None
            assert (view.tree.started.limits["threads"], view.tree.started.limits["children"]) == (64, None)
            pane = screen(app).query(ThreadText).first()
            await until(pilot, lambda: pane.scroll_offset.y == pane.max_scroll_y)
            # A second search is a second rollout, and is shown.
            first = screen(app).track.state.rollout
            await pilot.press("s")
            await until(pilot, lambda: screen(app).track.state.rollout not in (None, first))
            await until(pilot, lambda: said(app, "headline").startswith("solved"))

    asyncio.run(watch())


def test_a_search_that_is_over_before_it_is_drawn_shows_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Solve.take
    monkeypatch.setattr(Solve, "take", lambda solve: take(solve) if solve._task.done() else ())

    async def watch() -> None:
        app = solving()
        async with app.run_test(size=(80, 24)) as pilot:
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            pane = screen(app).query(ThreadText).first()
            assert pane.max_scroll_y > 0
            await until(pilot, lambda: pane.scroll_offset.y == pane.max_scroll_y)

    asyncio.run(watch())


def test_a_form_says_what_it_does_not_take() -> None:
    async def watch() -> None:
        app = solving()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("q")
            await until(pilot, lambda: said(app, "headline").startswith("numbers takes two to six numbers; Esc leaves"))
            await pilot.press(*"66 3")
            await until(pilot, lambda: not said(app, "headline"))
            await pilot.press("enter", *"40 ")
            await until(pilot, lambda: said(app, "headline").startswith("target takes the number to reach"))
            await pilot.press("4")
            assert screen(app).query_one("#ask-target", Input).value == "404"

    asyncio.run(watch())


def test_help_has_a_row_for_each_key() -> None:
    """Those of the parts of a screen too."""

    async def watch() -> None:
        app = solving()
        async with app.run_test(size=(120, 60)) as pilot:
            await pilot.press("escape", "question_mark")
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            told = keyed(app.first)
            assert told["n"].startswith("type in another problem; or in a text, go to the next of")
            assert told["esc"].startswith("end the search that runs; or show the end of a replay")
            assert told["shift+←→"] == "to the spawn, join or end before or after"
            assert "Close" in str(app.screen.query_one(Keys).render())

    asyncio.run(watch())


def test_a_live_solve_is_stopped_by_escape() -> None:
    async def watch() -> None:
        app = solving(seconds_per_token=0.05)
        async with app.run_test(size=(80, 24)) as pilot:
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: bool(listed(app).get("0")))
            await pilot.press("escape", "escape")
            await until(pilot, lambda: said(app, "headline").startswith("stopped"))
            assert listed(app)["0"].startswith(SIGNS["stopped"].sign)
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: said(app, "headline") == "searching")

    asyncio.run(watch())


def test_a_child_is_ended_by_a_key_and_its_parent_is_told() -> None:
    async def watch() -> None:
        app = solving(seconds_per_token=0.02)
        async with app.run_test(size=(120, 40)) as pilot:
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: "0.0" in listed(app))
            assert not screen(app).check_action("cancel", ())
            await pilot.press("down")
            await until(pilot, lambda: screen(app).check_action("cancel", ()) is True)
            await pilot.press("k")
            await until(pilot, lambda: SIGNS["cancelled"].sign in listed(app)["0.0"])
            assert not screen(app).check_action("cancel", ())
            await until(pilot, lambda: not screen(app).track.searching)
            view = screen(app).track.state.view
            assert view is not None
            assert view.tree.main.rounds[0].outcomes[0] == "cancelled"

    asyncio.run(watch())


@pytest.mark.parametrize("key", ["w", "x"])
def test_what_cannot_be_written_is_told(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room, no permission or no folder any more: the search on screen stays."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    log = write(tmp_path / "log.jsonl", recorded())

    async def watch() -> None:
        app = watching(log)
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            await pilot.press(key)
            await until(pilot, lambda: any("nothing is kept" in n.message for n in app._notifications))
            assert said(app, "headline").startswith("solved")

    asyncio.run(watch())


def test_a_log_that_was_deleted_is_told(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [*recorded("a"), *recorded("b")])

    async def watch() -> None:
        app = watching(log)
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            await until(pilot, lambda: "rollout 2 of 2" in said(app, "title"))
            log.unlink()
            for key in ("w", "p", "left_square_bracket", "right_square_bracket"):
                await pilot.press(key)
            await until(pilot, lambda: any("nothing is kept: No such file" in n.message for n in app._notifications))
            assert len(listed(app)) == 4

    asyncio.run(watch())


def test_a_full_disk_ends_the_log_and_not_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Event] = []

    def append(log: EventLog, event: Event) -> None:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(event)

    monkeypatch.setattr(EventLog, "append", append)

    async def watch() -> None:
        app = solving()
        async with app.run_test(size=(120, 36), notifications=True) as pilot:
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            assert "not logged: No space left on device" in said(app, "title")
            await pilot.press("w")
            await until(pilot, lambda: any("No space left" in n.message for n in app._notifications))
            # The next search tries again.
            written.clear()
            monkeypatch.setattr(EventLog, "append", lambda log, event: written.append(event))
            await pilot.press("s")
            await until(pilot, lambda: any(isinstance(event, RolloutFinished) for event in written))
            await until(pilot, lambda: "not logged" not in said(app, "title"))

    asyncio.run(watch())


def test_an_empty_form_stands_for_the_example_it_shows() -> None:
    async def watch() -> None:
        app = solving()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("enter")
            await until(pilot, lambda: said(app, "title").startswith("22 26 31 53 → 27"))
            assert screen(app).query_one("#ask-target", Input).value == "27"

    asyncio.run(watch())


def test_bad_input_is_one_clear_message() -> None:
    async def watch() -> None:
        app = solving()
        async with app.run_test(size=(80, 24)) as pilot:
            await fill(app, pilot, "66 3 x", "40")
            assert said(app, "headline") == "numbers: 'x' is not a whole number"
            assert screen(app).track.state == State()
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: said(app, "headline").startswith("solved"))

    asyncio.run(watch())


def test_an_engine_failure_is_told() -> None:
    async def watch() -> None:
        app = solving()
        async with app.run_test(size=(80, 24)) as pilot:
            await fill(app, pilot, "1 2", "3")
            await until(pilot, lambda: said(app, "headline").startswith("the engine failed: no script begins"))
            assert listed(app)["0"].startswith(SIGNS["failed"].sign)

    asyncio.run(watch())


PARTS = ((0, 5, "prompt"), (8, 30, "join"))


class TextApp(App[None]):
    """The text of a thread alone."""

    def compose(self) -> ComposeResult:
        yield ThreadText()

    def drawn(self) -> str:
        pane = self.query_one(ThreadText)
        return "\n".join(pane.render_line(y).text[2:].rstrip() for y in range(pane.scrollable_content_region.height))


def test_wrapping_keeps_every_character_but_the_spaces_it_breaks_at() -> None:
    async def look() -> None:
        app = TextApp()
        async with app.run_test(size=(50, 24)) as pilot:
            pane = app.query_one(ThreadText)
            whole = "one two [b]three[/b]\n" + "x" * 100 + "\n\nend"
            for end in range(0, len(whole) + 1, 3):
                pane.show(("r", "0"), whole[:end], PARTS, tail=True)
            pane.show(("r", "0"), whole, PARTS, tail=True)
            await pilot.pause()
            grown = app.drawn()
            pane.show(("r", "1"), whole, PARTS, tail=True)
            assert app.drawn() == grown
            assert "".join(grown.split()) == "".join(whole.split())
            pane.show(("r", "0"), f"a{EVIL}\nd", (), tail=False)
            assert app.drawn().rstrip() == "a␛[2J·␍···[bold]\nd"

    asyncio.run(look())


def test_a_folded_text_leaves_out_what_happens_within_a_state() -> None:
    async def look() -> None:
        app = TextApp()
        async with app.run_test(size=(50, 24)) as pilot:
            pane = app.query_one(ThreadText)
            whole = "state 1\na\nb\nstate 2\nc\nd\nstate 3\n"
            tell = lambda line: "state" if line.startswith("state") else "step"  # noqa: E731
            folded = "state 1\n⋯ 2 lines\nstate 2\n⋯ 2 lines\nstate 3"
            pane.show(("r", "0"), "", (), tail=True, tell=tell)
            pane.fold()
            for end in range(len(whole) + 1):
                pane.show(("r", "0"), whole[:end], (), tail=True, tell=tell)
                if whole[:end].endswith("\nc\n"):
                    assert app.drawn().rstrip() == "state 1\n⋯ 2 lines\nstate 2\n⋯ 1 line"
            assert app.drawn().rstrip() == folded
            # What is looked for in them is marked where they would stand.
            pane.find("d")
            await pilot.pause()
            assert [line for line in range(5) if any(s.style and s.style.reverse for s in pane.render_line(line))] == [
                3
            ]
            pane.find("")
            pane.fold()
            assert app.drawn().rstrip() == whole.rstrip()
            pane.fold()
            assert app.drawn().rstrip() == folded

    asyncio.run(look())


def test_the_end_of_a_text_is_followed_until_somebody_scrolls() -> None:
    async def look() -> None:
        app = TextApp()
        async with app.run_test(size=(50, 12)) as pilot:
            pane = app.query_one(ThreadText)
            at_end = lambda: pane.scroll_offset.y == pane.max_scroll_y > 0  # noqa: E731
            words = " ".join(f"word{i}" for i in range(400))
            for end in range(800, 2000, 200):
                pane.show(("r", "0"), words[:end], (), tail=True)
                await until(pilot, at_end)
            for size in ((90, 12), (40, 30), (60, 8)):
                await pilot.resize_terminal(*size)
                await until(pilot, at_end)
            # A replay begins again, and the end of what there is is followed again.
            pane.focus()
            await pilot.press("home")
            pane.show(("r", "0"), words[:900], (), tail=True)
            await until(pilot, at_end)
            await pilot.press("pageup")
            await until(pilot, lambda: not at_end())
            place = pane.scroll_offset.y
            top = pane._spans[place][0]
            pane.show(("r", "0"), words[:1900], (), tail=True)
            await pilot.pause()
            assert pane.scroll_offset.y == place
            # What is read stays in sight when the pane gets another width.
            await pilot.resize_terminal(90, 8)
            await until(pilot, lambda: pane._width != 60 - 2)
            await until(
                pilot, lambda: pane._spans[pane.scroll_offset.y][0] <= top < pane._spans[pane.scroll_offset.y][1]
            )

    asyncio.run(look())


def test_random_problems_are_of_a_kind() -> None:
    async def watch() -> None:
        app = solving()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:

            def asked() -> list[str]:
                return [screen(app).query_one(field, Input).value for field in ("#ask-numbers", "#ask-target")]

            await pilot.press("escape")
            for key, count in (("", 4), ("d", 5), ("d", 3)):
                await pilot.press(*key, "r")
                await until(pilot, lambda wanted=count: len(asked()[0].split()) == wanted)  # type: ignore[misc]
                await until(pilot, lambda: not screen(app).track.searching)
                # Letters are commands, and the threads have them.
                await until(pilot, lambda: isinstance(screen(app).focused, ThreadList))
                fields = asked()
                await until(pilot, lambda wanted=fields: said(app, "title").startswith(" → ".join(wanted)))  # type: ignore[misc]
            assert any(n.message == "random problems are easy: 3 numbers" for n in app._notifications)

    asyncio.run(watch())


def test_a_form_of_a_task_that_brings_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apr.shown._given", {})

    def load(engine: str, method: str) -> Policy:
        texts = ["?a[b,c]", "b!win", "c!lose", "?a{win,lose}!win"]
        return Policy(ScriptedEngine(texts, Characters()), ToyTask(), ToyLanguage(), "apr")

    async def watch() -> None:
        models = Models(load, ToyTask)
        app = AprApp(SolveScreen(models), models)
        async with app.run_test(size=(80, 24)) as pilot:
            problem = screen(app).query_one("#ask-problem", Input)
            assert problem.placeholder == '{"word":"test-0-0"}'
            await pilot.press(*"win", "enter")
            await until(pilot, lambda: said(app, "headline") == "a toy's prompt names no problem")
            problem.value = '{"word": "win"}'
            problem.focus()
            await pilot.press("enter")
            await until(pilot, lambda: said(app, "headline").startswith("solved: win"))
            assert said(app, "title").startswith('{"word":"win"} · apr, free budget')
            assert [line.split()[0] for line in listed(app).values()] == ["✓", "✓", "✗"]
            await pilot.press("r")
            await until(pilot, lambda: said(app, "title").startswith('{"word":"test-'))

    asyncio.run(watch())


def test_logs_of_tasks_on_screen(tmp_path: Path) -> None:
    """One that nobody knows after one of Countdown."""
    log = write(tmp_path / "log.jsonl", [*recorded(), *toy_rollout(task="\x1b[2J:\ud800")])

    async def look() -> None:
        app = watching(log)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: said(app, "headline") == "solved: win, says the judge")
            assert listed(app)["0.1"].split()[:2] == ["?", "0.1"]
            await pilot.press("left_square_bracket")
            await until(pilot, lambda: said(app, "title").startswith("66 3 4 22 → 40"))

    asyncio.run(look())


def test_pausing_comparing_and_settings() -> None:
    async def look() -> None:
        app = solving(seconds_per_token=0.001)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("escape", "c")
            await until(pilot, lambda: len(app.screen.query(SearchPane)) == 2)
            solver = app.first
            assert isinstance(solver, SolveScreen)
            assert [s.method for s in solver.settings] == ["apr", "sos+"]
            solver.settings[1] = Settings(budget=10)
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: all(track.state.view is not None for track in solver.tracks))
            await until(pilot, lambda: not any(track.searching for track in solver.tracks))
            assert all(t.state.view is not None and t.state.view.tree.correct for t in solver.tracks)
            await pilot.press("p", "minus", "minus", "minus")
            await until(pilot, lambda: "0.1x" in said(app, "title"))
            # Seconds of a slow search, ten times as slow: it has not ended when the next key comes.
            await pilot.press("p", "space")
            await until(pilot, lambda: "paused" in said(app, "title"))
            held = [track.shown for track in solver.tracks]
            await pilot.pause(0.2)
            assert [track.shown for track in solver.tracks] == held
            await pilot.press("escape")
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            await pilot.press("c")
            await until(pilot, lambda: len(app.screen.query(SearchPane)) == 1)

    asyncio.run(look())


def test_files_that_keys_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = write(tmp_path / "log.jsonl", recorded())

    async def look() -> None:
        app = watching(log)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            await pilot.press("w", "x")
            await until(pilot, lambda: (tmp_path / "apr.svg").is_file())
            assert (tmp_path / "apr-a.jsonl").read_text() == log.read_text()
            assert (tmp_path / "apr.svg").read_text().startswith("<svg")
            await pilot.press("question_mark")
            await until(pilot, lambda: app.screen is not app.first)
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.first)

    asyncio.run(look())


def test_the_demo_plays_two_searches() -> None:
    async def look() -> None:
        app = demo_app(64)
        async with app.run_test(size=(160, 40)) as pilot:
            views = lambda: [track.shown.view for track in screen(app).tracks]  # noqa: E731
            await until(pilot, lambda: all(view is not None and view.tree.finished for view in views()))
            first, second = views()
            assert first is not None and second is not None  # noqa: PT018
            assert first.tree.correct
            assert len(first.tree.threads) == 9
            assert first.tree.rounds == 2
            assert len(second.tree.threads) == 1

    asyncio.run(look())


def ended(reason: str, detail: str | None = None, verdict: str = "no solution claimed", **main: Any) -> list[Event]:
    """A rollout whose main thread ended so, without an answer."""
    start, opened = RECORDED[:2]
    close = ThreadClosed(rollout="a", time=1.0, thread=MAIN, reason=reason, detail=detail)  # type: ignore[arg-type]
    figures = {"total_tokens": 5, "sequential_tokens": 5, "longest_context": 9, "cached_tokens": 0}
    end = RolloutFinished(
        rollout="a",
        time=1.0,
        reason=reason,
        failed=False,
        correct=False,
        verdict=verdict,
        steps=(),
        **figures,  # type: ignore[arg-type]
    )
    return [replace(start, **main), opened, close, end]


def test_whether_a_problem_has_a_solution_is_told() -> None:
    view = fold_all(State(), ended("no_answer")).view
    assert headline(view) == ("unsolved: the model found no solution · there is a solution", "warning")  # type: ignore[arg-type]
    assert headline(view, reveal=True)[0].endswith("= 40")  # type: ignore[arg-type]
    assert revealable(view)
    view = fold_all(State(), ended("no_answer", problem={"numbers": [1, 1], "target": 99})).view
    assert headline(view) == ("unsolved: the model found no solution · rightly so: there is no solution", "warning")  # type: ignore[arg-type]
    assert not revealable(view)
    # Nobody knows of a task that is not known.
    view = fold_all(State(), ended("no_answer", task="nowhere")).view
    assert headline(view) == ("unsolved: the model found no solution", "warning")  # type: ignore[arg-type]


def test_what_could_not_be_read_is_quoted() -> None:
    view = fold_all(State(), ended("malformed_spawn", "line 2 is malformed")).view
    assert view is not None
    line = view.tree.main.text.splitlines()[1]
    assert unreadable(view.tree.main) == f'line 2 is malformed: "{line}"'
    assert headline(view)[0].startswith(f'unsolved: it spawned what nobody can read: line 2 is malformed: "{line}"')
    assert rows(view)[0].note.endswith(f'line 2 is malformed: "{line}"')
    view = fold_all(State(), ended("malformed_spawn", "no opening")).view
    assert view is not None
    assert unreadable(view.tree.main) == f'no opening, behind "{view.tree.main.text.splitlines()[-1]}"'
    view = fold_all(State(), ended("malformed_spawn", "line 99 is malformed")).view
    assert view is not None
    assert "behind" in str(unreadable(view.tree.main))


def test_two_searches_are_measured_beside_each_other() -> None:
    whole = fold_all(State(), RECORDED).view
    assert whole is not None
    finished = whole.tree.finished
    assert finished is not None
    half = replace(RECORDED[-1], time=finished.time / 2, total_tokens=10)
    other = fold_all(State(), [*RECORDED[:-1], half]).view
    assert other is not None
    said = compared(whole, other)
    assert said[0] == "measured, apr beside apr"
    assert said[1].endswith("(2.0x)")
    assert said[2] == f"tokens {finished.total_tokens:,} and 10 ({finished.total_tokens / 10:.1f}x)"
    assert compared(whole, fold_all(State(), RECORDED[:-1]).view) == []  # type: ignore[arg-type]


FIELDS = Countdown().form.fields


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("22 26 31 53", ["22 26 31 53"]),
        ("12 13 14 15 = 99", ["12 13 14 15", "99"]),
        ("12 13 14 15 → 99", ["12 13 14 15", "99"]),
        ("apr solve 22 26 31 53 --target 27", ["22 26 31 53", "27"]),
        ("$ apr solve 22 26 -t 27", ["22 26", "27"]),
        ("22 26\n27\n", ["22 26", "27"]),
        ("22 26 --target=27 = 3", ["22 26", "27"]),
        ("", []),
    ],
)
def test_what_is_pasted_is_cut_for_the_fields(text: str, parts: list[str]) -> None:
    assert spread(text, FIELDS) == parts
    assert spread(text, FIELDS[:1]) == text.strip().splitlines()[:1] or "apr solve" in text


@settings(deadline=None)
@given(st.text(max_size=40))
def test_whatever_is_pasted_fills_no_more_fields_than_there_are(text: str) -> None:
    assert len(spread(text, FIELDS)) <= len(FIELDS)


def test_typing_keeps_its_order_and_gives_no_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def type_in() -> None:
        app = solving()
        async with app.run_test(size=(80, 24)) as pilot:
            numbers, target = screen(app).query(Input)
            for key in ("1", "2", "ctrl+u", "6", "6", "space", "3", "x", "q", "backspace", "4", "enter", "4", "0"):
                # As they come from a fast typist: nothing is waited for.
                app.post_message(Key(key, {"space": " "}.get(key, key if len(key) == 1 else None)))
            await until(pilot, lambda: target.value == "40")
            assert numbers.value == "66 4"
            assert not list(tmp_path.iterdir())
            await pilot.press("shift+tab", "ctrl+u", *"7 8=9")
            await until(pilot, lambda: target.value == "9")
            assert numbers.value == "7 8"
            numbers.focus()
            await pilot.pause()
            app.post_message(Paste("12 13 14 15 = 99"))
            await until(pilot, lambda: (numbers.value, target.value) == ("12 13 14 15", "99"))
            assert app.focused is target
            await pilot.press("escape")
            assert isinstance(app.focused, ThreadList)
            await pilot.press("n")
            assert app.focused is numbers

    asyncio.run(type_in())


def test_leaving_asks_while_a_search_runs() -> None:
    async def leave() -> None:
        app = solving(seconds_per_token=0.05)
        async with app.run_test(size=(80, 24)) as pilot:
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: bool(listed(app).get("0")))
            await pilot.press("q")
            await until(pilot, lambda: isinstance(app.screen, LeaveScreen))
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.first)
            assert screen(app).track.searching
            await pilot.press("q", "q")
            await until(pilot, lambda: not app.is_running)

    asyncio.run(leave())


def offered(app: AprApp) -> set[str]:
    """Actions whose keys the screen shows."""
    return {active.binding.action for active in app.screen.active_bindings.values() if active.binding.show}


@pytest.mark.parametrize("screen", ["form", "search"])
def test_a_frame_in_which_nothing_happens_draws_nothing(
    screen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write(tmp_path / "log.jsonl", recorded())
    drawn: list[Widget] = []
    refresh = Widget.refresh

    def noted(widget: Widget, *arguments: Any, **options: Any) -> Widget:
        # Cursors blink by themselves.
        if not isinstance(widget, Input):
            drawn.append(widget)
        return refresh(widget, *arguments, **options)

    async def look() -> None:
        app = solving() if screen == "form" else watching(log)
        async with app.run_test(size=(120, 40)) as pilot:
            if screen == "search":
                await until(pilot, lambda: said(app, "headline").startswith("solved"))
            await pilot.pause(1.0)
            monkeypatch.setattr(Widget, "refresh", noted)
            frames = 0

            def another() -> bool:
                nonlocal frames
                frames += 1
                app.screen.tick(FRAME)  # type: ignore[attr-defined]
                return frames == 10

            await until(pilot, another)
            assert drawn == []
            # What is counted is what would be drawn.
            await pilot.press("question_mark" if screen == "search" else "f1")
            await until(pilot, lambda: bool(drawn))

    asyncio.run(look())


def test_only_keys_that_do_something_are_shown(tmp_path: Path) -> None:
    # A replay that does not end by itself while it is looked at.
    log = write(tmp_path / "log.jsonl", [replace(event, time=float(100 * i)) for i, event in enumerate(recorded())])

    async def look() -> None:
        app = watching(log)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            assert not offered(app) & {"pause", "stop", "live", "speed(1)", "step(1)", "reveal"}
            assert "replay" in offered(app)
            await pilot.press("space")
            assert "paused" not in said(app, "title")
            await pilot.press("p")
            assert offered(app) >= {"pause", "live", "speed(1)"}
            await pilot.press("escape")
            await until(pilot, lambda: not offered(app) & {"pause", "live", "speed(1)"})
            assert screen(app).track.player is None

    asyncio.run(look())


def test_settings_are_typed_in_and_remembered(tmp_path: Path) -> None:
    kept = tmp_path / "apr" / "screens.json"

    async def choose() -> None:
        models = Models(lambda engine, method: Policy(scripted(), Countdown(), Traces(), "apr"), Countdown)
        memory = Memory(kept)
        app = AprApp(SolveScreen(models, memory=memory), models, memory)
        async with app.run_test(size=(80, 24)) as pilot:
            solver = app.first
            assert isinstance(solver, SolveScreen)
            await pilot.press("ctrl+o")
            await until(pilot, lambda: isinstance(app.screen, SettingsScreen))
            field = lambda name: app.screen.query_one(f"#set-{name}", Input)  # noqa: E731
            field("budget").value = "many"
            await pilot.press("enter")
            await until(pilot, lambda: "budget: 'many'" in str(app.screen.query_one("#fault", Static).render()))
            field("budget").value = "23"
            field("temperature").value = "0.45"
            field("join").focus()
            await pilot.press("pagedown")
            assert field("join").value == "first"
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is app.first)
            assert solver.settings == [Settings(budget=23, temperature=0.45, join="first")]
            app.theme = "textual-light"
            await pilot.pause()

    asyncio.run(choose())
    memory = Memory(kept)
    assert memory.get("theme") == "textual-light"
    assert Settings.remembered(memory.get("settings")["countdown"]) == Settings(
        budget=23, temperature=0.45, join="first"
    )


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"theme": 3, "settings": {"countdown": {"budget": []}}}', "[" * 10_000]
)
def test_what_is_remembered_may_be_anything(text: str, tmp_path: Path) -> None:
    (tmp_path / "screens.json").write_text(text)
    memory = Memory(tmp_path / "screens.json")
    kept = memory.get("settings")
    assert Settings.remembered(kept.get("countdown") if isinstance(kept, dict) else kept) is None
    memory.keep("theme", "nord")
    assert Memory(tmp_path / "screens.json").get("theme") == "nord"
    Memory(tmp_path / "screens.json" / "below").keep("theme", "nord")


def test_settings_are_what_they_say() -> None:
    for engine in ("torch", "toy:ToyTask"):
        some = Settings("sos+", None, 0.25, 7, "first", engine)
        assert Settings.read(some.texts()) == some
    for name, wrong in (("method", "dfs"), ("budget", "-1"), ("seed", "x"), ("temperature", "nan"), ("engine", "gpu")):
        with pytest.raises(ValueError, match=f"^{name}: "):
            Settings.read({**some.texts(), name: wrong})


def test_a_theme_is_chosen_by_a_short_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    log = write(tmp_path / "log.jsonl", RECORDED)
    assert watch([str(log), "--theme", "light"]) == 2
    assert Memory(default_path()).get("theme") == "textual-light"
    assert watch([str(log), "--theme", "bright"]) == 2
    assert "there is no theme bright; there are light, dark" in capsys.readouterr().err


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[AprApp]:
    """The screens that commands open, as if there were a terminal, instead of being run."""
    apps: list[AprApp] = []
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(DRIVER_VARIABLE, "none")
    monkeypatch.setattr("apr.shown._given", {})
    monkeypatch.setattr(AprApp, "run", lambda app: apps.append(app))
    return apps


@pytest.mark.parametrize(
    ("words", "methods", "task"),
    [
        ([], ("apr", "sos+"), "countdown"),
        (["--task", "sudoku"], ("apr", "sos+"), "sudoku"),
        (["--model", "sudoku-tiny"], ("apr", "sos+"), "sudoku"),
        (["--model", "sos-plus-tiny"], ("sos+", "apr"), "countdown"),
    ],
)
def test_both_sides_of_a_comparison_find_their_models(
    words: list[str], methods: tuple[Method, Method], task: str, opened: list[AprApp]
) -> None:
    assert watch(words) == 0
    solver = opened[0].first
    assert isinstance(solver, SolveScreen)
    first = solver.settings[0]
    settings = first, first.other(solver.models.form)

    async def load() -> None:
        for one, method in zip(settings, methods, strict=True):
            policy = await solver.models.policy(one)
            assert (one.method, policy.method, policy.task.name) == (method, method, task)
            assert policy.language.name == {"countdown": "traces", "sudoku": "tags"}[task]
        await solver.models.close()

    asyncio.run(load())


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], Settings("sos+", 2048, 0.7, 5)),
        (["--budget", "free", "--seed", "0"], Settings("sos+", None, 0.7, 0)),
        (["--method", "apr"], Settings("apr", None)),
        (["--model", "apr-tiny", "--temperature", "0.3"], Settings("apr", None, 0.3)),
    ],
)
def test_what_was_set_last_holds_but_for_what_is_said(
    words: list[str], settings: Settings, opened: list[AprApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two commands opens the screen."""
    Memory(default_path()).keep("settings", {"countdown": Settings("sos+", 2048, 0.7, 5).texts()})
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert watch(words) == 0
    assert main(["solve", *words]) == 0
    for app in opened:
        assert isinstance(app.first, SolveScreen)
        assert app.first.settings == [settings]


def test_a_server_that_starts_is_heard(tmp_path: Path, opened: list[AprApp], monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()

    def start(*_: Any, **options: Any) -> Policy:
        options["progress"](3.0, "weights are read")
        assert Path(options["log"]).is_dir()
        assert heard.wait(60)
        raise PolicyError("it ended")

    async def listen() -> None:
        solver = opened[0].first
        assert isinstance(solver, SolveScreen)
        with EventLog(tmp_path / "log.jsonl") as log:
            solve = Solve(solver.models, PROBLEM, solver.settings[0], log)
            while "weights are read" not in solve.loading:
                await asyncio.sleep(0.01)
            assert solve.loading.startswith("starting SGLang, which takes a minute or two: ")
            assert " s · see /" in solve.loading
            heard.set()
            await solve.wait()
            assert solve.failure == "it ended"

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("apr_tui.commands.load_policy", start)
    assert watch(["--engine", "sglang"]) == 0
    asyncio.run(listen())


def test_an_engine_that_starts_is_kept_for_the_next_search(tmp_path: Path) -> None:
    starts, ready = [], threading.Event()

    def load(engine: str, method: str) -> Policy:
        starts.append(engine)
        assert ready.wait(60)
        return Policy(scripted(), Countdown(), Traces(), "apr")

    async def search() -> None:
        models = Models(load, Countdown)
        with EventLog(tmp_path / "log.jsonl") as log:
            first = Solve(models, PROBLEM, Settings(), log)
            await asyncio.sleep(0)
            first.stop()
            await first.wait()
            second = Solve(models, PROBLEM, Settings(), log)
            await asyncio.sleep(0.05)
            ready.set()
            await second.wait()
            assert second.failure is None
            assert isinstance(second.take()[-1], RolloutFinished)
        await models.close()

    asyncio.run(search())
    assert starts == ["native"]


def test_an_engine_that_starts_for_nobody_ends(tmp_path: Path) -> None:
    came: list[str] = []

    def load(engine: str, method: str) -> Policy:
        try:
            while True:
                models.hear("weights are read")
                time.sleep(0.01)
        except PolicyError as error:
            came.append(str(error))
            raise

    async def leave() -> None:
        with EventLog(tmp_path / "log.jsonl") as log:
            search = Solve(models, PROBLEM, Settings(), log)
            while not models.heard:
                await asyncio.sleep(0.01)
            search.stop()
            await search.wait()
            await asyncio.wait_for(models.close(), 60)

    models = Models(load, Countdown)
    asyncio.run(leave())
    assert came == ["nobody waits for it any more"]


def test_limits_hold_in_the_solver_too(opened: list[AprApp], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert main(["solve", "--max-threads", "3", "--max-tokens", "2000", "--timeout", "5"]) == 0
    assert watch([]) == 0
    assert [app.first.models.limits for app in opened if isinstance(app.first, SolveScreen)] == [
        Limits(threads=3, total_tokens=2000, seconds=5.0),
        Limits(),
    ]


def test_a_server_is_for_an_engine_that_has_one(opened: list[AprApp], capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(["--server", "http://127.0.0.1:1"]) == 2
    assert "--server is for --engine sglang, not native" in capsys.readouterr().err
    assert watch(["--timeout", "-1"]) == 2
    assert opened == []


EVIL = "\x1b[2J\x85\r\u202e\u200b\ud800[bold]"


def test_a_log_cannot_command_the_terminal() -> None:
    made = draw_row(Row("0", "main", "running", 1, 0.0, 1, "", EVIL, False), 60, 10)
    assert "␛[2J·␍···[bold]" in made.plain


def test_names_of_threads_are_never_cut() -> None:
    for name in ("0.0.1", "0.0.2", "0.100"):
        assert f" {name} " in draw_row(Row(name, name, "running", 1, 0.0, 1, "", "", False), 60, 10).plain


@given(st.text(max_size=60), st.integers(3, 30))
def test_no_line_is_wider_than_its_place(text: str, width: int) -> None:
    shown = clean(text)
    assert len(shown) == len(text)
    assert cell_len(cut(shown.replace("\n", " "), width)) <= width
    for paragraph in shown.split("\n"):
        spans = wrap(paragraph, width)
        assert all(cell_len(paragraph[a:b]) <= width for a, b in spans)
        assert "".join(paragraph[a:b] for a, b in spans).replace(" ", "") == paragraph.replace(" ", "")


def test_pack() -> None:
    parts = ["aaa", "bbb", "ccc"]
    assert pack(parts, " ", 11) == ["aaa bbb ccc"]
    assert pack(parts, " ", 10) == ["aaa bbb", "ccc"]
    assert pack(parts, " ", 3) == parts


# ---- the command


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["--what"], "there is no option --what"),
        (["--metod", "sos+"], "there is no option --metod; did you mean --method?"),
        (["--join", "frist"], "--join: 'frist' is none of all, first; did you mean first?"),
        (["--engine", "nativ"], "module:attribute; did you mean native?"),
        (["--engine", "nowhere:Engine"], "needs nowhere, which is not installed"),
        (["--model", "nowhere"], "nowhere is not a directory"),
        ([__file__, "--engine", "native"], "a log is only read"),
        ([__file__], "needs a terminal"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err
    assert err.count("\n") == 1


def test_the_state_needs_no_terminal() -> None:
    code = "import sys, apr_tui.track, apr_tui.figures, apr_tui.record; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_imports_of_apr_only_what_it_may() -> None:
    """Values, trees, tasks as they are shown, what loads a policy and the names of engines; no command line."""
    values = "arguments", "engine", "files", "form", "limits", "lock", "plain", "policy", "shown", "task", "types"
    trees = ("causes", "events", "lanes", "marks", "tree")
    allowed = {*(f"apr.{part}" for part in values), *(f"apr.threads.{part}" for part in trees), "apr.train.run"}
    for file in Path(apr_tui.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {n for n in names if n.split(".")[0] == "apr"} <= allowed, file


@pytest.mark.parametrize(
    "words",
    [
        *(["--budget", value] for value in ("9" * 20, "9" * 5000, "-1", "x", "\u00b2")),
        *(["--seed", value] for value in ("9" * 20, "-1")),
        *(["--temperature", value] for value in ("nan", "-1", "5e-5", "1e9", "x")),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_numbers_that_make_no_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(words) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
