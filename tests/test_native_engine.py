"""The native engine against transformers on tiny random models, and its life on event loops."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from apr.engine.native import NativeEngine
from apr.types import Completion, SamplingParams

GREEDY = SamplingParams(temperature=0.0, max_tokens=40)
DTYPES = ("int8", "bfloat16", "float32")
PROMPT = (1, 5, 7, 33, 2, 90)


def save_model(directory: Path, seed: int = 0, dtype: torch.dtype = torch.float32, **changes) -> LlamaForCausalLM:
    """A model wide enough in its weights that greedy choices are not close calls."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": 97,
        "hidden_size": 64,
        "intermediate_size": 150,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "initializer_range": 0.3,
    }
    LlamaForCausalLM(LlamaConfig(**{**shape, **changes})).to(dtype).save_pretrained(directory)
    # Not the model itself: its rotary frequencies were rounded along with the weights.
    return LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> tuple[Path, LlamaForCausalLM]:
    directory = tmp_path_factory.mktemp("model")
    return directory, save_model(directory)


@pytest.fixture(params=DTYPES)
def engine(checkpoint, request):
    engine = NativeEngine(checkpoint[0], cache_dtype=request.param, threads=2)
    yield engine
    asyncio.run(engine.close())


def generate(engine: NativeEngine, prompt=PROMPT, params=GREEDY, request_id="r", **kwargs) -> Completion:
    return asyncio.run(engine.generate(prompt, params, request_id=request_id, **kwargs))


def scores(model: LlamaForCausalLM, prompt, completion: Completion, temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities `[sampled token, vocabulary]` by a plain forward pass."""
    ids = torch.tensor([[*prompt, *completion.token_ids]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1},
        {"tie_word_embeddings": True},
        {"head_dim": 24},
        {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
        {"dtype": torch.bfloat16},
        {"dtype": torch.bfloat16, "tie_word_embeddings": True},
    ],
    ids=lambda changes: ",".join(map(str, changes.items())) or "grouped",
)
def test_agrees_with_transformers(tmp_path, changes):
    model = save_model(tmp_path, **changes)
    engine = NativeEngine(tmp_path, cache_dtype="float32")
    prompts = [PROMPT, tuple(range(70)), tuple(range(90, 40, -1))]

    async def run():
        jobs = []
        for index, prompt in enumerate(prompts):
            warm = SamplingParams(temperature=0.8, max_tokens=40, seed=index)
            jobs.append(engine.generate(prompt, GREEDY, request_id=f"greedy {index}"))
            jobs.append(engine.generate(prompt, warm, request_id=f"warm {index}"))
        return await asyncio.gather(*jobs)

    completions = asyncio.run(run())
    for index, prompt in enumerate(prompts):
        greedy, warm = completions[2 * index : 2 * index + 2]
        logprobs = scores(model, prompt, greedy)
        assert list(greedy.token_ids) == logprobs.argmax(-1).tolist()
        for completion, temperature in ((greedy, 1.0), (warm, 0.8)):
            tokens = torch.tensor(completion.token_ids)
            logprobs = scores(model, prompt, completion, temperature)
            expected = logprobs.gather(1, tokens[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dtype", "times", "most"), [("bfloat16", 2, 2e-3), ("int8", 3.2, 1e-2)])
def test_a_smaller_cache_is_nearly_as_exact(dtype, times, most, tmp_path):
    """Weights of the size that training leaves, not those of the other tests, which enlarge every difference."""
    model = save_model(tmp_path, initializer_range=0.05)
    # Whole pages of each type: keys and values of sixteen tokens, three layers, two heads of sixteen.
    size = 345 * (2 * 16 * 3 * 2 * 16 * 4)
    engine, exact = (NativeEngine(tmp_path, cache_dtype=dtype, cache_bytes=size) for dtype in (dtype, "float32"))
    assert engine.stats.pages == times * exact.stats.pages == times * 345
    for length in (5, 33, 200):
        prompt = [(7 * index + length) % 97 for index in range(length)]
        params = SamplingParams(temperature=1.0, max_tokens=40, seed=length)
        completion = generate(engine, prompt, params)
        logprobs = scores(model, prompt, completion).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(completion.logprobs), logprobs, atol=most, rtol=0)
        # A draw at the edge between two tokens may fall to either, more often the coarser the cache.
        if dtype == "bfloat16":
            assert generate(exact, prompt, params).token_ids == completion.token_ids


def test_products_of_bfloat16_are_nearly_as_exact(tmp_path):
    model = save_model(tmp_path, dtype=torch.bfloat16, initializer_range=0.05)
    processor = Path("/proc/cpuinfo")
    flags = set(processor.read_text().split()) if processor.exists() else None
    engine, exact = (NativeEngine(tmp_path, compute_dtype=dtype) for dtype in ("bfloat16", "float32"))
    for length in (5, 33, 200):
        prompt = [(7 * index + length) % 97 for index in range(length)]
        params = SamplingParams(temperature=1.0, max_tokens=40, seed=length)
        completion = generate(engine, prompt, params)
        logprobs = scores(model, prompt, completion).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(completion.logprobs), logprobs, atol=2e-2, rtol=0)
        if flags is not None:
            rounded = {"avx512_bf16", "avx512_vnni", "avx512bw"} <= flags
            assert (completion.logprobs != generate(exact, prompt, params).logprobs) == rounded
        # One and many rows, each of them as alone.
        alone = [generate(engine, prompt[:end], params) for end in range(1, 5)]

        async def together(prompt=prompt, params=params):
            calls = (engine.generate(prompt[:end], params, request_id=str(end)) for end in range(1, 5))
            return await asyncio.gather(*calls)

        assert [one.logprobs for one in asyncio.run(together())] == [one.logprobs for one in alone]


def test_result_does_not_depend_on_batch_mates(engine):
    params = [SamplingParams(1.0, max_tokens=30, seed=seed) for seed in range(12)]
    alone = [generate(engine, PROMPT[: 2 + seed % 4], params[seed]) for seed in range(12)]

    async def together():
        jobs = (engine.generate(PROMPT[: 2 + seed % 4], params[seed], request_id=str(seed)) for seed in range(12))
        return await asyncio.gather(*jobs)

    for one, other in zip(alone, asyncio.run(together()), strict=True):
        assert (one.token_ids, one.logprobs) == (other.token_ids, other.logprobs)
    assert alone[0].token_ids != alone[4].token_ids


def test_streams_every_token_once_and_stops(engine):
    streamed: list[int] = []
    whole = generate(engine, on_tokens=streamed.extend)
    assert tuple(streamed) == whole.token_ids
    assert (whole.finish_reason, len(whole.logprobs)) == ("length", 40)
    stop = whole.token_ids[9]
    stopped = generate(engine, params=SamplingParams(0.0, 40, (96, stop)))
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == whole.token_ids[: whole.token_ids.index(stop) + 1]
    unlimited = generate(engine, params=SamplingParams(0.0))
    assert len(unlimited.token_ids) == engine.context_length - len(PROMPT)


def test_prefixes_are_cached(engine):
    parent = generate(engine)
    longer = generate(engine, (*PROMPT, *parent.token_ids, 3))
    assert longer.cached_tokens == len(PROMPT) + len(parent.token_ids) - 1
    stats = engine.stats
    assert stats.cached_tokens == longer.cached_tokens
    assert stats.sampled_tokens == 80
    assert (stats.waiting, stats.running) == (0, 0)


@pytest.mark.parametrize("prompt", [(), (97,), (-1,), (2**40,), ("a",), (1,) * 257], ids=str)
def test_bad_prompt_is_an_error_completion(engine, prompt):
    completion = generate(engine, prompt)
    assert completion.finish_reason == "error"
    assert completion.error
    assert generate(engine).finish_reason == "length"


def test_abort_keeps_what_was_sampled(tmp_path):
    save_model(tmp_path, max_position_embeddings=65536)
    engine = NativeEngine(tmp_path)

    async def run():
        got = asyncio.Event()
        endless = SamplingParams(temperature=1.0)
        job = engine.generate(PROMPT, endless, request_id="a", on_tokens=lambda ids: got.set())
        task = asyncio.create_task(job)
        await asyncio.sleep(0)
        same = await engine.generate(PROMPT, endless, request_id="a")
        await got.wait()
        engine.abort("unknown")
        engine.abort("a")
        return same, await task

    same, aborted = asyncio.run(run())
    assert (same.finish_reason, same.token_ids) == ("error", ())
    assert aborted.finish_reason == "abort"
    assert 0 < len(aborted.token_ids) < 60000
    assert len(aborted.logprobs) == len(aborted.token_ids)


def test_cancellation_aborts(tmp_path):
    save_model(tmp_path, max_position_embeddings=65536)
    engine = NativeEngine(tmp_path)

    async def run():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(engine.generate(PROMPT, SamplingParams(), request_id="a"), 0.05)

    # Twice over: a second loop, and the first one gone while its request was open.
    asyncio.run(run())
    asyncio.run(run())
    deadline = time.monotonic() + 5
    while engine.stats.running:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert generate(engine).finish_reason == "length"


def test_close_ends_open_requests(tmp_path):
    save_model(tmp_path, max_position_embeddings=65536)
    engine = NativeEngine(tmp_path)

    async def run():
        tasks = [
            asyncio.create_task(engine.generate(PROMPT, SamplingParams(), request_id=str(index))) for index in range(3)
        ]
        await asyncio.sleep(0.02)
        await engine.close()
        return await asyncio.gather(*tasks)

    assert [completion.finish_reason for completion in asyncio.run(run())] == ["abort"] * 3
    closed = generate(engine)
    assert (closed.finish_reason, closed.error) == ("error", "the engine is closed")


def test_listener_failure_is_the_callers(engine):
    def fail(token_ids):
        raise KeyError("listener")

    with pytest.raises(KeyError):
        generate(engine, on_tokens=fail)
    assert generate(engine).finish_reason == "length"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weight_update_equals_a_fresh_load(tmp_path, checkpoint, dtype):
    model = save_model(tmp_path, seed=1, dtype=dtype)
    fresh = generate(NativeEngine(tmp_path))
    engine = NativeEngine(checkpoint[0])
    before = generate(engine)
    state = model.to(dtype).state_dict()
    if dtype is torch.bfloat16:
        state = {name: value.view(torch.uint16) for name, value in state.items()}
    state = {name: value.numpy() for name, value in state.items()}
    assert engine.update_weights(state) == engine.policy_version == 1
    after = generate(engine)
    assert after.token_ids == fresh.token_ids != before.token_ids
    assert after.logprobs == fresh.logprobs
    assert (before.policy_version, after.policy_version) == (0, 1)
    assert after.cached_tokens == 0

    wrong = {**state, "model.norm.weight": state["model.norm.weight"][:-1].copy()}
    for bad in (wrong, {"a": state["model.norm.weight"]}, {"model.norm.weight": b"bytes"}):
        with pytest.raises(ValueError, match="weight"):
            engine.update_weights(bad)
    assert engine.policy_version == 1
    assert generate(engine).token_ids == after.token_ids


def test_weight_update_waits_for_nobody(tmp_path):
    model = save_model(tmp_path, max_position_embeddings=65536)
    engine = NativeEngine(tmp_path)
    state = {name: value.numpy() for name, value in model.state_dict().items()}

    async def run():
        task = asyncio.create_task(engine.generate(PROMPT, SamplingParams(), request_id="a"))
        await asyncio.sleep(0.02)
        with pytest.raises(RuntimeError, match="open"):
            engine.update_weights(state)
        engine.abort("a")
        await task
        assert engine.update_weights(state) == 1

    asyncio.run(run())


def test_unusable_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError):
        NativeEngine(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="unsupported"):
        NativeEngine(tmp_path)
    save_model(tmp_path)
    with pytest.raises(ValueError, match="cache_bytes"):
        NativeEngine(tmp_path, cache_bytes=1000)
    with pytest.raises(ValueError, match="cache_dtype"):
        NativeEngine(tmp_path, cache_dtype="int4")
    with pytest.raises(ValueError, match="compute_dtype"):
        NativeEngine(tmp_path, compute_dtype="int8")


def test_import_is_light():
    code = "import sys, apr.engine.native; print(*{'torch', 'numpy', 'rich', 'transformers'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_a_broken_decoder_is_told_to_everyone_and_used_no_more(checkpoint, monkeypatch):
    """What it computed before may be in the tree of prefixes without ever having been computed."""
    engine = NativeEngine(checkpoint[0])
    escaped: list[object] = []
    monkeypatch.setattr("threading.excepthook", escaped.append)

    class Broken:
        policy_version = 0
        submit = staticmethod(lambda *_, **__: None)
        abort = staticmethod(lambda handle: False)

        @staticmethod
        def run(seconds: float) -> None:
            raise SystemError("a task of the pool panicked")

    engine._decoder = Broken()

    async def both():
        return await asyncio.gather(*(engine.generate(PROMPT, GREEDY, request_id=str(i)) for i in range(2)))

    for completion in (*asyncio.run(both()), generate(engine)):
        assert completion.finish_reason == "error"
        assert "a task of the pool panicked" in completion.error
    assert not escaped


def test_a_fork_while_the_engine_decodes_hangs_nobody(tmp_path):
    save_model(tmp_path, max_position_embeddings=65536)
    script = """
import asyncio, os, sys, threading
from apr.engine.native import NativeEngine
from apr.types import SamplingParams

engine = NativeEngine(sys.argv[1], threads=2)
decoding = threading.Event()

def generate(name, **options):
    return engine.generate((1, 5, 7), SamplingParams(), request_id=name, **options)

def parent():
    return asyncio.run(generate("parent", on_tokens=lambda token_ids: decoding.set()))

thread = threading.Thread(target=parent)
thread.start()
decoding.wait()
with engine._lock:
    child = os.fork()
if child == 0:
    completion = asyncio.run(generate("child"))
    engine.abort("parent")
    asyncio.run(engine.close())
    for refused in (lambda: engine.stats, lambda: engine.update_weights({})):
        try:
            refused()
        except RuntimeError as error:
            print(error)
    print(completion.finish_reason, completion.error)
    sys.stdout.flush()
    # As any process ends: what the engine holds is let go.
    del engine
    sys.exit(0)
print("child", os.waitpid(child, 0)[1])
engine.abort("parent")
thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "child 0"
    assert len(lines) == 4
    assert all("process that was forked" in line for line in lines[:3])
