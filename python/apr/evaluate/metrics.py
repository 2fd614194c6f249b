"""Figures of rollouts: pure functions of finished trees.

Our tokens are those of the model's tokenizer. A Llama-2 equivalent is what Llama-2's tokenizer would need for
the same text; a sequence's context counts its begin and end token too. A sampled token that was replaced at
once has left no text, so only our tokens count it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from apr._core import llama2_tokens
from apr.evaluate.counting import authors_tokens
from apr.evaluate.row import Row, judged, problem_of
from apr.evaluate.statistics import wilson
from apr.threads.tree import MAIN, ThreadTree

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, without specials."""


@dataclass(frozen=True, slots=True)
class Measures:
    """The figures of one rollout."""

    total_tokens: int
    """Sampled tokens of all threads."""
    sequential_tokens: int
    """Sampled tokens on the longest chain of dependent threads."""
    context: int
    """Longest sequence of any thread."""
    llama2_total_tokens: int
    llama2_sequential_tokens: int
    llama2_context: int
    authors_total_tokens: int
    """As the authors count, prompts and all, in Llama-2's tokens."""
    main_tokens: int
    """Sampled tokens of the main thread."""
    threads: int
    rounds: int
    """Spawns of all threads."""
    depth: int
    """Of the deepest thread; 0 without children."""
    prompt_tokens: int
    """Prompt tokens of all calls."""
    cached_tokens: int
    """Those of them that the engine did not compute."""
    latency: float
    """Wall clock in seconds."""


@dataclass(frozen=True, slots=True)
class Llama2:
    """A tree's Llama-2 equivalents."""

    total_tokens: int
    sequential_tokens: int
    context: int
    authors_total_tokens: int
    """As the authors count, prompts and all."""


def llama2_equivalents(tree: ThreadTree, decode: Decode) -> Llama2:
    """What the tree would cost in Llama-2's tokens."""
    sampled = {
        thread.id: sum(llama2_tokens(decode(call.sampled)) for call in thread.calls) for thread in tree.threads.values()
    }

    def chain(thread_id: str) -> int:
        if thread_id not in tree.threads:
            return 0
        rounds = tree.threads[thread_id].rounds
        return sampled[thread_id] + sum(max((chain(child) for child in spawn.children), default=0) for spawn in rounds)

    threads = _texts(tree, decode)
    return Llama2(
        total_tokens=sum(sampled.values()),
        sequential_tokens=chain(MAIN),
        context=max((llama2_tokens(text) + 2 for texts in threads for text in texts), default=0),
        authors_total_tokens=authors_tokens(threads, llama2_tokens),
    )


def _texts(tree: ThreadTree, decode: Decode) -> list[list[str]]:
    """The text of each sequence of each thread; one that a later call extends is part of the longer one."""
    return [
        [decode([i for segment in branch for i in segment.token_ids]) for branch in thread.branches()]
        for thread in tree.threads.values()
    ]


def measure(tree: ThreadTree, decode: Decode) -> Measures:
    """The figures of a finished rollout."""
    llama2 = llama2_equivalents(tree, decode)
    return Measures(
        total_tokens=tree.total_tokens,
        sequential_tokens=tree.sequential_tokens,
        context=tree.longest_context,
        llama2_total_tokens=llama2.total_tokens,
        llama2_sequential_tokens=llama2.sequential_tokens,
        llama2_context=llama2.context,
        authors_total_tokens=llama2.authors_total_tokens,
        main_tokens=tree.main.sampled_tokens,
        threads=len(tree.threads),
        rounds=tree.rounds,
        depth=tree.depth,
        prompt_tokens=tree.prompt_tokens,
        cached_tokens=tree.cached_tokens,
        latency=tree.latency or 0.0,
    )


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """All figures of the rows of one condition as a plain JSON object.

    Accuracy is the share of judged rollouts that are correct; those that an engine failed are counted in
    `engine_failures` and nowhere else, and `engine_error` says why the first did; those that nobody judges are the
    rest. The interval is of as many trials as there are problems: samples of one are no trials of their own. Token
    figures are means over judged rollouts, `_max` their largest. `warm`: the engine's cache was not empty at first."""
    counted = [row for row in rows if judged(row)]
    correct = sum(row["correct"] for row in counted)
    trials = len(set(map(problem_of, counted)))
    low, high = wilson(trials * correct / len(counted) if counted else 0, trials)
    summary: dict[str, Any] = {
        "rollouts": len(rows),
        "problems": len(set(map(problem_of, rows))),
        "judged": len(counted),
        "correct": correct,
        "accuracy": correct / len(counted) if counted else None,
        "accuracy_low": low,
        "accuracy_high": high,
        "engine_failures": sum(row["failed"] for row in rows),
        "engine_error": next((row["error"] for row in rows if row.get("error")), None),
    }
    for name in Measures.__dataclass_fields__:
        values = [row[name] for row in counted]
        summary[name] = sum(values) / len(values) if values else None
        summary[f"{name}_max"] = max(values, default=None)
    prompts = sum(row["prompt_tokens"] for row in counted)
    summary["warm"] = any(row.get("warm") for row in rows)
    summary["cached_share"] = sum(row["cached_tokens"] for row in counted) / prompts if prompts else 0.0
    reasons = sorted({row["reason"] for row in rows})
    summary["reasons"] = {reason: sum(row["reason"] == reason for row in rows) / len(rows) for reason in reasons}
    return summary
