"""Weights to a server over a process group of their own: the trainer is rank 0, the parts of the server's model follow.

The group is made for one update and ends with it, as the servers of a run may change. Tensors go in buckets, each one
broadcast of bytes; what they are is said in the request beside it.
"""

from __future__ import annotations

import socket
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from apr.engine.sglang.http import ServerError, Unreachable
from apr.engine.sglang.server import free_port
from apr.engine.sglang.updates import Request

_c10d: Any = distributed_c10d
"""Making a group beside the default one is not public."""
_GROUP = "weight_update_group"
"""What servers call it where nothing else is said."""
_PATIENCE = timedelta(seconds=120)
"""For a server that does not come to meet or to receive."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Weights, see `apr.engine.sglang.updates.Weights`, from a device to servers that compute on such devices."""

    buckets: Sequence[Sequence[tuple[str, Tensor]]]
    name: str
    device: torch.device
    undone: Sequence[str] = ("/end_weight_update", "/destroy_weights_update_group")

    def requests(self, server: str, parts: int) -> Generator[Request, None, None]:
        group = _Group(server, 1 + parts, "nccl" if self.device.type == "cuda" else "gloo")
        try:
            yield Request("/init_weights_update_group", group.invitation(), group.meet)
            yield Request("/begin_weight_update", {})
            for number, bucket in enumerate(self.buckets, 1):
                last = number == len(self.buckets)
                body = {
                    "names": [name for name, _ in bucket],
                    "dtypes": [str(tensor.dtype).removeprefix("torch.") for _, tensor in bucket],
                    "shapes": [list(tensor.shape) for _, tensor in bucket],
                    "group_name": _GROUP,
                    "flush_cache": last,
                    "abort_all_requests": False,
                    "load_format": "flattened_bucket",
                    **({"weight_version": self.name} if last else {}),
                }
                flat = torch.cat([tensor.flatten().view(torch.uint8) for _, tensor in bucket]).to(self.device)
                yield Request("/update_weights_from_distributed", body, partial(group.send, flat))
            yield Request("/end_weight_update", {})
            yield Request("/destroy_weights_update_group", {"group_name": _GROUP})
        finally:
            group.leave()


class _Group:
    """The trainer's side."""

    def __init__(self, server: str, size: int, backend: str) -> None:
        self._size = size
        self._backend = backend
        self._host, self._port = _address_before(server), free_port()
        self._group: dist.ProcessGroup | None = None

    def invitation(self) -> dict[str, Any]:
        """What the server is told of it."""
        return {
            "master_address": self._host,
            "master_port": self._port,
            "rank_offset": 1,
            "world_size": self._size,
            "group_name": _GROUP,
            "backend": self._backend,
        }

    def meet(self) -> None:
        """Wait for the server. ServerError if it does not come."""
        try:
            address = f"tcp://{self._host}:{self._port}"
            store, rank, size = next(_c10d.rendezvous(address, 0, self._size, timeout=_PATIENCE))
            store.set_timeout(_PATIENCE)
            # As the server makes it: beside the default group, of which the trainer may have none.
            named = _c10d.PrefixStore(_GROUP, store)
            group, _ = _c10d._new_process_group_helper(
                size, rank, [], dist.Backend(self._backend), named, group_name=_GROUP, timeout=_PATIENCE
            )
            _c10d._world.pg_group_ranks[group] = {one: one for one in range(size)}
            self._group = group
        except (RuntimeError, ValueError) as error:
            raise ServerError(f"no process group with the server: {str(error).splitlines()[0]}") from None

    def send(self, tensor: Tensor) -> None:
        """Broadcast, to the end. ServerError if the server does not receive."""
        assert self._group is not None
        try:
            options = dist.BroadcastOptions()
            options.rootRank, options.rootTensor = 0, 0
            self._group.broadcast([tensor], options).wait()
            if tensor.is_cuda:
                torch.cuda.synchronize(tensor.device)
        except RuntimeError as error:
            raise ServerError(f"a bucket of weights was not received: {str(error).splitlines()[0]}") from None

    def leave(self) -> None:
        if self._group is not None:
            with suppress(RuntimeError):
                dist.destroy_process_group(self._group)


def _address_before(server: str) -> str:
    """This machine's address as the server sees it. Unreachable if it does not answer."""
    parts = urlsplit(server)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10) as connection:
            return str(connection.getsockname()[0])
    except OSError as error:
        raise Unreachable(f"no server at {server}: {error}") from None
