"""What a request may say: every field is checked before anything runs, and one that cannot be honoured is refused.

Fields of the API that ask for nothing, such as `top_p` 1 or an empty `stop`, are taken: clients send them unasked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from apr.conversation import Message
from apr.form import form_of, read
from apr.limits import Limits
from apr.policy import Policy
from apr.task import Converses
from apr.threads.rollout import JoinPolicy
from apr.types import SamplingParams

_LARGEST = 1 << 62
_MOST_SHOWN = 60
"""Characters of a client's own words in a message."""


class Refusal(Exception):
    """A request that is answered with an error status."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind

    @property
    def body(self) -> dict[str, Any]:
        """What the client gets."""
        return {"error": {"message": self.message, "type": self.kind, "param": None, "code": None}}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, understood."""

    problems: tuple[tuple[Any, int | None], ...]
    """A problem and a budget for each prompt."""
    join: JoinPolicy
    events: bool
    """Every event of the threads comes with the stream."""
    stream: bool
    usage: bool
    """The stream ends with a chunk that counts tokens."""
    params: SamplingParams
    limits: Limits
    user: str | None
    """Whom the client asks for."""


def read_request(body: Any, policy: Policy, model: str, limits: Limits, *, chat: bool = False) -> Asked:
    """What a body asks for, of completions or of chat completions. Refusal for anything that cannot be done as
    asked."""
    if not isinstance(body, dict):
        raise Refusal(400, "the body is not an object")
    # A field that is null is one that is not there.
    fields = {key: value for key, value in body.items() if value is not None}
    extension = fields.get("apr", {})
    if not isinstance(extension, dict):
        raise Refusal(400, "apr: not an object")
    extension = {key: value for key, value in extension.items() if value is not None}
    neutral_fields = _CHAT_NEUTRAL if chat else _NEUTRAL
    _known(fields, _FIELDS | (_CHAT_FIELDS if chat else {"prompt"}) | neutral_fields.keys(), "")
    _known(extension, _EXTENSION, "apr.")
    for key, (neutral, what) in neutral_fields.items():
        if key in fields and not neutral(fields[key]):
            raise Refusal(400, f"{key}: not supported, but for {what}")
    _model(fields.get("model", model), model)
    tokens = [_number(fields, key, int, 1) for key in ("max_tokens", "max_completion_tokens")]
    most = min((one for one in tokens if one is not None), default=None)
    join = extension.get("join", "all")
    if join not in ("all", "first"):
        raise Refusal(400, "apr.join: all or first")
    budget = _number(extension, "budget", int, 0, "apr.")
    if "fields" in extension:
        problems = [_typed(extension["fields"], policy)]
        if chat or "prompt" in fields:
            raise Refusal(400, "apr.fields: in place of a prompt, of completions alone")
    elif chat:
        problems = [_conversation(fields.get("messages"), policy)]
    else:
        problems = [_problem(prompt, policy) for prompt in _prompts(fields.get("prompt"))]
    return Asked(
        tuple((problem, named if budget is None else budget) for problem, named in problems),
        join,
        _switch(extension, "events", "apr."),
        _switch(fields, "stream"),
        _includes_usage(fields.get("stream_options", {})),
        _params(fields),
        limits if most is None else replace(limits, total_tokens=min(most, limits.total_tokens or most)),
        _text(fields, "user"),
    )


def _is(*wanted: float) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, bool) and isinstance(value, int | float) and value in wanted


_Neutral = dict[str, tuple[Callable[[Any], bool], str]]

_BOTH_NEUTRAL: _Neutral = {
    "n": (_is(1), "1"),
    "top_p": (_is(1), "1"),
    "frequency_penalty": (_is(0), "0"),
    "presence_penalty": (_is(0), "0"),
    "stop": (lambda value: value == [], "an empty list"),
    "logit_bias": (lambda value: value == {}, "an empty object"),
}
_NEUTRAL: _Neutral = _BOTH_NEUTRAL | {
    "best_of": (_is(1), "1"),
    "echo": (lambda value: value is False, "false"),
    "suffix": (lambda value: value == "", "an empty text"),
    "logprobs": (lambda value: False, "null"),
}
"""Field -> whether a value of it asks for nothing, and which does."""
_CHAT_NEUTRAL: _Neutral = _BOTH_NEUTRAL | {
    "logprobs": (lambda value: value is False, "false"),
    "tools": (lambda value: value == [], "an empty list: threads are spawned by the server"),
    "tool_choice": (lambda value: value == "none", '"none"'),
    "response_format": (lambda value: value == {"type": "text"}, "text"),
    "parallel_tool_calls": (lambda value: isinstance(value, bool), "true or false"),
    "store": (lambda value: value is False, "false"),
    "metadata": (lambda value: value == {}, "an empty object"),
    "modalities": (lambda value: value == ["text"], "text"),
    "service_tier": (lambda value: value in ("auto", "default"), "auto"),
    "top_logprobs": (_is(0), "0"),
}
_FIELDS = frozenset(("model", "max_tokens", "temperature", "seed", "stream", "stream_options", "user", "apr"))
_CHAT_FIELDS = frozenset(("messages", "max_completion_tokens"))
_EXTENSION = frozenset(("budget", "join", "events", "fields"))


def _known(values: dict[str, Any], known: frozenset[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise Refusal(400, f"{where}{shortened(key)}: not supported")


def _model(asked: Any, model: str) -> None:
    if not isinstance(asked, str):
        raise Refusal(400, "model: not a text")
    if asked != model:
        raise Refusal(404, f"there is no model {shortened(asked)} here, but {model!r}", "not_found_error")


def _prompts(value: Any) -> list[str | list[int]]:
    """A text, token ids, or a list of either."""
    many = value if isinstance(value, list) and not all(map(_is_token, value)) else [value]
    for prompt in many:
        if not (isinstance(prompt, str) or (isinstance(prompt, list) and prompt and all(map(_is_token, prompt)))):
            raise Refusal(400, "prompt: a text, a list of token ids, or a list of these")
    return many


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _problem(prompt: str | list[int], policy: Policy) -> tuple[Any, int | None]:
    try:
        text = prompt if isinstance(prompt, str) else _spelled(prompt, policy)
        return policy.task.read_prompt(text)
    except (ValueError, OverflowError) as error:
        raise Refusal(400, f"prompt: {error}") from None


def _typed(texts: Any, policy: Policy) -> tuple[Any, int | None]:
    """The problem that a person typed into the fields of the task's form."""
    count = len(form_of(policy.task).fields)
    if not isinstance(texts, list) or len(texts) != count or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, f"apr.fields: a list of {count} text{'' if count == 1 else 's'}, as the task's form has")
    try:
        problem = read(policy.task, texts)
        if isinstance(policy.task, Converses):
            # Not every language holds conversations.
            policy.language.open(policy.task.prompt(problem, None))
        return problem, None
    except (ValueError, OverflowError) as error:
        raise Refusal(400, str(error)) from None


def _conversation(messages: Any, policy: Policy) -> tuple[Any, int | None]:
    """A conversation's problem; for a task that holds none, that of its only message."""
    if not isinstance(messages, list) or not messages or not all(isinstance(turn, dict) for turn in messages):
        raise Refusal(400, "messages: a list of objects")
    turns = [_message(turn) for turn in messages]
    try:
        if isinstance(policy.task, Converses):
            problem = policy.task.read_messages(turns)
            # Not every language holds conversations.
            policy.language.open(policy.task.prompt(problem, None))
            return problem, None
        if [turn.role for turn in turns] != ["user"]:
            raise ValueError(f"{policy.task.name} is asked by one message of the user's")
        return policy.task.read_prompt(turns[0].content)
    except (ValueError, OverflowError) as error:
        raise Refusal(400, f"messages: {error}") from None


def _message(turn: dict[str, Any]) -> Message:
    """A turn, whose content is a text or a list of parts that are texts."""
    role, content = turn.get("role"), turn.get("content")
    if isinstance(content, list) and all(map(_is_text, content)):
        content = "".join(part["text"] for part in content)
    if role not in ("system", "developer", "user", "assistant") or not isinstance(content, str):
        raise Refusal(400, "messages: a role of system, user or assistant, and a content that is text")
    return Message("system" if role == "developer" else role, content)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _spelled(ids: list[int], policy: Policy) -> str:
    if not all(0 <= token_id < 1 << 31 for token_id in ids):
        raise ValueError("a token id is out of range")
    text = policy.language.text(ids)
    # What decodes to nothing, or to something else than a prompt's own tokens, would be dropped in silence.
    if not set(ids) <= set(policy.language.open(text)):
        raise ValueError("token ids that no prompt is written with")
    return text


def _params(fields: dict[str, Any]) -> SamplingParams:
    temperature, seed = _number(fields, "temperature", float, 0), _number(fields, "seed", int, None)
    params = SamplingParams(
        # The API's own default.
        temperature=1.0 if temperature is None else temperature,
        seed=uuid4().int & _LARGEST - 1 if seed is None else seed,
    )
    if params.fault is not None:
        raise Refusal(400, params.fault)
    return params


def _includes_usage(options: Any) -> bool:
    if not isinstance(options, dict):
        raise Refusal(400, "stream_options: not an object")
    _known(options, frozenset(("include_usage", "include_obfuscation")), "stream_options.")
    if _switch(options, "include_obfuscation", "stream_options."):
        raise Refusal(400, "stream_options.include_obfuscation: not supported, but for false")
    return _switch(options, "include_usage", "stream_options.")


def _switch(values: dict[str, Any], key: str, where: str = "") -> bool:
    value = values.get(key)
    if value is not None and not isinstance(value, bool):
        raise Refusal(400, f"{where}{key}: true or false")
    return value is True


def _text(values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise Refusal(400, f"{key}: not a text")
    return value


def _number(values: dict[str, Any], key: str, kind: type, least: float | None, where: str = "") -> Any:
    """A number of a request, or None if it is not given."""
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise Refusal(400, f"{where}{key}: not a {'whole ' if kind is int else ''}number")
    if value != value or abs(value) > _LARGEST or (least is not None and value < least):
        raise Refusal(400, f"{where}{key}: out of range")
    return kind(value)


def shortened(text: str) -> str:
    """A client's word as a message may repeat it."""
    return ascii(text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "...")
