"""One request to an engine that may not keep its protocol: whatever goes wrong comes back as a `Completion`.

Nothing an engine says is believed unseen: ids are of the vocabulary, log-probabilities are logarithms of probabilities,
and a completion ends where it says it does. Of a broken completion only what was streamed counts, since listeners have
seen it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, isfinite
from typing import get_args

from apr.engine.base import Engine, OnTokens
from apr.types import Completion, FinishReason, SamplingParams, Timing

_ROUNDING = 1e-3
"""How far above 0 the logarithm of a probability may come out."""
_LEAST = -1e9
"""No softmax of logits that mean something comes so far down."""


def token_fault(token_ids: Sequence[object], vocab_size: int | None) -> str | None:
    """What of these is no id of the vocabulary; None if all are."""
    place = _first_strange(token_ids, vocab_size)
    if place is None:
        return None
    size = "" if vocab_size is None else f" of {vocab_size}"
    return f"{_shown(token_ids[place])} is no token id of the vocabulary{size}"


def logprob_fault(logprobs: Sequence[object], count: int) -> str | None:
    """Why these are not the log-probabilities of `count` tokens; None if they are."""
    if len(logprobs) != count:
        return f"{len(logprobs)} logprobs for {count} tokens"
    for value in logprobs:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and _LEAST < value <= _ROUNDING):  # type: ignore[operator]
            return f"{_shown(value)} is no log-probability"
    return None


async def guarded(
    engine: Engine,
    prompt: Sequence[int],
    params: SamplingParams,
    *,
    request_id: str,
    policy_version: int,
    vocab_size: int | None = None,
    on_tokens: OnTokens | None = None,
) -> Completion:
    """Like `engine.generate`, but an exception, tokens that differ from the streamed ones or are none of the
    vocabulary, log-probabilities that are none, a stop at no stop token, an end before the limit, more tokens than
    that, weights of another version or an answer of another shape are all a completion with `finish_reason` "error"."""
    room = max(0, engine.context_length - len(prompt))
    limit = room if params.max_tokens is None else min(room, params.max_tokens)
    seen: list[int] = []
    ours: list[Exception] = []
    faults: list[str] = []
    ended = False

    def listen(token_ids: Sequence[int]) -> None:
        if on_tokens is None or ours or faults or ended:
            return
        fault = token_fault(token_ids, vocab_size) or _excess(len(seen) + len(token_ids), limit)
        if fault is not None:
            faults.append(fault)
            engine.abort(request_id)
            return
        seen.extend(token_ids)
        try:
            on_tokens(token_ids)
        except Exception as error:
            # The listener's failure is not the engine's: it must not come back as one.
            ours.append(error)
            engine.abort(request_id)

    try:
        completion = await engine.generate(
            prompt, params, request_id=request_id, on_tokens=None if on_tokens is None else listen
        )
    except Exception as error:
        if ours:
            raise ours[0] from error
        words = faults[0] if faults else _text(f"{type(error).__name__}: {error}")
        return Completion(tuple(seen), (), "error", error=words)
    finally:
        # A cancelled request's last tokens may still be under way.
        ended = True
    if ours:
        raise ours[0]
    if (fault := _shape_fault(completion)) is not None:
        return Completion(tuple(seen), (), "error", error=fault)
    if completion.error is not None:
        completion = replace(completion, error=_text(completion.error))
    ids, reason = completion.token_ids, completion.finish_reason
    fault = faults[0] if faults else None
    if fault is not None:
        ids, reason = tuple(seen), "error"
    elif ids[: len(seen)] != tuple(seen):
        fault, ids = "the streamed tokens differ from the completion's", tuple(seen)
    elif fault := token_fault(ids, vocab_size):
        ids = ids[: _first_strange(ids, vocab_size)]
    elif fault := _excess(len(ids), limit):
        ids = ids[:limit]
    elif completion.logprobs and (fault := logprob_fault(completion.logprobs, len(ids))):
        pass
    elif not (type(completion.cached_tokens) is int and 0 <= completion.cached_tokens <= len(prompt)):
        fault = f"{_shown(completion.cached_tokens)} cached tokens of a prompt of {len(prompt)}"
        completion = replace(completion, cached_tokens=0)
    elif reason == "stop" and (not ids or ids[-1] not in params.stop_token_ids):
        fault = "stopped, but not at a stop token"
    elif reason == "length" and len(ids) < limit:
        fault = f"ended for its length after {len(ids)} tokens where {limit} were allowed"
    elif reason in ("stop", "length") and completion.policy_version != policy_version:
        fault = f"policy version changed from {policy_version} to {completion.policy_version}"
    if fault is None:
        return completion
    # What an engine says of its own failure or of an abort is worth more than how it says it.
    if reason in ("stop", "length"):
        reason = "error"
    elif not faults:
        fault = completion.error
    return replace(completion, token_ids=ids, logprobs=(), finish_reason=reason, error=fault)


def _shape_fault(answer: object) -> str | None:
    """Why this is no completion at all; None if it is one."""
    if not isinstance(answer, Completion):
        return f"{_shown(answer)} is no completion"
    for name, kinds in (("token_ids", tuple), ("logprobs", tuple | list), ("error", str | None)):
        if not isinstance(value := getattr(answer, name), kinds):
            return f"{name} of a completion cannot be {_shown(value)}"
    if answer.finish_reason not in get_args(FinishReason):
        return f"{_shown(answer.finish_reason)} is no reason to finish"
    if answer.timing is not None and not (isinstance(answer.timing, Timing) and all(map(_seconds, answer.timing))):
        return f"{_shown(answer.timing)} is no timing"
    return None


def _seconds(value: object) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _text(words: str) -> str:
    """What an engine says, as files take it: half of a surrogate pair is no character."""
    return words.encode("utf-8", "replace").decode()


def _first_strange(token_ids: Sequence[object], vocab_size: int | None) -> int | None:
    most = inf if vocab_size is None else vocab_size
    # A bool is an int, but no id.
    fine = (type(token) is int and 0 <= token < most for token in token_ids)
    return next((place for place, known in enumerate(fine) if not known), None)


def _excess(count: int, limit: int) -> str | None:
    return f"{count} tokens where {limit} were allowed" if count > limit else None


def _shown(value: object) -> str:
    # Python writes no number of more than some thousand digits.
    huge = isinstance(value, int) and value.bit_length() > 128
    return "a huge number" if huge else f"{value!r:.40}"
