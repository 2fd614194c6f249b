"""Weights for servers: directories that they read, in memory where a system has such a place and gone after a kill too;
or tensors in pieces."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from torch import Tensor

HandOver = Literal["directory", "tensors", "distributed"]
"""How servers get weights: from a directory that they can read, in requests, or from device to device."""
BUCKET_BYTES = 256 << 20
"""Of tensors in one piece, but for a larger one by itself."""

MEMORY = Path("/dev/shm")
"""Where a directory costs no disk, on systems that have it."""
_SPARE = 16 << 20
"""Bytes beside the weights: the tokenizer, and what others write meanwhile."""
_PREFIX = "apr-weights-"


@contextmanager
def directory_of_weights(size: int) -> Iterator[Path]:
    """A fresh directory for so many bytes of weights, for as long as it is needed: in memory if there is room. Those
    that killed processes left behind are removed."""
    _sweep(MEMORY)
    # Containers often have no more than 64 MB there.
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > size + _SPARE:
        place = MEMORY
    else:
        place = Path(tempfile.gettempdir())
        _sweep(place)
    # The lock is there before the directory: one without it has no owner any more.
    handle, name = tempfile.mkstemp(prefix=_PREFIX, suffix=".lock", dir=place)
    os.close(handle)
    lock = Path(name)
    directory = lock.with_suffix("")
    with FileLock(lock):
        try:
            directory.mkdir(mode=0o700)
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _sweep(place: Path) -> None:
    for directory in place.glob(f"{_PREFIX}*"):
        if not directory.is_dir():
            continue
        lock = directory.with_name(f"{directory.name}.lock")
        # Another user's, or one that another process removes.
        with suppress(OSError, Timeout), FileLock(lock, timeout=0):
            shutil.rmtree(directory, ignore_errors=True)
            lock.unlink(missing_ok=True)


Buckets = list[list[tuple[str, Tensor]]]
"""Names and tensors on the CPU, each parameter in one bucket."""


def buckets_of(weights: Mapping[str, Tensor]) -> tuple[Buckets, str]:
    """The tensors in buckets, one that is used twice once, and a digest of all."""
    digest = hashlib.blake2b(digest_size=16)
    buckets: Buckets = []
    size = 0
    seen: set[int] = set()
    for name, value in weights.items():
        if value.data_ptr() in seen:
            continue
        seen.add(value.data_ptr())
        # A view would take its whole storage along.
        tensor = value.detach().cpu().contiguous().clone()
        digest.update(name.encode() + tensor.numpy().tobytes())
        if not buckets or size + tensor.nbytes > BUCKET_BYTES:
            buckets.append([])
            size = 0
        buckets[-1].append((name, tensor))
        size += tensor.nbytes
    return buckets, digest.hexdigest()


def pickled(buckets: Buckets) -> list[bytes]:
    """Buckets as requests hold them."""
    return [pickle.dumps(bucket) for bucket in buckets]
