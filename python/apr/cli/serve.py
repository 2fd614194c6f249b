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
from apr.engine import API_KEY
from apr.engine.server import LOOPBACK

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
    made.add_argument("--api-key", metavar="KEY", help=f"what clients must bear (default: ${API_KEY})")
    made.add_argument("--servers", type=positive, default=1, metavar="N", help="SGLang servers behind its router")
    made.add_argument("--log", metavar="DIR", default="logs", help="the servers' output (default: logs)")
    made.add_argument("--max-seconds", type=positive, default=300, metavar="S", help=f"--threads: {_SECONDS}")
    made.add_argument("--running", type=positive, default=64, metavar="N", help="--threads: rollouts at once")
    return made


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(list(arguments))
    options.api_key = options.api_key or os.environ.get(API_KEY) or None
    if options.host not in (LOOPBACK, "localhost", "::1") and options.api_key is None:
        note(f"anybody who reaches {options.host} may use this server: --api-key KEY says who may")
    return _serve_threads(options) if options.threads else _serve_sglang(options)


def _serve_threads(options: Any) -> int:
    from apr.policy import SHIPPED_MODEL, install

    try:
        import uvicorn

        from apr.serving import ServingLimits, thread_server
    except ModuleNotFoundError as error:
        raise UsageError(f"serving threads needs {error.name}: {install('serve')}") from None
    from apr.limits import Limits

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
    from apr.engine.server import start_servers
    from apr.policy import PolicyError, checkpoint

    waiting = Waiting()
    with ExitStack() as stack:
        try:
            model = checkpoint(options.model, stack)
            processes = start_servers(
                model,
                options.servers,
                host=options.host,
                port=options.port,
                api_key=options.api_key,
                log=options.log,
                progress=waiting,
            )
        except (EngineError, PolicyError) as error:
            raise UsageError(str(error)) from None
        finally:
            waiting.done()
        for process in reversed(processes):
            stack.enter_context(process)
        note(f"{model} at {processes[0].url}, output in {options.log}; interrupt to end it")
        while all(process.running for process in processes):
            time.sleep(0.5)
        ended = next(process for process in processes if not process.running)
        note("\n".join([f"{ended.name} ended; the end of {ended.log}:", *ended.tail()]))
    return 1


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text!r} is no port")
    return int(text)
