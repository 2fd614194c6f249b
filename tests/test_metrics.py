"""Figures of single rollouts: token counts against the authors', schedules, profiles, votes and the teacher's reach."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import apr
from apr import Problem, llama2_tokens
from apr._core import claimed_steps
from apr.countdown.task import Countdown
from apr.countdown.teacher import Teacher, solves, width
from apr.evaluate.counting import authors_tokens
from apr.evaluate.metrics import measure
from apr.evaluate.problems import split_problems
from apr.evaluate.profile import profile
from apr.evaluate.schedule import makespan
from apr.testing.scripted import ScriptedEngine
from apr.threads.events import (
    CallFinished,
    Event,
    RolloutFinished,
    RolloutStarted,
    ThreadClosed,
    ThreadJoined,
    ThreadOpened,
    ThreadSpawned,
)
from apr.threads.tree import MAIN, Call, Round, Thread, ThreadTree
from conftest import Golden
from tiny import SOLVED, teacher_policy, teacher_texts


def test_tokens_are_counted_as_the_authors_count_them(golden: Golden) -> None:
    for row in golden("apr_traces.jsonl.gz"):
        trace = row["trace_dict"]
        children = [child["main_calls"] for spawn in trace["sub_calls"] for child in spawn]
        threads = [trace["main_calls"], *children]
        for name, count in (("token_data_char", len), ("token_data_llama2", llama2_tokens)):
            assert authors_tokens(threads, count) == row[name]["token_count"]


def test_a_rollout_counts_as_its_trace_does() -> None:
    trace = apr.search(SOLVED, "apr", seed=1, beam_size=6, promising=1.0)
    policy = teacher_policy()
    tree = apr.run_threads(SOLVED, policy.engine, task=policy.task, language=policy.language)
    threads = [trace.main_calls, *(child.main_calls for child in trace.children[0])]
    found = measure(tree, policy.language.text)
    assert found.authors_total_tokens == authors_tokens(threads, llama2_tokens)
    assert found.authors_total_tokens > found.llama2_total_tokens
    assert (found.rounds, found.depth, found.threads) == (1, 1, 7)
    assert found.main_tokens == tree.main.sampled_tokens


def thread(id_: str, stretches: list[int], children: list[list[str]] = []) -> Thread:  # noqa: B006
    """A thread that samples so many tokens before, between and after its joins."""
    parent = id_.rpartition(".")[0] or None
    made = Thread(id_, parent, id_.count("."), "", "", 0, 0.0)
    made.calls = [Call(0, (), "join" if i else None, sampled=[7] * n) for i, n in enumerate(stretches)]
    made.rounds = [Round(tuple(own), ()) for own in children]
    made.sampled_tokens = sum(stretches)
    return made


def tree_of(*threads: Thread) -> ThreadTree:
    return ThreadTree(threads={made.id: made for made in threads})


def test_threads_are_scheduled_on_processors() -> None:
    tree = tree_of(
        thread("0", [10, 5, 1], [["0.0", "0.1", "0.2"], ["0.3"]]),
        thread("0.0", [4]),
        thread("0.1", [6]),
        thread("0.2", [3]),
        thread("0.3", [2]),
    )
    # 10, then 4 + 3 beside 6, then 5, 2, 1.
    assert makespan(tree, 2) == 10 + 7 + 5 + 2 + 1
    assert makespan(tree, 3) == 10 + 6 + 5 + 2 + 1
    assert makespan(ThreadTree(), 2) == 0
    with pytest.raises(ValueError, match="0 processors"):
        makespan(tree, 0)


@st.composite
def trees(draw: st.DrawFn) -> ThreadTree:
    threads: dict[str, Thread] = {}

    def grow(id_: str, depth: int) -> None:
        rounds = draw(st.integers(0, 2)) if depth < 2 else 0
        counts = [draw(st.integers(0, 3)) for _ in range(rounds)]
        children = [[f"{id_}.{sum(counts[:r]) + i}" for i in range(n)] for r, n in enumerate(counts)]
        # A thread that is cut off while it waits has no stretch after its last spawn.
        ended = draw(st.booleans()) or not rounds
        stretches = [draw(st.integers(0, 30)) for _ in range(rounds + ended)]
        threads[id_] = thread(id_, stretches, children)
        for child in (child for own in children for child in own):
            grow(child, depth + 1)

    grow(MAIN, 0)
    return ThreadTree(threads=threads)


@given(trees())
def test_a_schedule_lies_between_the_chain_and_the_whole(tree: ThreadTree) -> None:
    assert makespan(tree, 1) == tree.total_tokens
    assert makespan(tree, len(tree.threads)) == tree.sequential_tokens
    for workers in (2, 3):
        assert tree.sequential_tokens <= makespan(tree, workers) <= tree.total_tokens


def call(time: float, thread: str, *timing: float) -> CallFinished:
    return CallFinished(
        rollout="r", time=time, thread=thread, finish_reason="stop", logprobs=(), cached_tokens=0, timing=timing
    )


def rollout(*, told: bool = True) -> list[Event]:
    def opened(time: float, thread: str, parent: str | None) -> ThreadOpened:
        depth = 0 if parent is None else 1
        return ThreadOpened(rollout="r", time=time, thread=thread, parent=parent, depth=depth, token_ids=(1,), text="")

    started = RolloutStarted(
        rollout="r", time=0, problem={}, method="apr", budget=None, limits={}, join="all", temperature=0, seed=0,
        policy_version=0,
    )  # fmt: skip
    finished = RolloutFinished(
        rollout="r", time=9.5, reason="answered", failed=False, correct=True, verdict="", steps=(), total_tokens=0,
        sequential_tokens=0, longest_context=0, cached_tokens=0,
    )  # fmt: skip
    return [
        started,
        opened(0, "0", None),
        call(3, "0", *((0.5, 1, 1.25) if told else ())),
        ThreadSpawned(rollout="r", time=3, thread="0", children=("0.0", "0.1")),
        opened(3, "0.0", "0"),
        opened(3, "0.1", "0"),
        call(5, "0.0", 0, 1, 1),
        ThreadClosed(rollout="r", time=5, thread="0.0", reason="no_answer"),
        call(8, "0.1", 1.5, 0.5, 2.75),
        ThreadClosed(rollout="r", time=8, thread="0.1", reason="answered"),
        ThreadJoined(rollout="r", time=8, thread="0", outcomes=("failed", "found")),
        call(9.25, "0", 0.25, 0.25, 0.5),
        ThreadClosed(rollout="r", time=9.25, thread="0", reason="answered"),
        finished,
    ]


def test_a_profile_follows_the_critical_path() -> None:
    found = profile(rollout())
    assert found is not None
    assert (found.queue, found.prefill, found.decode) == (0.75, 1.25, 1.75)
    assert found.waiting == 5
    assert found.queue + found.prefill + found.decode + found.waiting + found.other == 9.5
    assert (found.waiting_queue, found.waiting_prefill, found.waiting_decode) == (1.5, 0.5, 2.75)


def test_an_engine_that_tells_nothing_has_no_profile() -> None:
    assert profile(rollout(told=False)) is None
    assert profile(rollout()[:-1]) is None


def test_equal_solutions_are_one_vote() -> None:
    trace = apr.search(Problem([3, 5, 8, 9], 24), "sos+", seed=0, beam_size=20)
    assert trace.solved
    claim = apr.search_result(trace.text)
    assert claim is not None
    steps = claimed_steps(claim)
    assert len(steps) == 3
    lines = [line for line in claim.splitlines() if "Operation: " in line and "Resulting" in line]
    turned = []
    for line in lines:
        head, _, rest = line.partition(": ")
        equation, _, after = rest.partition(",")
        for sign in "+*":
            left, found, right = equation.partition("=")[0].partition(sign)
            if found:
                equation = f"{right}{sign}{left}={equation.partition('=')[2]}"
        turned.append(f"{head}: {equation},{after}")
    random.Random(0).shuffle(turned)
    assert turned != lines
    assert claimed_steps("\n".join(turned)) == steps
    assert claimed_steps("nothing of the kind\n") == []


@pytest.mark.parametrize("beam_size", [2, 4, 7])
def test_a_teacher_is_its_own_equal(beam_size: int) -> None:
    """Played by an engine, it solves what it solves at the width that is read off its text."""
    teacher = Teacher(child_beam_size=5)
    outcomes = set()
    for problem in split_problems(Countdown(), 12, "test", 3):
        # Another seed: shuffles do not decide what a width reaches.
        texts = teacher_texts(problem, beam_size=beam_size, child_beam_size=5)
        tree = apr.run_threads(problem, ScriptedEngine(texts, apr.Tokenizer()))
        assert width(tree) == beam_size
        assert solves(teacher, problem, "apr", tree) == tree.correct
        outcomes.add(tree.correct)
    assert outcomes == {True, False}


def test_a_text_without_a_search_has_no_teacher() -> None:
    tree = apr.run_threads(SOLVED, ScriptedEngine([], apr.Tokenizer()))
    assert width(tree) == 0
    assert solves(Teacher(), SOLVED, "apr", tree) is False
