"""Whatever an engine says that cannot be is an engine failure with its reason, and never reaches a listener."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from apr.engine.base import OnTokens
from apr.engine.guard import guarded
from apr.testing.scripted import ScriptedEngine
from apr.threads.run import run_threads
from apr.types import Completion, SamplingParams, Timing, temperature_fault
from tiny import SOLVED

VOCABULARY = 150
STOP = 7
PARAMS = SamplingParams(0.0, 5, (STOP,))
SOUND = Completion((30, 31, STOP), (-0.5, 0.0, 1e-5), "stop")


class Says:
    """An engine that answers everything alike."""

    context_length = 64
    vocab_size: int | None = VOCABULARY
    policy_version = 0

    def __init__(self, completion: Completion) -> None:
        self.completion = completion

    async def generate(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        request_id: str,
        on_tokens: OnTokens | None = None,
    ) -> Completion:
        if on_tokens is not None:
            for token in self.completion.token_ids:
                on_tokens([token])
        return self.completion

    def abort(self, request_id: str) -> None:
        pass

    async def close(self) -> None:
        pass


def ask(
    completion: Completion, stream: bool, prompt: int = 3, params: SamplingParams = PARAMS
) -> tuple[Completion, list[int]]:
    heard: list[int] = []
    work = guarded(
        Says(completion),
        (1,) * prompt,
        params,
        request_id="r",
        policy_version=0,
        vocab_size=VOCABULARY,
        on_tokens=heard.extend if stream else None,
    )
    return asyncio.run(work), heard


LIES: list[tuple[dict[str, Any], str]] = [
    ({"token_ids": (30, strange, STOP)}, "no token id of the vocabulary of 150")
    for strange in (-1, VOCABULARY, 99999, 2**70, 10**5000, 5.7, 30.0, True, "30", None)
]
LIES += [
    ({"logprobs": (-0.5, strange, -0.5)}, "no log-probability")
    for strange in (float("nan"), float("inf"), float("-inf"), 7.0, 0.01, True, "x", None, -(2**2000), -1e300)
]
LIES += [
    ({"cached_tokens": strange}, "cached tokens of a prompt of")
    for strange in (-1, 10**6, 2**70, 1.0, True, float("nan"), "all", None)
]
LIES += [
    ({"logprobs": (-0.5,)}, "1 logprobs for 3 tokens"),
    ({"logprobs": (-0.5,) * 4}, "4 logprobs for 3 tokens"),
    ({"token_ids": (30,) * 40, "logprobs": (), "finish_reason": "length"}, "where 5 were allowed"),
    ({"token_ids": (30,), "logprobs": (-0.5,), "finish_reason": "length"}, "after 1 tokens where 5 were allowed"),
    ({"token_ids": (), "logprobs": (), "finish_reason": "length"}, "after 0 tokens where 5 were allowed"),
    ({"token_ids": (30, 31, 32)}, "not at a stop token"),
    ({"token_ids": (), "logprobs": ()}, "not at a stop token"),
    ({"policy_version": 3}, "policy version changed from 0 to 3"),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("changes", "why"), LIES)
def test_what_cannot_be_is_an_engine_failure(changes: dict[str, Any], why: str, stream: bool) -> None:
    completion, heard = ask(replace(SOUND, **changes), stream)
    assert completion.finish_reason == "error"
    assert why in str(completion.error)
    assert completion.logprobs == ()
    assert all(type(token) is int and 0 <= token < VOCABULARY for token in (*completion.token_ids, *heard))
    assert len(completion.token_ids) <= 5
    assert not stream or list(completion.token_ids)[: len(heard)] == heard


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "None is no completion"),
        ({"token_ids": ()}, "is no completion"),
        *((replace(SOUND, token_ids=strange), "token_ids of a compl") for strange in (None, 5, "30", {30: 1}, [30])),
        *((replace(SOUND, logprobs=strange), "logprobs of a compl") for strange in (None, 7, "-1", {1: -0.5})),
        *((replace(SOUND, finish_reason=strange), "no reason to finish") for strange in (None, "bored", [], 3)),
        *(
            (replace(SOUND, timing=strange), "no timing")
            for strange in ("x", (0.0,) * 3, Timing(0.0, 0.0, float("nan")))
        ),
        (replace(SOUND, finish_reason="error", error=5), "error of a completion cannot be 5"),
    ],
    ids=str,
)
def test_an_answer_of_another_shape_is_an_engine_failure(answer: Any, why: str) -> None:
    completion, _ = ask(answer, stream=False)
    assert (completion.finish_reason, completion.token_ids, completion.logprobs) == ("error", (), ())
    assert why in str(completion.error)


@pytest.mark.parametrize("stream", [True, False])
def test_what_can_be_is_believed(stream: bool) -> None:
    full = Completion((30,) * 5, (-0.5,) * 5, "length")
    for completion in (SOUND, replace(SOUND, logprobs=()), full, replace(SOUND, finish_reason="abort")):
        assert ask(completion, stream)[0] == completion
    # What is left of the context bounds a completion as well.
    at_the_end = Completion((30,) * 2, (-0.5,) * 2, "length")
    assert ask(at_the_end, stream, prompt=62)[0] == at_the_end
    assert ask(at_the_end, stream, prompt=62, params=SamplingParams(0.0))[0] == at_the_end
    beyond = Completion((), (), "length")
    assert ask(beyond, stream, prompt=64)[0] == ask(beyond, stream, prompt=99)[0] == beyond


def test_an_engines_own_words_come_first() -> None:
    broken = Completion((30, 99999), (float("nan"),), "error", error="lost")
    completion, _ = ask(broken, stream=False)
    assert (completion.token_ids, completion.logprobs, completion.error) == ((30,), (), "lost")


def test_an_engines_words_are_text_that_a_file_takes() -> None:
    completion, _ = ask(Completion((), (), "error", error="lost\ud800\n"), stream=False)
    assert completion.error == "lost?\n"


@pytest.mark.parametrize("strange", [-1, 99999, 2**70, 5.7, True])
@pytest.mark.parametrize("engine_tells", [True, False])
def test_a_rollout_with_such_an_id_failed(strange: Any, engine_tells: bool) -> None:
    """The language knows its vocabulary where the engine does not tell."""
    engine = Says(Completion((30, strange, 2), (), "stop"))
    engine.vocab_size = VOCABULARY if engine_tells else None
    for stream in (True, False):
        tree = run_threads(SOLVED, engine, stream=stream)
        assert tree.failed
        assert tree.main.reason == "engine_error"
        assert "no token id" in str(tree.main.detail)


def test_a_script_tells_its_vocabulary() -> None:
    from apr import Tokenizer

    assert ScriptedEngine([], Tokenizer()).vocab_size == Tokenizer().vocab_size


@pytest.mark.parametrize(
    "temperature", [1e-5, 9.9e-5, 1e-300, -1.0, -1e-5, 1e5, 1e300, float("nan"), float("inf"), True, "1", None]
)
def test_temperatures_no_engine_takes(temperature: Any) -> None:
    assert "temperature is 0 or from 0.0001 to 10000" in str(temperature_fault(temperature))
    assert SamplingParams(temperature).fault == temperature_fault(temperature)


@pytest.mark.parametrize("temperature", [0, 0.0, -0.0, 1e-4, 0.7, 1, 2.0, 1e4])
def test_temperatures_every_engine_takes(temperature: float) -> None:
    assert temperature_fault(temperature) is None
    assert SamplingParams(temperature).fault is None


@pytest.mark.parametrize(
    "changes",
    [
        {"max_tokens": -1},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"stop_token_ids": (-1,)},
        {"stop_token_ids": (2**40,)},
        {"stop_token_ids": ("a",)},
        {"seed": 0.5},
        {"seed": "1"},
    ],
    ids=str,
)
def test_other_parameters_no_engine_takes(changes: dict[str, Any]) -> None:
    assert SamplingParams(**changes).fault is not None
