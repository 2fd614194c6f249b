"""Whatever is asked in words, as a task: it has no problems of its own, and nobody judges what comes of it.

It is how a model of others, in a language that it writes, is asked anything: by `apr solve --task chat`, or over the
chat completions of `apr serve --threads --task chat`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apr.conversation import Message, Prompt
from apr.task import Field, Form, Method, Split

Conversation = tuple[Message, ...]

_MOST = 70
"""Characters of a title."""


class Chat:
    """The task."""

    name = "chat"

    def problems(self, split: Split, seed: int, start: int, count: int) -> list[Conversation]:
        return []

    def to_json(self, problem: Conversation) -> dict[str, Any]:
        return {"messages": [{"role": turn.role, "content": turn.content} for turn in problem]}

    def from_json(self, values: Mapping[str, Any]) -> Conversation:
        """Messages, or one text as `question`."""
        if isinstance(question := values.get("question"), str):
            return self.read_messages([Message("user", question)])
        turns = values.get("messages")
        if not isinstance(turns, list | tuple) or not all(isinstance(turn, Mapping) for turn in turns):
            raise ValueError("its messages are no list of objects")
        messages = []
        for turn in turns:
            role, content = turn.get("role"), turn.get("content")
            if role not in ("system", "user", "assistant") or not isinstance(content, str):
                raise ValueError("a message has a role (system, user or assistant) and a content that is text")
            messages.append(Message(role, content))
        return self.read_messages(messages)

    def read_messages(self, messages: Sequence[Message]) -> Conversation:
        if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
            raise ValueError("a conversation ends with something that the user says")
        if any(turn.role == "system" for turn in messages[1:]):
            raise ValueError("only the first message is the system's")
        return tuple(messages)

    def key(self, problem: Conversation) -> str:
        return "\n".join(f"{turn.role}: {turn.content}" for turn in problem)

    def prompt(self, problem: Conversation, budget: int | None) -> Prompt:
        return problem

    def read_prompt(self, prompt: str) -> tuple[Conversation, int | None]:
        return self.read_messages([Message("user", prompt)]), None

    def judge(self, problem: Conversation, answer: str | None, text: str) -> None:
        return None

    def judge_child(self, problem: Conversation, prompt: str, claim: str) -> None:
        return None

    def vote(self, answer: str) -> str:
        return answer.strip()

    def title(self, problem: Conversation) -> str:
        line = " ".join(problem[-1].content.split())
        return line if len(line) <= _MOST else f"{line[: _MOST - 1]}…"

    def label(self, prompt: str) -> str:
        return " ".join(prompt.split())[:_MOST]

    def answer(self, problem: Conversation, steps: Sequence[str]) -> str:
        return "\n".join(steps)

    @property
    def form(self) -> Form:
        return FORM

    def parse(self, texts: Sequence[str]) -> Conversation:
        return self.read_messages([Message("user", texts[0])])

    def fill(self, problem: Conversation) -> tuple[str]:
        return (problem[-1].content,)


FORM = Form(
    (Field("question", "anything", "Which is larger, 7*8 or 6*9?", width=60),), "ask anything", {}, (None,), "children"
)


def chat(method: Method) -> Chat:
    """The task, as its entry point gives it."""
    return Chat()
