"""SGLang as an engine: token ids over HTTP to a server, or to a router before several.

All requests run on one loop in a thread of this engine's, which owns the connections; so callers may come from any
loop, as `run_threads` does with a new one each time. Tokens are handed to the caller's loop as they stream in. A
request is tried again only if it failed to connect before its first token; any other failure is an error completion.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from apr.engine import API_KEY
from apr.engine.base import OnTokens
from apr.engine.http import ServerError, events, json_or_text, message, reason
from apr.engine.server import (
    START_SECONDS,
    Progress,
    ServerProcess,
    context_length,
    start_servers,
    vocab_size,
)
from apr.engine.stream import Request
from apr.types import Completion, SamplingParams

T = TypeVar("T")

RETRIES = 3
"""Times a request that could not connect is tried again, a router's other server being one reason to."""
_PAUSE_S = 0.2
"""Before the first retry; each later one waits twice as long."""
_CONNECT_S = 10.0
_GRACE_S = 5.0
"""How long aborted requests may take to return what they have when the engine closes."""


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


class SglangEngine:
    """A client of a running server, or of a router and the servers behind it."""

    def __init__(
        self,
        url: str,
        *,
        servers: Sequence[str] = (),
        processes: Sequence[ServerProcess] = (),
        api_key: str | None = None,
        context_length: int | None = None,
        vocab_size: int | None = None,
        timeout: float = 300.0,
        connections: int = 1024,
    ) -> None:
        """`servers` are those behind a router at `url`: aborts and weight updates go to each. `processes` are ended
        by `close`. `context_length` is asked of a server unless given; ids from `vocab_size` on, which would bring a
        server down, are refused where it is known; `timeout` is the longest silence of a stream in
        seconds, `connections` the most at once. ServerError if nothing usable is there."""
        self.url = url.rstrip("/")
        self._servers = [server.rstrip("/") for server in servers] or [self.url]
        self._processes = list(processes)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=timeout)
        self._connections = connections
        self._vocab_size = vocab_size
        self._names = (f"{uuid.uuid4().hex[:12]}-{n}" for n in itertools.count())
        self._open: dict[str, Request] = {}
        self._closed = False
        self._version = 0
        self._fault: str | None = None
        """Why nothing may be sampled."""
        self._session: aiohttp.ClientSession | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="apr-sglang-client", daemon=True)
        self._thread.start()
        try:
            found = self._wait(self._ask_length_and_version())
            self.context_length = context_length or found[0]
            self._version = found[1]
        except BaseException:
            self._stop()
            raise

    @property
    def policy_version(self) -> int:
        return self._version

    async def generate(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        request_id: str,
        on_tokens: OnTokens | None = None,
    ) -> Completion:
        """See `Engine.generate`. An exception of `on_tokens` ends the request and comes out here."""
        version = self._version
        fault = "the engine is closed" if self._closed else self._fault if prompt else "empty prompt"
        if self._vocab_size is not None and not all(0 <= token < self._vocab_size for token in prompt):
            fault = f"the prompt holds a token id outside the model's {self._vocab_size}"
        if request_id in self._open:
            fault = f"a request {request_id!r} is still open"
        if fault is not None:
            return Completion((), (), "error", policy_version=version, error=fault)
        # What may be sampled is known here, so the server's own limit is never met.
        room = self.context_length - len(prompt)
        limit = room if params.max_tokens is None else min(room, params.max_tokens)
        if limit <= 0:
            return Completion((), (), "length", policy_version=version)
        loop = asyncio.get_running_loop()
        request = Request(next(self._names), list(prompt), params, limit, loop, on_tokens)
        self._open[request_id] = request
        try:
            running = asyncio.run_coroutine_threadsafe(self._run(request, version), self._loop)
            completion = await asyncio.wrap_future(running)
        finally:
            del self._open[request_id]
        if request.failure is not None:
            raise request.failure
        return completion

    def abort(self, request_id: str) -> None:
        """See `Engine.abort`."""
        request = self._open.get(request_id)
        if request is not None and not request.aborted:
            request.aborted = True
            asyncio.run_coroutine_threadsafe(self._abort(request.rid), self._loop)

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._closed:
            return
        self._closed = True
        for request_id in list(self._open):
            self.abort(request_id)
        deadline = time.monotonic() + _GRACE_S
        while self._open and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        # What a server holds on to all the same ends with its connection.
        await asyncio.to_thread(self._stop)

    async def update_weights(self, directory: str | Path, probe: Probe | None = None) -> int:
        """Serve the checkpoint in a directory that every server can read; returns the new policy version.

        The prefix caches are emptied. RuntimeError while requests are open. ServerError if a server refuses,
        WeightMismatch if one then computes other log-probabilities than `probe` has: the servers may then differ, and
        every later request is an error until an update succeeds.
        """
        if self._open:
            raise RuntimeError("weights may not change while requests are open")
        self._fault = "the last weight update failed"
        version = self._version + 1
        work = self._update(str(Path(directory).resolve()), version, probe)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        self._version, self._fault = version, None
        return version

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        async def end() -> None:
            if self._session is not None:
                await self._session.close()

        self._wait(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for process in self._processes:
            process.stop()

    # What follows runs on the engine's own loop.

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._connections)
            self._session = aiohttp.ClientSession(
                connector=connector, headers=self._headers, timeout=self._timeout, read_bufsize=1 << 20
            )
        return self._session

    async def _ask_length_and_version(self) -> tuple[int, int]:
        info = await self._ask("GET", self._servers[0], "/server_info")
        most = info.get("max_req_input_len")
        if not isinstance(most, int):
            raise ServerError(f"{self._servers[0]} is no SGLang server: it does not tell how long a prompt may be")
        # A prompt must be shorter than that, and prompt and completion together fit as well.
        served = await self._ask("GET", self._servers[0], "/model_info")
        return most - 1, _number(served.get("weight_version"))

    async def _ask(self, method: str, server: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            async with self._http().request(method, server + path, json=body) as response:
                answer = await json_or_text(response)
                if response.status != 200:
                    raise ServerError(f"{server}: {message(answer, response.status)}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServerError(f"no server at {server}: {reason(error)}") from None
        if not isinstance(answer, dict):
            raise ServerError(f"{server} is no SGLang server")
        return answer

    async def _update(self, directory: str, version: int, probe: Probe | None) -> None:
        body = {"model_path": directory, "weight_version": str(version), "flush_cache": True}
        for server in self._servers:
            await self._ask("POST", server, "/update_weights_from_disk", body)
        if probe is not None:
            for server in self._servers:
                await self._check(server, probe)

    async def _check(self, server: str, probe: Probe) -> None:
        """Compare the log-probabilities of a prompt. WeightMismatch if one is too far off."""
        body = {
            "input_ids": list(probe.token_ids),
            "sampling_params": {"temperature": 0, "max_new_tokens": 1},
            "return_logprob": True,
            "logprob_start_len": 0,
        }
        answer = await self._ask("POST", server, "/generate", body)
        scored = [entry[0] for entry in answer["meta_info"]["input_token_logprobs"][1:]]
        apart = max((abs(a - b) for a, b in zip(scored, probe.logprobs, strict=True)), default=0.0)
        if not apart <= probe.tolerance:
            raise WeightMismatch(
                f"{server} computes other log-probabilities than the trainer: {apart:.3g} apart where "
                f"{probe.tolerance:g} is allowed"
            )

    async def _run(self, request: Request, version: int) -> Completion:
        try:
            for attempt in itertools.count():
                try:
                    return await self._stream(request, version)
                except (aiohttp.ClientError, TimeoutError, ServerError) as error:
                    unheard = isinstance(error, aiohttp.ClientConnectionError) and not request.token_ids
                    if request.aborted:
                        return request.finish("abort", version)
                    if not unheard or attempt == RETRIES:
                        return request.finish("error", version, reason(error))
                await asyncio.sleep(_PAUSE_S * 2**attempt)
                # The server may know the old name from the try that failed.
                request.rid = next(self._names)
        except asyncio.CancelledError:
            # Whoever asked has gone; the server must not go on.
            self._loop.create_task(self._abort(request.rid))
            raise
        raise AssertionError("unreachable")

    async def _stream(self, request: Request, version: int) -> Completion:
        async with self._http().post(f"{self.url}/generate", json=request.body()) as response:
            if response.status != 200:
                raise ServerError(message(await json_or_text(response), response.status))
            async for out in events(response.content):
                if "error" in out:
                    raise ServerError(message(out, 400))
                request.take(out)
                if request.failure is not None:
                    self._loop.create_task(self._abort(request.rid))
                    return request.finish("abort", version)
                finish = out["meta_info"].get("finish_reason")
                if finish is None:
                    continue
                served = out["meta_info"].get("weight_version")
                return self._end(request, finish, version if served is None else _number(served))
        raise ServerError("the server ended the stream before the completion")

    def _end(self, request: Request, finish: dict[str, Any], version: int) -> Completion:
        kind = finish.get("type")
        if kind == "stop":
            return request.finish("stop", version)
        if kind == "length":
            return request.finish("length", version)
        if request.aborted:
            return request.finish("abort", version)
        return request.finish("error", version, str(finish.get("message") or "the server aborted the request"))

    async def _abort(self, rid: str) -> None:
        for server in self._servers:
            try:
                async with self._http().post(f"{server}/abort_request", json={"rid": rid}) as response:
                    await response.read()
            except (aiohttp.ClientError, TimeoutError):
                # A server that cannot be told is not decoding for us either.
                continue


def open_sglang(
    model: str | Path,
    *,
    url: str | None = None,
    servers: int = 1,
    api_key: str | None = None,
    log: str | Path | None = None,
    start_seconds: float = START_SECONDS,
    progress: Progress | None = None,
    timeout: float = 300.0,
) -> SglangEngine:
    """An engine on the server at `url`, or on `servers` new ones for a checkpoint directory, which end with it.

    More than one stand behind a router. The key is that of the environment unless given. `log` is a directory for their
    output. ServerError or StartError, in words for
    people, if that cannot be.
    """
    api_key = api_key or os.environ.get(API_KEY) or None
    size = vocab_size(Path(model))
    if url is not None:
        return SglangEngine(url, api_key=api_key, vocab_size=size, timeout=timeout)
    length = context_length(Path(model))
    processes = start_servers(model, servers, api_key=api_key, log=log, seconds=start_seconds, progress=progress)
    urls = [process.url for process in processes[-servers:]]
    try:
        return SglangEngine(
            processes[0].url,
            servers=urls,
            processes=processes,
            api_key=api_key,
            context_length=length,
            vocab_size=size,
            timeout=timeout,
        )
    except BaseException:
        for process in processes:
            process.stop()
        raise


def _number(version: Any) -> int:
    """A weight version as this project writes them; a server that was started by others has a name instead."""
    text = str(version)
    return int(text) if text.isascii() and text.isdigit() else 0
