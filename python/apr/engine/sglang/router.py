"""Which servers stand behind an address: a router passes on neither aborts nor weights, so they are told themselves."""

from __future__ import annotations

import asyncio
import time

from apr.engine.sglang.http import Ask, ServerError, Unreachable

KNOWN_AFTER_S = 30.0
"""How long a router that is up may take to know its servers."""
_PAUSE_S = 0.2


async def servers_behind(ask: Ask, url: str) -> list[str]:
    """The addresses of a router's servers; of a server, its own. ServerError for a router that knows of none."""
    deadline = time.monotonic() + KNOWN_AFTER_S
    while time.monotonic() < deadline:
        try:
            workers = (await ask("GET", url, "/workers", None)).get("workers")
        except Unreachable:
            raise
        except ServerError:
            # A server knows no such path.
            return [url]
        if workers:
            try:
                return [worker["url"].rstrip("/") for worker in workers]
            except (TypeError, KeyError, AttributeError):
                raise ServerError(f"{url} tells its servers in no known way") from None
        await asyncio.sleep(_PAUSE_S)
    raise ServerError(f"the router at {url} knows of no server")
