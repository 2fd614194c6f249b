"""Checkpoints of others, with a Llama-style tokenizer that spells the grammar's phrases in several tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

tokenizers = pytest.importorskip("tokenizers")

import apr  # noqa: E402
import llama_style  # noqa: E402
from apr import _core  # noqa: E402
from apr.cli import main  # noqa: E402
from apr.countdown.spelled import SpelledTraces  # noqa: E402
from apr.countdown.task import Countdown  # noqa: E402
from apr.engine import load_engine  # noqa: E402
from apr.engine.phrases import PhraseEngine  # noqa: E402
from apr.evaluate.problems import split_problems  # noqa: E402
from apr.evaluate.rows import read_rows  # noqa: E402
from apr.limits import Limits  # noqa: E402
from apr.policy import PolicyError, load_policy  # noqa: E402
from apr.testing.scripted import Fault, ScriptedEngine  # noqa: E402
from apr.threads.tree import ThreadTree  # noqa: E402
from apr.tokenizer import ForeignTokenizer  # noqa: E402
from apr.types import SamplingParams  # noqa: E402
from tiny import SOLVED, teacher_policy, teacher_texts  # noqa: E402

JOIN_OPEN, SPAWN_END, SPAWN_OPEN = (p.rstrip() for p in (_core.JOIN_OPEN, _core.SPAWN_END, _core.SPAWN_OPEN))
TOKENIZER = ForeignTokenizer(llama_style.train(), llama_style.BEGIN, llama_style.END)


class Played:
    """What a script needs of it."""

    eos = TOKENIZER.eos
    encode = staticmethod(TOKENIZER.encode)

    @staticmethod
    def decode(ids: list[int]) -> str:
        return TOKENIZER.decode(ids, skip_special=True)


def played(
    problem: apr.Problem, texts: Sequence[str], limits: Limits | None = None, faults: Sequence[Fault] = ()
) -> tuple[ThreadTree, ScriptedEngine]:
    language = SpelledTraces("apr", TOKENIZER)
    script = ScriptedEngine(texts, Played(), faults=faults)
    tree = apr.run_threads(problem, script, limits, language=language)
    return tree, script


def test_phrases_are_spelled() -> None:
    for phrase in (SPAWN_OPEN, SPAWN_END, JOIN_OPEN):
        assert len(TOKENIZER.encode(phrase)) > 1
    ids = TOKENIZER.encode("Moving to Node #0\n12")
    digits = TOKENIZER.encode("12")
    assert len(digits) == 2
    assert ids[-2:] == digits


@given(st.lists(st.sampled_from([*"\n\n 07#<>[],:+=é", "Moving to Node #", "Goal Reached", SPAWN_END]), max_size=30))
def test_texts_survive_in_any_pieces(pieces: list[str]) -> None:
    text = "".join(pieces)
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    if text.isascii():
        assert "".join(TOKENIZER.decode([i]) for i in ids) == text
    opened = TOKENIZER.open("Moving to Node #0" + text)
    # The authors' texts begin with a begin token of their own.
    assert opened[:2] == [TOKENIZER.bos] * 2
    assert TOKENIZER.decode(opened, skip_special=True) == "Moving to Node #0" + text


def test_a_teacher_searches_as_with_our_own_tokenizer() -> None:
    outcomes = set()
    for problem in (SOLVED, *split_problems(Countdown(), 4, "test", 4)):
        ours = apr.run_threads(problem, teacher_policy([problem]).engine)
        tree, _ = played(problem, teacher_texts(problem))
        assert {i: thread.text for i, thread in tree.threads.items()} == {
            i: thread.text for i, thread in ours.threads.items()
        }
        assert [t.reason for t in tree.threads.values()] == [t.reason for t in ours.threads.values()]
        assert (tree.correct, tree.steps, tree.main.result) == (ours.correct, ours.steps, ours.main.result)
        # One call a stretch: where a phrase might have ended and did not, the call went on.
        assert len(tree.main.calls) == len(ours.main.calls)
        outcomes.add(tree.correct)
    assert outcomes == {True, False}


def test_ids_are_never_encoded_again() -> None:
    tree, script = played(SOLVED, teacher_texts(SOLVED))
    trunk = tree.main.calls[1].kept
    first, joined = (branch[0] for branch in tree.main.branches())
    assert first.token_ids == tuple(SpelledTraces("apr", TOKENIZER).open(tree.main.prompt_text))
    main_prompts = [prompt for prompt, _, _ in script.requests if prompt[: len(first.token_ids)] == first.token_ids]
    assert joined.token_ids[:trunk] == main_prompts[-1][:trunk]
    assert not TOKENIZER.decode(joined.token_ids[:trunk], skip_special=True).endswith(SPAWN_OPEN)
    assert TOKENIZER.decode(joined.token_ids[trunk:]).startswith(JOIN_OPEN)


def test_a_join_that_the_model_writes_is_made_a_spawn() -> None:
    spawning, joined, *children = teacher_texts(SOLVED)
    tree, _ = played(SOLVED, [joined, spawning, *children])
    straight, _ = played(SOLVED, [spawning, joined, *children])
    assert [call.cause for call in tree.main.calls] == [None, "replace", "join"]
    assert tree.main.calls[0].dropped == len(TOKENIZER.encode(JOIN_OPEN))
    assert tree.main.text == straight.main.text
    assert tree.correct
    assert tree.total_tokens == sum(t.sampled_tokens for t in tree.threads.values())


def test_nothing_is_told_that_will_be_taken_back() -> None:
    language = SpelledTraces("apr", TOKENIZER)
    trunk = "Moving to Node #0\n"
    for phrase in (SPAWN_OPEN, JOIN_OPEN):
        for end in range(len(phrase)):
            assert language.settled(trunk + phrase[:end]) == len(trunk)
    assert language.settled(f"{trunk}{SPAWN_OPEN}\n<Start") == len(trunk)
    assert language.settled(f"{trunk}<Goal") == len(trunk) + 5


def test_malformed_spawns_and_limits() -> None:
    prompt = teacher_texts(SOLVED)[0].split("\nExploring")[0]
    tree, _ = played(SOLVED, [f"{prompt}\n{SPAWN_END}\n"])
    assert tree.main.reason == "malformed_spawn"
    texts = teacher_texts(SOLVED)
    # The bound falls into a later part of a call.
    whole, script = played(SOLVED, texts)
    parts = [len(answer.token_ids) for prompt, _, answer in script.requests if answer.finish_reason == "stop"]
    bound = len(whole.main.calls[0].forced) + parts[0] + 3
    cut, _ = played(SOLVED, texts, Limits(tokens_per_thread=bound))
    assert cut.main.reason == "length"
    assert cut.main.context == bound
    failed, _ = played(SOLVED, texts, faults=[Fault(SPAWN_OPEN, "error", after=2)])
    assert failed.main.reason == "engine_error"
    assert failed.correct is None


def test_an_abort_between_parts_ends_the_call() -> None:
    language = SpelledTraces("apr", TOKENIZER)
    script = ScriptedEngine([f"a\n{'<End> ' * 50}\n"], Played())
    engine = PhraseEngine(script, language.settled_stop)

    def stop(_: Sequence[int]) -> None:
        if len(script.requests) == 2:
            engine.abort("r")

    async def ask() -> Any:
        params = SamplingParams(stop_token_ids=language.stop_token_ids)
        return await engine.generate(language.open("a"), params, request_id="r", on_tokens=stop)

    answer = asyncio.run(ask())
    assert answer.finish_reason == "abort"
    assert TOKENIZER.decode(answer.token_ids).startswith("\n<End> <End>")
    assert len(script.requests) == 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small Llama with random weights, as the library writes it."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=TOKENIZER.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=TOKENIZER.bos,
        eos_token_id=TOKENIZER.eos,
        initializer_range=0.3,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(directory)
    llama_style.save(llama_style.train(), directory)
    return str(directory)


@pytest.mark.parametrize("method", ["apr", "sos+"])
def test_engines_run_it_alike(checkpoint: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of random weights many choices are close ones, which keys and values in bfloat16 may turn.
    def exact(engine: str, model: str, **options: Any) -> Any:
        return load_engine(engine, model, **options, **({"cache_dtype": "float32"} if engine == "native" else {}))

    monkeypatch.setattr("apr.policy.load_engine", exact)
    found = {}
    for engine in ("torch", "native"):
        words = ["--problems", "3", "--model", checkpoint, "--method", method, "--engine", engine, "--budget", "512"]
        assert main(["eval", *words, "--out", str(tmp_path / engine)]) == 0
        rows = read_rows(tmp_path / engine)[1]
        found[engine] = [(row["reason"], row["total_tokens"], row["context"], row["llama2_context"]) for row in rows]
        assert all(row["correct"] is False for row in rows)
        assert all(row["context"] <= 128 for row in rows)
    assert found["torch"] == found["native"]


def test_a_name_is_looked_up_on_the_hub(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def snapshot(name: str, **_: Any) -> str:
        asked.append(name)
        if name != "somebody/llama":
            raise OSError("no such repository\nmore words")
        return checkpoint

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    policy = load_policy("native", "somebody/llama")
    assert policy.engine.context_length == 128
    asyncio.run(policy.close())
    with pytest.raises(PolicyError, match=r"nor on the hub: no such repository$"):
        load_policy("native", "nobody/llama")
    with pytest.raises(PolicyError, match="is not a directory"):
        load_policy("native", "/nowhere/llama")
    assert list(dict.fromkeys(asked)) == ["somebody/llama", "nobody/llama"]


@pytest.mark.parametrize(("weights", "calls"), [("model.safetensors", 1), ("pytorch_model.bin", 2)])
def test_weights_are_fetched_in_one_form(
    weights: str, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import ExitStack

    from apr.policy import checkpoint

    hub = pytest.importorskip("huggingface_hub")
    asked: list[list[str]] = []

    def snapshot(name: str, *, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        for file in ("config.json", "chat_template.jinja", weights):
            if any(Path(file).match(pattern) for pattern in allow_patterns):
                (tmp_path / file).touch()
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    with ExitStack() as files:
        directory = checkpoint("somebody/llama", files)
    assert {file.name for file in directory.iterdir()} == {"config.json", "chat_template.jinja", weights}
    assert len(asked) == calls
    assert "*.bin" not in asked[0]


def test_a_tokenizer_that_is_none_is_refused(checkpoint: str, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((Path(checkpoint) / name).read_bytes())
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PolicyError, match="is no tokenizer"):
        load_policy("native", str(tmp_path))
    llama_style.train().save(str(tmp_path / "tokenizer.json"))
    # Its ids are named in config.json.
    asyncio.run(load_policy("native", str(tmp_path)).close())
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<nobody>", "eos_token": "</s>"}')
    with pytest.raises(PolicyError, match="nobody"):
        load_policy("native", str(tmp_path))
