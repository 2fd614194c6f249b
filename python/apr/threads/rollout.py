"""The threads of one running rollout: decoded, spawned and joined on one engine as their language reads them.

The state is the `ThreadTree`; every change is an event that is applied and then emitted. A request's seed
derives from the rollout's seed, the thread and the call, so the tree does not depend on scheduling. Three
things do: the limit of seconds, the join policy "first", and the limit of threads once children spawn too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from apr.engine.base import Engine
from apr.engine.guard import guarded
from apr.limits import Limits, request_seed
from apr.task import Task, Verdict
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
from apr.threads.language import Child, Language, Malformed, Replace, Resumption, Spawn, SpawnsFirst
from apr.threads.tree import MAIN, Thread, ThreadTree
from apr.types import Completion, SamplingParams

JoinPolicy = Literal["all", "first"]
Emit = Callable[[Event], None]

_UNLIMITED = 1 << 62
_UNJUDGED = Verdict(False, "nobody judges it")
_GRACE_S = 5.0
"""How long an aborted request may take to return what it sampled before its task is cancelled."""
_CHUNK = 32
"""Most tokens of one streamed event; a line's end closes a chunk earlier."""
_KEEPS: frozenset[CloseReason] = frozenset(("answered", "length", "limit_tokens", "limit_time", "interrupted"))
"""Threads that end so have the solution that they found; the others end in a spawn that came to nothing, with none."""


@dataclass(slots=True, kw_only=True)
class Rollout:
    """Runs once; `tree` may be read at any time."""

    problem: Any
    engine: Engine
    limits: Limits
    task: Task[Any]
    language: Language
    method: str
    params: SamplingParams
    join: JoinPolicy
    emit: Emit | None
    id: str
    stream: bool
    policy_version: int
    """Of the weights when the rollout started; every call must be sampled by them."""
    tree: ThreadTree = field(default_factory=ThreadTree)
    begin: float = field(default_factory=time.monotonic)
    halted: CloseReason | None = None
    """Why the whole rollout ends early."""
    cancelled: set[str] = field(default_factory=set)
    """Threads that a sibling's solution made needless, or that somebody ended; their descendants are too."""
    requests: dict[str, str] = field(default_factory=dict)
    """Open request id -> its thread."""

    @property
    def vocab_size(self) -> int | None:
        """Of the engine's model, or of the language where the engine does not tell."""
        told: int | None = getattr(self.engine, "vocab_size", None)
        return getattr(self.language, "vocab_size", None) if told is None else told

    async def run(self, budget: int | None) -> ThreadTree:
        self.event(
            RolloutStarted,
            problem=self.task.to_json(self.problem),
            task=self.task.name,
            language=self.language.name,
            method=self.method,
            budget=budget,
            limits=asdict(self.limits),
            join=self.join,
            temperature=self.params.temperature,
            seed=self.params.seed,
            policy_version=self.policy_version,
        )
        prompt = self.task.prompt(self.problem, budget)
        asked = prompt if isinstance(prompt, str) else prompt[-1].content
        self.open(MAIN, None, 0, Child(self.language.open(prompt), asked))
        allowance = _UNLIMITED if self.limits.total_tokens is None else self.limits.total_tokens
        main = asyncio.create_task(self.thread(MAIN, allowance))
        try:
            done, _ = await asyncio.wait({main}, timeout=self.limits.seconds)
            if not done:
                await self.halt(main, "limit_time")
        except asyncio.CancelledError:
            try:
                await self.halt(main, "interrupted")
            finally:  # cancelled once more, it is not waited for
                self.finish()
            raise
        if not main.cancelled():
            main.result()
        self.finish()
        return self.tree

    def cancel(self, thread_id: str) -> bool:
        """End a child and all below it soon; its parent is told that it was cancelled. False if it is not open."""
        thread = self.tree.threads.get(thread_id)
        if thread is None or thread.parent is None or thread.reason is not None:
            return False
        self.cancelled.add(thread_id)
        self.abort(thread_id)
        return True

    async def halt(self, main: asyncio.Task[None], reason: CloseReason) -> None:
        self.halted = reason
        try:
            self.abort(MAIN)
            await _drain({main})
        finally:
            main.cancel()

    def finish(self) -> None:
        self.sweep(MAIN)
        main = self.tree.main
        assert main.reason is not None
        verdict = self.task.judge(self.problem, main.result, main.text)
        # Right or wrong, a rollout whose engine failed is in no count; one that was stopped is, if it was right.
        unfair = verdict is None or self.tree.failed or (main.reason == "interrupted" and not verdict.correct)
        verdict = _UNJUDGED if verdict is None else verdict
        self.event(
            RolloutFinished,
            reason=main.reason,
            failed=self.tree.failed,
            correct=None if unfair else verdict.correct,
            verdict=verdict.reason,
            score=None if unfair else verdict.reward,
            steps=verdict.steps,
            total_tokens=self.tree.total_tokens,
            sequential_tokens=self.tree.sequential_tokens,
            longest_context=self.tree.longest_context,
            cached_tokens=self.tree.cached_tokens,
        )

    async def thread(self, thread_id: str, allowance: int) -> None:
        """Decode one open thread to its end; it and its descendants sample at most `allowance` tokens."""
        thread = self.tree.threads[thread_id]
        try:
            reason, detail = await self.decode(thread, allowance)
        except asyncio.CancelledError:
            self.close(thread, self.stopped(thread_id) or "cancelled")
            raise
        self.close(thread, reason, detail)

    async def decode(self, thread: Thread, allowance: int) -> tuple[CloseReason, str | None]:
        bound = self.limits.tokens_per_thread
        context = min(self.engine.context_length, _UNLIMITED if bound is None else bound)
        if thread.depth == 0 and isinstance(self.language, SpawnsFirst):
            first = self.language.first(thread.token_ids)
            if isinstance(first, Malformed):
                return "malformed_spawn", first.reason
            if first is not None and (ended := await self.spawn(thread, first.children, allowance)):
                return ended
        while True:
            room = context - len(thread.token_ids)
            left = allowance - sum(t.sampled_tokens for t in self.family(thread.id))
            if reason := self.stopped(thread.id):
                return reason, None
            if room <= 0 or left <= 0:
                return "length" if room <= 0 else "limit_tokens", None
            completion = await self.call(thread, min(room, left))
            if completion.finish_reason == "length":
                short = left < room and len(completion.token_ids) == left
                return "limit_tokens" if short else "length", None
            if completion.finish_reason == "error":
                return "engine_error", completion.error
            if reason := self.stopped(thread.id):
                return reason, None
            if completion.finish_reason == "abort":
                return "engine_error", "the engine aborted the request by itself"
            action = self.language.action(thread.token_ids, thread.depth + 1)
            if isinstance(action, Replace):
                self.force(thread, "replace", action.instead)
            elif isinstance(action, Malformed):
                return "malformed_spawn", action.reason
            elif isinstance(action, Spawn):
                if ended := await self.spawn(thread, action.children, allowance):
                    return ended
            else:
                return "answered" if self.claim(thread) is not None else "no_answer", None

    async def call(self, thread: Thread, max_tokens: int) -> Completion:
        """One engine request; its tokens and its end are events when this returns."""
        index = len(thread.calls) - 1
        request_id = f"{self.id}/{thread.id}/{index}"
        bound = max_tokens if self.params.max_tokens is None else min(max_tokens, self.params.max_tokens)
        stops = (*self.language.stop_token_ids, *self.params.stop_token_ids)
        seed = request_seed(self.params.seed, thread.id, index)
        params = replace(self.params, max_tokens=bound, stop_token_ids=stops, seed=seed)
        if thread.temperature is not None:
            params = replace(params, temperature=thread.temperature)
        chunk: list[int] = []
        last: list[int] = []

        def flush() -> None:
            nonlocal last
            if chunk:
                # A character may be cut where a chunk ends, and then comes with the next one; none is of three chunks.
                text = self.language.text([*last, *chunk])[len(self.language.text(last)) :]
                self.event(TokensSampled, thread=thread.id, token_ids=tuple(chunk), text=text)
                last = chunk.copy()
                chunk.clear()

        def on_tokens(token_ids: Sequence[int]) -> None:
            chunk.extend(token_ids)
            if len(chunk) >= _CHUNK or "\n" in self.language.text(token_ids):
                flush()

        self.requests[request_id] = thread.id
        before = len(thread.token_ids)
        # Stays if the task is cancelled: what was streamed is kept.
        completion = Completion((), (), "abort")
        try:
            completion = await guarded(
                self.engine,
                tuple(thread.token_ids),
                params,
                request_id=request_id,
                policy_version=self.policy_version,
                vocab_size=self.vocab_size,
                on_tokens=on_tokens if self.stream else None,
            )
        finally:
            del self.requests[request_id]
            chunk += completion.token_ids[len(thread.token_ids) - before + len(chunk) :]
            flush()
            self.event(
                CallFinished,
                thread=thread.id,
                finish_reason=completion.finish_reason,
                logprobs=completion.logprobs,
                cached_tokens=completion.cached_tokens,
                error=completion.error,
                timing=tuple(round(seconds, 6) for seconds in completion.timing or ()),
            )
        return completion

    async def spawn(
        self, thread: Thread, wanted: Sequence[Child], allowance: int
    ) -> tuple[CloseReason, str | None] | None:
        """Run the children that the thread wants and join them; or why the thread ends here."""
        level = thread.depth + 1
        if level > self.limits.depth:
            return "limit_depth", None
        if len(thread.rounds) >= self.limits.rounds:
            return "limit_rounds", None
        if self.limits.children is not None and len(wanted) > self.limits.children:
            return "limit_children", None
        if len(self.tree.threads) + len(wanted) > self.limits.threads:
            return "limit_threads", None
        children = [f"{thread.id}.{place}" for place, _ in enumerate(wanted, len(thread.children))]
        self.event(ThreadSpawned, thread=thread.id, children=tuple(children))
        for child, begin in zip(children, wanted, strict=True):
            self.open(child, thread.id, level, begin)
        left = allowance - sum(t.sampled_tokens for t in self.family(thread.id))
        share = left // (len(children) + 1)
        bounds = [share if begin.max_tokens is None else min(share, begin.max_tokens) for begin in wanted]
        await self.run_children(dict(zip(children, bounds, strict=True)))
        if reason := self.stopped(thread.id):
            return reason, None
        ended = [self.tree.threads[child] for child in children]
        stopped = [i for i, child in enumerate(ended) if child.reason == "cancelled"]
        outcomes: list[Outcome] = ["failed" if child.result is None else "found" for child in ended]
        for i in stopped:
            outcomes[i] = "cancelled"
        results = [child.result for child in ended]
        told = self.language.join(thread.token_ids, results, stopped, level)
        self.event(ThreadJoined, thread=thread.id, outcomes=tuple(outcomes))
        self.force(thread, "join", told)
        return None

    async def run_children(self, allowances: Mapping[str, int]) -> None:
        tasks = {asyncio.create_task(self.thread(child, most)): child for child, most in allowances.items()}
        pending = set(tasks)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if pending and self.join == "first" and any(self.solved(tasks[task]) for task in done):
                    losers = [tasks[task] for task in pending]
                    self.cancelled.update(losers)
                    for loser in losers:
                        self.abort(loser)
                    await _drain(pending)
                    for loser in losers:
                        self.sweep(loser)
                    break
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def solved(self, child_id: str) -> bool:
        child = self.tree.threads[child_id]
        if child.result is None:
            return False
        verdict = self.task.judge_child(self.problem, child.prompt_text, child.result)
        return verdict is not None and verdict.correct

    def claim(self, thread: Thread) -> str | None:
        return self.language.claim(thread.text, thread.begin, thread.depth)

    def family(self, root: str) -> list[Thread]:
        """The thread and its descendants."""
        return [t for t in self.tree.threads.values() if t.id == root or t.id.startswith(f"{root}.")]

    def stopped(self, thread_id: str) -> CloseReason | None:
        """Why this thread has to end now."""
        if self.halted is not None:
            return self.halted
        needless = any(thread_id == root or thread_id.startswith(f"{root}.") for root in self.cancelled)
        return "cancelled" if needless else None

    def abort(self, root: str) -> None:
        """Abort the open requests of a thread and its descendants."""
        family = {thread.id for thread in self.family(root)}
        for request_id in [request for request, thread in self.requests.items() if thread in family]:
            self.engine.abort(request_id)

    def sweep(self, root: str) -> None:
        """Close what is still open there: a task cancelled before its first step could not do it itself."""
        for thread in reversed(self.family(root)):
            if thread.reason is None:
                self.close(thread, self.stopped(thread.id) or "cancelled")

    def open(self, thread_id: str, parent: str | None, depth: int, begin: Child) -> None:
        text = self.language.text(begin.token_ids)[len(self.language.text(begin.token_ids[: begin.inherited])) :]
        self.event(
            ThreadOpened,
            thread=thread_id,
            parent=parent,
            depth=depth,
            token_ids=begin.token_ids,
            text=text,
            prompt=None if begin.prompt == text else begin.prompt,
            temperature=begin.temperature,
        )

    def close(self, thread: Thread, reason: CloseReason, detail: str | None = None) -> None:
        result = self.claim(thread) if reason in _KEEPS and not thread.waiting else None
        self.event(ThreadClosed, thread=thread.id, reason=reason, result=result, detail=detail)

    def force(self, thread: Thread, cause: ForcedCause, instead: Resumption) -> None:
        # From the end: characters that were cut between two calls stand in the text as they came.
        text, kept = self.language.text(thread.token_ids), self.language.text(thread.token_ids[: instead.kept])
        self.event(
            TokensForced,
            thread=thread.id,
            cause=cause,
            kept=instead.kept,
            kept_text=max(len(thread.text) - (len(text) - len(kept)), 0),
            token_ids=instead.token_ids,
            text=self.language.text(instead.token_ids),
        )

    def event(self, kind: Callable[..., Event], **values: Any) -> None:
        """The one way anything changes: apply, then emit."""
        if self.tree.finished is not None:
            return  # of a thread that was not waited for
        event = kind(rollout=self.id, time=round(time.monotonic() - self.begin, 6), **values)
        self.tree.apply(event)
        if self.emit is not None:
            self.emit(event)


async def _drain(tasks: Collection[asyncio.Task[None]]) -> None:
    """Wait for tasks whose requests were aborted; cancel those that do not come back."""
    _, late = await asyncio.wait(tasks, timeout=_GRACE_S)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
    for task in tasks:
        if not task.cancelled():
            task.result()
