"""Screens in a browser: a real textual-serve, with a client in the browser's place."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("textual_serve")

from aiohttp import ClientConnectionError, ClientSession, WSMsgType

from apr.engine.sglang.server import free_port
from browsing import Visit


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def served(port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "apr", "demo", "--web", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        yield server
        server.terminate()
        server.communicate(timeout=30)


async def reached(session: ClientSession, port: int) -> str:
    """The page, once the server is up."""
    for _ in range(150):
        try:
            async with session.get(f"http://localhost:{port}/") as answer:
                return await answer.text()
        except ClientConnectionError:
            await asyncio.sleep(0.2)
    raise AssertionError("the server never came up")


@pytest.mark.usefixtures("served")
def test_the_demo_in_a_browser(port: int) -> None:
    async def look() -> bytes:
        async with ClientSession() as session:
            assert "apr demo" in await reached(session, port)
            drawn = b""
            async with (
                asyncio.timeout(60),
                session.ws_connect(f"http://localhost:{port}/ws?width=100&height=30") as page,
            ):
                await page.send_json(["stdin", "\x1b"])
                while b"Moving to Node" not in drawn:
                    message = await page.receive()
                    assert message.type in (WSMsgType.BINARY, WSMsgType.TEXT), message
                    drawn += message.data if message.type is WSMsgType.BINARY else b""
            return drawn

    assert "→ 17".encode() in asyncio.run(look())


@pytest.mark.usefixtures("served")
def test_the_page_asks_nobody_else(port: int, browser: Any) -> None:
    visit = Visit(browser)
    for _ in range(150):
        try:
            visit.page.goto(f"http://localhost:{port}/")
            break
        except Exception:
            visit.page.wait_for_timeout(200)
    # The terminal is drawn once the screen has sent its first bytes.
    visit.page.wait_for_selector("body.-first-byte .xterm-screen")
    assert visit.hosts == {f"localhost:{port}"}
    assert not visit.complaints
    fonts = visit.page.evaluate("() => [...document.fonts].filter(font => font.status == 'loaded').length")
    assert fonts


@pytest.mark.usefixtures("served")
def test_a_port_that_is_taken_is_told(port: int) -> None:
    async def wait() -> None:
        async with ClientSession() as session:
            await reached(session, port)

    asyncio.run(wait())
    second = [sys.executable, "-m", "apr", "demo", "--web", "--port", str(port)]
    ended = subprocess.run(second, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"port {port} cannot be had" in ended.stderr
