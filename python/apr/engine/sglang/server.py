"""SGLang processes: servers with the flags this machine needs, and the router before several of them.

Each is watched until healthy and runs under a keeper (`apr.engine.sglang.keeper`), which ends the whole process group
when this process ends, however it does.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import BinaryIO

from apr.engine import API_KEY
from apr.engine.base import EngineError

LOOPBACK = "127.0.0.1"
START_SECONDS = 600.0
"""How long a server may take to come up; 40 s on an idle CPU machine, minutes on a busy one or for a large model."""
_PORTS = range(10_000, 30_000)
"""Below those that Linux, the BSDs and Windows hand out by themselves."""
_POLL_S = 0.5
_CONTEXT_SLACK = 8
"""SGLang keeps a few positions of the context for itself; with so many more a model has all of its own."""
_TAIL_LINES = 12
_LAUNCH = (sys.executable, "-m", "apr.engine.sglang.launch")
_STOP_S = 20.0

Progress = Callable[[float, str], None]
"""Gets the seconds waited so far and the last line of the log."""


class StartError(EngineError):
    """A server that did not come up: what is wrong, for people."""


def gpus() -> int:
    """How many NVIDIA GPUs a server started here would see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return 0
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def flags(found_gpus: int, context_length: int, overlap: bool | None = None) -> list[str]:
    """What SGLang 0.5 needs to serve a small Llama on the devices found. `overlap` says whether it prepares a batch
    while it computes the one before; unless given, on GPUs alone: on a CPU a batch is shorter than what that hides."""
    always = ["--skip-server-warmup", "--incremental-streaming-output"]
    always += ["--context-length", str(context_length + _CONTEXT_SLACK)]
    if not (found_gpus > 0 if overlap is None else overlap):
        always.append("--disable-overlap-schedule")
    if found_gpus > 1:
        # A small model fits each of them: more copies, not larger ones.
        return [*always, "--dp-size", str(found_gpus)]
    if found_gpus == 1:
        return always
    return [
        *always,
        *("--device", "cpu", "--dtype", "float32"),
        # SGLang's own Llama needs AMX kernels on a CPU.
        *("--model-impl", "transformers", "--attention-backend", "torch_native"),
        # The cache is as large as its tokens. The share is what may be gone of the memory that was free when the server
        # began, and other processes take some of it meanwhile.
        *("--mem-fraction-static", "0.5", "--max-total-tokens", str(32 * context_length)),
        # Else it asks for work all the time, and takes a processor for it.
        "--sleep-on-idle",
    ]


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now. OSError if none is found.

    A server may take minutes to listen there. So it is none of those that systems give to whoever asks for any: a
    connection would take it meanwhile."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise OSError(f"no port of {LOOPBACK} is free")


class ServerProcess:
    """One server, from its start to its end; a context manager that ends it."""

    def __init__(
        self, command: Sequence[str], url: str, log: Path, *, api_key: str | None = None, name: str = "SGLang"
    ) -> None:
        """Start `command`, which answers at `url` once it is up; its output goes to `log`, which only its owner can
        read. It finds the key in its environment. StartError if there can be no log."""
        self.url, self.log, self.name = url, log, name
        self.api_key = api_key
        environment = {**os.environ, "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}
        environment.pop(API_KEY, None)
        if api_key is not None:
            environment[API_KEY] = api_key
        with _open_log(log) as out:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "apr.engine.sglang.keeper", *command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    @property
    def running(self) -> bool:
        return self._keeper.poll() is None

    def wait_until_healthy(self, seconds: float = START_SECONDS, progress: Progress | None = None) -> None:
        """Return when the server answers. StartError, with the end of its log, if it ends or takes too long."""
        begun = time.monotonic()
        while not self._healthy():
            waited = time.monotonic() - begun
            if not self.running:
                raise StartError(f"{self.name} ended while it started{self._why()}")
            if waited > seconds:
                raise StartError(f"{self.name} did not come up within {seconds:.0f} s{self._why()}")
            if progress is not None:
                progress(waited, next(reversed(self.tail(1)), ""))
            time.sleep(_POLL_S)

    def tail(self, lines: int = _TAIL_LINES) -> list[str]:
        """The last lines of the log, without the key that servers write there."""
        try:
            text = self.log.read_bytes()[-16384:].decode(errors="replace")
        except OSError:
            return []
        if self.api_key:
            text = text.replace(self.api_key, "***")
        return [line for line in text.splitlines() if line.strip()][-lines:]

    def stop(self) -> None:
        """End the server and everything it started."""
        if self._keeper.stdin is not None:
            # The keeper's sign.
            self._keeper.stdin.close()
        try:
            self._keeper.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _healthy(self) -> bool:
        request = urllib.request.Request(f"{self.url}/health")
        if self.api_key is not None:
            request.add_header("Authorization", f"Bearer {self.api_key}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def _why(self) -> str:
        lines = self.tail()
        text = "\n".join(lines).lower()
        memory = "out of memory" in text or "memoryerror" in text or self._keeper.returncode in (-9, 137)
        what = ": it ran out of memory" if memory else ""
        return f"{what}; the end of {self.log}:\n" + "\n".join(f"  {line}" for line in lines)


def start_server(
    model: str | os.PathLike[str],
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    api_key: str | None = None,
    log: str | os.PathLike[str] | None = None,
    overlap: bool | None = None,
    extra: Sequence[str] = (),
) -> ServerProcess:
    """Start SGLang on a checkpoint directory; wait for it with `wait_until_healthy`.

    `port` is a free one unless given, `overlap` as in `flags`, `extra` are further flags of SGLang's. StartError for
    what is known beforehand to fail.
    """
    directory = Path(model)
    found = gpus()
    installed("sglang")
    server = "sglang.launch_server" if found else "apr.engine.sglang.forked"
    command = [*_LAUNCH, server, "--model-path", str(directory)]
    command += [*flags(found, context_length(directory), overlap), *extra]
    return _start(command, host, port, api_key, log, "SGLang")


def start_router(
    urls: Sequence[str],
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    api_key: str | None = None,
    log: str | os.PathLike[str] | None = None,
) -> ServerProcess:
    """Start SGLang's own router before servers that are up: a prompt goes where its prefix is cached."""
    installed("sglang_router")
    command = [*_LAUNCH, "sglang_router.launch_router", "--policy", "cache_aware", "--worker-urls", *urls]
    return _start(command, host, port, api_key, log, "the router")


def start_servers(
    model: str | os.PathLike[str],
    count: int,
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    api_key: str | None = None,
    log: str | os.PathLike[str] | None = None,
    seconds: float = START_SECONDS,
    progress: Progress | None = None,
) -> list[ServerProcess]:
    """Start `count` servers and wait until they are up; before more than one stands a router. The one that answers at
    `host` and `port` is the first of the list, and the first to be stopped: a router would take its servers' end for
    their failure.

    `log` is a directory for their output, `seconds` the longest wait for each. StartError if one does not come up;
    those that did are ended.
    """
    logs = None if log is None else Path(log)
    started: list[ServerProcess] = []
    try:
        for index in range(count):
            file = None if logs is None else logs / f"server-{index}.log"
            if count == 1:
                started.append(start_server(model, host=host, port=port, api_key=api_key, log=file))
            else:
                started.append(start_server(model, api_key=api_key, log=file))
        for server in started:
            server.wait_until_healthy(seconds, progress)
        if count > 1:
            file = None if logs is None else logs / "router.log"
            urls = [server.url for server in started]
            started.insert(0, start_router(urls, host=host, port=port, api_key=api_key, log=file))
            started[0].wait_until_healthy(seconds, progress)
    except BaseException:
        for process in started:
            process.stop()
        raise
    return started


def installed(package: str) -> None:
    """StartError if a package of the extra is not installed."""
    if importlib.util.find_spec(package) is None:
        raise StartError("SGLang is not installed: it is the extra sglang")


def _start(
    command: list[str],
    host: str,
    port: int | None,
    api_key: str | None,
    log: str | os.PathLike[str] | None,
    name: str,
) -> ServerProcess:
    port = free_port() if port is None else port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    path = Path(log) if log is not None else Path(mkdtemp(prefix="apr-sglang-")) / "server.log"
    reachable = LOOPBACK if host in ("0.0.0.0", "::") else host
    where = f"http://{reachable}:{port}"
    return ServerProcess([*command, "--host", host, "--port", str(port)], where, path, api_key=api_key, name=name)


def _open_log(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise StartError(f"cannot write {path}: it is no file")
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.fchmod(file, 0o600)
    except OSError as error:
        raise StartError(f"cannot write {path}: {error.strerror}") from None
    return os.fdopen(file, "ab")


def context_length(directory: Path) -> int:
    """The context length of a checkpoint. StartError if the directory holds none."""
    return _said(directory, "max_position_embeddings")


def vocab_size(directory: Path) -> int:
    """How many token ids a checkpoint knows. StartError if the directory holds none."""
    return _said(directory, "vocab_size")


def _said(directory: Path, name: str) -> int:
    path = directory / "config.json"
    try:
        # A pipe would never end.
        value = json.loads(path.read_text())[name] if path.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        value = None
    if type(value) is not int or not 0 < value < 1 << 31:
        raise StartError(f"{directory} holds no model: no config.json that says {name}")
    return value
