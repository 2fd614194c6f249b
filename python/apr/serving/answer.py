"""What a client is told of a finished tree: choices, usage, and in the field `apr` the threads."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

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
                "text": thread.written,
                "reason": thread.reason,
                "result": thread.result,
                "tokens": thread.sampled_tokens,
            }
            for thread in tree.threads.values()
        ],
    }


@dataclass(frozen=True, slots=True)
class Form:
    """How an answer is written."""

    chat: bool

    def head(self, model: str, stream: bool) -> dict[str, Any]:
        """What an answer, or each chunk of it, begins with."""
        kind = ("chat.completion.chunk" if stream else "chat.completion") if self.chat else "text_completion"
        name = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{name}-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}

    def choice(
        self, index: int, text: str, reason: str | None, extension: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """A whole answer."""
        said = {"message": {"role": "assistant", "content": text, "refusal": None}} if self.chat else {"text": text}
        made = {"index": index, **said, "logprobs": None, "finish_reason": reason}
        return made if extension is None else {**made, "apr": extension}

    def piece(self, index: int, text: str, reason: str | None, first: bool) -> dict[str, Any]:
        """What a chunk adds to an answer."""
        if not self.chat:
            return self.choice(index, text, reason)
        said = {"role": "assistant", "content": text} if first else {"content": text}
        return {"index": index, "delta": said, "logprobs": None, "finish_reason": reason}

    def whole(self, trees: Sequence[ThreadTree]) -> dict[str, Any]:
        """The answer to a request that is not streamed. The field `apr` is the answer's where it has one choice, else
        each choice's own."""
        for tree in trees:
            check(tree)
        if len(trees) == 1:
            [tree] = trees
            choices = [self.choice(0, tree.main.written, finish_reason(tree))]
            extension = {"apr": threads(tree)}
        else:
            choices = [self.choice(i, t.main.written, finish_reason(t), threads(t)) for i, t in enumerate(trees)]
            extension = {}
        return {"choices": choices, "usage": usage(trees), **extension}


def sse(value: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"
