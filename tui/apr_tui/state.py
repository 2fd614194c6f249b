"""What a screen shows, as a frozen value that only the functions here turn into another one.

A rollout is a `ThreadTree` that is never changed once a state holds it: `fold_all` copies what its events
touch and applies them to the copy, so an old state stays what it was. A rollout that starts again, as in a log
that was begun anew or in a replay, takes the place of what it was. After an event that cannot follow the ones
before, `problem` says so and the state takes no more events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Literal

from apr.shown import Shown
from apr.task import Verdict
from apr.threads.events import Event, RolloutStarted, ThreadClosed, ThreadOpened, TokensForced
from apr.threads.lanes import Lane, follow
from apr.threads.tree import MAIN, Thread, ThreadTree

KEEP = 64
"""Rollouts a state holds; a training run writes thousands into one log."""

Origin = Literal["prompt", "join", "replace"]
Span = tuple[int, int, Origin]
"""Where a part of a text begins and ends, by characters, and where it comes from."""


class Solvable:
    """Whether a problem has a solution. The task's solver is asked when somebody wants to know, and once."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    @cached_property
    def known(self) -> tuple[bool | None, str | None]:
        """Whether there is one (None: nobody knows), and one in words."""
        return self._shown.known()


@dataclass(frozen=True, slots=True)
class View:
    """One rollout so far."""

    tree: ThreadTree = field(default_factory=ThreadTree)
    seconds: float = 0.0
    """Time of its last event."""
    forced: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    """Thread -> the parts of its text that it did not sample."""
    shown: Shown | None = field(default=None, compare=False)
    """Its problem in words; None before it started."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Child -> its part of the problem, in a few characters."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """Closed thread that claims a solution -> what the task's judge says of it, if anybody can tell."""
    lanes: Mapping[str, Lane] = field(default_factory=dict)
    """Thread -> what it did when."""
    solvable: Solvable | None = field(default=None, compare=False)
    """Whether its problem has a solution; None before it started."""


@dataclass(frozen=True, slots=True)
class State:
    """All a screen needs to draw itself."""

    rollouts: Mapping[str, View] = field(default_factory=dict)
    """By id, in order of starting."""
    rollout: str | None = None
    """The rollout on screen."""
    thread: str = MAIN
    """The thread of it whose text is shown."""
    follow: bool = True
    """Show a rollout that starts when the one on screen has finished."""
    problem: str | None = None
    """Why no more events are taken."""

    @property
    def view(self) -> View | None:
        """The rollout on screen."""
        return None if self.rollout is None else self.rollouts[self.rollout]


def fold(state: State, event: Event) -> State:
    """The state after one more event."""
    return fold_all(state, (event,))


def fold_all(state: State, events: Iterable[Event]) -> State:
    """The state after these events: that of folding one by one, at the price of one copy for all."""
    drafts: dict[str, _Draft] = {}
    restarted: set[str] = set()
    shown, follow, thread, problem = state.rollout, state.follow, state.thread, state.problem
    for event in events if problem is None else ():
        draft = drafts.get(event.rollout)
        starts = isinstance(event, RolloutStarted)
        if draft is None or starts:
            known = View() if starts else state.rollouts.get(event.rollout, View())
            draft = _Draft(known)
        try:
            draft.take(event)
        except ValueError as error:
            problem = str(error)
            break
        if starts:
            # It stands where the last rollout that began stands.
            drafts.pop(event.rollout, None)
            restarted.add(event.rollout)
            if shown == event.rollout:
                thread = MAIN
            elif follow:
                before = None if shown is None else drafts.get(shown) or state.rollouts[shown]
                if before is None or before.tree.finished is not None:
                    shown, thread = event.rollout, MAIN
        drafts[event.rollout] = draft
    rollouts = {key: view for key, view in state.rollouts.items() if key not in restarted}
    rollouts |= {rollout: draft.view() for rollout, draft in drafts.items() if rollout not in restarted}
    rollouts |= {rollout: draft.view() for rollout, draft in drafts.items() if rollout in restarted}
    # Only what has finished can go: an event of the others may still come.
    ended = (key for key, view in rollouts.items() if view.tree.finished is not None and key != shown)
    for key in list(islice(ended, max(0, len(rollouts) - KEEP))):
        del rollouts[key]
    return replace(state, rollouts=rollouts, rollout=shown, thread=thread, problem=problem)


def select_thread(state: State, thread: str) -> State:
    """Show this thread's text; as before if the rollout on screen has no such thread."""
    view = state.view
    return replace(state, thread=thread) if view is not None and thread in view.tree.threads else state


def expect(state: State) -> State:
    """Show the next rollout that starts, however the one on screen may have ended."""
    return replace(state, rollout=None, thread=MAIN, follow=True, problem=None)


def show(state: State, rollout: str, *, follow: bool = False) -> State:
    """Show this rollout if the state holds it; with `follow`, new ones after it."""
    if rollout not in state.rollouts:
        return state
    same = rollout == state.rollout
    return replace(state, rollout=rollout, thread=state.thread if same else MAIN, follow=follow)


class _Draft:
    """A view in the making; what it holds is its own, the rest is shared with the view it began from."""

    def __init__(self, view: View) -> None:
        self.tree = ThreadTree(view.tree.started, dict(view.tree.threads), view.tree.finished)
        self.seconds = view.seconds
        self.forced = dict(view.forced)
        self.shown = view.shown
        self.solvable = view.solvable
        self.labels = dict(view.labels)
        self.verdicts = dict(view.verdicts)
        self.lanes = dict(view.lanes)
        self._own: set[str] = set()

    def take(self, event: Event) -> None:
        touched = getattr(event, "thread", None)
        if touched in self.tree.threads and touched not in self._own:
            self.tree.threads[touched] = _copy(self.tree.threads[touched])
        self.tree.apply(event)
        if touched is not None:
            self._own.add(touched)
        self.seconds = event.time
        follow(self.lanes, event)
        match event:
            case RolloutStarted():
                self.shown = Shown.of(event)
                self.solvable = Solvable(self.shown)
            case ThreadOpened():
                self.forced[event.thread] = ((0, len(event.text), "prompt"),)
                if self.shown is not None and event.parent is not None:
                    prompt = self.tree.threads[event.thread].prompt_text
                    self.labels[event.thread] = self.shown.label(prompt)
            case TokensForced():
                kept = event.kept_text
                before = ((a, min(b, kept), origin) for a, b, origin in self.forced[event.thread] if a < kept)
                self.forced[event.thread] = (*before, (kept, kept + len(event.text), event.cause))
            case ThreadClosed() if event.result is not None and self.shown is not None:
                prompt = self.tree.threads[event.thread].prompt_text
                verdict = self.shown.judge(prompt, event.result)
                if verdict is not None:
                    self.verdicts[event.thread] = verdict

    def view(self) -> View:
        return View(
            self.tree, self.seconds, self.forced, self.shown, self.labels, self.verdicts, self.lanes,
            self.solvable,
        )  # fmt: skip


def _copy(thread: Thread) -> Thread:
    """A thread whose events leave the first one as it is: they change no call and no round but the last."""
    last = thread.calls[-1]
    calls = [*thread.calls[:-1], replace(last, sampled=list(last.sampled), logprobs=list(last.logprobs))]
    rounds = [*thread.rounds[:-1], *(replace(spawn) for spawn in thread.rounds[-1:])]
    return replace(thread, calls=calls, rounds=rounds, token_ids=list(thread.token_ids))
