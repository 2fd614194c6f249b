"""The orchestrator behind an OpenAI-compatible `/v1/completions` and `/v1/chat/completions`: a prompt or a
conversation in, the main thread's text out.

What a client without knowledge of threads sees is a plain completion. The field `apr` of a request and of an answer
carries the rest: budget and join policy in, the tree and, where asked for, every event of the threads out.
A streamed answer never takes text back: a spawn block is held until the join that replaces it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from apr.policy import Policy
from apr.serving import answer
from apr.serving.answer import Form
from apr.serving.limits import ServingLimits
from apr.serving.page import page_routes
from apr.serving.request import Asked, Refusal, read_request, shortened
from apr.serving.turns import Full, Place, Turns
from apr.threads.events import Event, to_json
from apr.threads.rollout import Emit
from apr.threads.tree import ThreadTree

_DRAIN_S = 1.5
"""How long interrupted rollouts may take to end by themselves."""

Rollout = asyncio.Task[ThreadTree]
News = asyncio.Queue[tuple[int, Event | None]]
"""Place of a prompt, and an event of its rollout, or None at its end."""


def thread_server(
    policy: Policy, model: str, *, limits: ServingLimits | None = None, api_key: str | None = None
) -> Starlette:
    """The application. `model` is the name clients see; with an `api_key` every request for an answer must bear it.
    `state.interrupt()` ends all rollouts, tells their clients, and refuses what comes after."""
    service = _Service(policy, model, ServingLimits() if limits is None else limits, api_key)
    app = Starlette(
        routes=[
            Route("/v1/completions", service.completions, methods=["POST"]),
            Route("/v1/chat/completions", service.chat, methods=["POST"]),
            Route("/v1/models", service.models, methods=["GET"]),
            Route("/v1/models/{id:path}", service.one_model, methods=["GET"]),
            Route("/health", service.health, methods=["GET"]),
            *page_routes(policy, model),
        ],
        exception_handlers={Refusal: _refused, HTTPException: _refused},
    )
    app.state.interrupt = service.interrupt
    return app


class _Service:
    def __init__(self, policy: Policy, model: str, limits: ServingLimits, api_key: str | None) -> None:
        self.policy, self.model, self.limits = policy, model, limits
        self.wanted = None if api_key is None else b"Bearer " + api_key.encode("utf-8", "surrogatepass")
        self.turns = Turns(limits.running, limits.waiting, limits.newcomers)
        self.rollouts: set[Rollout] = set()
        self.bodies: set[asyncio.Timeout] = set()
        """Of requests whose bodies are still to come."""
        self.interrupted = False

    async def health(self, request: Request) -> Response:
        return Response(status_code=200)

    async def models(self, request: Request) -> Response:
        self.authorise(request)
        return JSONResponse({"object": "list", "data": [self.entry]})

    async def one_model(self, request: Request) -> Response:
        self.authorise(request)
        if request.path_params["id"] != self.model:
            raise Refusal(404, f"there is no model {shortened(request.path_params['id'])} here", "not_found_error")
        return JSONResponse(self.entry)

    @property
    def entry(self) -> dict[str, Any]:
        return {"id": self.model, "object": "model", "created": 0, "owned_by": "apr"}

    async def completions(self, request: Request) -> Response:
        return await self.answered(request, Form(chat=False))

    async def chat(self, request: Request) -> Response:
        return await self.answered(request, Form(chat=True))

    async def answered(self, request: Request, form: Form) -> Response:
        self.authorise(request)
        body = await self.body(request)
        asked = read_request(body, self.policy, self.model, self.limits.rollout, chat=form.chat)
        if self.interrupted:
            raise _stopping()
        client = request.client.host if request.client is not None else None
        try:
            places = self.turns.join((client, asked.user), len(asked.problems))
        except Full:
            raise Refusal(429, "too many requests are waiting", "rate_limit_error") from None
        news: News | None = asyncio.Queue() if asked.stream else None
        rollouts = [self.start(asked, index, place, news) for index, place in enumerate(places)]
        head = form.head(self.model, asked.stream)
        if news is not None:
            return _Stream(self.streamed(asked, form, head, rollouts, news), rollouts)
        # A client that has gone wants no answer: its threads end.
        leaving = asyncio.create_task(_disconnected(request))
        ending: asyncio.Future[Any] = asyncio.gather(*rollouts, return_exceptions=True)
        try:
            first: set[asyncio.Future[Any]] = {ending, leaving}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                return Response(status_code=499)
            return JSONResponse({**head, **form.whole(self.results(rollouts))})
        finally:
            leaving.cancel()
            _cancel(rollouts)

    def authorise(self, request: Request) -> None:
        # As bytes: a header may hold any, and only those are compared in constant time.
        given = next((value for name, value in request.scope["headers"] if name == b"authorization"), b"")
        if self.wanted is not None and not hmac.compare_digest(given, self.wanted):
            raise Refusal(401, "the API key is missing or wrong", "authentication_error")
        if self.wanted is None and _elsewhere(request):
            raise Refusal(403, "pages of other sites are answered only where an API key is wanted", "permission_error")

    async def body(self, request: Request) -> Any:
        data = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_seconds) as timeout:
                self.bodies.add(timeout)
                try:
                    async for part in request.stream():
                        data += part
                        if len(data) > self.limits.body_bytes:
                            raise Refusal(413, f"the body is over {self.limits.body_bytes} bytes")
                finally:
                    self.bodies.remove(timeout)
        except ClientDisconnect:
            raise Refusal(400, "the body ended early") from None
        except TimeoutError:
            if self.interrupted:
                raise _stopping() from None
            raise Refusal(408, f"the body took over {self.limits.body_seconds:g} seconds") from None
        try:
            return json.loads(bytes(data))
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is not JSON") from None

    def start(self, asked: Asked, index: int, place: Place, news: News | None) -> Rollout:
        """Begin the rollout of one prompt, which first waits for its turn."""
        emit = None if news is None else lambda event: news.put_nowait((index, event))
        task = asyncio.create_task(self.run(asked, index, place, emit))
        self.rollouts.add(task)

        def ended(task: Rollout) -> None:
            # Not in the task itself: one that is cancelled before its first step never runs.
            self.rollouts.remove(task)
            self.turns.leave(place)
            if news is not None:
                news.put_nowait((index, None))

        task.add_done_callback(ended)
        return task

    async def run(self, asked: Asked, index: int, place: Place, emit: Emit | None) -> ThreadTree:
        problem, budget = asked.problems[index]
        await place.turn.wait()
        return await self.policy.rollout(
            problem, asked.limits, params=asked.params, budget=budget, join=asked.join, emit=emit
        )

    def results(self, rollouts: Sequence[Rollout]) -> list[ThreadTree]:
        """The trees of rollouts that have ended."""
        if any(task.cancelled() for task in rollouts):
            raise _stopping()
        return [task.result() for task in rollouts]

    async def streamed(
        self, asked: Asked, form: Form, head: dict[str, Any], rollouts: Sequence[Rollout], news: News
    ) -> AsyncIterator[str]:
        """Server-sent events: a chunk for whatever text is final, and one for each event if they are asked for."""
        if asked.usage:
            head = {**head, "usage": None}
        trees, told, left = [ThreadTree() for _ in rollouts], [0] * len(rollouts), len(rollouts)
        begun: set[int] = set()

        def piece(index: int, text: str, reason: str | None) -> dict[str, Any]:
            first = index not in begun
            begun.add(index)
            return form.piece(index, text, reason, first)

        try:
            while left:
                index, event = await news.get()
                tree = trees[index]
                if event is not None:
                    tree.apply(event)
                    text = ""
                    if tree.threads:
                        final = self.policy.language.settled(tree.main.text)
                        text = tree.main.text[max(told[index], tree.main.begin) : final]
                        told[index] = max(told[index], final)
                    if text or asked.events:
                        extension = {"apr": {"event": json.loads(to_json(event))}} if asked.events else {}
                        yield answer.sse({**head, "choices": [piece(index, text, None)], **extension})
                    continue
                left -= 1
                [tree] = self.results([rollouts[index]])
                answer.check(tree)
                rest = tree.main.text[max(told[index], tree.main.begin) :]
                last = piece(index, rest, answer.finish_reason(tree))
                yield answer.sse({**head, "choices": [last], "apr": answer.threads(tree)})
            if asked.usage:
                yield answer.sse({**head, "choices": [], "usage": answer.usage(trees)})
            yield "data: [DONE]\n\n"
        except Refusal as refusal:
            yield answer.sse(refusal.body)

    def interrupt(self) -> None:
        self.interrupted = True
        for timeout in self.bodies:
            timeout.reschedule(asyncio.get_running_loop().time())
        _cancel(self.rollouts)
        # Cancelled again, a rollout no longer waits for its engine.
        asyncio.get_running_loop().call_later(_DRAIN_S, _cancel, self.rollouts)


class _Stream(StreamingResponse):
    """A stream whose rollouts end with it, even if it never began."""

    def __init__(self, content: AsyncIterator[str], rollouts: Sequence[Rollout]) -> None:
        super().__init__(content, media_type="text/event-stream")
        self._rollouts = rollouts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _cancel(self._rollouts)


def _elsewhere(request: Request) -> bool:
    """Whether a page of another site asks. A browser sends what it says without its reader's word, and names it."""
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")


def _cancel(rollouts: Sequence[Rollout] | set[Rollout]) -> None:
    for task in rollouts:
        task.cancel()


def _stopping() -> Refusal:
    return Refusal(503, "the server stops", "server_error")


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = Refusal(error.status_code, error.detail)
    assert isinstance(error, Refusal)
    # What is left of a body that was not read must not be taken for the next request.
    headers = {"Connection": "close"} if error.status in (408, 413, 503) else None
    body = json.dumps(error.body, ensure_ascii=True)
    return Response(body, error.status, headers, media_type="application/json")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
