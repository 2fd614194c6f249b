"""Where the events of one rollout go: each screen folds them, and shows the tree in its own way.

The fold is the only source of what is shown. `animate` runs beside the rollout and returns when cancelled.
"""

from __future__ import annotations

import asyncio
import sys
import time
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, Protocol

from apr.plain import one_line
from apr.shown import Shown
from apr.threads.causes import unreadable
from apr.threads.events import Event, to_json
from apr.threads.tree import MAIN, Thread, ThreadTree

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

FRAMES_PER_SECOND = 15


class Screen(Protocol):
    """What `apr solve` writes to."""

    tree: ThreadTree

    def apply(self, event: Event) -> None:
        """Take one event in."""
        ...

    async def animate(self) -> None:
        """Keep the picture moving."""
        ...

    def finish(self, *, interrupted: bool = False) -> None:
        """Show the end."""
        ...


class QuietScreen:
    """The expression, or nothing."""

    def __init__(self) -> None:
        self.tree = ThreadTree()
        self.seconds = 0.0
        """Of the rollout, at its last event."""

    def apply(self, event: Event) -> None:
        self.tree.apply(event)
        self.seconds = event.time

    async def animate(self) -> None:
        return

    def finish(self, *, interrupted: bool = False) -> None:
        if self.tree.solved:
            print(answer(self.tree))


class JsonScreen(QuietScreen):
    """The events as JSON lines."""

    def apply(self, event: Event) -> None:
        super().apply(event)
        print(to_json(event), flush=True)

    def finish(self, *, interrupted: bool = False) -> None:
        return


class PlainScreen(QuietScreen):
    """The final tree and the result, for files and pipes."""

    WIDTH = 100
    """Of lines in files and pipes."""

    def __init__(self, *, reveal: bool = False) -> None:
        super().__init__()
        self.reveal = reveal
        self._verdicts: dict[str, bool | None] = {}
        self._shown: Shown | None = None
        self._known: tuple[bool | None, str | None] | None = None

    def finish(self, *, interrupted: bool = False) -> None:
        width = get_terminal_size((self.WIDTH, 0)).columns if sys.stdout.isatty() else self.WIDTH
        for line in self.ending(sys.stdout.encoding, width, interrupted):
            print(line.plain.rstrip())

    def ending(self, encoding: str | None, width: int, interrupted: bool) -> list[Text]:
        """Header, the whole tree, the result."""
        from rich.text import Text

        from apr.cli.view import Glyphs, render

        if self.tree.started is None:
            return [Text("stopped before it began", "yellow")]
        glyphs = Glyphs.of(encoding)
        body = render(self.tree, glyphs, self.shown, self.holds, seconds=self.seconds, width=width)
        return [*self.header(glyphs.arrow), *body, Text(), *self.result(interrupted)]

    def header(self, arrow: str) -> list[Text]:
        """The problem and how it is searched."""
        from rich.text import Text

        started = self.tree.started
        assert started is not None
        unit = self.shown.unit
        budget = f"budget {started.budget:,} {unit}".rstrip() if started.budget is not None else "free budget"
        heat = f"temperature {started.temperature:g}" if started.temperature else "greedy"
        line = Text(self.shown.title().replace("→", arrow), "bold", no_wrap=True)
        line.append(f"   {one_line(started.method)}, {budget}, {heat}", "not bold dim")
        if self.known[0] is not False:
            return [line]
        warning = "There is no solution (searched exhaustively); the model tries all the same."
        return [line, Text(warning, "yellow")]

    def result(self, interrupted: bool) -> list[Text]:
        """What came out, in plain words."""
        from rich.text import Text

        from apr.threads.causes import end_of

        if self.tree.solved:
            found = Text("solved   ", "bold green")
            found.append(self.shown.solution(self.tree.steps) or answer(self.tree), "bold")
            return [found, Text(f"         {self._checked()}", "dim")]
        if self.tree.unjudged:
            said = self.tree.main.result or self.tree.main.written
            return [Text("answered ", "bold green").append(one_line(said.strip()), "bold")]
        finished = self.tree.finished
        possible, solution = self.known
        if interrupted or finished is None:
            lines = [Text("stopped  before a solution was found", "bold yellow")]
        elif finished.failed:
            why = next((t.detail for t in self.tree.threads.values() if t.reason == "engine_error"), None)
            lines = [Text("failed   the engine broke down, which says nothing of the model", "bold red")]
            if why:
                lines.append(Text(f"         {one_line(why)}", "red"))
        elif possible is False:
            lines = [Text("unsolved rightly so: there is no solution", "bold yellow")]
        else:
            if self.tree.main.result is not None:
                why = f"its answer is wrong: {one_line(finished.verdict)}"
            elif finished.reason == "no_answer":
                why = "the model found no solution"
            else:
                why = end_of(finished.reason)
            lines = [Text(f"unsolved {why}", "bold yellow")]
        if finished is not None and (fault := unreadable(self.tree.main)) is not None:
            lines.append(Text(f"         it spawned what nobody can read: {fault}"))
        if part := self._found_below():
            lines.append(Text(f"         a child thread found {part}, but the answer does not say so"))
        if possible and self.reveal:
            lines.append(Text(f"         a solution is {solution}"))
        elif possible:
            lines.append(Text("         one exists; --show-solution shows it", "dim"))
        return lines

    def _checked(self) -> str:
        """By whom the answer was found to be right."""
        if self.shown.checked is not None:
            return f"checked exactly: {self.shown.checked}"
        assert self.tree.finished is not None
        return f"the judge says: {one_line(self.tree.finished.verdict)}"

    def _found_below(self) -> str | None:
        """A true solution that some child claims."""
        claims = [t.result for t in self.tree.threads.values() if t.id != MAIN and t.result is not None]
        return next((part for part in map(self.shown.found, claims) if part is not None), None)

    @property
    def shown(self) -> Shown:
        """The problem in words."""
        if self._shown is None:
            assert self.tree.started is not None
            self._shown = Shown.of(self.tree.started)
        return self._shown

    @property
    def known(self) -> tuple[bool | None, str | None]:
        """Whether there is a solution, as far as the task knows, and one."""
        if self._known is None:
            self._known = self.shown.known()
        return self._known

    def holds(self, thread: Thread) -> bool | None:
        """Whether a closed thread's claim is true; None: nobody can tell."""
        if thread.id not in self._verdicts:
            verdict = self.shown.judge(thread.prompt_text, thread.result or "")
            self._verdicts[thread.id] = None if verdict is None else verdict.correct
        return self._verdicts[thread.id]


class LiveScreen(PlainScreen):
    """The tree as it grows, drawn in place at a steady pace however fast events come."""

    def __init__(self, console: Console, *, reveal: bool = False) -> None:
        super().__init__(reveal=reveal)
        self.console = console
        self._live: Live | None = None
        self._begin = time.monotonic()
        self._frame = 0

    async def animate(self) -> None:
        from rich.live import Live

        self._begin = time.monotonic()
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            self._live = live
            while True:
                if self.tree.threads:
                    live.update(self._picture(), refresh=True)
                self._frame += 1
                await asyncio.sleep(1 / FRAMES_PER_SECOND)

    def _picture(self) -> Any:
        from rich.console import Group

        from apr.cli.view import Glyphs, render

        glyphs = Glyphs.of(self.console.encoding)
        head = self.header(glyphs.arrow)
        # The last line stays free: a picture as high as the terminal would scroll it.
        room = self.console.height - len(head) - 1
        seconds = self.tree.latency
        lines = render(
            self.tree,
            glyphs,
            self.shown,
            self.holds,
            seconds=time.monotonic() - self._begin if seconds is None else seconds,
            width=self.console.width,
            height=room,
            frame=self._frame,
        )
        return Group(*head, *lines)

    def finish(self, *, interrupted: bool = False) -> None:
        for line in self.ending(self.console.encoding, self.console.width, interrupted):
            self.console.print(line, highlight=False, crop=False)


def answer(tree: ThreadTree) -> str:
    """The solution of a correct tree, as far as its task can tell it: else what was claimed."""
    assert tree.started is not None
    shown = Shown.of(tree.started)
    return shown.answer(tree.steps) or shown.claim(tree.main.result or ", ".join(tree.steps))
