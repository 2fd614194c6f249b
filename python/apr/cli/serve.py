"""`apr serve`: SGLang servers for a checkpoint, or the orchestrator itself behind an OpenAI-compatible address."""

from __future__ import annotations

import asyncio
import os
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from apr.cli.common import Parser, UsageError, Waiting, add_model_arguments, note, open_policy, positive

LOOPBACK = "127.0.0.1"
_KEY = "APR_API_KEY"
_SECONDS = "longest rollout (default 300)"


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr serve",
        description="Start SGLang on a checkpoint, with the flags this machine needs, until interrupted. With "
        "--threads, serve whole thread trees: /v1/completions takes a problem's prompt and gives the main thread's "
        "text to any OpenAI client.",
        epilog="example: apr serve --threads --port 8000",
    )
    made.add_argument("--threads", action="store_true", help="serve thread trees, from any engine")
    add_model_arguments(made)
    made.add_argument("--host", default=LOOPBACK, help=f"default {LOOPBACK}: this machine alone")
    made.add_argument("--port", type=_port, default=30000, help="default 30000")
    made.add_argument("--api-key", metavar="KEY", help=f"what clients must bear (default: ${_KEY})")
    made.add_argument("--servers", type=positive, default=1, metavar="N", help="SGLang servers behind its router")
    made.add_argument("--log", metavar="DIR", default="logs", help="the servers' output (default: logs)")
    made.add_argument("--max-seconds", type=positive, default=300, metavar="S", help=f"--threads: {_SECONDS}")
    made.add_argument("--running", type=positive, default=64, metavar="N", help="--threads: rollouts at once")
    return made


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(list(arguments))
    options.api_key = options.api_key or os.environ.get(_KEY) or None
    if options.host not in (LOOPBACK, "localhost", "::1") and options.api_key is None:
        note(f"anybody who reaches {options.host} may use this server: --api-key KEY says who may")
    return _serve_threads(options) if options.threads else _serve_sglang(options)


def _serve_threads(options: Any) -> int:
    try:
        import uvicorn

        from apr.serving import ServingLimits, thread_server
    except ModuleNotFoundError as error:
        raise UsageError(f"serving threads needs {error.name}: `pip install 'apr[serve]'`") from None
    from apr.limits import Limits
    from apr.policy import SHIPPED_MODEL

    policy = open_policy(options.engine, options.model, options.method, options.server)
    name = SHIPPED_MODEL if options.model is None else Path(options.model).name
    limits = ServingLimits(rollout=Limits(seconds=options.max_seconds), running=options.running)
    app = thread_server(policy, name, limits=limits, api_key=options.api_key)
    note(f"{name} at http://{options.host}:{options.port}/v1")
    try:
        uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
    finally:
        asyncio.run(policy.close())
    return 0


def _serve_sglang(options: Any) -> int:
    from apr.engine.base import EngineError
    from apr.engine.server import start_router, start_server
    from apr.policy import PolicyError, checkpoint

    logs, key = Path(options.log), options.api_key
    with ExitStack() as stack:
        try:
            model = checkpoint(options.model, stack)
            alone = options.servers == 1
            servers = []
            for index in range(options.servers):
                where = {"host": options.host, "port": options.port} if alone else {}
                log = logs / f"server-{index}.log"
                servers.append(stack.enter_context(start_server(model, api_key=key, log=log, **where)))
            waiting = Waiting()
            for server in servers:
                server.wait_until_healthy(progress=waiting)
            front = servers[0]
            if not alone:
                urls = [server.url for server in servers]
                front = start_router(urls, host=options.host, port=options.port, api_key=key, log=logs / "router.log")
                stack.enter_context(front).wait_until_healthy(progress=waiting)
            waiting.done()
        except (EngineError, PolicyError) as error:
            raise UsageError(str(error)) from None
        note(f"{model} at {front.url}, output in {logs}; interrupt to end it")
        while all(process.running for process in (front, *servers)):
            time.sleep(0.5)
        ended = next(process for process in (front, *servers) if not process.running)
        note("\n".join([f"{ended.name} ended; the end of {ended.log}:", *ended.tail()]))
    return 1


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text!r} is no port")
    return int(text)
