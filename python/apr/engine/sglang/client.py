"""SGLang as an engine: token ids over HTTP to a server, or to a router before several.

All requests run on one loop in a thread of this engine's, which owns the connections; so callers may come from any
loop, as `run_threads` does with a new one each time. Tokens are handed to the caller's loop as they stream in. A
request is tried again only if it failed to connect before its first token; any other failure is an error completion.

Weights are told apart by a digest of their files, the name that servers give with each completion. So several clients
may hand the same weights to one server, whenever each of them came.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
import uuid
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from apr.engine import API_KEY
from apr.engine.base import OnTokens, forked
from apr.engine.sglang.http import ServerError, Unreachable, events, json_or_text, message, reason
from apr.engine.sglang.request import Request
from apr.engine.sglang.router import servers_behind
from apr.engine.sglang.server import (
    START_SECONDS,
    Progress,
    ServerProcess,
    context_length,
    start_servers,
    vocab_size,
)
from apr.engine.sglang.updates import OnDisk, Weights, update
from apr.engine.sglang.weights import Probe, WeightMismatch, weights_name
from apr.types import Completion, SamplingParams

__all__ = ["Probe", "SglangEngine", "WeightMismatch", "open_sglang"]

T = TypeVar("T")

RETRIES = 3
"""Times a request that could not connect is tried again, a router's other server being one reason to."""
_PAUSE_S = 0.2
"""Before the first retry; each later one waits twice as long."""
_CONNECT_S = 10.0
_KEPT_S = 2.0
"""How long an idle connection is kept."""
_ANSWER_S = 30.0
"""How long a server may take to say what it is; a busy one answers between two batches."""
_GRACE_S = 5.0
"""How long aborted requests may take to return what they have when the engine closes."""


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
        """`servers` are those behind a router at `url`, which is asked for them unless they are given: aborts and
        weight updates go to each, since a router passes neither on. `processes` are ended by `close`. `context_length`
        is asked of a server unless given; ids from `vocab_size` on, which would bring a server down, are refused where
        it is known; `timeout` is the longest a stream may go without a token, in seconds, `connections` the most at
        once. The key is that of the environment unless given. ServerError if nothing usable is there."""
        self.url = url.rstrip("/")
        self._servers, self._given = [server.rstrip("/") for server in servers], bool(servers)
        self._processes = list(processes)
        key = api_key or os.environ.get(API_KEY)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = timeout
        self._slots = asyncio.Semaphore(connections)
        self.vocab_size = vocab_size
        self._names = (f"{uuid.uuid4().hex[:12]}-{n}" for n in itertools.count())
        self._open: dict[str, Request] = {}
        self._closed = False
        self._version = 0
        self._weights: str | None = None
        """What the servers call the weights they serve."""
        self._fault: str | None = None
        """Why nothing may be sampled."""
        self._process = os.getpid()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="apr-sglang-client", daemon=True)
        self._thread.start()
        try:
            longest, self._weights = self._wait(self._ask_length_and_weights())
            self.context_length = context_length or longest
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
        fault = forked(self._process) or params.fault or fault
        if self.vocab_size is not None and not all(0 <= token < self.vocab_size for token in prompt):
            fault = f"the prompt holds a token id outside the model's {self.vocab_size}"
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
        request = Request(next(self._names), list(prompt), params, limit, self.vocab_size, loop, on_tokens)
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
            self._loop.call_soon_threadsafe(self._begin_abort, request)

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._closed or forked(self._process):
            return
        self._closed = True
        for request_id in list(self._open):
            self.abort(request_id)
        deadline = time.monotonic() + _GRACE_S
        while self._open and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        # What a server holds on to all the same ends with its connection.
        await asyncio.to_thread(self._stop)

    @property
    def servers(self) -> tuple[str, ...]:
        """Addresses of those that run requests."""
        return tuple(self._servers)

    async def update_weights(
        self, weights: str | Path | Weights, probe: Probe | None = None, servers: Sequence[str] | None = None
    ) -> int:
        """Serve other weights: a checkpoint in a directory that every server can read, or tensors; returns the new
        policy version. A server that has these weights already is left alone. `servers` are those to hand them to, the
        others being another client's to update; None: all.

        The prefix caches are emptied. RuntimeError while requests are open. ServerError if a server refuses,
        WeightMismatch if one then computes other log-probabilities than `probe` has: the servers are then paused, and
        every later request is an error until an update succeeds.
        """
        if fault := forked(self._process):
            raise RuntimeError(fault)
        if self._open:
            raise RuntimeError("weights may not change while requests are open")
        self._fault = "the last weight update failed"
        if isinstance(weights, str | Path):
            path = Path(weights).resolve()
            weights = OnDisk(path, await asyncio.to_thread(weights_name, path))
        work = self._update(weights, probe, servers)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        return self.note_weights(weights.name)

    def note_weights(self, name: str) -> int:
        """Take note that another client has had all servers serve weights of this name; the new policy version."""
        self._version, self._weights, self._fault = self._version + 1, name, None
        return self._version

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
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
            # Requests wait for their slot, so that an abort never waits for a connection.
            # And a connection is not used again once the server may be closing it, which it does after five seconds.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_S)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
            self._session = aiohttp.ClientSession(
                connector=connector, headers=self._headers, timeout=timeout, read_bufsize=1 << 20
            )
        return self._session

    async def _find_servers(self) -> Sequence[str]:
        """Anew each time: a router that has just come up may not know all of its servers yet."""
        if not self._given:
            self._servers = await servers_behind(self._ask, self.url)
        return self._servers

    async def _update(self, weights: Weights, probe: Probe | None, servers: Sequence[str] | None) -> None:
        await update(self._ask, await self._find_servers() if servers is None else servers, weights, probe)

    async def _ask_length_and_weights(self) -> tuple[int, str | None]:
        await self._find_servers()
        info = await self._ask("GET", self._servers[0], "/server_info")
        most = info.get("max_req_input_len")
        if type(most) is not int or most < 2:
            raise ServerError(f"{self._servers[0]} is no SGLang server: it does not tell how long a prompt may be")
        # A prompt must be shorter than that, and prompt and completion together fit as well.
        return most - 1, await self._served_weights(self._servers[0])

    async def _served_weights(self, server: str) -> str | None:
        name = (await self._ask("GET", server, "/model_info")).get("weight_version")
        return None if name is None else str(name)

    async def _ask(self, method: str, server: str, path: str, body: Any = None) -> dict[str, Any]:
        seconds = self._timeout if body is not None else min(self._timeout, _ANSWER_S)
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_S)
        try:
            async with self._http().request(method, server + path, json=body, timeout=timeout) as response:
                answer = await json_or_text(response)
                if response.status != 200:
                    raise ServerError(f"{server}: {message(answer, response.status)}")
        except aiohttp.ClientError as error:
            raise Unreachable(f"no server at {server}: {reason(error)}") from None
        except TimeoutError:
            raise ServerError(f"{server} gave no answer to {path} within {seconds:g} s") from None
        if not isinstance(answer, dict):
            raise ServerError(f"{server} is no SGLang server")
        return answer

    async def _run(self, request: Request, version: int) -> Completion:
        try:
            for attempt in itertools.count():
                try:
                    return await self._stream(request, version)
                except (aiohttp.ClientError, ServerError) as error:
                    unheard = isinstance(error, aiohttp.ClientConnectionError) and not request.token_ids
                    if not unheard:
                        # It may be decoding still.
                        self._spawn(self._abort(request.rid))
                    if request.aborted:
                        return request.finish("abort", version)
                    if not unheard or attempt == RETRIES:
                        return request.finish("error", version, reason(error))
                await asyncio.sleep(_PAUSE_S * 2**attempt)
                # The server may know the old name from the try that failed.
                request.rid = next(self._names)
        except asyncio.CancelledError:
            if self._closed:
                return request.finish("abort", version)
            # Whoever asked has gone; the server must not go on.
            self._spawn(self._abort(request.rid))
            raise
        raise AssertionError("unreachable")

    async def _stream(self, request: Request, version: int) -> Completion:
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout) as clock:
                    return await self._read(request, version, clock)
            except aiohttp.ClientError:
                raise
            except TimeoutError:
                raise ServerError(f"no token from the server within {self._timeout:g} s") from None

    async def _read(self, request: Request, version: int, clock: asyncio.Timeout) -> Completion:
        """Each token gives the server another while for the next."""
        if request.aborted:
            # Between two tries, or before its turn came, when no server knew of it.
            return request.finish("abort", version)
        async with self._http().post(f"{self.url}/generate", json=request.body()) as response:
            if response.status != 200:
                raise ServerError(message(await json_or_text(response), response.status))
            if request.aborted:
                # The abort may have come to the server before the request did.
                self._spawn(self._abort(request.rid))
            async for out in events(response.content):
                if "error" in out:
                    raise ServerError(message(out, 400))
                if request.take(out):
                    clock.reschedule(self._loop.time() + self._timeout)
                if request.failure is not None:
                    self._spawn(self._abort(request.rid))
                    return request.finish("abort", version)
                finish = out["meta_info"].get("finish_reason")
                if finish is not None:
                    return self._end(request, finish, out["meta_info"].get("weight_version"), version)
        raise ServerError("the server ended the stream before the completion")

    def _end(self, request: Request, finish: Any, weights: Any, version: int) -> Completion:
        kind = finish.get("type") if isinstance(finish, dict) else None
        if kind in ("stop", "length") and None not in (weights, self._weights) and str(weights) != self._weights:
            raise ServerError(f"the server's weights changed from {self._weights!r} to {str(weights)!r:.80}")
        if kind == "stop":
            return request.finish("stop", version)
        if kind == "length":
            if len(request.token_ids) < request.limit:
                sampled = f"after {len(request.token_ids)} tokens where {request.limit} were allowed"
                raise ServerError(f"the server ended a request for its length {sampled}")
            return request.finish("length", version)
        if request.aborted:
            return request.finish("abort", version)
        said = finish.get("message") if isinstance(finish, dict) else None
        return request.finish("error", version, str(said or "the server aborted the request"))

    def _begin_abort(self, request: Request) -> None:
        self._spawn(self._abort(request.rid))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that nobody awaits: the loop alone would not keep it."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _abort(self, rid: str) -> None:
        timeout = aiohttp.ClientTimeout(total=min(self._timeout, _ANSWER_S))
        for server in self._servers:
            # A server that cannot be told is not decoding for us either.
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self._http().post(f"{server}/abort_request", json={"rid": rid}, timeout=timeout) as response:
                    await response.read()


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
    output. ServerError or StartError, in words for people, if that cannot be.
    """
    api_key = api_key or os.environ.get(API_KEY)
    size = vocab_size(Path(model))
    if url is not None:
        return SglangEngine(url, api_key=api_key, vocab_size=size, timeout=timeout)
    length = context_length(Path(model))
    processes = start_servers(model, servers, api_key=api_key, log=log, seconds=start_seconds, progress=progress)
    try:
        return SglangEngine(
            processes[0].url,
            servers=[process.url for process in processes[-servers:]],
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
