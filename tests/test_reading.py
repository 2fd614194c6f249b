"""The text of a thread as people read it: what its lines tell, what is looked for in it, where its solution came from;
and the screens with a second task.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("textual")

from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.widgets import Input, Label, Static

import apr
from apr.countdown.task import Countdown
from apr.languages.tags import TAGS, Tags
from apr.policy import Policy
from apr.shown import Shown
from apr.sudoku.task import Sudoku
from apr.task import Search, Written
from apr.testing.scripted import ScriptedEngine
from apr.train.searches import search_samples
from apr_tui.app import AprApp
from apr_tui.dialogs import FindScreen
from apr_tui.keys import Keys
from apr_tui.search import SearchScreen
from apr_tui.settings import Models
from apr_tui.solve import SolveScreen
from apr_tui.text import KINDS, ThreadText
from apr_tui.threads import ThreadList
from apr_tui.track import Track
from pilots import until
from recorded import TWO_SEARCHES

SIZES = [(80, 24), (120, 40), (200, 60)]


def lesson(index: int) -> Search:
    return Sudoku().search({}, split="train", seed=1, index=index, progress=1.0)


def scripts(search: Search) -> list[str]:
    """The texts that a teacher's search is written in."""
    return [Tags().text(sample.token_ids) for sample in search_samples(search, Tags(), {})]


# ---- what lines tell


def test_every_line_of_a_trace_tells_something() -> None:
    seen = set()
    for method in ("apr", "sos+"):
        for seed in range(4):
            trace = apr.search(apr.Problem([66, 3, 4, 22], 40), method, seed=seed, beam_size=3)
            told = [Countdown().line_kind(line) for line in trace.text.splitlines()]
            assert None not in told[2:]
            assert "found" in told or not trace.solved
            seen.update(told)
    assert seen >= {"state", "step", "dead", "found", "join"}
    assert Countdown().line_kind("\ud800") is None


def test_every_line_of_a_sudoku_tells_something() -> None:
    seen = set()

    def look(search: Search) -> None:
        for part in search.parts:
            if isinstance(part, Written):
                seen.update(Sudoku().line_kind(line) for line in part.text.splitlines())
            else:
                for child in part:
                    look(child)

    for index in range(12):
        look(lesson(index))
    # A teacher comes to no cell without a candidate; a model may.
    assert seen == {"state", "step"}
    assert Sudoku().line_kind("ax=2 by-") == "dead"


def test_tags_tell_spawns_joins_and_answers() -> None:
    told = {tag: Tags().line_kind(f"  {tag} and more") for tag in TAGS}
    assert {told["<spawn>"], told["</child>"]} == {"spawn"}
    assert {told["<join>"], told["<none/>"], told["</result>"]} == {"join"}
    assert told["<answer>"] == "found"
    assert Tags().line_kind("< spawn>") is None


class Odd(Countdown):
    def line_kind(self, line: str) -> Any:
        if line == "raise":
            raise RuntimeError
        return {"odd": "purple"}.get(line)


def test_whatever_a_task_says_of_a_line_is_a_kind_or_nothing() -> None:
    shown = Shown({}, Odd(), Tags())
    assert [shown.line_kind(line) for line in ("raise", "odd", "<spawn>", "x")] == [None, None, "spawn", None]
    assert Shown({}).line_kind("<spawn>") is None


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_line_is_told_or_not(line: str) -> None:
    for who in (Countdown(), Sudoku(), Tags()):
        kind = who.line_kind(line)
        assert kind is None or kind in KINDS


# ---- what is looked for


class TextApp(App[None]):
    """The text of a thread alone."""

    def compose(self) -> ComposeResult:
        yield ThreadText()


def styled(pane: ThreadText, part: str) -> set[str]:
    """The colours that lines with this on the screen are drawn in."""
    found = set()
    for y in range(pane.scrollable_content_region.height):
        for segment in pane.render_line(y):
            if part in segment.text and segment.style is not None and segment.style.color is not None:
                found.add(str(segment.style.color.name))
    return found


def test_lines_are_coloured_by_what_they_tell_and_words_are_found() -> None:
    text = "\n".join(["a try", "a dead end"] * 30 + ["(found]", "end"])
    kinds: dict[str, Any] = {"a dead end": "dead", "(found]": "found"}

    async def look() -> None:
        app = TextApp()
        async with app.run_test(size=(40, 12)) as pilot:
            pane = app.query_one(ThreadText)
            for end in range(0, len(text), 7):
                pane.show(("r", "0"), text[:end], (), tail=False, tell=kinds.get)
            pane.show(("r", "0"), text, (), tail=False, tell=kinds.get)
            await pilot.pause()
            assert "red" in styled(pane, "dead end")
            assert "red" not in styled(pane, "a try")
            pane.find("(FOUND]")
            await pilot.pause()
            assert "1 of 1" in str(pane.border_subtitle)
            assert pane._spans[pane.scroll_offset.y][0] > 0
            pane.find("dead")
            await pilot.pause()
            assert "of 30" in str(pane.border_subtitle)
            pane.focus()
            before = pane._hit
            await pilot.press("n")
            assert pane._hit == (before + 1) % 30
            await pilot.press("N", "N")
            assert pane._hit == (before - 1) % 30
            pane.find("nowhere at all")
            assert "nowhere" in str(pane.border_subtitle)
            pane.find("")
            assert not str(pane.border_subtitle)
            pane.to_last("found")
            await until(pilot, lambda: "green" in styled(pane, "(found]"))

    asyncio.run(look())


def demo() -> AprApp:
    return AprApp(SearchScreen([Track.of_log(TWO_SEARCHES)]))


@pytest.mark.parametrize("size", SIZES)
def test_from_the_screen_to_the_words_and_the_source(size: tuple[int, int]) -> None:
    async def look() -> None:
        app = demo()
        async with app.run_test(size=size) as pilot:
            screen = app.first
            assert isinstance(screen, SearchScreen)
            threads, pane = screen.query_one(ThreadList), screen.query_one(ThreadText)
            await until(pilot, lambda: len(screen.track.library.starts) == 2 and threads.count > 0)
            await pilot.press("left_square_bracket")
            await until(pilot, lambda: threads.count == 11)
            await pilot.press("g")
            await until(pilot, lambda: screen.track.shown.thread == "0.2")
            await until(pilot, lambda: "green" in styled(pane, "27,27"))
            await pilot.press("slash", *"31/31")
            await until(pilot, lambda: "of" in str(pane.border_subtitle) and isinstance(app.screen, FindScreen))
            await pilot.press("enter")
            await until(pilot, lambda: app.focused is pane)
            place = pane._hit
            await pilot.press("n")
            assert pane._hit != place or len(pane._hits) == 1
            assert "Forget the words" in str(screen.query_one(Keys).render())
            await pilot.press("escape")
            assert not pane._hits
            assert not pane.border_subtitle
            await pilot.press("slash", *"no such words", "enter")
            await until(pilot, lambda: "nowhere" in str(pane.border_subtitle))
            await pilot.press("escape")
            assert not pane.border_subtitle

    asyncio.run(look())


# ---- a second task


@pytest.mark.parametrize("size", SIZES)
def test_a_sudoku_on_the_screen(size: tuple[int, int]) -> None:
    """Its form, its labels, its texts."""
    spawns = (search for search in map(lesson, range(200)) if not all(isinstance(p, Written) for p in search.parts))
    search = next(spawns)
    problem, budget = Sudoku().read_prompt(search.prompt)

    async def look() -> None:
        def load(engine: str, method: str) -> Policy:
            return Policy(ScriptedEngine(scripts(search), Tags().tokenizer), Sudoku(), Tags(), "apr")

        models = Models(load, Sudoku)  # type: ignore[arg-type]
        app = AprApp(SolveScreen(models), models)
        async with app.run_test(size=size) as pilot:
            solver = app.first
            assert isinstance(solver, SolveScreen)
            solver.settings[0] = replace(solver.settings[0], budget=budget)
            assert "fill rows" in str(solver.query_one(".welcome", Static).render())
            assert str(solver.query_one("#form Label", Label).render()).strip() == "grid"
            grid = solver.query_one("#ask-grid", Input)
            await pilot.press(*Sudoku().fill(problem)[0], "enter")
            assert grid.value == Sudoku().fill(problem)[0]
            await until(pilot, lambda: not solver.track.searching and solver.track.shown.view is not None)
            view = solver.track.shown.view
            assert view is not None
            assert view.tree.solved
            assert str(solver.query_one(".title", Static).render()).startswith("4x4 sudoku ")
            assert str(solver.query_one(".headline", Static).render()).startswith("solved: ")
            threads, pane = solver.query_one(ThreadList), solver.query_one(ThreadText)
            assert threads.count > 1
            keys = str(solver.query_one(Keys).render())
            assert all(word in keys for word in ("Help", "Quit", "Random", "Options", "Compare", "Source", "Save"))
            labels = [label for label in view.labels.values() if label]
            assert labels
            rows = [str(threads.line(i, 130)) for i in range(threads.count)]
            assert all(any(label in row for row in rows) for label in labels)
            assert "spawn" in pane._kinds
            assert set(pane._kinds) >= {"state", "spawn", "join", "found"}
            assert all(part.region in app.screen.region for part in app.screen.walk_children() if part.region)

    asyncio.run(look())
