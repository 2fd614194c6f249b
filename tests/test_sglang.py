"""The SGLang engine against real servers on the CPU: two for the whole suite, one of which dies in the end."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import apr
from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.engine.base import EngineError
from apr.engine.checkpoint import load_model
from apr.engine.sglang.server import ServerProcess, StartError, free_port, start_router, start_server
from apr.engine.torch import TorchEngine
from apr.languages.published import MARKUPS
from apr.limits import Limits
from apr.policy import Policy
from apr.train.model import new_model, save_model, token_logprobs
from apr.train.recipes import ModelConfig
from apr.types import Completion, SamplingParams
from dialogues import MODEL, NAMES, check, inherited_cached, modelled

pytestmark = pytest.mark.skipif(importlib.util.find_spec("sglang") is None, reason="the extra sglang is not installed")
CONTEXT = 512
KEY = "secret"
"""Of both servers and of the router before them."""
TOKENIZER = apr.Tokenizer()
PROMPT = (1, 28, 3, 133, 13, 5, 10, 14, 5, 5, 15, 5, 9, 16)


@dataclass(frozen=True)
class Served:
    """Two servers of one random model, and where other weights are."""

    model: Path
    other: Path
    servers: tuple[ServerProcess, ServerProcess]


def write_model(directory: Path, seed: int) -> Path:
    """Random weights so wide that greedy choices are no close calls."""
    shape = ModelConfig(hidden_size=64, layers=2, heads=2, mlp_size=128, context_length=CONTEXT)
    model = new_model(shape, TOKENIZER, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    save_model(model, TOKENIZER, directory)
    return directory


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("sglang")
    model, other = write_model(folder / "model", 0), write_model(folder / "other", 1)
    servers = [start_server(model, api_key=KEY, log=folder / f"server-{i}.log") for i in range(2)]
    try:
        for server in servers:
            server.wait_until_healthy()
        yield Served(model, other, (servers[0], servers[1]))
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def engine(served: Served) -> Iterator[Any]:
    from apr.engine.sglang.client import SglangEngine

    made = SglangEngine(served.servers[0].url, api_key=KEY, context_length=CONTEXT)
    yield made
    run(made.close())


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def ask(engine: Any, prompt: tuple[int, ...] = PROMPT, request_id: str = "r", **params: Any) -> Completion:
    settings = {"temperature": 0.0, "max_tokens": 40, **params}
    return run(engine.generate(prompt, SamplingParams(**settings), request_id=request_id))


def test_greedy_tokens_and_logprobs_are_those_of_transformers(served: Served, engine: Any) -> None:
    completion = ask(engine)
    model = load_model(served.model).eval()
    plain = run(TorchEngine(model).generate(PROMPT, SamplingParams(0.0, 40), request_id="r"))
    assert completion.token_ids == plain.token_ids
    assert completion.logprobs == pytest.approx(plain.logprobs, abs=1e-3)
    assert completion.finish_reason == "length"


def test_sampled_logprobs_are_at_the_sampling_temperature(served: Served, engine: Any) -> None:
    completion = ask(engine, temperature=0.7)
    ids = torch.tensor([[*PROMPT, *completion.token_ids]])
    with torch.no_grad():
        expected = token_logprobs(load_model(served.model)(ids).logits / 0.7, ids)[0, len(PROMPT) - 1 :]
    assert completion.logprobs == pytest.approx(expected.tolist(), abs=1e-3)


def test_tokens_stream_and_the_stop_token_is_the_last(engine: Any) -> None:
    whole = ask(engine).token_ids
    heard: list[int] = []
    stop = whole[11]
    params = SamplingParams(0.0, 40, (stop,))
    stopped = run(engine.generate(PROMPT, params, request_id="r", on_tokens=heard.extend))
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == whole[: whole.index(stop) + 1] == tuple(heard)


FORKED = 0x40
"""Linux's flag of a process that has run no other program since it was forked."""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_server_on_a_cpu_imports_sglang_once(served: Served) -> None:
    [server] = children(served.servers[0]._keeper.pid)
    workers = [Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split() for worker in children(server)]
    assert len(workers) >= 2
    assert all(int(fields[6]) & FORKED for fields in workers)


def test_the_context_is_the_models_own(engine: Any) -> None:
    assert len(ask(engine, max_tokens=None).token_ids) == CONTEXT - len(PROMPT)
    assert len(ask(engine, tuple(range(3, 103)) * 5 + (5,) * (CONTEXT - 501)).token_ids) == 1
    full = ask(engine, (5,) * CONTEXT)
    assert (full.finish_reason, full.token_ids) == ("length", ())
    assert ask(engine, ()).finish_reason == "error"


def test_prefixes_come_from_the_cache(engine: Any) -> None:
    prompt = (1, *range(10, 60))
    parent = ask(engine, prompt)
    child = ask(engine, (*prompt, *parent.token_ids, 7))
    assert child.cached_tokens >= len(prompt) + len(parent.token_ids) - 1


def test_abort_keeps_what_was_sampled(engine: Any) -> None:
    heard: dict[str, list[int]] = {"abort": [], "cancel": []}

    async def main() -> Completion:
        long = SamplingParams(1.0, 480)
        tasks = {
            name: asyncio.create_task(engine.generate(PROMPT, long, request_id=name, on_tokens=heard[name].extend))
            for name in heard
        }
        while not all(heard.values()):
            await asyncio.sleep(0.01)
        engine.abort("abort")
        engine.abort("unknown")
        tasks["cancel"].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks["cancel"]
        return await tasks["abort"]

    aborted = run(main())
    assert aborted.finish_reason == "abort"
    assert aborted.token_ids == tuple(heard["abort"])
    assert 0 < len(aborted.token_ids) < 480


def test_a_listeners_exception_comes_out(engine: Any) -> None:
    def fail(_: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(engine.generate(PROMPT, SamplingParams(0.0, 100), request_id="r", on_tokens=fail))


def test_a_refused_request_is_an_error_completion(engine: Any) -> None:
    refused = ask(engine, temperature=-1.0)
    assert refused.finish_reason == "error"
    assert refused.error
    assert ask(engine).finish_reason == "length"


def test_ids_that_would_kill_a_server_never_reach_it(served: Served) -> None:
    engine = apr.load_engine("sglang", str(served.model), url=served.servers[0].url, api_key=KEY)
    for outside in (TOKENIZER.vocab_size, -1):
        refused = ask(engine, (*PROMPT, outside))
        assert refused.finish_reason == "error"
        assert "outside" in (refused.error or "")
    assert ask(engine).finish_reason == "length"
    run(engine.close())


def test_weights_are_updated_and_checked(served: Served, engine: Any) -> None:
    from apr.engine.sglang.client import Probe, WeightMismatch

    def probe(directory: Path) -> Probe:
        ids = torch.tensor([PROMPT])
        with torch.no_grad():
            return Probe(PROMPT, tuple(token_logprobs(load_model(directory)(ids).logits, ids)[0].tolist()))

    before = ask(engine)
    kept = tuple(range(100, 60, -1))
    ask(engine, kept)
    version = run(engine.update_weights(served.other, probe(served.other)))
    after = ask(engine)
    assert (before.policy_version, after.policy_version) == (version - 1, version)
    assert after.token_ids != before.token_ids
    # The old weights' prefixes are gone.
    assert ask(engine, kept).cached_tokens == 0
    with pytest.raises(WeightMismatch, match="apart"):
        run(engine.update_weights(served.model, probe(served.other)))
    assert ask(engine).finish_reason == "error"
    run(engine.update_weights(served.model, probe(served.model)))
    assert ask(engine).token_ids == before.token_ids

    async def too_early() -> None:
        task = asyncio.create_task(engine.generate(PROMPT, SamplingParams(1.0, 60), request_id="r"))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="requests are open"):
            await engine.update_weights(served.other)
        await task

    run(too_early())


def test_trees_are_those_of_the_native_engine(served: Served, engine: Any) -> None:
    """Random weights write no spawns, but the same threads of tokens."""
    native = apr.load_engine("native", str(served.model), cache_dtype="float32")

    async def both(problem: apr.Problem) -> list[Any]:
        policies = [Policy(one, Countdown("apr"), Traces("apr"), "apr") for one in (engine, native)]
        limits, params = Limits(tokens_per_thread=200), SamplingParams(0.0)
        return await asyncio.gather(*(policy.rollout(problem, limits, params=params) for policy in policies))

    for problem in apr.problems(6, 3):
        ours, theirs = run(both(problem))
        assert [thread.token_ids for thread in ours.threads.values()] == [
            thread.token_ids for thread in theirs.threads.values()
        ]


@pytest.mark.parametrize("hand_over", ["directory", "tensors", "distributed"])
def test_a_trainer_updates_the_server_after_each_step(hand_over: Any, served: Served, tmp_path: Path) -> None:
    """Random weights solve nothing: what moves them is the KL's rows and a strong decay."""
    from apr.engine.sglang.client import SglangEngine
    from apr.train.recipes import rl_recipe
    from apr.train.rl.trainer import GrpoTrainer
    from apr.train.run import RunDirectory

    recipe = """
    steps = 2
    groups = 2
    group_size = 2
    max_tokens = 60
    autocast = "none"
    validate_every = 10
    loss = { kl = 0.1 }
    optimizer = { learning_rate = 0.05, weight_decay = 1.0, warmup_steps = 1, decay_share = 0.0 }
    """
    log = RunDirectory(tmp_path)
    log.create(recipe)
    # Both, so that they stay alike.
    urls = [server.url for server in served.servers]
    trainer = GrpoTrainer(
        rl_recipe(recipe, "apr"),
        log,
        Countdown("apr"),
        Traces("apr"),
        lambda model, directory: SglangEngine(urls[0], servers=urls, api_key=KEY, context_length=CONTEXT),
        start_from=served.other,
        hand_over=hand_over,
    )
    try:
        before = {name: value.clone() for name, value in trainer.learner.model.state_dict().items()}
        trainer.train(lambda line: None)
        assert trainer.engine.policy_version == 2
        after = trainer.learner.model.state_dict()
        assert not all(torch.equal(before[name], after[name]) for name in before)
    finally:
        trainer.close()
    assert all(line["failures"] == 0 and line["logprob_gap"]["main"] < 1e-3 for line in log.entries())


def test_what_cannot_start_says_why(served: Served, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="holds no model"):
        start_server(tmp_path)
    port = int(served.servers[0].url.rpartition(":")[2])
    with pytest.raises(StartError, match="cannot listen"):
        start_server(served.model, port=port)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"max_position_embeddings": 64, "model_type": "no such model"}')
    for model, seconds, why in (
        (broken, 600, "ended while it started"),
        (served.model, 1, "did not come up within 1 s"),
    ):
        with start_server(model, log=tmp_path / "log") as server, pytest.raises(StartError, match=why):
            server.wait_until_healthy(seconds)


def test_a_wrong_key_is_an_engine_error(served: Served) -> None:
    from apr.engine.sglang.client import SglangEngine

    with pytest.raises(EngineError):
        SglangEngine(served.servers[0].url, api_key="guessed")


def test_nobody_there_is_an_engine_error() -> None:
    from apr.engine.sglang.client import SglangEngine

    with pytest.raises(apr.engine.base.EngineError, match="no server at"):
        SglangEngine(f"http://127.0.0.1:{free_port()}")


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from apr.engine.sglang.server import ServerProcess
        child = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
        ServerProcess([sys.executable, "-c", child], "http://127.0.0.1:1", Path(sys.argv[1]))
        time.sleep(600)
        """
    )
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", script, str(log)]) as process:
        deadline = time.monotonic() + 60
        while not (log.exists() and log.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.05)
        grandchild = int(log.read_text())
        process.kill()
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(grandchild)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()


def test_an_abort_reaches_the_server_behind_a_router(served: Served, tmp_path: Path) -> None:
    """The router alone is known: whoever asks it finds its servers, and both get aborts."""
    from apr.engine.sglang.client import SglangEngine

    urls = [server.url for server in served.servers]
    with start_router(urls, api_key=KEY, log=tmp_path / "router.log") as router:
        router.wait_until_healthy()
        wait_for_workers(router.url, 2)
        engine = SglangEngine(router.url, api_key=KEY, context_length=CONTEXT)
        assert sorted(engine.servers) == sorted(urls)

        async def until(tokens: int, name: str) -> tuple[int, Completion]:
            heard: list[int] = []
            enough = asyncio.Event()

            def listen(new: Any) -> None:
                heard.extend(new)
                if len(heard) >= tokens:
                    enough.set()

            prompt = (1, len(name), *PROMPT[1:])
            work = engine.generate(prompt, SamplingParams(1.0, 480), request_id=name, on_tokens=listen)
            running = asyncio.create_task(work)
            await enough.wait()
            known = len(heard)
            engine.abort(name)
            return known, await running

        async def all_of_them() -> list[tuple[int, Completion]]:
            return await asyncio.gather(*(until(10, "r" * n) for n in range(1, 5)))

        try:
            for known, completion in run(all_of_them()):
                assert completion.finish_reason == "abort"
                assert len(completion.token_ids) <= known + 20
        finally:
            run(engine.close())


def told(url: str) -> Any:
    """What a server or a router answers to whoever has the key."""
    return json.load(urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})))


def wait_for_workers(router: str, count: int) -> None:
    """A router is healthy as soon as it knows one server."""
    deadline = time.monotonic() + 120
    while len(told(f"{router}/workers")["workers"]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def requests_running(server: ServerProcess) -> int:
    return sum(load["num_running_reqs"] for load in told(f"{server.url}/v1/loads")["loads"])


def test_a_router_loses_no_rollout_when_a_server_dies(served: Served, tmp_path: Path) -> None:
    """Runs last: 64 rollouts of a step, one of two servers killed among them. What the dead one had begun is done again
    by the other, which then gets weights by itself."""
    from apr.engine.sglang.client import SglangEngine
    from apr.train.recipes import rl_recipe
    from apr.train.rl.groups import draw, run_groups

    recipe = "steps = 1\ngroups = 16\ngroup_size = 4\nmax_tokens = 100\n[optimizer]"
    config, task = rl_recipe(recipe, "apr"), Countdown("apr")
    urls = [server.url for server in served.servers]
    victim = served.servers[1]
    with start_router(urls, api_key=KEY, log=tmp_path / "router.log") as router:
        router.wait_until_healthy()
        wait_for_workers(router.url, 2)
        engine = SglangEngine(router.url, api_key=KEY, context_length=CONTEXT)
        policy = Policy(engine, task, Traces("apr"), "apr")

        async def step() -> list[Any]:
            running = asyncio.create_task(run_groups(draw(task, config, 0, 16), policy, config))
            # Not sooner: what it was not given it cannot lose. Nor later, when all is answered.
            while not await asyncio.to_thread(requests_running, victim):
                assert not running.done()
            [server] = children(victim._keeper.pid)
            os.killpg(server, signal.SIGKILL)
            groups = await running
            await engine.update_weights(served.other)
            await engine.close()
            return groups

        groups = run(step())
    rewards = [reward for group in groups for reward in group.rewards]
    assert len(rewards) == 64
    assert None not in rewards
    names = [tree.started.rollout for group in groups for tree in group.trees]
    assert any(name.count("-") > 1 for name in names), "the server died when nothing was left to lose"


def test_published_languages_on_a_server(tmp_path: Path) -> None:
    from apr.engine.sglang.client import SglangEngine

    context = json.loads((MODEL / "config.json").read_text())["max_position_embeddings"]
    server = start_server(MODEL, api_key=KEY, log=tmp_path / "server.log")
    try:
        server.wait_until_healthy()
        for name in NAMES:
            # An engine of each: requests run on its caller's loop.
            engine = SglangEngine(server.url, api_key=KEY, context_length=context)
            dialogue, tree, events = modelled(name, engine)
            run(engine.close())
            check(dialogue, tree, events)
            if name in MARKUPS and MARKUPS[name].inherits:
                assert all(cached >= 0.95 * held for cached, held in inherited_cached(tree))
    finally:
        server.stop()
