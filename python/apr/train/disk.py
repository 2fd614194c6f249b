"""A full disk, as the libraries that write weights tell of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException


@contextmanager
def told_as_oserror(directory: Path) -> Iterator[None]:
    """OSError, in one line, for whatever keeps them from writing into a directory."""
    try:
        yield
    except (RuntimeError, SafetensorError, CheckpointException) as error:
        cause = next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error.__context__
        reason = cause if isinstance(cause, OSError) else error
        raise OSError(f"cannot write {directory}: {str(reason).splitlines()[0]}") from None
