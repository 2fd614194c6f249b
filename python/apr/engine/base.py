"""The protocol between whoever needs tokens and whatever samples them.

An engine takes token ids and returns token ids. Requests run concurrently on one asyncio loop; an engine batches
them as it likes, but a request's tokens depend only on the prompt, the parameters and the policy version.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from apr.types import Completion, SamplingParams

OnTokens = Callable[[Sequence[int]], None]
"""Called on the loop with freshly sampled token ids, in order, each id once."""


NOT_FINITE = "the model computed logits that are not finite: its weights are damaged"
"""What a request ends with whose next token has no distribution."""


def forked(process: int) -> str | None:
    """Why an engine that this process made cannot be used here; None if it can. A fork copies neither threads nor
    who holds a lock."""
    return None if os.getpid() == process else "the engine belongs to the process that was forked: open another"


class EngineError(RuntimeError):
    """An engine that cannot be started, reached or updated: words for people, the first line by itself."""


class Engine(Protocol):
    """What samples."""

    @property
    def context_length(self) -> int:
        """The longest sequence, prompt and completion together, in tokens."""
        ...

    @property
    def vocab_size(self) -> int | None:
        """Token ids that the model knows, from 0 on; None where that is not told."""
        ...

    @property
    def policy_version(self) -> int:
        """Version of the weights now served; counts up with each weight update."""
        ...

    async def generate(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        request_id: str,
        on_tokens: OnTokens | None = None,
    ) -> Completion:
        """Sample one completion. An engine failure is a `Completion` with `finish_reason` "error", never an
        exception; cancelling the awaiting task aborts the request."""
        ...

    def abort(self, request_id: str) -> None:
        """End one request soon with `finish_reason` "abort"; what was sampled so far is kept. Unknown ids are
        ignored."""
        ...

    async def close(self) -> None:
        """Release what the engine holds; open requests end with "abort"."""
        ...
