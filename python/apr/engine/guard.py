"""One request to an engine that may not keep its protocol: whatever goes wrong comes back as a `Completion`.

Of a broken completion only what was streamed counts, since listeners have seen it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from apr.engine.base import Engine, OnTokens
from apr.types import Completion, SamplingParams


async def guarded(
    engine: Engine,
    prompt: Sequence[int],
    params: SamplingParams,
    *,
    request_id: str,
    policy_version: int,
    on_tokens: OnTokens | None = None,
) -> Completion:
    """Like `engine.generate`, but an exception, tokens that differ from the streamed ones, a stop at no stop
    token or weights of another version are all a completion with `finish_reason` "error"."""
    seen: list[int] = []
    ours: list[Exception] = []
    ended = False

    def listen(token_ids: Sequence[int]) -> None:
        if on_tokens is None or ours or ended:
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
        return Completion(tuple(seen), (), "error", error=f"{type(error).__name__}: {error}")
    finally:
        # A cancelled request's last tokens may still be under way.
        ended = True
    if ours:
        raise ours[0]
    ids, reason = completion.token_ids, completion.finish_reason
    fault = None
    if ids[: len(seen)] != tuple(seen):
        fault, ids = "the streamed tokens differ from the completion's", tuple(seen)
    elif completion.logprobs and len(completion.logprobs) != len(ids):
        fault = f"{len(completion.logprobs)} logprobs for {len(ids)} tokens"
    elif params.max_tokens is not None and len(ids) > params.max_tokens:
        fault = f"{len(ids)} tokens where {params.max_tokens} were allowed"
    elif reason == "stop" and (not ids or ids[-1] not in params.stop_token_ids):
        fault = "stopped, but not at a stop token"
    elif reason in ("stop", "length") and completion.policy_version != policy_version:
        fault = f"policy version changed from {policy_version} to {completion.policy_version}"
    if fault is None:
        return completion
    # What an engine says of its own failure or of an abort is worth more than how it says it.
    fault = fault if reason in ("stop", "length") else completion.error
    reason = "error" if reason in ("stop", "length") else reason
    return replace(completion, token_ids=ids, logprobs=(), finish_reason=reason, error=fault)
