"""What a client is told of a finished tree: choices, usage, and in the field `apr` the threads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from apr.serving.request import Refusal
from apr.threads.tree import ThreadTree

_LENGTH = frozenset(("length", "limit_tokens", "limit_time", "limit_threads", "limit_rounds", "limit_children"))
"""Close reasons of a main thread that a client knows as "length"."""


def check(tree: ThreadTree) -> None:
    """Refusal for a tree that is no answer: its engine failed."""
    if tree.main.reason == "engine_error":
        raise Refusal(502, f"the engine failed: {tree.main.detail or 'no reason given'}", "server_error")


def finish_reason(tree: ThreadTree) -> str:
    return "length" if tree.main.reason in _LENGTH else "stop"


def completion(tree: ThreadTree) -> str:
    """What the main thread wrote."""
    return tree.main.text[len(tree.main.prompt_text) :]


def choice(index: int, text: str, reason: str | None, extension: Mapping[str, Any] | None = None) -> dict[str, Any]:
    made = {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
    return made if extension is None else {**made, "apr": extension}


def usage(trees: Sequence[ThreadTree]) -> dict[str, int]:
    """Tokens of all trees together; what was sampled is that of all threads."""
    prompts = sum(tree.main.calls[0].prompt_tokens for tree in trees)
    sampled = sum(tree.total_tokens for tree in trees)
    return {"prompt_tokens": prompts, "completion_tokens": sampled, "total_tokens": prompts + sampled}


def threads(tree: ThreadTree) -> dict[str, Any]:
    """The field `apr`."""
    end = tree.finished
    assert end is not None
    return {
        "reason": end.reason,
        "correct": end.correct,
        "verdict": end.verdict,
        "steps": list(end.steps),
        "sequential_tokens": end.sequential_tokens,
        "longest_context": end.longest_context,
        "cached_tokens": end.cached_tokens,
        "seconds": end.time,
        "threads": [
            {
                "id": thread.id,
                "parent": thread.parent,
                "prompt": thread.prompt_text,
                "text": thread.text[len(thread.prompt_text) :],
                "reason": thread.reason,
                "result": thread.result,
                "tokens": thread.sampled_tokens,
            }
            for thread in tree.threads.values()
        ],
    }


def whole(trees: Sequence[ThreadTree]) -> dict[str, Any]:
    """The answer to a request that is not streamed. The field `apr` is the answer's where it has one choice, else each
    choice's own."""
    for tree in trees:
        check(tree)
    if len(trees) == 1:
        [tree] = trees
        choices, extension = [choice(0, completion(tree), finish_reason(tree))], {"apr": threads(tree)}
    else:
        choices = [choice(i, completion(t), finish_reason(t), threads(t)) for i, t in enumerate(trees)]
        extension = {}
    return {"choices": choices, "usage": usage(trees), **extension}


def sse(value: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"
