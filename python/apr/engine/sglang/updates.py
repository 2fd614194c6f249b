"""New weights into servers that run: all are paused, given them and asked to go on, then each is asked a probe.

Whatever goes wrong, the servers are left paused: none samples with weights that are not whole, or not the others'. One
that cannot be reached is passed over as long as another can: what it may sample later with older weights is told by
their name, and believed by nobody.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from apr.engine.sglang.http import Ask, ServerError, Unreachable
from apr.engine.sglang.weights import Probe


class Request(NamedTuple):
    """What a server is asked."""

    path: str
    body: dict[str, Any]
    meanwhile: Callable[[], None] | None = None
    """What is done here while the server is at it, for as long as it waits for that."""


class Weights(Protocol):
    """Weights on their way."""

    @property
    def name(self) -> str:
        """What servers call them: equal weights have equal names, other weights have others."""
        ...

    def requests(self, server: str, parts: int) -> Generator[Request, None, None]:
        """What a server that splits its model in `parts` is asked, one after the other."""
        ...

    @property
    def undone(self) -> Sequence[str]:
        """Paths that a server is asked where that was broken off, so that it can be asked again."""
        ...


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A checkpoint's directory, which every server can read."""

    directory: Path
    name: str
    undone: Sequence[str] = ()

    def requests(self, server: str, parts: int) -> Generator[Request, None, None]:
        body = {"model_path": str(self.directory), "weight_version": self.name, "flush_cache": True}
        yield Request("/update_weights_from_disk", body)


@dataclass(frozen=True, slots=True)
class InMemory:
    """Tensors that go along with the request, so that servers need no file system of the trainer's."""

    buckets: Sequence[bytes]
    """Each a pickle of a list of names and tensors on the CPU, whose storages are in it; every parameter is in one."""
    name: str
    undone: Sequence[str] = ("/end_weight_update",)

    def requests(self, server: str, parts: int) -> Generator[Request, None, None]:
        yield Request("/begin_weight_update", {})
        for number, bucket in enumerate(self.buckets, 1):
            last = number == len(self.buckets)
            body = {
                # Each part of the model takes what is its own out of all of it.
                "serialized_named_tensors": [base64.b64encode(bucket).decode()] * parts,
                "flush_cache": last,
                **({"weight_version": self.name} if last else {}),
            }
            yield Request("/update_weights_from_tensor", body)
        yield Request("/end_weight_update", {})


async def update(ask: Ask, servers: Sequence[str], weights: Weights, probe: Probe | None) -> None:
    """Have the servers serve these weights; one that has them already is only asked the probe. ServerError if one
    refuses, or none can be reached; WeightMismatch for a server that then computes other log-probabilities."""
    lost: list[Unreachable] = []
    reached: list[str] = []
    try:
        for server in servers:
            try:
                if (await ask("GET", server, "/model_info", None)).get("weight_version") != weights.name:
                    await _hand_over(ask, server, weights)
            except Unreachable as error:
                lost.append(error)
            else:
                reached.append(server)
        if servers and not reached:
            raise lost[0]
        for server in reached:
            await ask("POST", server, "/continue_generation", {})
            if probe is not None:
                probe.check(server, await ask("POST", server, "/generate", probe.request()))
    except BaseException:
        for server in servers:
            with suppress(ServerError):
                await ask("POST", server, "/pause_generation", _PAUSE)
            for path in weights.undone:
                with suppress(ServerError):
                    await ask("POST", server, path, {})
        raise


_PAUSE = {"mode": "abort"}
"""Nothing of ours is open; what others ask would be answered half by these weights and half by those."""


async def _hand_over(ask: Ask, server: str, weights: Weights) -> None:
    parts = (await ask("GET", server, "/server_info", None)).get("tp_size")
    await ask("POST", server, "/pause_generation", _PAUSE)
    requests = weights.requests(server, parts if type(parts) is int and parts > 0 else 1)
    with closing(requests):
        for path, body, meanwhile in requests:
            asking = ask("POST", server, path, body)
            answer = await (asking if meanwhile is None else _beside(asking, meanwhile))
            if answer.get("success") is False:
                raise ServerError(f"{server}: {answer.get('message') or 'it refused the weights'}")


async def _beside(asking: Awaitable[dict[str, Any]], work: Callable[[], None]) -> dict[str, Any]:
    """The server's answer, when the work is done too; what the server says is wrong comes first."""
    answer, done = await asyncio.gather(asking, asyncio.to_thread(work), return_exceptions=True)
    for found in (answer, done):
        if isinstance(found, BaseException):
            raise found
    assert isinstance(answer, dict)
    return answer
