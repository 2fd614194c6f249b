"""The tree of threads of one rollout: nothing but the fold of its events.

A thread is a list of calls, one engine request each. A call's sequence is the first `kept` tokens of the call
before, then `forced` (prompt, replacement or join block), then `sampled`; so `kept + forced` is exactly the
prompt the engine saw. A call that keeps all of the sequence before extends it; one that keeps less begins a
new branch, as a join does. Each sampled token is stored once, and is a sampled segment in exactly one branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from apr.threads.events import (
    CallFinished,
    CloseReason,
    Event,
    ForcedCause,
    Outcome,
    RolloutFinished,
    RolloutStarted,
    ThreadClosed,
    ThreadJoined,
    ThreadOpened,
    ThreadSpawned,
    TokensForced,
    TokensSampled,
)
from apr.threads.outline import headline, html, rich_lines
from apr.types import FinishReason, Segment

MAIN = "0"
"""Id of the main thread."""


@dataclass(slots=True)
class Call:
    """One engine request of a thread."""

    kept: int
    """Tokens of the previous call's sequence this one starts with; 0 for the first call."""
    forced: tuple[int, ...] = field(repr=False)
    cause: ForcedCause | None
    """Why `forced` stands there; None: it is the thread's prompt."""
    sampled: list[int] = field(default_factory=list, repr=False)
    logprobs: list[float] = field(default_factory=list, repr=False)
    """As many as `sampled` once finished, or none if the engine did not tell."""
    dropped: int = 0
    """Tokens sampled last and replaced: they cost, but no sequence holds them."""
    finish_reason: FinishReason | None = None
    """None while the engine is at it."""
    cached_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        return self.kept + len(self.forced)


@dataclass(slots=True)
class Round:
    """One spawn of a thread and its join."""

    children: tuple[str, ...]
    outcomes: tuple[Outcome, ...] | None = None
    """None until joined."""


@dataclass(slots=True)
class Thread:
    """One line of decoding with its own context."""

    id: str
    """"0" is the main thread; child i is f"{parent}.{i}", where i counts on over all spawns of the parent."""
    parent: str | None
    depth: int
    prompt_text: str = field(repr=False)
    text: str = field(repr=False)
    """What it was opened with and what is written so far, after the last join."""
    begin: int = field(repr=False)
    """Characters that it was opened with."""
    opened_at: float
    """Seconds since the rollout started."""
    calls: list[Call] = field(default_factory=list, repr=False)
    rounds: list[Round] = field(default_factory=list, repr=False)
    spawned: int = 0
    """Children of all rounds."""
    token_ids: list[int] = field(default_factory=list, repr=False)
    """The current sequence: that of the last call."""
    context: int = 0
    """Longest sequence it ever held."""
    sampled_tokens: int = 0
    """Sampled in all calls, replaced tokens included."""
    reason: CloseReason | None = None
    """None while open."""
    result: str | None = None
    """The solution it claims."""
    detail: str | None = None
    """More about the reason."""
    closed_at: float | None = None
    """Seconds since the rollout started."""
    temperature: float | None = None
    """Its own; None: the rollout's."""

    @property
    def written(self) -> str:
        """Its text behind what it was opened with: what it wrote and what it was told."""
        return self.text[self.begin :]

    @property
    def waiting(self) -> bool:
        """Its children run."""
        return self.reason is None and bool(self.rounds) and self.rounds[-1].outcomes is None

    @property
    def children(self) -> list[str]:
        """Ids of all children, in spawn order over all rounds."""
        return [child for spawn in self.rounds for child in spawn.children]

    def is_child(self, thread_id: str) -> bool:
        """Whether one of its spawns announced this thread."""
        parent, _, index = thread_id.rpartition(".")
        # Not `in self.children`, which would make the opening of many children quadratic.
        small = index.isascii() and index.isdigit() and len(index) < 12
        return parent == self.id and small and int(index) < self.spawned and index == str(int(index))

    def branches(self) -> list[tuple[Segment, ...]]:
        """Every sequence that no later call extends, cut in segments; the last one is `token_ids`.

        A branch's first segment is forced: what it shares with the branch before counts as forced there,
        since its sampled tokens are sampled segments of that earlier branch."""
        done: list[tuple[Segment, ...]] = []
        open_: list[Segment] = []
        ids: list[int] = []
        for call in self.calls:
            if call.kept < len(ids):
                done.append(tuple(open_))
                open_, ids = [Segment("forced", (*ids[: call.kept], *call.forced))], ids[: call.kept]
            else:
                open_.append(Segment("forced", call.forced))
            ids += call.forced
            if call.sampled:
                open_.append(Segment("sampled", tuple(call.sampled), tuple(call.logprobs)))
                ids += call.sampled
        return [*done, tuple(open_)]


@dataclass(slots=True, repr=False)
class ThreadTree:
    """All threads of one rollout: what `run_threads` returns, and what the events of a log fold into.

    It prints as one line, in rich and in a notebook as a tree."""

    started: RolloutStarted | None = None
    threads: dict[str, Thread] = field(default_factory=dict)
    """By id, in order of opening."""
    finished: RolloutFinished | None = None

    @classmethod
    def fold(cls, events: Iterable[Event]) -> ThreadTree:
        """The tree these events make; they are of one rollout, from its start."""
        tree = cls()
        for event in events:
            tree.apply(event)
        return tree

    def apply(self, event: Event) -> None:
        """Take one event in: the only way a tree changes. ValueError if it cannot follow the events
        before."""
        if isinstance(event, RolloutStarted):
            if self.started is not None:
                raise ValueError(f"rollout {event.rollout} starts in the tree of {self.started.rollout}")
            self.started = event
            return
        if self.started is None or self.started.rollout != event.rollout or self.finished is not None:
            raise ValueError(f"event of rollout {event.rollout} does not belong here: {type(event).__name__}")
        match event:
            case ThreadOpened():
                self._open(event)
            case RolloutFinished():
                if MAIN not in self.threads:
                    raise ValueError(f"rollout {event.rollout} finishes before its main thread opened")
                self.finished = event
            case _:
                thread = self.threads.get(event.thread)
                if thread is None or thread.reason is not None:
                    raise ValueError(f"{type(event).__name__} for thread {event.thread}, which is not open")
                _apply_to_thread(thread, event)

    def ordered(self) -> Iterator[Thread]:
        """All threads, each before its children, those in spawn order."""
        left = [MAIN] if MAIN in self.threads else []
        while left:
            thread = self.threads[left.pop()]
            yield thread
            left += [child for child in reversed(thread.children) if child in self.threads]

    def __repr__(self) -> str:
        return f"<ThreadTree {headline(self)}>"

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        return rich_lines(self, console)

    def _repr_html_(self) -> str:
        return html(self)

    def _open(self, event: ThreadOpened) -> None:
        if event.thread in self.threads:
            raise ValueError(f"thread {event.thread} opens twice")
        if event.parent is None:
            announced, depth = event.thread == MAIN, 0
        else:
            parent = self.threads.get(event.parent)
            if parent is None:
                raise ValueError(f"thread {event.thread} has an unknown parent {event.parent}")
            announced, depth = parent.is_child(event.thread), parent.depth + 1
        if not announced:
            raise ValueError(f"thread {event.thread} opens, but nobody spawned it")
        if event.depth != depth:
            raise ValueError(f"thread {event.thread} says depth {event.depth}, and is at {depth}")
        ids = event.token_ids
        prompt = event.text if event.prompt is None else event.prompt
        self.threads[event.thread] = Thread(
            event.thread, event.parent, event.depth, prompt, event.text, len(event.text), event.time,
            [Call(0, ids, None)], token_ids=list(ids), context=len(ids), temperature=event.temperature,
        )  # fmt: skip

    @property
    def main(self) -> Thread:
        """The main thread. KeyError before it opened."""
        return self.threads[MAIN]

    @property
    def failed(self) -> bool:
        """An engine failure happened: the rollout counts apart, neither as right nor as wrong."""
        return any(thread.reason == "engine_error" for thread in self.threads.values())

    @property
    def correct(self) -> bool | None:
        """The judge's verdict; None before the end and when there is nothing fair to judge."""
        return None if self.finished is None else self.finished.correct

    @property
    def score(self) -> float | None:
        """The judge's, from 0 to 1; None as `correct` is."""
        end = self.finished
        if end is None or end.correct is None:
            return None
        return float(end.correct) if end.score is None else end.score

    @property
    def steps(self) -> tuple[str, ...]:
        """The answer's equations; empty unless the judge accepts it."""
        return () if self.finished is None else self.finished.steps

    @property
    def unjudged(self) -> bool:
        """It came to its own end, and nobody can tell whether that is right."""
        end = self.finished
        ended = end is not None and end.reason in ("answered", "no_answer")
        return ended and self.correct is None and not self.failed and not self.steps

    @property
    def solved(self) -> bool:
        """The judge accepts the answer, which is one even where an engine failure keeps it from counting."""
        return bool(self.steps) or self.correct is True

    @property
    def latency(self) -> float | None:
        """Wall clock of the whole tree in seconds; None before the end."""
        return None if self.finished is None else self.finished.time

    @property
    def total_tokens(self) -> int:
        """Sampled tokens of all threads."""
        return sum(thread.sampled_tokens for thread in self.threads.values())

    @property
    def sequential_tokens(self) -> int:
        """Sampled tokens on the longest chain of dependent threads."""
        # Thread -> those of the longest chain from there on. Children open after their parents, and one that its
        # parent's spawn announced may not be open yet.
        chain: dict[str, int] = {}
        for thread in reversed(self.threads.values()):
            rounds = (max((chain.get(child, 0) for child in spawn.children), default=0) for spawn in thread.rounds)
            chain[thread.id] = thread.sampled_tokens + sum(rounds)
        return chain.get(MAIN, 0)

    @property
    def longest_context(self) -> int:
        """Tokens of the longest sequence any one thread held."""
        return max((thread.context for thread in self.threads.values()), default=0)

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of all finished calls."""
        return sum(call.prompt_tokens for call in self._finished_calls())

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens the engine did not compute."""
        return sum(call.cached_tokens for call in self._finished_calls())

    def _finished_calls(self) -> Iterable[Call]:
        return (c for thread in self.threads.values() for c in thread.calls if c.finish_reason is not None)

    @property
    def children(self) -> int:
        """Threads other than the main thread."""
        return max(0, len(self.threads) - 1)

    @property
    def rounds(self) -> int:
        """Spawns of all threads."""
        return sum(len(thread.rounds) for thread in self.threads.values())

    @property
    def depth(self) -> int:
        """Depth of the deepest thread."""
        return max((thread.depth for thread in self.threads.values()), default=0)


def _apply_to_thread(
    thread: Thread,
    event: TokensSampled | TokensForced | CallFinished | ThreadSpawned | ThreadJoined | ThreadClosed,
) -> None:
    call = thread.calls[-1]
    match event:
        case TokensSampled():
            call.sampled += event.token_ids
            thread.token_ids += event.token_ids
            thread.text += event.text
            thread.sampled_tokens += len(event.token_ids)
            thread.context = max(thread.context, len(thread.token_ids))
        case TokensForced():
            if event.cause == "replace":
                dropped = len(thread.token_ids) - event.kept
                if not 0 < dropped <= len(call.sampled):
                    raise ValueError(f"thread {thread.id} cannot replace {dropped} tokens")
                del call.sampled[-dropped:], call.logprobs[-dropped:], thread.token_ids[-dropped:]
                call.dropped += dropped
            if not (0 <= event.kept <= len(thread.token_ids) and 0 <= event.kept_text <= len(thread.text)):
                raise ValueError(f"thread {thread.id} cannot keep {event.kept} tokens, {event.kept_text} characters")
            thread.calls.append(Call(event.kept, event.token_ids, event.cause))
            thread.token_ids[event.kept :] = event.token_ids
            thread.text = thread.text[: event.kept_text] + event.text
            thread.context = max(thread.context, len(thread.token_ids))
        case CallFinished():
            if event.logprobs and len(event.logprobs) != len(call.sampled):
                raise ValueError(f"thread {thread.id}: {len(event.logprobs)} logprobs, {len(call.sampled)} tokens")
            call.logprobs += event.logprobs
            call.finish_reason = event.finish_reason
            call.cached_tokens = event.cached_tokens
        case ThreadSpawned():
            after = thread.spawned + len(event.children)
            if event.children != tuple(f"{thread.id}.{i}" for i in range(thread.spawned, after)):
                named = ", ".join(event.children)[:80]
                raise ValueError(f"thread {thread.id} spawns threads that cannot be its children: {named}")
            thread.rounds.append(Round(event.children))
            thread.spawned = after
        case ThreadJoined():
            if not thread.waiting or len(event.outcomes) != len(thread.rounds[-1].children):
                raise ValueError(f"thread {thread.id} joins {len(event.outcomes)} children that it does not wait for")
            thread.rounds[-1].outcomes = event.outcomes
        case ThreadClosed():
            thread.reason, thread.detail = event.reason, event.detail
            thread.result, thread.closed_at = event.result, event.time
