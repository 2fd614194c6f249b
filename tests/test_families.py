"""Llama 3's positions, Qwen2's biases and Qwen3's norms: the native engine computes what transformers computes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from apr.engine import load_engine  # noqa: E402
from apr.engine.checkpoint import load_model  # noqa: E402
from apr.types import Completion, SamplingParams  # noqa: E402

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "attn_implementation": "sdpa",
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
ENGINES: list[tuple[str, dict[str, Any]]] = [("native", {"cache_dtype": "float32"}), ("torch", {})]
PROMPT = tuple(torch.randint(97, (40,), generator=torch.Generator().manual_seed(1)).tolist())


def model(family: str) -> Any:
    """One of random weights, none of them at a value that would hide it."""
    configs = {
        "llama3": lambda: transformers.LlamaConfig(**SHAPE, rope_parameters=LLAMA3),
        "qwen2": lambda: transformers.Qwen2Config(**SHAPE),
        "qwen3": lambda: transformers.Qwen3Config(**SHAPE, head_dim=20),
    }
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(configs[family]())
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) / 5)
            else:
                parameter.mul_(4 if "embed" not in name else 1)
    return made.eval()


@pytest.fixture(scope="module", params=["llama3", "qwen2", "qwen3"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    directory = tmp_path_factory.mktemp(request.param)
    made = model(request.param)
    made.save_pretrained(directory)
    return made, directory


def ask(engine: Any, prompt: tuple[int, ...] = PROMPT) -> Completion:
    return asyncio.run(engine.generate(prompt, SamplingParams(0.0, 120), request_id="r"))


@pytest.mark.parametrize(("engine", "options"), ENGINES)
def test_tokens_and_logprobs_are_those_of_transformers(
    checkpoint: tuple[Any, Path], engine: str, options: dict[str, Any]
) -> None:
    made, directory = checkpoint
    completion = ask(load_engine(engine, directory, **options))
    ids = torch.tensor([[*PROMPT, *completion.token_ids]])
    with torch.no_grad():
        expected = torch.log_softmax(made(ids).logits[0, len(PROMPT) - 1 : -1], -1)
    assert completion.token_ids == tuple(expected.argmax(-1).tolist())
    assert completion.logprobs == pytest.approx(expected.max(-1).values.tolist(), abs=1e-3)
    assert len(set(completion.token_ids)) > 3


def test_a_cached_prefix_changes_nothing(checkpoint: tuple[Any, Path]) -> None:
    engine = load_engine("native", checkpoint[1], cache_dtype="float32")
    first = ask(engine)
    longer = ask(engine, PROMPT + first.token_ids[:60])
    assert longer.cached_tokens > 64
    assert longer.token_ids[:60] == first.token_ids[60:]


def test_float16_is_read_as_it_is(checkpoint: tuple[Any, Path], tmp_path: Path) -> None:
    made = load_model(checkpoint[1], dtype=torch.float16)
    made.save_pretrained(tmp_path)
    native, plain = (ask(load_engine(engine, tmp_path, **more)) for engine, more in ENGINES)
    assert native.token_ids == plain.token_ids


@pytest.mark.parametrize("missing", ["num_key_value_heads", "model.layers.1.self_attn.q_proj.bias"])
def test_what_a_qwen_lacks_is_told(tmp_path: Path, missing: str) -> None:
    model("qwen2").save_pretrained(tmp_path)
    config, weights = json.loads((tmp_path / "config.json").read_text()), load_file(tmp_path / "model.safetensors")
    for part in (config, weights):
        part.pop(missing, None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=missing.rpartition("layers")[2]):
        load_engine("native", tmp_path)
