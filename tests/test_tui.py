"""The screens without a terminal: what is folded, what is drawn, what a form refuses."""

from __future__ import annotations

import ast
import asyncio
import copy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

pytest.importorskip("textual")

from textual.widgets import Input, Static

import apr
import apr_tui
from apr.engine.scripted import Fault, ScriptedEngine, trace_texts
from apr.events import Event, EventLog, RolloutFinished, ThreadClosed, TokensForced, to_json
from apr.grammar import Countdown
from apr.orchestrator import run_threads
from apr.policy import Policy
from apr.tree import MAIN, ThreadTree
from apr_tui import state as states
from apr_tui.app import WatchApp, main
from apr_tui.feed import Refused, follow, read_problem
from apr_tui.figures import Row, headline, meters, name, rows
from apr_tui.solve import SolveScreen
from apr_tui.state import State, expect, fold, fold_all, select_thread, step_rollout
from apr_tui.widgets import MARKS, ThreadList, ThreadText, label, pack

PROBLEM = apr.Problem([66, 3, 4, 22], 40)
SIZES = [(80, 24), (120, 40)]


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
    return ScriptedEngine(texts, Countdown("apr").tokenizer, **options)  # type: ignore[arg-type]


def recorded(rollout: str = "a", **options: object) -> list[Event]:
    seen: list[Event] = []
    run_threads(PROBLEM, scripted(**options), emit=seen.append, rollout_id=rollout, stream=True)
    return seen


def write(path: Path, events: Sequence[Event], half: str = "") -> Path:
    path.write_text("".join(to_json(event) + "\n" for event in events) + half)
    return path


def marks(view: states.View) -> dict[str, str]:
    return {row.thread: row.mark for row in rows(view)}


async def until(pilot: object, holds: Callable[[], bool]) -> None:
    for _ in range(200):
        await pilot.pause(0.02)  # type: ignore[attr-defined]
        if holds():
            return
    raise AssertionError("it never came to hold")


# ---- the fold


def test_the_fold_is_the_tree_and_leaves_old_states_as_they_were() -> None:
    events = recorded()
    state = State()
    before: list[tuple[State, State]] = []
    for event in events:
        before.append((state, copy.deepcopy(state)))
        state = fold(state, event)
    assert all(kept == copied for kept, copied in before)
    assert state.view is not None
    assert state.view.tree == ThreadTree.fold(events)
    assert fold_all(State(), events) == state
    for cut in range(0, len(events), 7):
        assert fold_all(fold_all(State(), events[:cut]), events[cut:]) == state


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
    assert (said, tone) == (f"solved: {', '.join(view.tree.steps)}", "good")
    assert {row.thread: row.note for row in rows(view)}["0.0"] == "nothing found"


def test_forced_text_is_prompt_and_join() -> None:
    events = recorded()
    view = fold_all(State(), events).view
    assert view is not None
    main_thread = view.tree.main
    joins = [event for event in events if isinstance(event, TokensForced) and event.cause == "join"]
    texts = [main_thread.text[a:b] for a, b in view.forced[MAIN]]
    assert texts == [main_thread.prompt_text, joins[-1].text]


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
    assert state.position == (3, 3)
    back = step_rollout(select_thread(state, "0.1"), -1)
    assert (back.rollout, back.thread, back.follow) == ("b", MAIN, False)
    assert fold_all(back, recorded("d")).rollout == "b"
    assert step_rollout(back, 9).follow
    assert select_thread(state, "0.77") == state
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
    assert state.position == (4, 4)


# ---- feeds and forms


def test_a_growing_log_with_a_half_written_line(tmp_path: Path) -> None:
    events = recorded()
    line = to_json(events[10])
    path = write(tmp_path / "log.jsonl", events[:10], half=line[:20])

    async def watch() -> list[Event]:
        seen: list[Event] = []
        async for batch in follow(path):
            seen += batch
            if len(seen) == 10:
                with path.open("a") as file:
                    file.write(line[20:] + "\n" + "".join(to_json(e) + "\n" for e in events[11:]))
            if isinstance(seen[-1], RolloutFinished):
                break
        return seen

    assert asyncio.run(watch()) == events


@pytest.mark.parametrize(
    ("numbers", "target", "said"),
    [
        ("", "27", "give 2 to 6 numbers"),
        ("5", "27", "give 2 to 6 numbers"),
        ("1 2 3 4 5 6 7", "27", "give 2 to 6 numbers"),
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
    with pytest.raises(Refused) as refused:
        read_problem(numbers, target)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_a_form_reads() -> None:
    problem = read_problem(" 22, 26 31  53 ", " 27 ")
    assert (list(problem.numbers), problem.target) == ([22, 26, 31, 53], 27)


# ---- the screen


def screen(app: WatchApp) -> SolveScreen:
    assert isinstance(app.screen, SolveScreen)
    return app.screen


def listed(app: WatchApp) -> dict[str, str]:
    """Thread -> its line in the list."""
    threads = screen(app).query_one(ThreadList)
    nodes = [threads.root, *threads.root.children]
    return {str(node.data): str(node.label) for node in nodes}


def drawn(app: WatchApp) -> str:
    """The text pane as it stands on the screen."""
    pane = screen(app).query_one(ThreadText)
    return "\n".join(pane.render_line(y).text.rstrip() for y in range(pane.size.height))


def said(app: WatchApp, part: str) -> str:
    return str(screen(app).query_one(f"#{part}", Static).render())


@pytest.mark.parametrize("size", SIZES)
def test_a_recorded_log_on_screen(tmp_path: Path, size: tuple[int, int]) -> None:
    log = write(tmp_path / "log.jsonl", recorded())

    async def watch() -> None:
        app = WatchApp(log=log)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            lines = listed(app)
            assert list(lines) == ["0", "0.0", "0.1", "0.2"]
            for thread, mark in {"0": "found", "0.0": "nothing", "0.1": "found", "0.2": "nothing"}.items():
                assert lines[thread].split()[:2] == [MARKS[mark][0], name(thread)]  # type: ignore[index]
            assert said(app, "title").startswith("66 3 4 22 → 40")
            assert "threads 4" in said(app, "meters")
            assert drawn(app).startswith("Moving to Node #0\n")
            pane = screen(app).query_one(ThreadText)
            assert pane.max_scroll_y > 0 or size[1] > 24
            assert pane.virtual_size.width == pane.scrollable_content_region.width
            assert not screen(app).query("#form")

            await pilot.press("down", "down")
            await pilot.pause()
            view = screen(app).state.view
            assert view is not None
            assert screen(app).state.thread == "0.1"
            text = view.tree.threads["0.1"].text
            assert drawn(app).splitlines()[0] == text.splitlines()[0]
            assert str(screen(app).query_one(ThreadText).border_title).startswith("1: ")
            await pilot.click(ThreadList, offset=(6, 2))
            await pilot.pause()
            assert screen(app).state.thread == "0.0"

    asyncio.run(watch())


def test_a_log_that_grows_under_the_screen(tmp_path: Path) -> None:
    events = recorded()
    spawned = next(i for i, e in enumerate(events) if getattr(e, "thread", None) == "0.1") + 1
    line = to_json(events[spawned])
    log = write(tmp_path / "log.jsonl", events[:spawned], half=line[:30])

    async def watch() -> None:
        app = WatchApp(log=log)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: len(listed(app)) == 3)
            assert listed(app)["0"].startswith(MARKS["waiting"][0])
            assert listed(app)["0.1"].startswith(MARKS["running"][0])
            await pilot.press("down")
            # What the user chose stays chosen while threads come in.
            rest = "".join(to_json(event) + "\n" for event in events[spawned + 1 :])
            with log.open("a") as file:
                file.write(f"{line[30:]}\n{rest}")
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            assert screen(app).state.thread == "0.0"
            cursor = screen(app).query_one(ThreadList).cursor_node
            assert cursor is not None
            assert cursor.data == "0.0"

    asyncio.run(watch())


def test_a_broken_line_is_told_and_what_came_before_stays(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", recorded(), half='{"event":"none of ours"}\n')

    async def watch() -> None:
        app = WatchApp(log=log)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "not an event" in said(app, "headline"))
            assert len(listed(app)) == 4

    asyncio.run(watch())


def test_several_rollouts_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with EventLog(log) as file:
        for event in [*recorded("a"), *recorded("b")]:
            file.append(event)

    async def watch() -> None:
        app = WatchApp(log=log)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "rollout 2 of 2" in said(app, "title"))
            await pilot.press("left_square_bracket")
            assert "rollout 1 of 2" in said(app, "title")
            assert len(listed(app)) == 4

    asyncio.run(watch())


async def fill(app: WatchApp, pilot: object, numbers: str, target: str) -> None:
    screen(app).query_one("#numbers", Input).value = numbers
    screen(app).query_one("#target", Input).value = target
    screen(app).query_one("#target", Input).focus()
    await pilot.press("enter")  # type: ignore[attr-defined]
    await pilot.pause()  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", SIZES)
def test_a_live_solve(size: tuple[int, int]) -> None:
    async def watch() -> None:
        app = WatchApp(policy=Policy(scripted(), Countdown("apr")))
        async with app.run_test(size=size) as pilot:
            await pilot.press(*"66 3 4 22", "enter")
            assert app.focused is screen(app).query_one("#target")
            await pilot.press("4", "0", "enter")
            await until(pilot, lambda: said(app, "headline").startswith("solved"))
            assert len(listed(app)) == 4
            await pilot.pause()
            pane = screen(app).query_one(ThreadText)
            assert pane.scroll_offset.y == pane.max_scroll_y
            # A second search is a second rollout, and is shown.
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: "rollout 2 of 2" in said(app, "title"))
            await until(pilot, lambda: said(app, "headline").startswith("solved"))

    asyncio.run(watch())


def test_a_live_solve_is_stopped_by_escape() -> None:
    async def watch() -> None:
        app = WatchApp(policy=Policy(scripted(seconds_per_token=0.05), Countdown("apr")))
        async with app.run_test(size=(80, 24)) as pilot:
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: bool(listed(app).get("0")))
            await pilot.press("escape", "escape")
            await until(pilot, lambda: said(app, "headline").startswith("stopped"))
            assert listed(app)["0"].startswith(MARKS["stopped"][0])
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: said(app, "headline") == "searching")

    asyncio.run(watch())


def test_bad_input_is_one_clear_message() -> None:
    async def watch() -> None:
        app = WatchApp(policy=Policy(scripted(), Countdown("apr")))
        async with app.run_test(size=(80, 24)) as pilot:
            await fill(app, pilot, "66 3 x", "40")
            assert said(app, "headline") == "numbers: 'x' is not a whole number"
            assert screen(app).state == State()
            await fill(app, pilot, "66 3 4 22", "40")
            await until(pilot, lambda: said(app, "headline").startswith("solved"))

    asyncio.run(watch())


def test_an_engine_failure_is_told() -> None:
    async def watch() -> None:
        app = WatchApp(policy=Policy(scripted(), Countdown("apr")))
        async with app.run_test(size=(80, 24)) as pilot:
            await fill(app, pilot, "1 2", "3")
            await until(pilot, lambda: said(app, "headline").startswith("the engine failed: no script begins"))
            assert listed(app)["0"].startswith(MARKS["failed"][0])

    asyncio.run(watch())


def test_wrapping_keeps_every_character_but_the_spaces_it_breaks_at() -> None:
    async def watch() -> None:
        app = WatchApp(policy=Policy(scripted(), Countdown("apr")))
        async with app.run_test(size=(80, 24)) as pilot:
            pane = screen(app).query_one(ThreadText)
            whole = "one two [b]three[/b]\n" + "x" * 100 + "\n\nend"
            for cut in range(0, len(whole) + 1, 3):
                pane.show(("r", "0"), whole[:cut], ((0, 5), (8, 30)), tail=True)
            pane.show(("r", "0"), whole, ((0, 5), (8, 30)), tail=True)
            await pilot.pause()
            grown = drawn(app)
            pane.show(("r", "1"), whole, ((0, 5), (8, 30)), tail=True)
            assert drawn(app) == grown
            assert "".join(grown.split()) == "".join(whole.split())

    asyncio.run(watch())


def test_a_log_cannot_command_the_terminal() -> None:
    async def watch() -> None:
        app = WatchApp(policy=Policy(scripted(), Countdown("apr")))
        async with app.run_test(size=(80, 24)):
            screen(app).query_one(ThreadText).show(("r", "0"), "a\x1b[2Jb\x85\rc\nd", (), tail=False)
            assert drawn(app).rstrip() == "a·[2Jb··c\nd"
        assert "\x1b" not in str(label(Row("0", None, "running", 1, "\x1b[2J")))

    asyncio.run(watch())


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
        (["--what"], "unrecognized arguments: --what"),
        (["--model", "nowhere"], "nowhere is not a directory"),
        ([__file__, "--engine", "native"], "a log is only read"),
        ([__file__], "needs a terminal"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err
    assert err.count("\n") == 1


def test_the_state_needs_no_terminal() -> None:
    code = "import sys, apr_tui.state, apr_tui.figures, apr_tui.feed; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_imports_of_apr_only_what_it_may() -> None:
    """Values, trees, the public face and what loads a policy; no engine, no command line."""
    allowed = {"apr", *(f"apr.{part}" for part in ("events", "grammar", "limits", "policy", "run", "tree", "types"))}
    for file in Path(apr_tui.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {n for n in names if n.split(".")[0] == "apr"} <= allowed, file
