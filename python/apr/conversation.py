"""What a main thread is asked: a text, or a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt: TypeAlias = str | tuple[Message, ...]
"""What a main thread is asked: a text, or a conversation whose next turn is its answer."""


def asked(prompt: Prompt) -> str:
    """The text that is asked, for languages that hold no conversation. ValueError for one of several turns."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) != 1:
        raise ValueError("the language holds no conversations: it is asked by one message")
    return prompt[0].content
