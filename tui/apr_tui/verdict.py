"""How a rollout stands, in one line: solved, or why it is not, and whether it could have been. Pure, no terminal."""

from __future__ import annotations

from typing import Literal

from apr.threads.causes import end_of, unreadable
from apr.threads.events import RolloutFinished
from apr_tui.plain import one_line
from apr_tui.state import View

Tone = Literal["plain", "good", "bad", "warning"]


def headline(view: View, *, reveal: bool = False, past: bool = False) -> tuple[str, Tone]:
    """How the rollout stands, or stood at a moment that is `past`; with `reveal`, an unsolved one's solution too."""
    finished = view.tree.finished
    if finished is None:
        return ("was searching" if past else "searching") if view.tree.threads else "begins", "plain"
    if view.tree.solved:
        return _solved(view, finished), "good"
    if finished.reason == "interrupted":
        return f"stopped before a solution was found{_possible(view, reveal)}", "warning"
    if finished.failed:
        errors = [t.detail for t in view.tree.threads.values() if t.reason == "engine_error" and t.detail]
        return f"the engine failed: {one_line(errors[0]) if errors else 'no reason given'}", "bad"
    if view.tree.unjudged:
        return f"answered: {one_line(view.tree.main.result or view.tree.main.written)}, nobody judges it", "good"
    return f"unsolved: {_why(view, finished)}{_possible(view, reveal)}", "warning"


def solution(view: View) -> str:
    """The verified solution of a rollout in one line; empty if there is none, or none that its task can show."""
    finished = view.tree.finished
    if finished is None or view.shown is None or not finished.steps:
        return ""
    return view.shown.solution(finished.steps) or ""


def revealable(view: View | None) -> bool:
    """Whether a solution is known that the rollout did not find."""
    ended = view is not None and view.tree.finished is not None and not view.tree.solved
    return ended and view is not None and view.solvable is not None and view.solvable.known[1] is not None


def _solved(view: View, finished: RolloutFinished) -> str:
    if shown := solution(view):
        return f"solved: {shown}, checked exactly"
    found = view.tree.main.result
    claim = found if view.shown is None or found is None else view.shown.claim(found)
    return f"solved: {claim or ', '.join(finished.steps)}, says the judge"


def _why(view: View, finished: RolloutFinished) -> str:
    if finished.reason == "malformed_spawn" and (told := unreadable(view.tree.main)) is not None:
        return f"it spawned what nobody can read: {told}"
    if finished.reason == "no_answer":
        return "the model found no solution"
    if finished.reason == "answered":
        return finished.verdict
    return end_of(finished.reason).removeprefix("stopped: ")


def _possible(view: View, reveal: bool) -> str:
    possible, shown = (None, None) if view.solvable is None else view.solvable.known
    if possible is None:
        return ""
    if not possible:
        return " · rightly so: there is no solution" if view.tree.correct is False else " · there is no solution"
    return f" · a solution is {shown}" if reveal and shown else " · there is a solution"
