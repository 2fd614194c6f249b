"""Work in several processes that exchange over gloo, as `torchrun` would start them, without loading torch in each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from apr.engine.sglang.server import free_port

LOADED = ["torch", "transformers", "apr.cli.train", "apr.train.sft", "apr.train.rl.trainer", "apr.engine.native"]
SECONDS = 300.0


def together(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work`, a function of a module, comes to in each of `count` processes, by rank. None: it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    port = free_port()
    channels = [context.Pipe(duplex=False) for _ in range(count)]
    started = []
    for rank, (_, answer) in enumerate(channels):
        process = context.Process(target=_run, args=(rank, count, port, answer, work, arguments), daemon=True)
        process.start()
        answer.close()
        started.append(process)
    found = [_heard(channel) for channel, _ in channels]
    for process in started:
        process.join(SECONDS)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def _heard(channel: Any) -> Any:
    try:
        assert channel.poll(SECONDS), "a process came to no end"
        return channel.recv()
    except EOFError:
        return None


def _run(rank: int, count: int, port: int, answer: Any, work: Callable[..., Any], arguments: Any) -> None:
    import faulthandler

    import torch

    # A process that waits for ever says where.
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    torch.set_num_threads(1)
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    try:
        answer.send(work(*arguments))
    except BaseException as error:
        answer.send(RuntimeError(f"rank {rank}: {type(error).__name__}: {error}"))
        raise
