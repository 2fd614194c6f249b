"""A server that answers as SGLang does, or as none should: what it says to a request is a script of the test's."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any

from aiohttp import web

Script = Callable[[dict[str, Any]], AsyncIterator[bytes]]
"""What is sent in answer to a request's body, piece by piece."""
UPDATES = (
    *("/pause_generation", "/begin_weight_update", "/update_weights_from_tensor", "/update_weights_from_disk"),
    *("/end_weight_update", "/continue_generation", "/init_weights_update_group", "/destroy_weights_update_group"),
    "/update_weights_from_distributed",
)
VOCABULARY = 150
CONTEXT = 512


class Gone(Exception):
    """Raised by a script: the connection breaks off."""


class Refused(Exception):
    """Raised by a script before its first piece: an answer with a status and a text."""


def event(value: Any) -> bytes:
    """One server-sent event; Python writes NaN and infinity as SGLang's JSON does."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(
    token_ids: Sequence[Any],
    counted: Any = None,
    logprobs: Sequence[Any] | None = None,
    finish: Any = None,
    **meta: Any,
) -> bytes:
    """New tokens, as a server with incremental output sends them."""
    scored = [-0.5] * len(token_ids) if logprobs is None else logprobs
    told = {
        "completion_tokens": len(token_ids) if counted is None else counted,
        "output_token_logprobs": [[value, token, None] for value, token in zip(scored, token_ids, strict=False)],
        "cached_tokens": 0,
        "finish_reason": None if finish is None else {"type": finish} if isinstance(finish, str) else finish,
    }
    return event({"output_ids": list(token_ids), "meta_info": {**told, **meta}})


def says(*pieces: bytes) -> Script:
    """Always the same, then the end of the stream."""

    async def script(body: dict[str, Any]) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return script


async def sound(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """As many tokens as may be sampled, one a chunk."""
    limit = body["sampling_params"]["max_new_tokens"]
    for index in range(limit):
        yield chunk([10 + index % 100], index + 1, finish="length" if index + 1 == limit else None)


async def silent(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Nothing, ever."""
    await asyncio.Event().wait()
    yield b""


async def pings(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Signs of life without a token."""
    while True:
        yield b": ping\n\n"
        await asyncio.sleep(0.02)


class FakeSglang:
    """Listens on a port of its own, on a loop in a thread, as long as the context lasts."""

    def __init__(self, script: Script = sound, *, weights: str | None = "default") -> None:
        self.script = script
        self.weights = weights
        self.info: Any = {"max_req_input_len": CONTEXT + 1}
        """The answer to `/server_info`; None: there is none."""
        self.probed: Any = {}
        """The `meta_info` of what is asked without a stream."""
        self.workers: list[str] | None = None
        """The servers behind it, as a router tells them when it is asked again; None: it is none."""
        self._asked = False
        self.refuses: str | None = None
        """The path whose requests it refuses."""
        self.calls: list[str] = []
        """Paths of what changes weights, in order."""
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        """What it was shown by those who asked what it is."""
        self.aborted: list[str] = []
        self.updates: list[str] = []
        self.payloads: list[str] = []
        """Tensors that came in requests, as they came."""
        self.paused = False
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FakeSglang:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/server_info", self._server_info)
        app.router.add_get("/model_info", self._model_info)
        app.router.add_post("/generate", self._generate)
        app.router.add_post("/abort_request", self._abort_request)
        app.router.add_get("/workers", self._workers)
        for path in UPDATES:
            app.router.add_post(path, self._update)
        # A script that waits for ever ends with its connection.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def _server_info(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers.get("Authorization"))
        if self.info is None:
            await asyncio.Event().wait()
        return web.json_response(self.info)

    async def _model_info(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({} if self.weights is None else {"weight_version": self.weights})

    async def _abort_request(self, request: web.Request) -> web.StreamResponse:
        self.aborted.append((await request.json())["rid"])
        return web.json_response({})

    async def _workers(self, request: web.Request) -> web.StreamResponse:
        if self.workers is None:
            return web.Response(status=404)
        known, self._asked = self.workers if self._asked else [], True
        return web.json_response({"workers": [{"url": url} for url in known]})

    async def _update(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls.append(request.path)
        if request.path == self.refuses:
            return web.json_response({"success": False, "message": "no such tensor"}, status=400)
        self.paused = {"/pause_generation": True, "/continue_generation": False}.get(request.path, self.paused)
        if "model_path" in body:
            self.updates.append(body["model_path"])
        self.payloads += body.get("serialized_named_tensors", [])
        self.weights = body.get("weight_version", self.weights)
        return web.json_response({"success": True})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        if not body.get("stream"):
            return web.json_response({"meta_info": {} if self.paused else self.probed})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        script = self.script(body)
        try:
            async for piece in script:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(piece)
        except Refused as refusal:
            status, text = refusal.args
            return web.Response(status=status, text=text)
        except Gone:
            assert request.transport is not None
            request.transport.abort()
        if not response.prepared:
            await response.prepare(request)
        return response
