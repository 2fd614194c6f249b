"""`apr serve`: SGLang servers for a checkpoint, or the orchestrator itself behind an OpenAI-compatible address."""

from __future__ import annotations

import asyncio
import os
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

from apr.arguments import Parser, UsageError
from apr.cli.common import Waiting, add_model_arguments, check_engine, note, open_policy, positive, said
from apr.engine import API_KEY
from apr.engine.native import CacheDtype, ComputeDtype
from apr.engine.sglang.server import LOOPBACK

MIB = 1 << 20
_OF_THREADS = (
    "server",
    "task",
    "language",
    "method",
    "max_seconds",
    "running",
    "cache",
    "cache_dtype",
    "compute_dtype",
)
"""Arguments that only make sense with --threads."""
_OF_SERVERS = ("servers", "log")
"""Arguments that only make sense without."""


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr serve",
        description="Start SGLang on a checkpoint, with the flags this machine needs, until interrupted. With "
        "--threads, serve whole thread trees: /v1/completions takes a problem's prompt and gives the main thread's "
        "text to any OpenAI client.",
        examples=[
            "apr serve --threads --port 8000",
            "apr serve --port 30000 --log logs",
            "apr solve 22 26 31 53 --target 27 --engine sglang --server http://127.0.0.1:30000",
        ],
    )
    made.add_argument("--threads", action="store_true", help="serve thread trees, from any engine")
    add_model_arguments(made)
    add = made.add_argument_group("address").add_argument
    add("--host", default=LOOPBACK, help=f"where it listens (default: {LOOPBACK}, this machine alone)")
    add("--port", type=_port, default=30000, metavar="N", help="default: 30000")
    add("--api-key", metavar="KEY", help=f"what clients must bear (default: ${API_KEY}, which others do not see)")
    add = made.add_argument_group("without --threads").add_argument
    add("--servers", type=positive, default=1, metavar="N", help="SGLang servers behind its router (default: 1)")
    add("--log", metavar="DIR", default="logs", help="the servers' output (default: logs)")
    add = made.add_argument_group("with --threads").add_argument
    add("--max-seconds", type=positive, default=300, metavar="S", help="longest rollout (default: 300)")
    add("--running", type=positive, default=64, metavar="N", help="rollouts at once (default: 64)")
    add("--cache", type=_mebibytes, metavar="MIB", help="memory for cached prefixes, of the native engine (default: "
        "1024, or a quarter of what is free if less)")  # fmt: skip
    add("--cache-dtype", choices=get_args(CacheDtype), help="what it is kept in: bfloat16 (default), "
        "float32, slower, which with products in float32 gives the model's log-probabilities exactly, or int8, the "
        "smallest and coarsest")  # fmt: skip
    add("--compute-dtype", choices=get_args(ComputeDtype), help="what the native engine multiplies in: float32 "
        "(default) or bfloat16, faster on processors that have an instruction for it")  # fmt: skip
    return made


def run(arguments: Sequence[str]) -> int:
    made = parser()
    options = made.parse_args(list(arguments))
    given = said(made, arguments)
    for name in _OF_SERVERS if options.threads else _OF_THREADS:
        if name in given:
            where = "without" if options.threads else "with"
            raise UsageError(f"--{name.replace('_', '-')} goes {where} --threads")
    if not options.threads and given.get("engine", "sglang") != "sglang":
        raise UsageError("without --threads, SGLang serves: another --engine goes with --threads")
    if options.threads:
        check_engine(options.engine, options.server)
    for name in ("cache", "cache_dtype", "compute_dtype"):
        if getattr(options, name) is not None and options.engine != "native":
            raise UsageError(f"--{name.replace('_', '-')} is for --engine native")
    options.api_key = options.api_key or os.environ.get(API_KEY) or None
    if options.api_key is not None and not (options.api_key.isascii() and options.api_key.isprintable()):
        raise UsageError("the API key has characters that a header cannot hold: letters, digits and signs of ASCII can")
    return _serve_threads(options) if options.threads else _serve_sglang(options)


def _serve_threads(options: Any) -> int:
    from apr.policy import default_model, install

    try:
        from apr.serving import ServingLimits, thread_server
        from apr.serving.server import listen, serve
    except ModuleNotFoundError as error:
        raise UsageError(f"serving threads needs {error.name}: {install('serve')}") from None
    from apr.limits import Limits

    try:
        taken = listen(options.host, options.port)
    except OSError as error:
        raise UsageError(f"{options.host}:{options.port} cannot be had: {error.strerror or error}") from None
    with taken:
        policy = open_policy(
            options.engine,
            options.model,
            options.method,
            options.server,
            task=options.task,
            language=options.language,
            cache_bytes=options.cache,
            cache_dtype=options.cache_dtype,
            compute_dtype=options.compute_dtype,
        )
        if options.model is None:
            name = default_model(policy.task.name, policy.method)
        else:
            name = Path(options.model).resolve().name
        limits = ServingLimits(rollout=Limits(seconds=options.max_seconds), running=options.running)
        app = thread_server(policy, name, limits=limits, api_key=options.api_key)

        async def until_a_signal() -> int:
            try:
                return await serve(app, taken, limits)
            finally:
                await policy.close()

        _warn(options)
        note(f"{name} at http://{options.host}:{options.port}/v1")
        return 128 + asyncio.run(until_a_signal())


def _serve_sglang(options: Any) -> int:
    from apr.engine.base import EngineError
    from apr.engine.sglang.server import start_servers
    from apr.policy import PolicyError, checkpoint

    waiting = Waiting(options.log)
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
        _warn(options)
        for process in reversed(processes):
            stack.enter_context(process)
        note(f"{model} at {processes[0].url}, output in {options.log}; interrupt to end it")
        while all(process.running for process in processes):
            time.sleep(0.5)
        ended = next(process for process in processes if not process.running)
        note("\n".join([f"{ended.name} ended; the end of {ended.log}:", *ended.tail()]))
    return 1


def _warn(options: Any) -> None:
    if options.host not in (LOOPBACK, "localhost", "::1") and options.api_key is None:
        note(f"anybody who reaches {options.host} may use this server: --api-key KEY says who may")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or not 1 <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _mebibytes(text: str) -> int:
    """Bytes of so many MiB."""
    value = positive(text)
    if value > 1 << 30:
        raise ArgumentTypeError("it is too large")
    return value * MIB
