"""The torch engine against a plain forward pass of the whole sequence for every token."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from apr.engine import load_engine  # noqa: E402
from apr.engine.prefixes import PAGE, Prefix, PrefixStore  # noqa: E402
from apr.engine.torch import TorchEngine  # noqa: E402
from apr.types import Completion, SamplingParams  # noqa: E402

WORDS = 48
CONTEXT = 64
FEW = SamplingParams(temperature=0, max_tokens=8)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.5,
    )
    return transformers.LlamaForCausalLM(config).float()


def plain_greedy(model: Any, prompt: Sequence[int], tokens: int) -> tuple[list[int], list[float]]:
    ids, logprobs = list(prompt), []
    with torch.inference_mode():
        for _ in range(tokens):
            row = torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0, -1].double(), -1)
            ids.append(int(row.argmax()))
            logprobs.append(float(row.max()))
    return ids[len(prompt) :], logprobs


def prompts(count: int) -> list[list[int]]:
    random = torch.Generator().manual_seed(1)
    return [torch.randint(0, WORDS, (1 + 3 * i % 17,), generator=random).tolist() for i in range(count)]


async def ask(engine: TorchEngine, *asked: tuple[Sequence[int], SamplingParams]) -> list[Completion]:
    return await asyncio.gather(
        *(engine.generate(prompt, params, request_id=str(i)) for i, (prompt, params) in enumerate(asked))
    )


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@pytest.mark.parametrize("max_rows", [1, 3, 64])
def test_greedy_is_the_plain_models(model: Any, max_rows: int) -> None:
    """Prompts and lengths all differ, so rows come and go and change places."""
    engine = TorchEngine(model, max_rows=max_rows)
    lengths = [3 + 5 * i % 23 for i in range(12)]
    asked = [
        (prompt, SamplingParams(temperature=0, max_tokens=n)) for prompt, n in zip(prompts(12), lengths, strict=True)
    ]
    for (prompt, params), answer in zip(asked, run(ask(engine, *asked)), strict=True):
        ids, logprobs = plain_greedy(model, prompt, params.max_tokens or 0)
        assert list(answer.token_ids) == ids
        assert answer.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert answer.finish_reason == "length"


def test_samples_do_not_depend_on_the_batch(model: Any) -> None:
    asked = [(prompt, SamplingParams(1.0, max_tokens=20, seed=i)) for i, prompt in enumerate(prompts(8))]
    together = run(ask(TorchEngine(model), *asked))
    alone = [run(ask(TorchEngine(model), one))[0] for one in asked]
    assert [a.token_ids for a in together] == [a.token_ids for a in alone]
    same_prompt = [(prompts(1)[0], SamplingParams(1.0, max_tokens=20, seed=i)) for i in range(4)]
    assert len({answer.token_ids for answer in run(ask(TorchEngine(model), *same_prompt))}) == 4


def test_samples_follow_the_distribution(model: Any) -> None:
    """2,000 draws of one token: each probability within five standard errors."""
    draws, prompt, temperature = 2000, [1, 2, 3], 1.7
    params = [SamplingParams(temperature=temperature, max_tokens=1, seed=seed) for seed in range(draws)]
    answers = run(ask(TorchEngine(model, max_rows=500), *((prompt, p) for p in params)))
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits[0, -1].double()
    probability = torch.softmax(logits / temperature, -1)
    counts = torch.bincount(torch.tensor([a.token_ids[0] for a in answers]), minlength=WORDS)
    error = (probability * (1 - probability) / draws).sqrt()
    assert ((counts / draws - probability).abs() < 5 * error + 1e-3).all()
    for answer in answers[:20]:
        assert answer.logprobs[0] == pytest.approx(float(probability[answer.token_ids[0]].log()), abs=1e-4)


def test_stop_token_is_the_last(model: Any) -> None:
    ids, _ = plain_greedy(model, [1, 2, 3], 20)
    stop = ids[7]
    params = SamplingParams(temperature=0, max_tokens=20, stop_token_ids=(stop,))
    (answer,) = run(ask(TorchEngine(model), ([1, 2, 3], params)))
    assert list(answer.token_ids) == ids[: ids.index(stop) + 1]
    assert answer.finish_reason == "stop"


def test_context_length_bounds(model: Any) -> None:
    free = SamplingParams(temperature=0)
    answers = run(ask(TorchEngine(model), ([1] * 60, free), ([1] * CONTEXT, free), ([1] * 99, free), ([], free)))
    assert [len(a.token_ids) for a in answers] == [4, 0, 0, 0]
    assert [a.finish_reason for a in answers] == ["length", "length", "length", "error"]


def test_tokens_stream_in_order(model: Any) -> None:
    heard: list[int] = []

    async def listen() -> Completion:
        engine = TorchEngine(model)
        params = SamplingParams(max_tokens=9)
        return await engine.generate([1, 2], params, request_id="r", on_tokens=heard.extend)

    assert run(listen()).token_ids == tuple(heard)
    assert len(heard) == 9


def test_a_listeners_failure_is_its_callers_alone(model: Any) -> None:
    engine = TorchEngine(model)

    def fail(token_ids: Sequence[int]) -> None:
        raise KeyError("listener")

    async def both() -> list[Any]:
        failing = engine.generate([1, 2], FEW, request_id="fails", on_tokens=fail)
        return await asyncio.gather(failing, engine.generate([1, 2], FEW, request_id="goes on"), return_exceptions=True)

    failed, answer = run(both())
    assert isinstance(failed, KeyError)
    assert (answer.finish_reason, len(answer.token_ids)) == ("length", 8)


def test_a_fork_has_no_engine(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(model)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    (answer,) = run(ask(engine, ([1, 2], FEW)))
    assert "process that was forked" in (answer.error or "")
    with pytest.raises(RuntimeError, match="process that was forked"):
        engine.update_weights()


def test_abort_cancel_and_close(model: Any) -> None:
    engine = TorchEngine(model)
    heard: dict[str, list[int]] = {"abort": [], "cancel": [], "close": []}

    async def start(name: str) -> Completion:
        params = SamplingParams(max_tokens=60)
        return await engine.generate([1, 2], params, request_id=name, on_tokens=heard[name].extend)

    async def main() -> None:
        tasks = {name: asyncio.create_task(start(name)) for name in heard}
        while not all(heard.values()):
            await asyncio.sleep(0)
        engine.abort("abort")
        engine.abort("unknown")
        tasks["cancel"].cancel()
        aborted = await tasks["abort"]
        assert aborted.finish_reason == "abort"
        assert list(aborted.token_ids) == heard["abort"]
        assert len(aborted.token_ids) < 60
        with pytest.raises(asyncio.CancelledError):
            await tasks["cancel"]
        await engine.close()
        assert (await tasks["close"]).finish_reason == "abort"
        assert (await start("close")).finish_reason == "error"

    run(main())


def test_failure_is_an_error_completion_and_the_engine_lives_on(model: Any) -> None:
    engine = TorchEngine(model)
    sound = ([1], SamplingParams(max_tokens=3))
    answers = run(ask(engine, ([1, WORDS], SamplingParams(max_tokens=3)), sound, ([-1], SamplingParams(max_tokens=3))))
    assert [answer.finish_reason for answer in answers] == ["error", "length", "error"]
    assert "token ids are from 0" in str(answers[0].error)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_forward", lambda *_: 1 / 0)
        assert {answer.finish_reason for answer in run(ask(engine, sound, sound))} == {"error"}
    (answer,) = run(ask(engine, sound))
    assert answer.finish_reason == "length"


def test_a_request_that_is_aborted_while_it_waits_is_never_begun(model: Any) -> None:
    engine = TorchEngine(model, max_rows=1)

    async def play() -> tuple[Any, Any]:
        first = asyncio.create_task(engine.generate([1], SamplingParams(max_tokens=40), request_id="first"))
        second = asyncio.create_task(engine.generate([2], SamplingParams(max_tokens=40), request_id="second"))
        await asyncio.sleep(0)
        engine.abort("second")
        done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        assert done == {second}
        return await first, await second

    whole, aborted = run(play())
    assert (whole.finish_reason, aborted.finish_reason, aborted.token_ids) == ("length", "abort", ())


def test_weights_change_the_version(model: Any) -> None:
    engine = TorchEngine(model)
    assert engine.update_weights({k: v.clone() for k, v in model.state_dict().items()}) == 1
    (answer,) = run(ask(engine, ([1], SamplingParams(max_tokens=3))))
    assert answer.policy_version == engine.policy_version == 1

    async def too_early() -> None:
        task = asyncio.create_task(engine.generate([1], SamplingParams(max_tokens=60), request_id="r"))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="requests are open"):
            engine.update_weights()
        await task

    run(too_early())


def test_training_mode_is_given_back(model: Any) -> None:
    model.train()
    run(ask(TorchEngine(model), ([1], SamplingParams(max_tokens=3))))
    assert model.training
    model.eval()


def test_load_engine(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    engine = load_engine("torch", tmp_path, max_rows=2)
    asked = ([1, 2, 3], SamplingParams(temperature=0, max_tokens=5))
    assert run(ask(engine, asked)) == run(ask(TorchEngine(model), asked))  # type: ignore[arg-type]
    assert engine.context_length == CONTEXT
    with pytest.raises(TypeError):
        load_engine("torch", model, rows=2)
    with pytest.raises(ValueError, match="unknown engine"):
        load_engine("other", tmp_path)


def test_prefixes_of_ended_sequences_are_not_computed_again(model: Any) -> None:
    engine = TorchEngine(model, max_rows=4)
    (prompt,) = prompts(1)
    prompt = [*prompt, *range(3, 30)]
    first = run(ask(engine, (prompt, FEW)))[0]
    assert first.cached_tokens == 0
    longer = [*prompt, *first.token_ids, 5, 6, 7]
    (second,) = run(ask(engine, (longer, FEW)))
    # The last sampled token was never fed.
    assert second.cached_tokens == len(prompt) + len(first.token_ids) - 1
    assert list(second.token_ids) == plain_greedy(model, longer, len(second.token_ids))[0]
    other = [*prompt[:-2], 1, 1, 1]
    (third,) = run(ask(engine, (other, FEW)))
    assert third.cached_tokens == len(prompt) - 2
    assert list(third.token_ids) == plain_greedy(model, other, len(third.token_ids))[0]
    engine.update_weights()
    assert run(ask(engine, (longer, FEW)))[0].cached_tokens == 0


def common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@given(
    kept=st.lists(st.lists(st.integers(0, 1), max_size=60).map(tuple), max_size=8),
    wanted=st.lists(st.integers(0, 1), min_size=1, max_size=60).map(tuple),
    capacity=st.integers(0, 200),
)
def test_a_store_finds_what_it_keeps(kept: list[tuple[int, ...]], wanted: tuple[int, ...], capacity: int) -> None:
    store = PrefixStore(capacity)
    for ids in kept:
        store.add(Prefix(ids, torch.empty(0), torch.empty(0)))
    found = store.longest(wanted)
    held = {ids for ids in kept if len(ids) >= PAGE}
    if sum(map(len, held)) <= capacity:
        pages = max((common(ids, wanted[:-1]) // PAGE for ids in held), default=0)
        assert (found is not None) == (pages > 0)
        assert found is None or found[1] >= pages * PAGE
    if found is not None:
        prefix, length = found
        assert prefix.token_ids[:length] == wanted[:length]
        assert length < len(wanted)


def test_what_goes_first_takes_nothing_along_that_others_share() -> None:
    store = PrefixStore(5 * PAGE)
    shared = (1,) * PAGE
    older, newer, other = (*shared, *(2,) * PAGE), (*shared, *(3,) * PAGE), (4,) * (2 * PAGE)
    for ids in (older, newer):
        store.add(Prefix(ids, torch.empty(0), torch.empty(0)))
    assert store.longest((*older, 0)) is not None
    store.add(Prefix(other, torch.empty(0), torch.empty(0)))
    found = store.longest((*older, 0))
    assert found is not None
    assert (found[0].token_ids, found[1]) == (older, 2 * PAGE)
