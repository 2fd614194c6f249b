"""Weights on their way to a server: what they are called, and whether the server computes with them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr.engine.guard import logprob_fault
from apr.engine.sglang.http import ServerError
from apr.engine.sglang.request import logprobs_of


class WeightMismatch(ServerError):
    """A server that does not compute what the weights it was given should."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A sequence and what the trainer's own model makes of it."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of every token but the first, given those before it, at temperature 1."""
    tolerance: float = 0.05
    """Largest difference of one log-probability; bfloat16 on a GPU needs about this much."""

    def request(self) -> dict[str, Any]:
        """What a server is asked."""
        return {
            "input_ids": list(self.token_ids),
            "sampling_params": {"temperature": 0, "max_new_tokens": 1},
            "return_logprob": True,
            "logprob_start_len": 0,
        }

    def check(self, server: str, answer: dict[str, Any]) -> None:
        """WeightMismatch if one log-probability in the server's answer is too far off."""
        meta = answer.get("meta_info")
        scored = logprobs_of(meta.get("input_token_logprobs") if isinstance(meta, dict) else None)[1:]
        if fault := logprob_fault(scored, len(self.logprobs)):
            raise WeightMismatch(f"{server} computes no log-probabilities of the probe: {fault}")
        differences = [abs(a - b) for a, b in zip(scored, self.logprobs, strict=True)]
        # The trainer's may be NaN, of which no maximum takes note.
        apart = math.nan if any(map(math.isnan, differences)) else max(differences, default=0.0)
        if not apart <= self.tolerance:
            raise WeightMismatch(
                f"{server} computes other log-probabilities than the trainer: {apart:.3g} apart where "
                f"{self.tolerance:g} is allowed"
            )


def weights_name(directory: Path) -> str:
    """A digest of all files in a directory: equal weights have equal names, whoever writes them."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in directory.glob("*") if path.is_file()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
