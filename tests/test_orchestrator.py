"""The orchestrator on scripted engines: every law of the tree, every limit, every way a rollout can go
wrong."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from apr.engine.base import Engine
from apr.limits import Limits, request_seed
from apr.testing.scripted import Fault, ScriptedEngine
from apr.threads.events import Event, RolloutFinished, ThreadClosed, TokensForced, TokensSampled, from_json, to_json
from apr.threads.run import Cancel, rollout, run_threads
from apr.threads.tree import ThreadTree
from apr.types import Completion, SamplingParams
from toy import Characters, ToyLanguage, ToyTask

WIN = "?think[a,b]", "?think{-,win}so!win", "a no", "b yes!win"


def script(*texts: str, faults: Sequence[Fault] = (), **options: Any) -> ScriptedEngine:
    return ScriptedEngine(texts, Characters(), faults=faults, **options)


def play(engine: Engine, problem: str = "win", limits: Limits | None = None, **options: Any) -> ThreadTree:
    """Run, and check on the way what holds for every rollout."""
    events: list[Event] = []
    tree = run_threads(problem, engine, limits, events.append, task=ToyTask(), language=ToyLanguage(), **options)
    check(tree, events)
    if isinstance(engine, ScriptedEngine) and tree.latency is not None:
        check_segments(tree, engine)
    return tree


def check(tree: ThreadTree, events: Sequence[Event]) -> None:
    assert ThreadTree.fold(events) == tree
    assert ThreadTree.fold(from_json(to_json(event)) for event in events) == tree
    assert isinstance(events[-1], RolloutFinished)
    assert all(thread.reason is not None for thread in tree.threads.values())
    assert tree.finished is not None
    assert tree.finished.total_tokens == tree.total_tokens >= tree.sequential_tokens
    for thread in tree.threads.values():
        assert ToyLanguage().text(thread.token_ids) == thread.text
        assert [i for s in thread.branches()[-1] for i in s.token_ids] == thread.token_ids


def check_segments(tree: ThreadTree, engine: ScriptedEngine) -> None:
    """Law 2: calls and segments give back exactly the ids the engine was asked and answered."""
    seen = []
    for thread in tree.threads.values():
        ids: list[int] = []
        for call in thread.calls:
            prompt = [*ids[: call.kept], *call.forced]
            ids = [*prompt, *call.sampled]
            if call.finish_reason is not None:
                seen.append((tuple(prompt), tuple(call.sampled)))
        sampled = [i for b in thread.branches() for s in b if s.kind == "sampled" for i in s.token_ids]
        assert len(sampled) + sum(call.dropped for call in thread.calls) == thread.sampled_tokens
    replaced = ord("{")
    asked = [
        (prompt, answer.token_ids[:-1] if answer.token_ids[-1:] == (replaced,) else answer.token_ids)
        for prompt, _, answer in engine.requests
    ]
    assert sorted(asked) == sorted(seen)


def reasons(tree: ThreadTree) -> dict[str, str | None]:
    return {thread.id: thread.reason for thread in tree.threads.values()}


def test_spawn_join_answer() -> None:
    tree = play(script(*WIN))
    assert tree.correct is True
    assert tree.steps == ("win",)
    assert reasons(tree) == {"0": "answered", "0.0": "no_answer", "0.1": "answered"}
    assert tree.main.text == "?think{-,win}so!win"
    assert tree.threads["0.1"].result == "win"
    assert [spawn.outcomes for spawn in tree.main.rounds] == [("failed", "found")]
    # "think[a,b]" + "so!win" and the end; " no", " yes!win" and the ends
    assert tree.total_tokens == 10 + 7 + 4 + 9
    assert tree.sequential_tokens == 10 + 7 + 9
    assert tree.longest_context == len("<?think{-,win}so!win>")
    assert (tree.children, tree.rounds, tree.depth) == (2, 1, 1)
    # The begin token of each child, and the trunk "<?think" at the join, were the engine's already.
    assert tree.cached_tokens == 1 + 1 + 7


def test_join_branches_the_parent() -> None:
    main = play(script(*WIN)).main
    spawn, answer = main.branches()
    assert [(s.kind, ToyLanguage().text(s.token_ids)) for s in spawn] == [("forced", "?"), ("sampled", "think[a,b]")]
    assert [(s.kind, ToyLanguage().text(s.token_ids)) for s in answer] == [
        ("forced", "?think{-,win}"),
        ("sampled", "so!win"),
    ]


def test_equal_children_are_two() -> None:
    tree = play(script("?[b,b]", "?{win,win}!win", "b!win"))
    assert list(tree.threads) == ["0", "0.0", "0.1"]
    assert tree.threads["0.0"].text == tree.threads["0.1"].text == "b!win"


def test_child_index_counts_on_over_rounds() -> None:
    tree = play(script("?[a,b]", "?{-,-}[c]", "?{-,-}{-}no", "a", "b", "c"))
    assert list(tree.threads) == ["0", "0.0", "0.1", "0.2"]
    assert [spawn.children for spawn in tree.main.rounds] == [("0.0", "0.1"), ("0.2",)]
    assert tree.correct is False


def test_empty_spawn_is_an_empty_join() -> None:
    tree = play(script("?[]", "?{}!win"))
    assert tree.correct is True
    assert tree.children == 0


def test_nested_spawn() -> None:
    texts = "?[a]", "?{win}!win", "a[b,c]", "a{-,win}!win", "b", "cc!win"
    tree = play(script(*texts), limits=Limits(depth=2))
    assert tree.correct is True
    assert list(tree.threads) == ["0", "0.0", "0.0.0", "0.0.1"]
    assert tree.depth == 2
    assert tree.sequential_tokens == (3 + 5) + (5 + 5) + len("c!win>")


def test_own_join_is_made_a_spawn() -> None:
    events: list[Event] = []
    engine = script("?x{", "?x[a]", "?x{-}no", "a")
    tree = run_threads("win", engine, emit=events.append, task=ToyTask(), language=ToyLanguage())
    check(tree, events)
    check_segments(tree, engine)
    assert tree.main.calls[0].dropped == 1
    assert tree.main.text == "?x{-}no"
    spawn = tree.main.branches()[0]
    assert [(s.kind, ToyLanguage().text(s.token_ids)) for s in spawn] == [
        ("forced", "?"),
        ("sampled", "x"),
        ("forced", "["),
        ("sampled", "a]"),
    ]
    assert [e.cause for e in events if isinstance(e, TokensForced)] == ["replace", "join"]


def test_condition_is_in_the_prompt() -> None:
    tree = play(script("7?!win"), budget=7)
    assert tree.started is not None
    assert tree.started.budget == 7
    assert tree.correct is True


def test_first_cancels_siblings() -> None:
    texts = "?[a,b,c]", "?{x,win,x}!win", "a" + "." * 50, "b!win", "c" + "." * 50 + "!win"
    tree = play(script(*texts), join="first")
    assert tree.correct is True
    assert reasons(tree) == {"0": "answered", "0.0": "cancelled", "0.1": "answered", "0.2": "cancelled"}
    assert tree.main.rounds[0].outcomes == ("cancelled", "found", "cancelled")
    assert 0 < tree.threads["0.0"].sampled_tokens < 10


def test_first_cancels_descendants() -> None:
    texts = "?[a,b]", "?{x,win}!win", "a[d,d]", "d" + "." * 90, "b....!win"
    tree = play(script(*texts), join="first", limits=Limits(depth=2))
    assert tree.correct is True
    assert {i: r for i, r in reasons(tree).items() if i.startswith("0.0")} == dict.fromkeys(
        ("0.0", "0.0.0", "0.0.1"), "cancelled"
    )


def test_a_child_that_somebody_ends_is_cancelled_with_all_below_it() -> None:
    engine = script("?[a,b]", "?{x,win}!win", "a[d,d]", "d" + "." * 90, "b....!win")
    events: list[Event] = []
    ends: list[Cancel] = []
    told: list[bool] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, TokensSampled) and event.thread == "0.0.0" and not told:
            told.extend(ends[0](thread) for thread in ("0", "0.7", "0.0"))

    started = ends.append
    limits, task, language = Limits(depth=2), ToyTask(), ToyLanguage()
    tree = asyncio.run(rollout("win", engine, limits, task=task, language=language, emit=emit, started=started))
    check(tree, events)
    assert told == [False, False, True]
    assert ends[0]("0.0") is False
    assert {i: r for i, r in reasons(tree).items() if i.startswith("0.0")} == dict.fromkeys(
        ("0.0", "0.0.0", "0.0.1"), "cancelled"
    )
    assert tree.main.rounds[0].outcomes == ("cancelled", "found")
    assert tree.correct is True


def test_first_ignores_a_false_claim() -> None:
    tree = play(script("?[a,b]", "?{lie,win}!win", "a!lie", "b......!win"), join="first")
    assert tree.main.rounds[0].outcomes == ("found", "found")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(threads=2), "limit_threads"),
        (Limits(children=1), "limit_children"),
        (Limits(rounds=0), "limit_rounds"),
        (Limits(depth=0), "limit_depth"),
        (Limits(tokens_per_thread=5), "length"),
        (Limits(tokens_per_thread=0), "length"),
        (Limits(total_tokens=0), "limit_tokens"),
        (Limits(seconds=0), "limit_time"),
        (Limits(total_tokens=6), "limit_tokens"),
    ],
)
def test_limit_of_the_main_thread(limits: Limits, reason: str) -> None:
    tree = play(script(*WIN), limits=limits)
    assert reasons(tree) == {"0": reason}
    assert tree.correct is False
    assert tree.finished is not None
    assert tree.finished.reason == reason


def test_rounds_limit_keeps_the_first_round() -> None:
    tree = play(script("?[a]", "?{r}[a]", "a!r"), limits=Limits(rounds=1))
    assert reasons(tree) == {"0": "limit_rounds", "0.0": "answered"}


def test_child_spawning_at_the_depth_limit_is_a_failed_child() -> None:
    tree = play(script("?[a,b]", "?{-,win}!win", "a!win[c]", "b!win"))
    assert reasons(tree) == {"0": "answered", "0.0": "limit_depth", "0.1": "answered"}
    assert tree.main.rounds[0].outcomes == ("failed", "found")


def test_what_a_main_thread_claims_before_a_spawn_that_may_not_be_is_no_answer() -> None:
    tree = play(script("?!win[a]"), limits=Limits(depth=0))
    assert reasons(tree) == {"0": "limit_depth"}
    assert (tree.main.result, tree.correct, tree.score) == (None, False, 0.0)


def test_total_tokens_are_shared_and_never_exceeded() -> None:
    texts = "?[a,b]", "?{-,win}!win", "a" + "." * 100, "bb!win"
    tree = play(script(*texts), limits=Limits(total_tokens=35))
    # 5 for the spawn; of the 30 left a third each.
    assert tree.threads["0.0"].sampled_tokens == 10
    assert reasons(tree) == {"0": "answered", "0.0": "limit_tokens", "0.1": "answered"}
    assert tree.total_tokens == 5 + 10 + 6 + 5
    assert play(script(*texts), limits=Limits(total_tokens=3)).total_tokens == 3


def test_context_length_is_the_engines() -> None:
    tree = play(script(*WIN, context_length=8))
    assert reasons(tree) == {"0": "length"}
    assert tree.longest_context == 8
    assert reasons(play(script(*WIN, context_length=2))) == {"0": "length"}


def test_a_thread_cut_off_keeps_what_it_found() -> None:
    tree = play(script("?!win" + "." * 90), limits=Limits(tokens_per_thread=6))
    assert reasons(tree) == {"0": "length"}
    assert tree.main.result == "win"
    assert tree.correct is True


def test_seconds() -> None:
    engine = script(*WIN, faults=[Fault("a", "delay", seconds=60)])
    tree = play(engine, limits=Limits(seconds=0.1))
    assert reasons(tree) == {"0": "limit_time", "0.0": "limit_time", "0.1": "answered"}
    assert tree.threads["0.1"].result == "win"
    assert tree.correct is False
    assert tree.latency is not None
    assert tree.latency < 5


@pytest.mark.parametrize("kind", ["error", "raise"])
def test_engine_failure_of_a_child_is_told_apart(kind: Any) -> None:
    texts = "?[a,b,c]", "?{-,-,r}no", "a", "bcdef", "c!r"
    tree = play_faulty(script(*texts, faults=[Fault("bc", kind), Fault("b", kind, after=2)]))
    assert reasons(tree) == {"0": "no_answer", "0.0": "no_answer", "0.1": "engine_error", "0.2": "answered"}
    assert "scripted" in str(tree.threads["0.1"].detail)
    assert tree.failed
    assert tree.correct is None
    assert tree.finished is not None
    assert tree.finished.failed


def play_faulty(engine: ScriptedEngine, **options: Any) -> ThreadTree:
    """As `play`, for engines whose record of requests lacks those that raised."""
    events: list[Event] = []
    tree = run_threads("win", engine, None, events.append, task=ToyTask(), language=ToyLanguage(), **options)
    check(tree, events)
    return tree


def test_an_answer_beside_an_engine_failure_is_one_but_does_not_count() -> None:
    tree = play(script("?[a,b]", "?{-,win}!win", "a", "b!win", faults=[Fault("a", "error")]))
    assert tree.failed
    assert tree.correct is None
    assert tree.solved


def test_unknown_prompt_is_an_engine_error() -> None:
    assert reasons(play(script("other"))) == {"0": "engine_error"}


def test_truncated_child_is_joined() -> None:
    texts = ("?[a,b]", "?[a,b]", "a no", "b yes but far too much!win", "?{-,-}no")
    tree = play(script(*texts), limits=Limits(tokens_per_thread=12))
    assert reasons(tree) == {"0": "no_answer", "0.0": "no_answer", "0.1": "length"}


def test_an_end_before_the_limit_is_an_engine_failure() -> None:
    tree = play(script(*WIN[:2], "a no", "b yes!win", "?think{-,-}no", faults=[Fault("b", "truncate", after=3)]))
    assert reasons(tree) == {"0": "no_answer", "0.0": "no_answer", "0.1": "engine_error"}
    assert tree.failed


def test_malformed_spawn() -> None:
    tree = play(script("?think]"))
    assert reasons(tree) == {"0": "malformed_spawn"}
    assert tree.main.detail == "no opening"
    tree = play(script("?[a,b]", "?{-,win}!win", "a oops]", "b!win"))
    assert reasons(tree) == {"0": "answered", "0.0": "malformed_spawn", "0.1": "answered"}


class Broken(ScriptedEngine):
    """Breaks the protocol in one way after playing its part."""

    def __init__(self, *texts: str, **changes: Any) -> None:
        super().__init__(texts, Characters())
        self.changes = changes

    async def generate(self, *args: Any, **options: Any) -> Completion:
        return replace(await super().generate(*args, **options), **self.changes)


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"policy_version": 3}, "policy version changed from 0 to 3"),
        ({"token_ids": (65, 2)}, "streamed tokens differ"),
        ({"logprobs": (0.0,)}, "1 logprobs for 5 tokens"),
        ({"finish_reason": "abort"}, "aborted the request by itself"),
        ({"finish_reason": "error", "error": "lost", "logprobs": (0.0,)}, "lost"),
    ],
)
def test_broken_engine_is_an_engine_error(changes: dict[str, Any], detail: str) -> None:
    tree = play_faulty(Broken("?!win", **changes))
    assert reasons(tree) == {"0": "engine_error"}
    assert detail in str(tree.main.detail)
    assert tree.main.text.startswith("?!win")


@pytest.mark.parametrize("stream", [True, False])
def test_streaming_changes_nothing_but_chunks(stream: bool) -> None:
    events: list[Event] = []
    tree = run_threads("win", script(*WIN), emit=events.append, task=ToyTask(), language=ToyLanguage(), stream=stream)
    check(tree, events)
    assert tree.correct is True
    if not stream:
        assert sum(isinstance(event, TokensSampled) for event in events) == 4


def timeless(tree: ThreadTree) -> list[tuple[str, str, int, str | None]]:
    return sorted((t.id, t.text, t.sampled_tokens, t.reason) for t in tree.threads.values())


def test_scheduling_does_not_change_the_tree() -> None:
    seeds = []
    trees = []
    for faults in ([], [Fault("a", "delay", seconds=0.05)], [Fault("b", "delay", seconds=0.05)]):
        engine = script(*WIN, faults=faults)
        trees.append(timeless(play(engine, params=SamplingParams(seed=5))))
        seeds.append(sorted((prompt, params.seed) for prompt, params, _ in engine.requests))
    assert trees[0] == trees[1] == trees[2]
    assert seeds[0] == seeds[1] == seeds[2]
    assert len({seed for _, seed in seeds[0]}) == 4


def test_request_seed_is_fixed() -> None:
    assert request_seed(0, "0", 0) == request_seed(0, "0", 0)
    assert 0 <= request_seed(0, "0", 0) < 1 << 63
    assert len({request_seed(s, t, c) for s in range(3) for t in ("0", "0.1", "0.11") for c in range(3)}) == 27


def test_many_rollouts_on_one_engine() -> None:
    engine = script(*WIN)

    async def all_of_them() -> list[ThreadTree]:
        return await asyncio.gather(
            *(rollout("win", engine, task=ToyTask(), language=ToyLanguage(), rollout_id=str(i)) for i in range(20))
        )

    trees = asyncio.run(all_of_them())
    assert {tuple(timeless(tree)) for tree in trees} == {tuple(timeless(trees[0]))}
    assert trees[0].correct is True


def test_cancelling_the_task_closes_everything() -> None:
    events: list[Event] = []
    engine = script(*WIN, faults=[Fault("a", "delay", after=2, seconds=60)])

    async def interrupt() -> None:
        task = asyncio.create_task(rollout("win", engine, task=ToyTask(), language=ToyLanguage(), emit=events.append))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupt())
    tree = ThreadTree.fold(events)
    check(tree, events)
    assert reasons(tree) == {"0": "interrupted", "0.0": "interrupted", "0.1": "answered"}
    assert tree.threads["0.0"].sampled_tokens == 2
    assert tree.correct is None


def test_a_rollout_that_is_cancelled_twice_tells_its_end_and_nothing_after_it() -> None:
    events: list[Event] = []
    engine = Deaf(WIN, Characters(), faults=[Fault("a", "delay", after=2, seconds=60)])

    async def interrupt() -> None:
        task = asyncio.create_task(rollout("win", engine, task=ToyTask(), language=ToyLanguage(), emit=events.append))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # What was not waited for goes on to its own end.
        await asyncio.sleep(0.05)

    asyncio.run(interrupt())
    tree = ThreadTree.fold(events)
    assert reasons(tree) == {"0": "interrupted", "0.0": "interrupted", "0.1": "answered"}
    assert isinstance(events[-1], RolloutFinished)


def test_keyboard_interrupt_leaves_a_whole_log() -> None:
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, ThreadClosed) and event.thread == "0.1":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_threads(
            "win",
            script(*WIN, faults=[Fault("a", "delay", seconds=60)]),
            emit=emit,
            task=ToyTask(),
            language=ToyLanguage(),
        )
    tree = ThreadTree.fold(events)
    assert reasons(tree) == {"0": "interrupted", "0.0": "interrupted", "0.1": "answered"}
    assert tree.finished is not None


class Deaf(ScriptedEngine):
    """Ignores aborts."""

    def abort(self, request_id: str) -> None:
        pass


def test_an_engine_that_ignores_aborts_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apr.threads.rollout._GRACE_S", 0.05)
    engine = Deaf(WIN, Characters(), faults=[Fault("a", "delay", after=2, seconds=60)])
    events: list[Event] = []
    tree = run_threads("win", engine, Limits(seconds=0.05), events.append, task=ToyTask(), language=ToyLanguage())
    check(tree, events)
    assert reasons(tree) == {"0": "limit_time", "0.0": "limit_time", "0.1": "answered"}
    assert tree.threads["0.0"].sampled_tokens == 2


def test_an_emit_that_fails_is_not_an_engine_error() -> None:
    def emit(event: Event) -> None:
        if isinstance(event, TokensSampled) and event.thread == "0.1":
            raise OSError("disk full")

    for stream in (True, False):
        with pytest.raises(OSError, match="disk full"):
            run_threads("win", script(*WIN), emit=emit, task=ToyTask(), language=ToyLanguage(), stream=stream)


def test_unknown_join_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="join policy"):
        play(script(*WIN), join="some")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limits": Limits(threads=0)}, "threads is a whole number from 1 on, not 0"),
        ({"limits": Limits(rounds=1.5)}, "rounds is a whole number from 0 on, not 1.5"),  # type: ignore[arg-type]
        ({"limits": Limits(total_tokens=-1)}, "total_tokens is a whole number from 0 on"),
        ({"limits": Limits(seconds=float("nan"))}, "seconds is a number from 0 on, not nan"),
        ({"params": SamplingParams(temperature=-1)}, "temperature is 0 or from"),
        ({"params": SamplingParams(max_tokens=-1)}, "max_tokens is a whole number from 0 on"),
        ({"budget": -1}, "budget is a whole number from 0 on"),
        ({"budget": "free"}, "budget is a whole number from 0 on, or None for the model's choice, not 'free'"),
    ],
)
def test_what_is_no_limit_parameter_or_budget_is_refused(options: dict[str, Any], says: str) -> None:
    """Before the engine is asked, which would seem to have failed."""
    seen: list[Event] = []
    with pytest.raises(ValueError, match=says):
        run_threads("win", script(*WIN), emit=seen.append, task=ToyTask(), language=ToyLanguage(), **options)
    assert not seen
