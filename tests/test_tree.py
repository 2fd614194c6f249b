"""The tree: what it derives, what it refuses, and the teacher's own rollouts through the real grammar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import apr
from apr import _core
from apr.cli.view import Glyphs, render
from apr.shown import Shown
from apr.testing.scripted import Fault, ScriptedEngine, trace_texts
from apr.threads.events import (
    Event,
    RolloutFinished,
    RolloutStarted,
    ThreadClosed,
    ThreadJoined,
    ThreadOpened,
    ThreadSpawned,
    TokensForced,
    TokensSampled,
)
from apr.threads.run import run_threads
from apr.threads.tree import ThreadTree
from toy import Characters, ToyLanguage, ToyTask

BASE = {"rollout": "r", "time": 0.0}
STARTED = RolloutStarted(
    **BASE,
    problem={},
    method="toy",
    budget=None,
    limits={},
    join="all",
    temperature=1.0,
    seed=0,
    policy_version=0,
)  # type: ignore[arg-type]

FINISHED = RolloutFinished(
    rollout="r",
    time=0.0,
    reason="no_answer",
    failed=False,
    correct=False,
    verdict="",
    steps=(),
    total_tokens=0,
    sequential_tokens=0,
    longest_context=0,
    cached_tokens=0,
)


def opened(thread: str, parent: str | None = None) -> ThreadOpened:
    return ThreadOpened(
        rollout="r",
        time=0.0,
        thread=thread,
        parent=parent,
        depth=thread.count("."),
        token_ids=(1, 63),
        text="?",
    )


def sampled(thread: str, text: str) -> TokensSampled:
    return TokensSampled(rollout="r", time=0.0, thread=thread, token_ids=tuple(map(ord, text)), text=text)


def spawned(thread: str, *children: str) -> ThreadSpawned:
    return ThreadSpawned(rollout="r", time=0.0, thread=thread, children=children)


def joined(thread: str, *outcomes: Any) -> ThreadJoined:
    return ThreadJoined(rollout="r", time=0.0, thread=thread, outcomes=outcomes)


def test_an_empty_tree_has_numbers_too() -> None:
    tree = ThreadTree()
    assert (tree.total_tokens, tree.sequential_tokens, tree.longest_context, tree.children) == (0, 0, 0, 0)
    assert tree.correct is None
    assert tree.latency is None


def test_sequential_tokens_are_the_longest_child_of_each_round() -> None:
    def spawn(thread: str, *children: str) -> list[Event]:
        return [spawned(thread, *children), *(opened(child, thread) for child in children)]

    tree = ThreadTree.fold(
        [
            STARTED,
            opened("0"),
            sampled("0", "123"),
            *spawn("0", "0.0", "0.1"),
            sampled("0.0", "1"),
            *spawn("0.0", "0.0.0"),
            sampled("0.0.0", "1234567"),
            sampled("0.1", "12345"),
            *spawn("0", "0.2", "0.3"),
            sampled("0.2", "12"),
        ]
    )
    assert tree.sequential_tokens == 3 + max(1 + 7, 5) + 2
    assert tree.total_tokens == 3 + 1 + 7 + 5 + 2
    assert (tree.rounds, tree.children, tree.depth) == (3, 5, 2)
    assert tree.main.waiting


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([opened("0")], "does not belong here: ThreadOpened"),
        ([STARTED, STARTED], "starts in the tree of"),
        ([STARTED, sampled("0", "a")], "thread 0, which is not open"),
        ([STARTED, opened("0"), opened("0")], "opens twice"),
        ([STARTED, opened("0.0", "0")], "unknown parent 0"),
        (
            [
                STARTED,
                opened("0"),
                ThreadClosed(rollout="r", time=0.0, thread="0", reason="no_answer"),
                sampled("0", "a"),
            ],
            "thread 0, which is not open",
        ),
        (
            [
                STARTED,
                ThreadOpened(rollout="s", time=0.0, thread="0", parent=None, depth=0, token_ids=(), text=""),
            ],
            "event of rollout s does not belong here",
        ),
        (
            [
                STARTED,
                opened("0"),
                TokensForced(
                    rollout="r", time=0.0, thread="0", cause="join", kept=3, kept_text=1, token_ids=(), text=""
                ),
            ],
            "cannot keep 3 tokens",
        ),
        (
            [
                STARTED,
                opened("0"),
                TokensForced(
                    rollout="r", time=0.0, thread="0", cause="join", kept=1, kept_text=-1, token_ids=(), text=""
                ),
            ],
            "cannot keep 1 tokens, -1 characters",
        ),
        ([STARTED, opened("1")], "nobody spawned it"),
        ([STARTED, opened("0"), opened("0.0", "0")], "nobody spawned it"),
        *(
            ([STARTED, opened("0"), spawned("0", *children)], "cannot be its children")
            for children in (["0"], ["0.1"], ["0.0", "0.0"], ["0.00"], ["1"])
        ),
        ([STARTED, opened("0"), spawned("0", "0.0"), opened("0.1", "0")], "nobody spawned it"),
        ([STARTED, opened("0"), spawned("0", "0.0"), opened("0.0", "0.0")], "unknown parent 0.0"),
        ([STARTED, opened("0"), spawned("0", "0.0"), opened("0.0")], "nobody spawned it"),
        ([STARTED, opened("0"), spawned("0", "0.0"), replace(opened("0.0", "0"), depth=5)], "says depth 5"),
        ([STARTED, replace(opened("0"), depth=-1)], "says depth -1"),
        ([STARTED, opened("0"), joined("0")], "joins 0 children"),
        ([STARTED, opened("0"), spawned("0", "0.0"), joined("0", "found", "failed")], "joins 2 children"),
        ([STARTED, opened("0"), spawned("0"), joined("0"), joined("0")], "joins 0 children"),
        ([STARTED, FINISHED], "before its main thread opened"),
    ],
)
def test_events_out_of_place_are_refused(events: Sequence[Event], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ThreadTree.fold(events)


def test_a_deep_chain_of_threads_has_numbers_too() -> None:
    tree, thread = ThreadTree.fold([STARTED, opened("0"), sampled("0", "ab")]), "0"
    for _ in range(3000):
        child = f"{thread}.0"
        for event in (spawned(thread, child), opened(child, thread), sampled(child, "c")):
            tree.apply(event)
        thread = child
    assert (tree.sequential_tokens, tree.total_tokens, tree.depth) == (3002, 3002, 3000)
    lines = render(tree, Glyphs.of("utf-8"), Shown.of(STARTED), lambda _: None, seconds=1.0, width=80, height=10)
    assert len(lines) == 10
    assert max(line.cell_len for line in lines) <= 80


def test_every_prefix_of_a_log_is_a_tree() -> None:
    """A live view folds what is there so far."""
    events: list[Event] = []
    texts = "?think{", "?think[a,b]", "?think{-,win}so!win", "a no", "b yes!win"
    run_threads("win", ScriptedEngine(texts, Characters()), emit=events.append, task=ToyTask(), language=ToyLanguage())
    tokens = 0
    for n in range(len(events)):
        tree = ThreadTree.fold(events[:n])
        assert tree.total_tokens >= max(tokens, tree.sequential_tokens)
        tokens = tree.total_tokens
        for thread in tree.threads.values():
            assert [i for s in thread.branches()[-1] for i in s.token_ids] == thread.token_ids


def teacher(rounds: int = 1) -> tuple[_core.Problem, _core.Trace]:
    """A trace that spawns this often and solves its problem."""
    problem = _core.Problem([66, 3, 4, 22], 40)
    for seed in range(200):
        trace = apr.search(problem, "apr", seed=seed, beam_size=3, child_beam_size=3, promising=0.5)
        if len(trace.children) == rounds and trace.solved:
            return problem, trace
    raise AssertionError("no such trace")


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_the_teacher_played_through_the_orchestrator(rounds: int) -> None:
    problem, trace = teacher(rounds)
    tokenizer = apr.Tokenizer()
    engine = ScriptedEngine(trace_texts(trace), tokenizer)
    events: list[Event] = []
    tree = run_threads(problem, engine, emit=events.append)
    assert ThreadTree.fold(events) == tree
    assert tree.correct is True
    assert not tree.failed
    assert len(tree.steps) == 3
    assert [len(spawn.children) for spawn in tree.main.rounds] == [len(spawn) for spawn in trace.children]
    assert tree.main.text == trace.main_calls[-1]
    children = [child for spawn in trace.children for child in spawn]
    for child_id, child in zip(tree.main.children, children, strict=True):
        assert tree.threads[child_id].text == child.main_calls[0]
        assert (tree.threads[child_id].result is not None) == child.solved
    # The tokens are those of the texts, wherever the prompts and joins cut them.
    begin, end = tokenizer.bos, tokenizer.eos
    expected = [[begin, *tokenizer.encode(text)] for text in trace.main_calls]
    expected[-1].append(end)
    assert [[i for s in branch for i in s.token_ids] for branch in tree.main.branches()] == expected


def test_first_stops_the_teachers_other_children() -> None:
    problem, trace = teacher()
    spawn_text = trace.main_calls[0].removesuffix("\n")
    children = [child.main_calls[0] for child in trace.children[0]]
    tail = trace.main_calls[1][len(apr.join(spawn_text, children)) :]
    trunk = spawn_text[: spawn_text.rindex(_core.SPAWN_OPEN)]
    winner = next(i for i, child in enumerate(trace.children[0]) if child.solved)
    losers = [i for i in range(len(children)) if i != winner]
    slow = [Fault(apr.child_prompts(spawn_text)[i], "delay", after=3, seconds=60) for i in losers]
    told = [_core.search_result(children[i]) if i == winner else None for i in range(len(children))]
    joined = trunk + _core.join_block(spawn_text, told, losers, 1) + tail
    engine = ScriptedEngine([*trace_texts(trace), joined], apr.Tokenizer(), faults=slow)
    tree = run_threads(problem, engine, join="first")
    outcomes = tree.main.rounds[0].outcomes
    assert outcomes == tuple("found" if i == winner else "cancelled" for i in range(len(children)))
    assert tree.main.text == joined
    assert tree.correct is True


def test_serial_methods_are_one_thread() -> None:
    problem = _core.Problem([66, 3, 4, 22], 40)
    trace = next(t for t in (apr.search(problem, "sos+", seed=s, beam_size=5) for s in range(99)) if t.solved)
    tree = run_threads(problem, ScriptedEngine(trace_texts(trace), apr.Tokenizer()), method="sos+")
    assert tree.correct is True
    assert list(tree.threads) == ["0"]
    assert tree.total_tokens == tree.sequential_tokens
    assert len(tree.steps) == 3
