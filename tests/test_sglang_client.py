"""The SGLang client against a server that does what none should: it needs neither SGLang nor a model."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.engine import API_KEY, load_engine
from apr.engine.sglang.client import Probe, SglangEngine, WeightMismatch
from apr.engine.sglang.http import ServerError
from apr.engine.sglang.router import servers_behind
from apr.engine.sglang.server import ServerProcess, StartError
from apr.engine.sglang.updates import InMemory
from apr.policy import Policy
from apr.types import Completion, SamplingParams
from fake_sglang import (
    CONTEXT,
    VOCABULARY,
    FakeSglang,
    Gone,
    Refused,
    Script,
    chunk,
    event,
    pings,
    says,
    silent,
    sound,
)
from tiny import SOLVED

PROMPT = (1, 28, 3)
STOP = 7


def opened(server: FakeSglang, **options: Any) -> SglangEngine:
    return SglangEngine(server.url, **{"vocab_size": VOCABULARY, "timeout": 5.0, **options})


def run(engine: SglangEngine, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What comes of it, once the engine is closed."""

    async def all_of_it() -> Any:
        try:
            return await work()
        finally:
            await engine.close()

    return asyncio.run(all_of_it())


def ask(script: Script, max_tokens: int = 5, **options: Any) -> tuple[Completion, list[int], FakeSglang]:
    """A completion, what was streamed of it, and the server that it came from."""
    heard: list[int] = []
    params = SamplingParams(0.0, max_tokens, (STOP,))
    with FakeSglang(script) as server:
        engine = opened(server, **options)
        work = engine.generate(PROMPT, params, request_id="r", on_tokens=heard.extend)
        return run(engine, lambda: work), heard, server


def test_a_sound_server_is_believed() -> None:
    completion, heard, server = ask(sound)
    assert completion == Completion((10, 11, 12, 13, 14), (-0.5,) * 5, "length")
    assert heard == list(completion.token_ids)
    assert server.aborted == []
    completion, _, _ = ask(says(chunk([30]), chunk([31, STOP], 3, finish="stop", cached_tokens=2)))
    assert (completion.token_ids, completion.finish_reason, completion.cached_tokens) == ((30, 31, STOP), "stop", 2)
    # All tokens so far in each chunk, as servers without incremental output send them.
    completion, _, _ = ask(says(chunk([30]), chunk([30, 31, STOP], finish="stop")))
    assert completion.token_ids == (30, 31, STOP)


def test_a_key_is_that_of_the_environment_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeSglang() as server:
        for key in ({}, {"api_key": "given"}):
            monkeypatch.setenv(API_KEY, "known")
            asyncio.run(opened(server, **key).close())
        monkeypatch.delenv(API_KEY)
        asyncio.run(opened(server).close())
    assert server.keys == ["Bearer known", "Bearer given", None]


async def _gone(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield chunk([30])
    raise Gone


async def _endless_line(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield chunk([30])
    yield b"data: " + b"x" * (5 << 20)


async def _refusal(body: dict[str, Any]) -> AsyncIterator[bytes]:
    raise Refused(500, json.dumps({"error": {"message": "no memory left\nTraceback"}}))
    yield b""


async def _wordless(body: dict[str, Any]) -> AsyncIterator[bytes]:
    raise Refused(503, "")
    yield b""


FIRST = chunk([30])
LIES = {
    "no JSON": (says(FIRST, b"data: {oops\n\n"), "sent no JSON"),
    "deep JSON": (says(FIRST, b"data: " + b"[" * 100_000 + b"\n\n"), "sent no JSON"),
    "no object": (says(FIRST, event([1, 2])), "sent no object"),
    "no meta_info": (says(FIRST, event({"output_ids": [5]})), "without meta_info"),
    "meta_info a list": (says(FIRST, event({"output_ids": [5], "meta_info": [1]})), "without meta_info"),
    "no count": (says(FIRST, event({"output_ids": [5], "meta_info": {}})), "without counts"),
    "count a text": (says(FIRST, chunk([31], "2")), "without counts"),
    "cached a text": (says(FIRST, chunk([31], 2, cached_tokens="all")), "without counts"),
    "cached below 0": (says(FIRST, chunk([31], 2, cached_tokens=-3)), "without counts"),
    "no ids": (says(FIRST, event({"meta_info": {"completion_tokens": 2}})), "counts 2 tokens after 1 and sends no"),
    "more counted": (says(FIRST, chunk([31, 32], 5)), "counts 5 tokens after 1 and sends 2"),
    "fewer counted": (says(FIRST, chunk([31, 32, 33], 2)), "counts 2 tokens after 1 and sends 3"),
    "counted backwards": (says(chunk([30, 31]), chunk([30], 1)), "counts 1 tokens after 2"),
    "too many": (says(FIRST, chunk([31] * 40, 41)), "sampled 41 tokens where 5 were allowed"),
    "early length": (says(chunk([30], finish="length")), "for its length after 1 tokens where 5 were allowed"),
    "other weights": (says(chunk([STOP], finish="stop", weight_version="other")), "weights changed"),
    "end without an end": (says(FIRST), "ended the stream before"),
    "end before a token": (says(), "ended the stream before"),
    "an error event": (says(FIRST, event({"error": {"message": "went wrong"}})), "went wrong"),
    "aborted by itself": (says(FIRST, chunk([], 1, finish={"type": "abort", "message": "no room"})), "no room"),
    "an unknown end": (says(FIRST, chunk([], 1, finish="bored")), "aborted the request"),
    "an end of another kind": (says(FIRST, chunk([], 1, finish=[3])), "aborted the request"),
    "gone": (_gone, "Client"),
    "endless line": (_endless_line, "line without an end"),
    "refused": (_refusal, "no memory left"),
    "refused without a word": (_wordless, "status 503"),
}
for _strange in (-1, VOCABULARY, 99999, 2**70, 5.7, 30.0, True, "30", None, [30]):
    LIES[f"id {_strange!r}"] = (says(FIRST, chunk([_strange], 2)), "no token id of the vocabulary")
for _strange in (float("nan"), float("inf"), float("-inf"), 7, 0.5, True, "x", None):
    LIES[f"logprob {_strange!r}"] = (says(FIRST, chunk([31], 2, [_strange])), "no log-probability")
LIES["no logprobs"] = (says(FIRST, chunk([31], 2, output_token_logprobs=None)), "0 logprobs for 1 tokens")
LIES["logprobs no list"] = (says(FIRST, chunk([31], 2, output_token_logprobs={"a": 1})), "0 logprobs for 1 tokens")
LIES["logprobs flat"] = (says(FIRST, chunk([31], 2, output_token_logprobs=[-0.5])), "no log-probability")


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_an_engine_failure_with_its_reason(name: str) -> None:
    script, why = LIES[name]
    completion, heard, _ = ask(script)
    assert completion.finish_reason == "error"
    assert why in str(completion.error)
    assert "\n" not in str(completion.error)
    # What was right before it is kept, and nothing else.
    assert list(completion.token_ids) == heard
    assert all(token in (30, 31, STOP) for token in heard)


@pytest.mark.parametrize("name", ["id 99999", "logprob nan", "early length", "refused", "too many"])
def test_no_lie_is_a_wrong_answer(name: str) -> None:
    with FakeSglang(LIES[name][0]) as server:
        engine = opened(server)
        policy = Policy(engine, Countdown("apr"), Traces("apr"), "apr")
        tree = run(engine, lambda: policy.rollout(SOLVED, params=SamplingParams(0.0, 5)))
    assert tree.failed
    assert tree.main.reason == "engine_error"


@pytest.mark.parametrize("script", [silent, pings, says(FIRST), None])
def test_silence_is_bounded_and_an_engine_failure(script: Script | None) -> None:
    async def then_silent(body: dict[str, Any]) -> AsyncIterator[bytes]:
        yield FIRST
        async for piece in pings(body):
            yield piece

    completion, _, server = ask(then_silent if script is None else script, timeout=0.3)
    assert completion.finish_reason == "error"
    if script is None or script in (silent, pings):
        assert "no token from the server within 0.3 s" in str(completion.error)
        # Not asked again: it is not the connection that failed.
        assert len(server.requests) == 1


def test_tokens_give_a_server_more_time() -> None:
    async def slow(body: dict[str, Any]) -> AsyncIterator[bytes]:
        async for piece in sound(body):
            await asyncio.sleep(0.15)
            yield piece

    completion, _, _ = ask(slow, timeout=0.5)
    assert completion.finish_reason == "length"


@pytest.mark.parametrize("info", [None, {}, [], {"max_req_input_len": "512"}, {"max_req_input_len": True}, 5])
def test_what_is_no_server_is_told_at_once(info: Any) -> None:
    with FakeSglang() as server:
        server.info = info
        with pytest.raises(ServerError, match="no answer to /server_info" if info is None else "is no SGLang server"):
            opened(server, timeout=0.3)


def failing(times: int, failure: Exception) -> Script:
    """Sound, but for its first requests."""
    left = [failure] * times

    async def script(body: dict[str, Any]) -> AsyncIterator[bytes]:
        if left:
            raise left.pop()
        async for piece in sound(body):
            yield piece

    return script


def test_a_request_that_was_not_heard_is_sent_again() -> None:
    completion, _, server = ask(failing(2, Gone()))
    assert completion.finish_reason == "length"
    assert len(server.requests) == 3
    assert len({request["rid"] for request in server.requests}) == 3


def test_a_busy_servers_refusal_is_an_engine_failure_and_it_is_used_again() -> None:
    with FakeSglang(failing(1, Refused(503, "no worker"))) as server:
        engine = opened(server)

        async def twice() -> list[Completion]:
            params = SamplingParams(0.0, 5)
            return [await engine.generate(PROMPT, params, request_id="r") for _ in range(2)]

        assert [completion.finish_reason for completion in run(engine, twice)] == ["error", "length"]


def test_an_abort_between_two_tries_is_heeded() -> None:
    """The first try fails; the abort comes before the second, which then never happens."""
    with FakeSglang() as server:
        engine = opened(server)

        async def fails(body: dict[str, Any]) -> AsyncIterator[bytes]:
            engine.abort("r")
            raise Gone
            yield b""

        server.script = fails
        params = SamplingParams(0.0, 400)
        completion = run(engine, lambda: engine.generate(PROMPT, params, request_id="r"))
        assert (completion.finish_reason, completion.token_ids) == ("abort", ())
        assert len(server.requests) == 1


def test_an_abort_that_overtakes_its_request_is_sent_again() -> None:
    with FakeSglang() as server:
        engine = opened(server)

        async def until_aborted(body: dict[str, Any]) -> AsyncIterator[bytes]:
            engine.abort("r")
            while not server.aborted:
                await asyncio.sleep(0.01)
            # The server did not know the name yet when it was told.
            server.aborted.clear()
            yield FIRST
            while not server.aborted:
                await asyncio.sleep(0.01)
            yield chunk([], 1, finish="abort")

        server.script = until_aborted
        params = SamplingParams(0.0, 400)
        completion = run(engine, lambda: engine.generate(PROMPT, params, request_id="r"))
        assert (completion.finish_reason, completion.token_ids) == ("abort", (30,))


def test_close_ends_what_is_open_though_the_server_heeds_no_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apr.engine.sglang.client._GRACE_S", 0.2)
    with FakeSglang(silent) as server:
        engine = opened(server)

        async def main() -> Completion:
            task = asyncio.create_task(engine.generate(PROMPT, SamplingParams(), request_id="r"))
            while not server.requests:
                await asyncio.sleep(0.01)
            await engine.close()
            return await task

        assert asyncio.run(main()).finish_reason == "abort"


def write_weights(directory: Path, content: bytes) -> Path:
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(content)
    return directory


def test_equal_weights_have_one_name_whoever_hands_them_over(tmp_path: Path) -> None:
    """Two ranks of a run: the second comes when the first has updated the server already."""
    first, second, third = (
        write_weights(tmp_path / name, content) for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2"))
    )
    params = SamplingParams(0.0, 5)
    with FakeSglang() as server:

        async def with_weights(body: dict[str, Any]) -> AsyncIterator[bytes]:
            yield chunk([STOP], finish="stop", weight_version=server.weights)

        server.script = with_weights

        async def main() -> None:
            early = opened(server)
            assert await early.update_weights(first) == 1
            late = opened(server)
            assert await late.update_weights(second) == 1
            # It was left alone: it has them.
            assert server.updates == [str(first)]
            assert server.calls[:2] == ["/pause_generation", "/update_weights_from_disk"]
            assert not server.paused
            for engine in (early, late):
                completion = await engine.generate(PROMPT, params, request_id="r")
                assert (completion.finish_reason, completion.policy_version) == ("stop", 1)
            await late.update_weights(third)
            assert (await early.generate(PROMPT, params, request_id="r")).finish_reason == "error"
            assert (await late.generate(PROMPT, params, request_id="r")).policy_version == 2
            await early.close()
            await late.close()

        asyncio.run(main())


@pytest.mark.parametrize(
    ("probed", "expected", "why"),
    [
        ({"input_token_logprobs": [[None, 1], [-0.5, 28], [float("nan"), 3]]}, (-0.5, -0.5), "nan is no"),
        ({"input_token_logprobs": [[None, 1], [-0.5, 28], [-0.5, 3]]}, (-0.5, float("nan")), "nan apart"),
        ({"input_token_logprobs": [[None, 1], [-0.5, 28], [-0.9, 3]]}, (-0.5, -0.5), "0.4 apart"),
        ({"input_token_logprobs": [[None, 1], [-0.5, 28]]}, (-0.5, -0.5), "1 logprobs for 2"),
        ({"input_token_logprobs": "none"}, (-0.5, -0.5), "0 logprobs for 2"),
        ([], (-0.5, -0.5), "0 logprobs for 2"),
    ],
)
def test_a_probe_finds_every_difference(tmp_path: Path, probed: Any, expected: tuple[float, ...], why: str) -> None:
    weights = write_weights(tmp_path / "a", b"1")
    with FakeSglang() as server:
        server.probed = probed
        engine = opened(server)

        async def main() -> Completion:
            with pytest.raises(WeightMismatch, match=why):
                await engine.update_weights(weights, Probe(PROMPT, expected))
            return await engine.generate(PROMPT, SamplingParams(0.0, 5), request_id="r")

        assert run(engine, main).error == "the last weight update failed"


def test_tensors_go_in_pieces_while_a_server_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from apr.train.rl import handover

    monkeypatch.setattr(handover, "BUCKET_BYTES", 40)
    shared = torch.arange(6.0).reshape(2, 3)
    state = {"embed": shared, "norm": torch.ones(3), "wide": torch.arange(20.0), "head": shared}
    buckets, name = handover.buckets_of(state)
    assert handover.buckets_of({**state, "norm": torch.zeros(3)})[1] != name
    pieces_of = handover.pickled(buckets)
    with FakeSglang() as server:
        server.info = {**server.info, "tp_size": 2}
        engine = opened(server)
        version = run(engine, lambda: engine.update_weights(InMemory(pieces_of, name)))
        assert (version, server.weights, server.paused) == (1, name, False)
        pieces = ["/update_weights_from_tensor"] * len(buckets)
        ends = ["/end_weight_update", "/continue_generation"]
        assert server.calls == ["/pause_generation", "/begin_weight_update", *pieces, *ends]
    # Every part of the model gets all of a piece; what is larger than one has its own.
    assert server.payloads[::2] == server.payloads[1::2]
    came = [dict(pickle.loads(base64.b64decode(payload))) for payload in server.payloads[::2]]
    assert [list(piece) for piece in came] == [["embed", "norm"], ["wide"]]
    assert all(torch.equal(tensor, state[key]) for piece in came for key, tensor in piece.items())


@pytest.mark.parametrize("path", ["/update_weights_from_tensor", "/end_weight_update", "/continue_generation"])
def test_a_failed_update_leaves_all_servers_paused(path: str) -> None:
    with FakeSglang() as sound_one, FakeSglang() as server:
        server.refuses = path
        engine = opened(server, servers=[sound_one.url, server.url])

        async def main() -> Completion:
            with pytest.raises(ServerError, match="no such tensor"):
                await engine.update_weights(InMemory([b"piece"], "new"))
            return await engine.generate(PROMPT, SamplingParams(0.0, 5), request_id="r")

        assert run(engine, main).error == "the last weight update failed"
        assert sound_one.paused
        assert server.paused
        # Given sound weights again, both go on.
        server.refuses = None
        engine = opened(server, servers=[sound_one.url, server.url])
        run(engine, lambda: engine.update_weights(InMemory([b"piece"], "newer")))
        assert (sound_one.weights, server.weights) == ("newer", "newer")
        assert [sound_one.paused, server.paused] == [False, False]


def test_a_server_that_joins_no_group_gets_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one that does is sent, a real server is (test_sglang.py)."""
    torch = pytest.importorskip("torch")
    from apr.train.rl import broadcast

    monkeypatch.setattr(broadcast, "_PATIENCE", timedelta(seconds=1))
    weights = broadcast.Broadcast([[("norm", torch.ones(3))]], "new", torch.device("cpu"))
    for refuses, why in (("/init_weights_update_group", "no such tensor"), (None, "no process group with the server")):
        with FakeSglang() as server:
            server.refuses = refuses
            engine = opened(server)

            async def main(engine: SglangEngine = engine, why: str = why) -> None:
                with pytest.raises(ServerError, match=why):
                    await engine.update_weights(weights)

            run(engine, main)
            assert server.paused
            undone = ["/end_weight_update", "/destroy_weights_update_group"]
            assert server.calls == ["/pause_generation", "/init_weights_update_group", "/pause_generation", *undone]
            assert server.weights == "default"


@pytest.mark.parametrize("workers", [3, "http://a", ["http://a"], [{"id": 1}], [{"url": 3}], {"url": "http://a"}])
def test_a_router_that_tells_its_servers_strangely_is_refused(workers: Any) -> None:
    async def ask(*_: Any) -> dict[str, Any]:
        return {"workers": workers}

    with pytest.raises(ServerError, match="tells its servers in no known way"):
        asyncio.run(servers_behind(ask, "http://router"))


def test_a_routers_servers_are_asked_for_and_told_themselves() -> None:
    """A router passes on neither aborts nor weights."""
    with FakeSglang() as one, FakeSglang() as two, FakeSglang() as router:
        # One that has just come up may not know all of them yet.
        router.workers = [one.url]

        async def until_aborted(body: dict[str, Any]) -> AsyncIterator[bytes]:
            yield FIRST
            engine.abort("r")
            while not (one.aborted and two.aborted):
                await asyncio.sleep(0.01)
            yield chunk([], 1, finish="abort")

        router.script = until_aborted
        engine = opened(router)
        assert engine.servers == (one.url,)
        router.workers.append(f"{two.url}/")

        async def main() -> Completion:
            await engine.update_weights(InMemory([b"piece"], "new"))
            assert engine.servers == (one.url, two.url)
            return await engine.generate(PROMPT, SamplingParams(0.0, 400), request_id="r")

        assert run(engine, main).finish_reason == "abort"
        assert one.aborted == two.aborted != []
        assert (one.weights, two.weights, router.calls) == ("new", "new", [])


def test_weights_go_on_past_a_server_that_died() -> None:
    with FakeSglang() as one:
        with FakeSglang() as two:
            engine = opened(one, servers=[one.url, two.url])
        assert run(engine, lambda: engine.update_weights(InMemory([b"piece"], "new"))) == 1
        assert (one.weights, one.paused) == ("new", False)
    with FakeSglang() as gone:
        engine = opened(gone)
    with pytest.raises(ServerError, match="no server at"):
        run(engine, lambda: engine.update_weights(InMemory([b"piece"], "new")))


@pytest.mark.parametrize("size", [True, -1, 0, 2**40, "150", 1.5, None, [150]])
def test_a_checkpoints_sizes_are_whole_numbers(tmp_path: Path, size: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": size, "max_position_embeddings": CONTEXT}))
    with pytest.raises(StartError, match="vocab_size"):
        load_engine("sglang", tmp_path, url="http://127.0.0.1:1")
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(StartError, match="holds no model"):
        load_engine("sglang", tmp_path, url="http://127.0.0.1:1")


def test_a_key_is_in_no_command_line_and_in_no_readable_log(tmp_path: Path) -> None:
    """A module that is run as a server is: it finds the key among its arguments, and prints them."""
    (tmp_path / "shows.py").write_text("import sys, time\nprint(sys.argv, flush=True)\ntime.sleep(600)\n")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{_LAUNCH}"]
    log = tmp_path / "logs" / "server.log"
    with ServerProcess(command, "http://127.0.0.1:1", log, api_key="secret-key") as server:
        while "secret-key" not in log.read_text():
            assert server.running
            time.sleep(0.01)
        keeper = server._keeper.pid
        [child] = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        for pid in (keeper, child):
            assert b"secret-key" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        assert "--api-key" in server.tail()[-1]
        assert "secret-key" not in server.tail()[-1]
        assert API_KEY not in os.environ


_LAUNCH = "from apr.engine.sglang.launch import main; main('shows', ['--port', '1'])"


def test_a_log_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for log in (tmp_path / "pipe", tmp_path / "pipe" / "server.log"):
        with pytest.raises(StartError, match="cannot write"):
            ServerProcess(["true"], "http://127.0.0.1:1", log)


def test_a_fork_has_no_engine(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio, os, sys
        from apr.engine.sglang.client import SglangEngine
        from apr.types import SamplingParams
        engine = SglangEngine(sys.argv[1])
        if os.fork() == 0:
            completion = asyncio.run(engine.generate((1,), SamplingParams(), request_id="r"))
            engine.abort("r")
            asyncio.run(engine.close())
            print(completion.error, flush=True)
            sys.exit(0)
        os.wait()
        asyncio.run(engine.close())
        """
    )
    with FakeSglang() as server:
        done = subprocess.run(
            [sys.executable, "-c", script, server.url], capture_output=True, text=True, timeout=120, check=True
        )
    assert "process that was forked" in done.stdout
