"""The server around the application: who may connect, for how long, and how it ends.

uvicorn by itself waits without end for a request's head, and at a signal for the last answer. Here each connection has
deadlines, and a signal interrupts what runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from apr.serving.limits import ServingLimits

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE_S = 2
"""How long connections may take to end after all rollouts have."""
_LATEST_S = 4.5
"""How long after a signal the process ends at the latest."""
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def listen(host: str, port: int) -> socket.socket:
    """The address, taken but not yet answering. OSError if it cannot be had."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    taken = socket.socket(family, kind)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except BaseException:
        taken.close()
        raise
    return taken


async def serve(app: Starlette, taken: socket.socket, limits: ServingLimits) -> int:
    """Answer until a signal comes, and return it."""
    config = uvicorn.Config(
        app,
        http=partial(Connection, limits),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config, app.state.interrupt)
    await server.serve([taken])
    return server.signal


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, interrupt: Callable[[], None]) -> None:
        super().__init__(config)
        self.signal = 0
        """What ended it."""
        self._interrupt = interrupt

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._leave, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _leave(self, number: int) -> None:
        if self.should_exit:
            self.force_exit = True
            return
        self.signal, self.should_exit = number, True
        # An engine that hangs must not keep the process.
        last = threading.Timer(_LATEST_S, os._exit, (128 + number,))
        last.daemon = True
        last.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._interrupt()
        await super().shutdown(sockets)


class Connection(H11Protocol):
    """A connection with deadlines: for a request's head, and for a client to read."""

    def __init__(self, limits: ServingLimits, **made: Any) -> None:
        super().__init__(**made)
        self._limits = limits
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        full = len(self.connections) >= self._limits.connections
        super().connection_made(transport)
        if full:
            transport.write(_BUSY)
            transport.close()
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self._limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
        super().resume_writing()

    def _await_head(self) -> None:
        """Start or stop the clock. Bytes that trickle in do not set it back."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self._head is not None:
                self._head.cancel()
                self._head = None
        elif self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self._limits.head_seconds, self.transport.abort)
