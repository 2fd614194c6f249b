"""The screen of a search: form, threads, text of the selected thread, meters.

With a policy it solves what the form says, with a log it follows that. `state` is all it shows: feeds run in
workers that only post messages, handlers make the next state of them and `_draw` tells the widgets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Input, Label, Static, Tree

from apr.policy import Policy
from apr_tui.feed import Batch, Refused, Solve, follow, read_problem
from apr_tui.figures import Tone, caption, clean, headline, meters, rows, title
from apr_tui.state import State, expect, fold_all, select_thread, step_rollout
from apr_tui.widgets import MeterLine, ThreadList, ThreadText

_TONES: dict[Tone, str] = {
    "plain": "",
    "good": "bold $text-success",
    "bad": "bold $text-error",
    "warning": "bold $text-warning",
}


class Arrived(Message):
    """Events of a feed, in order."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch


class Ended(Message):
    """A feed has no more events; `problem` says why if it broke."""

    def __init__(self, problem: str | None = None) -> None:
        super().__init__()
        self.problem = problem


class SolveScreen(Screen[None]):
    """Watch threads search: live with a policy, recorded with a log."""

    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "to_target", show=False, priority=True),
        Binding("n", "new", "New problem"),
        Binding("escape", "stop", "Stop"),
        Binding("left_square_bracket", "step(-1)", "Earlier", key_display="["),
        Binding("right_square_bracket", "step(1)", "Later", key_display="]"),
        Binding("tab", "app.focus_next", "Next pane", priority=True),
        Binding("ctrl+c,ctrl+q", "app.quit", "Quit", key_display="^c", priority=True),
        Binding("q", "app.quit", "Quit", show=False),
    ]

    def __init__(self, *, policy: Policy | None = None, log: Path | None = None) -> None:
        super().__init__()
        self.policy = policy
        self.log_path = log
        self.state = State()
        self.complaint: str | None = None
        """What is wrong with the form or the feed, in one sentence."""
        self._solve: Solve | None = None

    def compose(self) -> ComposeResult:
        if self.policy is not None:
            with Horizontal(id="form"):
                yield Label("numbers ")
                yield Input(placeholder="22 26 31 53", id="numbers", compact=True)
                yield Label(" target ")
                yield Input(placeholder="27", id="target", compact=True)
        yield Static("", id="title", markup=False)
        yield Static("", id="headline", markup=False)
        with Horizontal(id="body"):
            yield ThreadList()
            yield ThreadText()
        yield MeterLine()
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        if self.log_path is not None:
            self.run_worker(self._pump(follow(self.log_path)), group="feed")
        self.query_one("#threads" if self.policy is None else "#numbers").focus()
        self._draw()

    async def on_unmount(self) -> None:
        if self._solve is not None:
            self._solve.stop()

    def on_input_submitted(self) -> None:
        assert self.policy is not None
        numbers, target = self.query_one("#numbers", Input), self.query_one("#target", Input)
        try:
            if self._solve is not None:
                raise Refused("a search is running; Esc stops it")
            problem = read_problem(numbers.value, target.value)
        except Refused as refused:
            self.complaint = str(refused)
            self._draw()
            return
        self.complaint = None
        self.state = expect(self.state)
        self._solve = Solve(self.policy, problem)
        self.run_worker(self._pump(self._solve.batches()), group="feed")
        self.query_one(ThreadList).focus()
        self._draw()

    async def _pump(self, batches: AsyncIterator[Batch]) -> None:
        try:
            async for batch in batches:
                self.post_message(Arrived(batch))
        except (ValueError, OSError, RuntimeError) as error:
            self.post_message(Ended(str(error)))
        else:
            self.post_message(Ended())

    def on_arrived(self, message: Arrived) -> None:
        self.state = fold_all(self.state, message.batch)
        self._draw()

    def on_ended(self, message: Ended) -> None:
        self._solve = None
        self.complaint = message.problem
        self._draw()

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[str]) -> None:
        # The list may have been filled anew since the cursor moved.
        if event.node is self.query_one(ThreadList).cursor_node and event.node.data is not None:
            self.state = select_thread(self.state, event.node.data)
            self._draw()

    def action_to_target(self) -> None:
        """Enter in the first field leads to the second, unless that is filled.

        It is a priority binding, so that what is typed or pasted right after it already goes there."""
        fields = list(self.query(Input))
        if not fields or self.focused is not fields[0] or fields[1].value.strip():
            raise SkipAction
        self.set_focus(fields[1])

    def action_new(self) -> None:
        self.set_focus(self.query_one("#numbers", Input))

    def action_stop(self) -> None:
        if self._solve is not None:
            self._solve.stop()

    def action_step(self, by: int) -> None:
        self.state = step_rollout(self.state, by)
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "new":
                return self.policy is not None
            case "stop":
                return self._solve is not None
            case "step":
                return len(self.state.rollouts) > 1
            case _:
                return True

    def _draw(self) -> None:
        state, view = self.state, self.state.view
        self.query_one("#title", Static).update(self._title())
        self.query_one("#headline", Static).update(self._headline())
        text = self.query_one(ThreadText)
        thread = None if view is None else view.tree.threads.get(state.thread)
        self.query_one(ThreadList).show(state.rollout, [] if view is None else rows(view), state.thread)
        self.query_one(MeterLine).show(None if view is None else meters(view))
        if view is None or thread is None:
            text.border_title = ""
            text.show(None, "", (), tail=False)
        else:
            text.border_title = caption(thread)
            key = (str(state.rollout), thread.id)
            text.show(key, thread.text, view.forced[thread.id], tail=thread.reason is None)
        self.refresh_bindings()

    def _title(self) -> str:
        view = self.state.view
        here, count = self.state.position
        many = f"   rollout {here} of {count}" if count > 1 else ""
        return "" if view is None else clean(title(view) + many)

    def _headline(self) -> Content:
        view = self.state.view
        problem = self.complaint or self.state.problem
        tone: Tone
        if problem is not None:
            said, tone = problem, "bad"
        elif view is None:
            said, tone = self._invitation(), "plain"
        else:
            said, tone = headline(view)
        return Content.styled(clean(said), _TONES[tone])

    def _invitation(self) -> str:
        if self.log_path is not None:
            return f"{self.log_path} holds no events yet"
        return "reach the target, using each number once; Enter starts the search"
