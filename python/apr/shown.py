"""A rollout's problem in the words of its task, for screens; where the task has none, plain text.

An event names its task, and a log may come from anywhere. So a name stands for a task that is installed or that the
user gave, never for something to import, and whatever a task makes of a hostile problem, nothing is raised here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast, get_args

from apr.form import form_of
from apr.plain import one_line
from apr.plugins import names
from apr.task import GROUP, LineKind, Marks, Method, Shows, Solves, Task, Tells, Verdict, load_task
from apr.threads.causes import end_of, unreadable
from apr.threads.events import RolloutStarted
from apr.threads.language import GROUP as LANGUAGES
from apr.threads.language import Language, load_language
from apr.threads.tree import Thread

T = TypeVar("T")

_given: dict[str, Task[Any]] = {}


def give(task: Task[Any]) -> None:
    """Show rollouts of this task by it, too: the user named it."""
    _given[task.name] = task


def ending(thread: Thread) -> str:
    """How a thread ended that claims nothing, with what is known of it. ValueError for one that runs."""
    if thread.reason is None:
        raise ValueError(f"{thread.id} has not ended")
    detail = unreadable(thread) or thread.detail
    return f"{end_of(thread.reason)}: {one_line(detail)}" if detail else end_of(thread.reason)


@lru_cache(maxsize=64)
def _installed(name: str, method: str) -> Task[Any] | None:
    # A task is code of others, whatever it does when it is loaded; without it a log is still shown.
    return _try(lambda: load_task(name, _method(method))) if name in names(GROUP) else None


@lru_cache(maxsize=64)
def installed_language(name: str, method: str) -> Language | None:
    """The language that an event names, if it is installed."""
    return _try(lambda: load_language(name, None, _method(method))) if name in names(LANGUAGES) else None


def token_text(language: Language, token_id: int) -> str | None:
    """What a token of a log says by itself; None if the language knows no such token."""
    return _try(lambda: language.text((token_id,)))


def _method(name: str) -> Method:
    return cast(Method, name) if name in get_args(Method) else "apr"


def _try(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except Exception:
        return None


@dataclass(frozen=True, slots=True)
class Shown:
    """What can be said of one rollout's problem, threads and answer."""

    values: dict[str, Any]
    """The problem as it was told."""
    task: Task[Any] | None = None
    """None: nobody here knows it."""
    language: Language | None = None
    """What its threads write; None: nobody here knows it."""

    @classmethod
    def of(cls, started: RolloutStarted) -> Shown:
        """By what a rollout's first event names."""
        task = _installed(started.task, started.method) or _given.get(started.task)
        return cls(started.problem, task, installed_language(started.language, started.method))

    @property
    def problem(self) -> Any:
        """The task's problem; None if nobody can read it."""
        task = self.task
        return None if task is None else _try(lambda: task.from_json(self.values))

    @property
    def fault(self) -> str | None:
        """Why the task cannot read the problem; None if it can, or if there is no task."""
        try:
            if self.task is not None:
                self.task.from_json(self.values)
        except Exception as error:
            return one_line(str(error)) or type(error).__name__
        return None

    @property
    def unit(self) -> str:
        """What a budget counts."""
        task = self.task
        return (_try(lambda: form_of(task).unit) if task is not None else None) or ""

    @property
    def checked(self) -> str | None:
        """What a solution was checked for, if its task can check one."""
        return self.task.checked if isinstance(self.task, Tells) else None

    def title(self) -> str:
        """The problem in one line: as its task says it, or its JSON."""
        task, problem = self.task, self.problem
        shown = _try(lambda: task.title(problem)) if isinstance(task, Shows) and problem is not None else None
        return one_line(shown or _json(self.values))

    def label(self, prompt: str) -> str:
        """A child's part of the problem; empty: nobody can tell."""
        task = self.task
        return one_line(_try(lambda: task.label(prompt)) or "") if isinstance(task, Shows) else ""

    def line_kind(self, line: str) -> LineKind | None:
        """What a line of a thread tells; None: nobody can tell."""
        for who in (self.task, self.language):
            if isinstance(who, Marks) and (kind := _try(lambda who=who: who.line_kind(line))) is not None:
                return kind if kind in get_args(LineKind) else None
        return None

    def claim(self, claim: str) -> str:
        """What a thread says it found, in one line."""
        task = self.task
        steps = _try(lambda: task.steps(claim)) if isinstance(task, Tells) else None
        return one_line(claim if steps is None else ", ".join(steps))

    def judge(self, prompt: str, claim: str) -> Verdict | None:
        """The task's verdict on a thread's claim; None: nobody can tell."""
        task, problem = self.task, self.problem
        return None if task is None or problem is None else _try(lambda: task.judge_child(problem, prompt, claim))

    def answer(self, steps: Sequence[str]) -> str | None:
        """The solution that some steps come to; None if they come to none, or nobody can tell."""
        task, problem = self.task, self.problem
        if not isinstance(task, Shows) or problem is None:
            return None
        return _try(lambda: one_line(task.answer(problem, tuple(steps))))

    def solution(self, steps: Sequence[str]) -> str | None:
        """The same, beside what it answers."""
        task, answer = self.task, self.answer(steps)
        if answer is None or not isinstance(task, Tells):
            return answer
        return _try(lambda: one_line(task.solution(self.problem, answer)))

    def found(self, claim: str) -> str | None:
        """The whole problem's solution, where a child's claim is one."""
        task = self.task
        steps = _try(lambda: tuple(task.steps(claim))) if isinstance(task, Tells) else None
        return self.solution(steps) if steps is not None else None

    def known(self) -> tuple[bool | None, str | None]:
        """Whether there is a solution (None: nobody knows), and one in words."""
        task, problem = self.task, self.problem
        if not isinstance(task, Solves) or problem is None:
            return None, None
        try:
            steps = task.solve(problem)
        except Exception:
            return None, None
        return steps is not None, None if steps is None else self.solution(steps) or ", ".join(steps)


def _json(values: dict[str, Any]) -> str:
    from apr.jsonl import write

    return _try(lambda: write(values)) or "a problem that cannot be shown"
