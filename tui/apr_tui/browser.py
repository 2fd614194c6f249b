"""Rollouts of a run: a step, its watched group, a rollout of it, a thread of that, and the thread's text.

The newest step is followed while the cursor rests on it, so a group is seen while it runs.
"""

from __future__ import annotations

from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from apr.threads.marks import SIGNS
from apr.train.run import RunDirectory
from apr_tui.changes import entitle, write
from apr_tui.figures import caption, mark, title
from apr_tui.groups import COLOURINGS, Colouring, RolloutFigures, parts, read_group, watched_steps
from apr_tui.lines import LineList
from apr_tui.plain import one_line
from apr_tui.state import KEEP, State, View, show
from apr_tui.text import ThreadText
from apr_tui.threads import ThreadList
from apr_tui.track import Track
from apr_tui.verdict import headline

_LOOK_S = 1.0
"""Seconds from one look for new steps to the next."""


class StepList(LineList):
    """The steps that have a watched group, newest first."""

    def __init__(self) -> None:
        super().__init__("watched")
        self.steps: list[int] = []

    def show(self, steps: list[int], cursor: int) -> None:
        self.steps = steps
        self.fill(len(steps), cursor)

    def line(self, index: int, width: int) -> Text:
        return Text(f"{self.steps[index]:>7}")


class RolloutList(LineList):
    """The rollouts of a group with what each came to."""

    def __init__(self) -> None:
        super().__init__("rollouts")
        self._state = State()
        self._figures: dict[str, RolloutFigures] = {}

    def show(self, state: State, figures: dict[str, RolloutFigures]) -> None:
        self._state, self._figures = state, figures
        self.head = Text("    reward  adv. thr. tokens", no_wrap=True)
        ids = list(state.rollouts)
        self.fill(len(ids), ids.index(state.rollout) if state.rollout is not None else 0)

    @property
    def selected(self) -> str | None:
        ids = list(self._state.rollouts)
        return ids[self.cursor] if self.cursor < len(ids) else None

    def line(self, index: int, width: int) -> Text:
        rollout, view = list(self._state.rollouts.items())[index]
        told = self._figures.get(rollout, RolloutFigures())
        main = view.tree.threads.get("0")
        sign, _, style = SIGNS["running" if main is None else mark(view, main)]
        text = Text(no_wrap=True)
        text.append(sign, style)
        text.append("       –" if told.reward is None else f"{told.reward:>8.2f}")
        advantage = told.advantage
        colour = "" if not advantage else "green" if advantage > 0 else "red"
        text.append("     –" if advantage is None else f"{advantage:>+6.2f}", colour)
        return text.append(f"{len(view.tree.threads):>5}{view.tree.total_tokens:>7,}", "dim")


class Browser(Vertical):
    """Steps, rollouts and threads side by side, the text below."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = run
        self.track: Track | None = None
        self.colouring: Colouring = "origin"
        self._step: int | None = None
        self._steps: list[int] = []
        self._figures: dict[str, RolloutFigures] = {}
        self._passed = _LOOK_S

    def compose(self) -> ComposeResult:
        yield Static("", classes="headline", markup=False)
        with Horizontal(id="lists"):
            yield StepList()
            yield RolloutList()
            yield ThreadList()
        yield ThreadText()

    def open_run(self, run: Path) -> None:
        """Show the groups of another run."""
        self.run, self.track, self._step, self._steps, self._passed = run, None, None, [], _LOOK_S

    def tick(self, seconds: float) -> None:
        """Take in what has come, and draw it."""
        self._passed += seconds
        if self._passed >= _LOOK_S:
            self._passed = 0.0
            self._look()
        if self.track is not None:
            self.track.tick(seconds)
            self.draw()

    def _look(self) -> None:
        steps = watched_steps(self.run)
        follows = not self._steps or self._step == self._steps[0]
        self._steps = steps
        if not steps:
            return
        self._open(steps[0] if follows or self._step not in steps else self._step)
        if self._step is not None and not self._figures:
            self._figures = read_group(self.run, self._step)

    def _open(self, step: int | None) -> None:
        if step is None or step == self._step:
            return
        self._step = step
        # All of a group, and of one that was drawn again: nobody can ask for earlier ones here.
        self.track = Track.of_log(RunDirectory(self.run).watched(step), KEEP)
        self.track.state = State(follow=True)
        self._figures = read_group(self.run, step)
        self.query_one(ThreadText).show(None, "", (), tail=False)

    def draw(self) -> None:
        if self.track is None:
            return
        state, view = self.track.state, self.track.state.view
        if self._step in self._steps:
            self.query_one(StepList).show(self._steps, self._steps.index(self._step))
        self.query_one(RolloutList).show(state, self._figures)
        self.query_one(ThreadList).show(view, state.thread)
        write(self.query_one(".headline", Static), one_line(self._said(view)))
        text = self.query_one(ThreadText)
        thread = None if view is None else view.tree.threads.get(state.thread)
        if view is not None and thread is not None:
            figures = self._figures.get(str(state.rollout))
            entitle(text, one_line(caption(thread)))
            text.coloured = f"coloured by {self.colouring}"
            drawn = parts(view, thread, self.colouring, figures)
            key = (str(self._step), str(state.rollout), thread.id)
            tell = view.shown.line_kind if view.shown is not None and drawn is view.forced[thread.id] else None
            text.show(key, thread.text, drawn, tail=thread.reason is None, tell=tell)

    def _said(self, view: View | None) -> str:
        if view is None:
            return "the group has not begun"
        figures = self._figures.get(str(self.track.state.rollout)) if self.track is not None else None
        gap = figures.gap if figures is not None else None
        told = f" · gap {gap:.1e} nats a token" if gap is not None else ""
        problem = self.track.state.problem or self.track.complaint if self.track is not None else None
        return f"step {self._step}: {title(view)} · {problem or headline(view)[0]}{told}"

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        lines = message.lines
        if isinstance(lines, StepList):
            self._open(lines.steps[lines.cursor])
        elif self.track is not None and isinstance(lines, RolloutList) and lines.selected is not None:
            self.track.state = show(self.track.state, lines.selected)
        elif self.track is not None and isinstance(lines, ThreadList) and lines.selected is not None:
            self.track.select(lines.selected)
        self.draw()

    def next_colouring(self) -> None:
        """Colour the text by the next measure."""
        self.colouring = COLOURINGS[(COLOURINGS.index(self.colouring) + 1) % len(COLOURINGS)]
        self.draw()
