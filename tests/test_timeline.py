"""What threads did when: lanes folded from events, drawn as lines, and gone through on the screen."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("textual")

from hypothesis import given, settings
from hypothesis import strategies as st

from apr.threads.events import CallFinished, Event, ThreadClosed, TokensSampled
from apr.threads.lanes import Lane, at, average, busy, columns, critical, moments
from apr.threads.tree import MAIN
from apr_tui.app import AprApp
from apr_tui.commands import demo_app
from apr_tui.profile import Profile
from apr_tui.search import SearchScreen
from apr_tui.state import State, View, fold_all
from apr_tui.text import ThreadText
from apr_tui.threads import ThreadList, lane_width
from apr_tui.timeline import CRITICAL, GLYPHS, JOIN, SPAWN, area, axis, column, lane_cells, legend
from apr_tui.track import Track
from pilots import until
from recorded import APR, IN_THREADS, TWO_SEARCHES

SIZES = [(80, 24), (120, 40), (200, 60)]


def folded(events: list[Event]) -> View:
    view = fold_all(State(), events).view
    assert view is not None
    return view


WHOLE = folded(APR)


# ---- the fold


@settings(max_examples=40, deadline=None)
@given(st.integers(2, len(APR)), st.booleans(), st.floats(0, 1))
def test_spans_cover_a_thread_in_order_and_never_overlap(count: int, told: bool, later: float) -> None:
    events = [event if told or not isinstance(event, CallFinished) else replace(event, timing=()) for event in APR]
    view = folded(events[:count])
    now = view.seconds + later
    for lane in view.lanes.values():
        place = lane.opened
        for begin, end, _ in lane.until(now):
            assert place - 1e-9 <= begin <= end <= (now if lane.closed is None else lane.closed) + 1e-9
            place = end
    assert set(view.lanes) == set(view.tree.threads)


def test_calls_are_told_apart_as_the_engine_tells() -> None:
    timings = {e.thread: e.timing for e in APR if isinstance(e, CallFinished) and e.thread != MAIN}
    for thread, (queue, prefill, decode) in timings.items():
        kinds = {kind: end - begin for begin, end, kind in WHOLE.lanes[thread].spans}
        assert kinds["queue"] == pytest.approx(queue)
        assert kinds["prefill"] == pytest.approx(prefill)
        assert kinds["decode"] == pytest.approx(decode, abs=0.05)
    waits = [end - begin for begin, end, kind in WHOLE.lanes[MAIN].spans if kind == "waiting"]
    assert waits == [WHOLE.lanes[MAIN].joins[0] - WHOLE.lanes[MAIN].spawns[0]]


def test_what_an_engine_does_not_tell_is_seen_from_its_tokens() -> None:
    untold = [replace(e, timing=()) if isinstance(e, CallFinished) else e for e in APR]
    first = next(e.time for e in untold if isinstance(e, TokensSampled) and e.thread == "0.3")
    lane = folded(untold).lanes["0.3"]
    assert [kind for _, _, kind in lane.spans] == ["start", "decode"]
    assert lane.spans[0] == (lane.opened, first, "start")
    # Without a stream the first tokens are the last ones, and tell nothing.
    whole = [e for e in untold if not isinstance(e, TokensSampled)]
    assert {kind for a, b, kind in folded(whole).lanes["0.3"].spans if a < b} == {"decode"}


def test_the_longest_chain_goes_through_the_child_that_was_waited_for() -> None:
    last = max((lane.closed or 0.0, thread) for thread, lane in WHOLE.lanes.items() if thread != MAIN)[1]
    assert critical(WHOLE.tree, WHOLE.lanes) == {MAIN, last}
    # While they run, nobody knows which it will be.
    running = [e for e in APR if e.time < WHOLE.lanes[MAIN].joins[0]]
    assert critical(folded(running).tree, folded(running).lanes) == {MAIN}
    # Nobody waits for a child that is cancelled.
    late = [
        replace(e, outcomes=tuple("cancelled" if f"0.{i}" == last else o for i, o in enumerate(e.outcomes)))
        if type(e).__name__ == "ThreadJoined"
        else e
        for e in APR
    ]
    assert last not in critical(folded(late).tree, folded(late).lanes)  # type: ignore[arg-type]


_SPANS = st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)).map(sorted), max_size=12)


@settings(deadline=None)
@given(_SPANS, st.integers(1, 40))
def test_how_many_were_at_work_is_their_time(spans: list[list[float]], count: int) -> None:
    lanes = [Lane(begin, end, ((begin, end, "decode"),)) for begin, end in spans]
    steps = busy(lanes, 9.0)
    worked = sum(end - begin for begin, end in spans)
    assert average(steps, 0.0, 9.0) * 9.0 == pytest.approx(worked)
    assert sum(columns(steps, 9.0, count)) * 9.0 / count == pytest.approx(worked)
    for moment in (0.5, 4.5, 8.5):
        assert at(steps, moment) == sum(begin <= moment < end for begin, end in spans)


def test_what_is_beyond_the_length_is_no_part_of_it() -> None:
    assert columns([(0.0, 2), (1.0, 0), (1e300, 3)], 1e-290, 2) == [2.0, 2.0]


def test_moments_are_those_of_threads() -> None:
    times = moments(WHOLE.lanes.values())
    closes = {e.time for e in APR if isinstance(e, ThreadClosed)}
    assert closes <= set(times)
    assert times == sorted(set(times))


# ---- the drawing


@settings(deadline=None)
@given(st.integers(1, 120), st.floats(0, 1e6), st.none() | st.floats(-1, 1e6), st.booleans())
def test_a_bar_is_as_wide_as_its_place(width: int, length: float, now: float | None, longest: bool) -> None:
    for lane in WHOLE.lanes.values():
        assert lane_cells(lane, length, width, now, critical=longest, known=length).cell_len == width
    assert axis(length, width, now).cell_len == width
    assert len(legend(width)) <= width
    lines = area(busy(WHOLE.lanes.values(), WHOLE.seconds), length, width, 3, now)
    assert [line.cell_len for line in lines] == [width] * 3


def test_a_bar_tells_what_its_thread_did() -> None:
    main = lane_cells(WHOLE.lanes[MAIN], WHOLE.seconds, 60, critical=True, known=WHOLE.seconds).plain
    spawn = column(WHOLE.lanes[MAIN].spawns[0], WHOLE.seconds, 60)
    join = column(WHOLE.lanes[MAIN].joins[0], WHOLE.seconds, 60)
    assert (main[spawn], main[join]) == (SPAWN, JOIN)
    assert set(main[spawn + 1 : join]) == {GLYPHS["waiting"][0]}
    assert CRITICAL[0] in main[:spawn]
    child = lane_cells(WHOLE.lanes["0.5"], WHOLE.seconds, 60, known=WHOLE.seconds).plain
    assert set(child.strip()) <= {GLYPHS["decode"][0], GLYPHS["prefill"][0]}
    assert len(child) - len(child.rstrip()) > len(main) - len(main.rstrip())


def test_round_seconds_stand_above_their_places() -> None:
    assert axis(20.0, 40).plain.rstrip() == "0 s       5         10        15"
    assert axis(20.0, 40, 10.0).plain.startswith("0 s       5         ▾10.00 s")
    assert "▾" in axis(1e-9, 20, 0.0).plain
    assert axis(math.ulp(0.0), 10).cell_len == 10


def test_lanes_need_some_columns() -> None:
    assert lane_width(20) == 0
    assert all(0 <= lane_width(width) < width for width in range(1, 300))


# ---- the screen


def shown(app: AprApp) -> SearchScreen:
    assert isinstance(app.first, SearchScreen)
    return app.first


@pytest.mark.parametrize("size", SIZES)
def test_going_through_time_moves_the_tree_and_the_text(tmp_path: Path, size: tuple[int, int]) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(IN_THREADS))

    async def look() -> None:
        app = AprApp(SearchScreen([Track.of_log(log)]))
        async with app.run_test(size=size) as pilot:
            screen = shown(app)
            threads, text = screen.query_one(ThreadList), screen.query_one(ThreadText)
            await until(pilot, lambda: threads.count == 11 and bool(threads.lane_width))
            assert screen.query_one(Profile).display == (size[1] > 24)
            lines = [str(threads.line(i, threads.size.width)) for i in range(11)]
            assert sum(CRITICAL[0] in line for line in lines) == 2
            end = len(text._source)
            await pilot.press("left")
            moment = screen.track.player
            assert moment is not None
            assert screen.track.paused
            await pilot.press("shift+left", "shift+left")
            await until(pilot, lambda: threads._view is not None and threads._view.tree.finished is None)
            # The lanes show all that is known, whatever the moment.
            assert threads._whole is not None
            assert threads._whole.tree.finished is not None
            for _ in range(12):
                await pilot.press("shift+left")
            assert moment.now < WHOLE.lanes[MAIN].spawns[0]
            await until(pilot, lambda: threads.count == 1)
            await until(pilot, lambda: len(text._source) < end)
            before = moment.now
            await pilot.press("right", "right")
            assert moment.now > before
            await pilot.press("escape")
            await until(pilot, lambda: screen.track.player is None and threads.count == 11)
            await until(pilot, lambda: len(text._source) == end)
            assert all(part.region in app.screen.region for part in app.screen.walk_children() if part.region)

    asyncio.run(look())


def test_searches_beside_each_other_have_one_scale() -> None:
    async def look() -> None:
        app = demo_app(1e9)
        async with app.run_test(size=(160, 40)) as pilot:
            left, right = app.first.query(ThreadList)
            await until(pilot, lambda: left.count == 9 and right.count == 1 and left.size == right.size)
            await until(pilot, lambda: left.head is not None and right.head is not None)
            assert left.head is not None
            assert right.head is not None
            assert left.head.plain == right.head.plain
            # The search that took less time takes less of it.
            bars = [str(threads.line(0, threads.size.width)).rstrip() for threads in (left, right)]
            assert len(bars[0]) < len(bars[1])
            measured = str(app.first.query_one(".measured").render())
            assert "seconds 0.50 and 0.70 (0.7x)" in measured
            left.focus()
            await pilot.press("left", "left")
            assert all(track.player is not None and track.paused for track in shown(app).tracks)

    asyncio.run(look())


def test_a_click_on_a_lane_goes_to_its_moment() -> None:
    async def look() -> None:
        track = Track.of_log(TWO_SEARCHES)
        app = AprApp(SearchScreen([track]))
        async with app.run_test(size=(120, 40)) as pilot:
            threads = shown(app).query_one(ThreadList)
            await until(pilot, lambda: bool(threads.lane_width) and not getattr(track.feed, "behind", True))
            lanes = threads.lane_width
            await pilot.click(ThreadList, offset=(1 + (threads.barred or 0) + lanes // 2, 2))
            await until(pilot, lambda: track.player is not None)
            assert track.player is not None
            assert track.player.now / track.player.length == pytest.approx(0.5, abs=1.5 / lanes)
            assert "▾" in str(threads.head)

    asyncio.run(look())


def test_a_search_can_be_gone_through_while_it_runs(tmp_path: Path) -> None:
    """What comes meanwhile is not lost."""
    log = tmp_path / "log.jsonl"
    log.write_text("".join(IN_THREADS[:300]))

    async def look() -> None:
        track = Track.of_log(log)
        app = AprApp(SearchScreen([track]))
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: len(track.state.rollouts) == 1 and not getattr(track.feed, "behind", True))
            await pilot.press("left", "left")
            assert track.player is not None
            with log.open("a") as file:
                file.writelines(IN_THREADS[300:])
            await until(pilot, lambda: track.state.view is not None and track.state.view.tree.finished is not None)
            assert track.paused
            assert track.shown.view is not None
            assert track.shown.view.tree.finished is None
            await pilot.press("escape")
            await until(pilot, lambda: track.shown is track.state)
            assert track.state.view == WHOLE

    asyncio.run(look())
