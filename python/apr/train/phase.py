"""What a trainer does at the moment, for whoever watches: a step of minutes is not silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Name = Literal["compiling", "sampling", "making lessons", "training", "publishing weights", "validating", "saving"]
Phase = Callable[[Name], None]
"""Called when one begins; it ends with the next."""


def nobody(_: Name) -> None:
    """Nobody watches."""
