"""What HTTP servers say, as values and as one line for people."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp.http_exceptions import LineTooLong

from apr.engine.base import EngineError

Ask = Callable[[str, str, str, Any], Awaitable[dict[str, Any]]]
"""Method, server, path, body -> the answer; ServerError, or Unreachable, where there is none."""
_MOST_BYTES = 64 << 20
"""Of an answer; the log-probabilities of the longest prompts take a tenth of it."""


class ServerError(EngineError):
    """A server that cannot be used, or refused something."""


class Unreachable(ServerError):
    """A server that is not there."""


async def events(stream: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of server-sent events."""
    while line := await _line(stream):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise ServerError(f"the server sent no JSON: {data[:80]!r}") from None
        if not isinstance(value, dict):
            raise ServerError(f"the server sent no object: {data[:80]!r}")
        yield value


async def json_or_text(response: aiohttp.ClientResponse) -> Any:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise ServerError(f"the server's answer is longer than {_MOST_BYTES} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")


def message(answer: Any, status: int) -> str:
    """What a refusal says, in one line."""
    while isinstance(answer, dict):
        answer = answer.get("error") or answer.get("message") or answer.get("detail")
    line = next(iter(str(answer).splitlines()), "") if answer else ""
    return line or f"the server answered with status {status}"


def reason(error: BaseException) -> str:
    if isinstance(error, ServerError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _line(stream: aiohttp.StreamReader) -> bytes:
    try:
        return await stream.readline()
    except (ValueError, LineTooLong):
        # Which of the two depends on the client library's version.
        raise ServerError("the server sent a line without an end") from None
