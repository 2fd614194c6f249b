"""Evaluations on a server that others started: what it serves, its cache, and what becomes of them when it fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from apr import Tokenizer
from apr.cli import main
from apr.engine.base import EngineError
from apr.evaluate.rollouts import PATIENCE
from apr.evaluate.rows import read_rows
from apr.evaluate.served import empty_cache, served_model
from apr.report.results import load
from tiny import save_tiny_model

pytest.importorskip("aiohttp")


class Server(ThreadingHTTPServer):
    """Says of itself what it is told to, and ends each text at once, or fails."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.model: Any = {"model_path": "/far/away", "weight_version": "default"}
        self.healthy = True
        self.flushes = 0
        self.flushing = 200


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        told = {"/server_info": {"max_req_input_len": 96}, "/model_info": self.server.model}
        self.answer(200 if self.path in told else 404, told.get(self.path))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/flush_cache":
            self.server.flushes += 1
            self.answer(self.server.flushing, "Cache flushed.")
        elif not self.server.healthy:
            self.answer(503, {"error": {"message": "overloaded\x1b[2J"}})
        else:
            meta = {
                "completion_tokens": 1,
                "output_token_logprobs": [[-0.5, 0, None]],
                "finish_reason": {"type": "stop"},
            }
            self.answer(200, {"output_ids": [Tokenizer().eos], "meta_info": meta}, stream=True)

    def answer(self, status: int, value: Any, *, stream: bool = False) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"data: " + text + b"\n\n" if stream else text)

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers")
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def evaluate(server: Server, model: str, out: Path, *options: str) -> int:
    where = ["--engine", "sglang", "--server", server.url, "--model", model, "--out", str(out)]
    return main(["eval", "--problems", "3", *where, *options])


def test_a_server_that_fails_is_told_and_what_it_failed_is_run_again(
    server: Server, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.healthy = False
    assert evaluate(server, model, tmp_path) == 1
    out, err = capsys.readouterr()
    assert "no rollout could be judged: 3 engine failures (overloaded␛[2J)" in out
    assert "\x1b" not in out + err
    assert evaluate(server, model, tmp_path / "many", "--problems", "99", "--concurrency", "1") == 1
    assert f"failed {PATIENCE} rollouts in a row: overloaded␛[2J - the same command goes on" in capsys.readouterr().err
    assert len(read_rows(tmp_path / "many")[1]) == PATIENCE
    server.healthy = True
    assert evaluate(server, model, tmp_path, "--json") == 0
    out, err = capsys.readouterr()
    assert "going on after 0 of 3 rollouts; 3 that the engine failed are run again" in err
    assert (json.loads(out)["judged"], json.loads(out)["engine_failures"]) == (3, 0)
    assert [row["failed"] for row in read_rows(tmp_path)[1]] == [False] * 3


def test_an_evaluation_goes_on_with_the_same_server_s_model(
    server: Server, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(server, model, tmp_path) == 0
    assert evaluate(server, model, tmp_path) == 0
    server.model = {"model_path": "/far/away", "weight_version": "7"}
    capsys.readouterr()
    assert evaluate(server, model, tmp_path) == 2
    assert "another model of a server" in capsys.readouterr().err


def test_what_a_server_serves_is_compared_where_it_is_at_hand(server: Server, model: str, tmp_path: Path) -> None:
    models = {"tiny": Path(model)}
    assert served_model(server.url, models) == "/far/away, version default"
    server.model = {"model_path": model}
    assert served_model(server.url, models) == ""
    (tmp_path / "config.json").write_text("{}")
    server.model = {"model_path": str(tmp_path)}
    with pytest.raises(EngineError, match="other weights than tiny: name it with --model"):
        served_model(server.url, models)
    server.model = [5]
    with pytest.raises(EngineError, match="does not tell what it serves"):
        served_model(server.url, models)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://[", "ftp://host.invalid"])
def test_no_server_is_one_line(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match="no server at"):
        empty_cache(url)
    assert main(["eval", "--engine", "sglang", "--server", url, "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_latency_is_measured_on_an_empty_cache(
    server: Server, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(server, model, tmp_path / "a", "--concurrency", "1") == 0
    assert server.flushes == 1
    assert load([tmp_path / "a"]).results[0].alone
    capsys.readouterr()
    server.flushing = 400
    assert evaluate(server, model, tmp_path / "b", "--concurrency", "1") == 0
    out, err = capsys.readouterr()
    assert "the server's cache was not emptied" in err
    assert "some cached before" in out
    # What is not known to be fresh stands for no latency.
    assert not load([tmp_path / "b"]).results[0].alone
