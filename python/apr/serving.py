"""The orchestrator behind an OpenAI-compatible `/v1/completions`: a problem prompt in, the main thread's text out.

What a client without knowledge of threads sees is a plain completion. The field `apr` of a request and of an answer
carries the rest: budget and join policy in, the tree and, where asked for, every event of the threads out.
A streamed answer never takes text back: a spawn block is held until the join that replaces it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from apr.events import Event, to_json
from apr.limits import Limits
from apr.orchestrator import rollout
from apr.policy import Policy
from apr.tree import ThreadTree
from apr.types import SamplingParams

_LENGTH = frozenset(("length", "limit_tokens", "limit_time", "limit_threads", "limit_rounds", "limit_children"))
"""Close reasons of a main thread that a client knows as "length"."""
_KNOWN = frozenset(("model", "prompt", "max_tokens", "temperature", "seed", "stream", "n", "apr", "user"))
_KNOWN_EXTENSION = frozenset(("budget", "join", "events"))


class Refusal(Exception):
    """A request that is answered with an error status."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind

    def response(self) -> JSONResponse:
        return JSONResponse({"error": {"message": self.message, "type": self.kind, "code": None}}, self.status)


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """What one client may take."""

    rollout: Limits = field(default_factory=lambda: Limits(seconds=300.0))
    body_bytes: int = 1 << 16
    running: int = 64
    """Rollouts at once; more wait."""
    waiting: int = 256
    """Requests that may wait; more are refused with 429."""


@dataclass(frozen=True, slots=True)
class _Asked:
    problem: Any
    budget: int | None
    join: Any
    events: bool
    stream: bool
    params: SamplingParams
    limits: Limits


def thread_server(
    policy: Policy, model: str, *, limits: ServingLimits | None = None, api_key: str | None = None
) -> Starlette:
    """The application. `model` is the name clients see; with an `api_key` every request must bear it."""
    service = _Service(policy, model, ServingLimits() if limits is None else limits, api_key)
    return Starlette(
        routes=[
            Route("/v1/completions", service.completions, methods=["POST"]),
            Route("/v1/models", service.models, methods=["GET"]),
            Route("/health", service.health, methods=["GET"]),
        ],
        exception_handlers={Refusal: lambda _, error: error.response()},
    )


class _Service:
    def __init__(self, policy: Policy, model: str, limits: ServingLimits, api_key: str | None) -> None:
        self.policy, self.model, self.limits, self.api_key = policy, model, limits, api_key
        self.places = asyncio.Semaphore(limits.running)
        self.waiting = 0

    async def health(self, request: Request) -> Response:
        return Response(status_code=200)

    async def models(self, request: Request) -> Response:
        self.authorise(request)
        entry = {"id": self.model, "object": "model", "created": 0, "owned_by": "apr"}
        return JSONResponse({"object": "list", "data": [entry]})

    async def completions(self, request: Request) -> Response:
        self.authorise(request)
        asked = self.read(await self.body(request))
        if self.places.locked() and self.waiting >= self.limits.waiting:
            raise Refusal(429, "too many requests are waiting", "rate_limit_error")
        answer_id, created = f"cmpl-{uuid4().hex}", int(time.time())
        head = {"id": answer_id, "object": "text_completion", "created": created, "model": self.model}
        if asked.stream:
            return StreamingResponse(self.streamed(asked, head), media_type="text/event-stream")
        running = asyncio.create_task(self.run(asked, None))
        # A client that has gone wants no answer: its threads end.
        leaving = asyncio.create_task(_disconnected(request))
        await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not running.done():
            running.cancel()
            await asyncio.wait({running})
            return Response(status_code=499)
        tree = running.result()
        return JSONResponse({**head, **self.answer(tree)})

    def authorise(self, request: Request) -> None:
        if self.api_key is not None and request.headers.get("authorization") != f"Bearer {self.api_key}":
            raise Refusal(401, "the API key is missing or wrong", "authentication_error")

    async def body(self, request: Request) -> Any:
        data = bytearray()
        try:
            async for part in request.stream():
                data += part
                if len(data) > self.limits.body_bytes:
                    raise Refusal(413, f"the body is over {self.limits.body_bytes} bytes")
        except ClientDisconnect:
            raise Refusal(400, "the body ended early") from None
        try:
            return json.loads(bytes(data))
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is not JSON") from None

    def read(self, body: Any) -> _Asked:
        """What a request's body asks for. Refusal for anything that cannot be done as asked."""
        if not isinstance(body, dict):
            raise Refusal(400, "the body is not an object")
        extension = body.get("apr") or {}
        if not isinstance(extension, dict):
            raise Refusal(400, "apr: not an object")
        for values, known, where in ((body, _KNOWN, ""), (extension, _KNOWN_EXTENSION, "apr.")):
            for key, value in values.items():
                if key not in known and value is not None:
                    raise Refusal(400, f"{where}{key}: not supported")
        if body.get("model") not in (None, self.model):
            raise Refusal(404, f"there is no model {body['model']!r} here, but {self.model!r}")
        if body.get("n") not in (None, 1):
            raise Refusal(400, "n: one completion a request")
        prompt = body.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            [prompt] = prompt
        if not isinstance(prompt, str):
            raise Refusal(400, "prompt: one string")
        try:
            problem, named = self.policy.grammar.read_prompt(prompt)
        except (ValueError, OverflowError) as error:
            raise Refusal(400, f"prompt: {error}") from None
        join = extension.get("join") or "all"
        if join not in ("all", "first"):
            raise Refusal(400, "apr.join: all or first")
        most = _number(body, "max_tokens", int, 1)
        temperature = _number(body, "temperature", float, 0)
        return _Asked(
            problem,
            _number(extension, "budget", int, 0) if extension.get("budget") is not None else named,
            join,
            extension.get("events") is True,
            body.get("stream") is True,
            # The API's own default.
            SamplingParams(temperature=1.0 if temperature is None else temperature, seed=self.seed(body)),
            self.limits.rollout if most is None else replace(self.limits.rollout, total_tokens=most),
        )

    @staticmethod
    def seed(body: dict[str, Any]) -> int:
        seed = _number(body, "seed", int, None)
        return uuid4().int & (1 << 62) - 1 if seed is None else seed

    async def run(self, asked: _Asked, emit: Any) -> ThreadTree:
        self.waiting += 1
        try:
            await self.places.acquire()
        finally:
            self.waiting -= 1
        try:
            return await rollout(
                asked.problem,
                self.policy.engine,
                asked.limits,
                grammar=self.policy.grammar,
                params=asked.params,
                budget=asked.budget,
                join=asked.join,
                emit=emit,
            )
        finally:
            self.places.release()

    async def streamed(self, asked: _Asked, head: dict[str, Any]) -> AsyncIterator[str]:
        """Server-sent events: a chunk for whatever text is final, and one for each event if they are asked for."""
        news: asyncio.Queue[Event | None] = asyncio.Queue()
        running = asyncio.create_task(self.run(asked, news.put_nowait))
        running.add_done_callback(lambda _: news.put_nowait(None))
        tree, told = ThreadTree(), 0
        try:
            while (event := await news.get()) is not None:
                tree.apply(event)
                text = ""
                if tree.threads:
                    final = self.policy.grammar.settled(tree.main.text)
                    text = tree.main.text[max(told, len(tree.main.prompt_text)) : final]
                    told = max(told, final)
                if text or asked.events:
                    extension = {"apr": {"event": json.loads(to_json(event))}} if asked.events else {}
                    yield _sse({**head, "choices": [_choice(text, None)], **extension})
            finished = await running
            rest = finished.main.text[max(told, len(finished.main.prompt_text)) :]
            try:
                answer = self.answer(finished)
            except Refusal as error:
                yield _sse(json.loads(bytes(error.response().body)))
                return
            reason = answer["choices"][0]["finish_reason"]
            yield _sse({**head, **answer, "choices": [_choice(rest, reason)]})
            yield "data: [DONE]\n\n"
        finally:
            running.cancel()

    def answer(self, tree: ThreadTree) -> dict[str, Any]:
        main, end = tree.main, tree.finished
        assert end is not None
        if main.reason == "engine_error":
            raise Refusal(502, f"the engine failed: {main.detail or 'no reason given'}", "server_error")
        prompt_tokens = main.calls[0].prompt_tokens
        return {
            "choices": [
                _choice(main.text[len(main.prompt_text) :], "length" if main.reason in _LENGTH else "stop"),
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": end.total_tokens,
                "total_tokens": prompt_tokens + end.total_tokens,
            },
            "apr": {
                "reason": end.reason,
                "correct": end.correct,
                "verdict": end.verdict,
                "steps": list(end.steps),
                "sequential_tokens": end.sequential_tokens,
                "longest_context": end.longest_context,
                "cached_tokens": end.cached_tokens,
                "seconds": end.time,
                "threads": [
                    {
                        "id": thread.id,
                        "parent": thread.parent,
                        "prompt": thread.prompt_text,
                        "text": thread.text[len(thread.prompt_text) :],
                        "reason": thread.reason,
                        "result": thread.result,
                        "tokens": thread.sampled_tokens,
                    }
                    for thread in tree.threads.values()
                ],
            },
        }


def _choice(text: str, reason: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def _sse(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"


def _number(values: dict[str, Any], key: str, kind: type, least: float | None) -> Any:
    """A number of a request, or None if it is not given."""
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise Refusal(400, f"{key}: not a number")
    if value != value or abs(value) > 1 << 62 or (least is not None and value < least):
        raise Refusal(400, f"{key}: out of range")
    return kind(value)


async def _disconnected(request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.25)
