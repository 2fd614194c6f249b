"""Checkpoints that are damaged, hostile, or of other models: both engines refuse them by name, or run none of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from apr import Tokenizer  # noqa: E402
from apr.cli import main  # noqa: E402
from apr.engine import load_engine  # noqa: E402
from apr.engine.checkpoint import load_model  # noqa: E402
from apr.policy import PolicyError, load_policy  # noqa: E402
from apr.types import Completion, SamplingParams  # noqa: E402
from tiny import save_tiny_model  # noqa: E402

ENGINES = ("native", "torch")
PROMPT = (1, 28, 3, 5)
GREEDY = SamplingParams(0.0, 5)
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sound")
    save_tiny_model(directory)
    return directory


@pytest.fixture
def model(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "model"))


def configure(model: Path, **changes: Any) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def ask(engine: Any, **changes: Any) -> Completion:
    params = SamplingParams(**{"temperature": 0.0, "max_tokens": 5, **changes})
    return asyncio.run(engine.generate(PROMPT, params, request_id="r"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "mistral"),
        ("model_type", 3),
        ("architectures", ["Qwen2ForCausalLM"]),
        ("architectures", ["MistralForCausalLM"]),
        ("architectures", "LlamaForCausalLM"),
        ("sliding_window", 4096),
        ("attention_bias", True),
        ("attention_bias", "true"),
        ("mlp_bias", True),
        ("quantization_config", {"quant_method": "gptq", "bits": 4}),
        ("auto_map", {"AutoModelForCausalLM": "modeling.Mine"}),
        ("hidden_act", "gelu"),
        ("hidden_act", 3),
        ("rope_scaling", {"factor": 4}),
        ("rope_scaling", {"type": 4, "factor": 4}),
        ("rope_scaling", {"rope_type": "unheard of", "factor": 4}),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 32}),
        ("rope_scaling", {"rope_type": "yarn", "factor": 8.0}),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        ("partial_rotary_factor", 0.5),
        ("rope_theta", 1e300),
        ("rope_theta", "10000"),
        ("rms_norm_eps", "1e-3"),
        ("rms_norm_eps", -1),
        ("tie_word_embeddings", "yes"),
        ("head_dim", 7),
        ("head_dim", "8"),
        ("hidden_size", 15),
        ("num_key_value_heads", 0),
        ("num_hidden_layers", True),
        ("num_hidden_layers", 2**32 - 1),
        ("max_position_embeddings", 0),
        ("vocab_size", 2**40),
    ],
)
def test_what_is_not_computed_as_meant_is_refused_by_its_key(model: Path, engine: str, key: str, value: Any) -> None:
    configure(model, **{key: value})
    with pytest.raises(ValueError, match=key):
        load_engine(engine, model)
    with pytest.raises(PolicyError, match=key):
        load_policy(engine, str(model))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 2),
        ("vocab_size", 151),
        ("vocab_size", 2**32 - 1),
        ("head_dim", 6),
        ("head_dim", 2**31),
        ("intermediate_size", 48),
        ("intermediate_size", 2**32 - 1),
        ("tie_word_embeddings", False),
    ],
)
def test_a_shape_that_the_weights_lack_is_refused(model: Path, engine: str, key: str, value: Any) -> None:
    configure(model, **{key: value})
    with pytest.raises(ValueError, match=r"weight|lm_head|size"):
        load_engine(engine, model)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "changes",
    [
        {"sliding_window": None, "rope_scaling": None, "quantization_config": None},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000}},
        {"rope_parameters": None, "rope_theta": 10000.0},
        {"pretraining_tp": 2, "layer_types": ["full_attention"], "something": {"of": "no account"}},
    ],
)
def test_what_changes_nothing_is_read(sound: Path, model: Path, engine: str, changes: dict[str, Any]) -> None:
    configure(model, **changes)
    assert ask(load_engine(engine, model)).token_ids == ask(load_engine(engine, sound)).token_ids


def rewrite(model: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = load_file(model / WEIGHTS)
    change(tensors)
    save_file(tensors, model / WEIGHTS, metadata={"format": "pt"})


NORM = "model.norm.weight"
DAMAGES: dict[str, Callable[[Path], Any]] = {
    "no weights": lambda model: (model / WEIGHTS).unlink(),
    "empty": lambda model: (model / WEIGHTS).write_bytes(b""),
    "cut short": lambda model: os.truncate(model / WEIGHTS, (model / WEIGHTS).stat().st_size // 2),
    "header cut short": lambda model: os.truncate(model / WEIGHTS, 20),
    "header too long": lambda model: (model / WEIGHTS).write_bytes(b"\xff" * 64),
    "noise": lambda model: (model / WEIGHTS).write_bytes(bytes(range(256)) * 8),
    "a missing tensor": lambda model: rewrite(model, lambda tensors: tensors.pop(NORM)),
    "a bias": lambda model: rewrite(
        model, lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(16)})
    ),
    "a misshapen tensor": lambda model: rewrite(model, lambda tensors: tensors.update({NORM: torch.ones(8)})),
    "another output than the tied": lambda model: rewrite(
        model, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"] + 1})
    ),
    "config empty": lambda model: (model / "config.json").write_text(""),
    "config no object": lambda model: (model / "config.json").write_text("[1]"),
    "config deep": lambda model: (model / "config.json").write_text("[" * 100_000),
    "config no text": lambda model: (model / "config.json").write_bytes(b"\xff\xfe{\x00}\x00"),
    "config says nothing": lambda model: (model / "config.json").write_text("{}"),
    "index elsewhere": lambda model: (
        (model / WEIGHTS).rename(model.parent / WEIGHTS),
        (model / INDEX).write_text(json.dumps({"weight_map": {NORM: f"../{WEIGHTS}"}})),
    ),
    "index of nothing": lambda model: (
        (model / WEIGHTS).unlink(),
        (model / INDEX).write_text(json.dumps({"weight_map": {}})),
    ),
    "index no object": lambda model: ((model / WEIGHTS).unlink(), (model / INDEX).write_text("3")),
}
for _name in ("config.json", WEIGHTS, INDEX, "tokenizer.json", "pytorch_model.bin"):
    DAMAGES[f"a pipe as {_name}"] = lambda model, name=_name: (  # type: ignore[misc]
        (model / name).unlink(missing_ok=True),
        os.mkfifo(model / name),
    )
    DAMAGES[f"a device as {_name}"] = lambda model, name=_name: (  # type: ignore[misc]
        (model / name).unlink(missing_ok=True),
        (model / name).symlink_to("/dev/zero"),
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_in_one_line(
    model: Path, engine: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[damage](model)
    with pytest.raises((ValueError, OSError)):
        load_engine(engine, model)
    assert main(["solve", "22", "26", "31", "53", "--target", "27", "--model", str(model), "--engine", engine]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_not_finite_sample_nothing(
    sound: Path, model: Path, engine: str, value: float, temperature: float
) -> None:
    rewrite(model, lambda tensors: tensors[NORM].fill_(value))
    opened = load_engine(engine, model)
    completion = ask(opened, temperature=temperature)
    assert (completion.finish_reason, completion.token_ids, completion.logprobs) == ("error", (), ())
    assert "not finite" in str(completion.error)
    # Nothing of it is left once the weights are sound again.
    state = load_model(sound).state_dict()
    if engine == "native":
        state = {name: tensor.numpy() for name, tensor in state.items()}
    opened.update_weights(state)  # type: ignore[attr-defined]
    whole, expected = ask(opened), ask(load_engine(engine, sound))
    assert (whole.finish_reason, whole.token_ids) == ("length", expected.token_ids)
    assert whole.logprobs == pytest.approx(expected.logprobs)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_spoilt_request_spoils_no_other(model: Path, engine: str) -> None:
    """Only one token's embedding is damaged; rows and pages of the cache are used again."""
    rewrite(model, lambda tensors: tensors["model.embed_tokens.weight"][42].fill_(float("nan")))
    configure(model, tie_word_embeddings=False)
    # An output of its own, which never writes that token.
    head = torch.randn(Tokenizer().vocab_size, 16, generator=torch.Generator().manual_seed(0))
    head[42] = 0
    rewrite(model, lambda tensors: tensors.update({"lm_head.weight": head}))
    opened: Any = load_engine(engine, model)

    async def both() -> list[Completion]:
        prompts = [(1, 42, *range(3, 30)), (1, *range(3, 31))]
        work = (opened.generate(prompt, GREEDY, request_id=str(i)) for i, prompt in enumerate(prompts))
        return await asyncio.gather(*work)

    for _ in range(3):
        spoilt, fine = asyncio.run(both())
        assert (spoilt.finish_reason, fine.finish_reason) == ("error", "length")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 1e-5},
        {"temperature": 1e5},
        {"temperature": float("nan")},
        {"temperature": -1},
        {"max_tokens": -1},
    ],
    ids=str,
)
def test_parameters_are_refused_alike(sound: Path, engine: str, changes: dict[str, Any]) -> None:
    opened = load_engine(engine, sound)
    refused = ask(opened, **changes)
    assert (refused.finish_reason, refused.error) == ("error", SamplingParams(**changes).fault)
    for temperature in (0.0, 1e-4, 1e4):
        assert ask(opened, temperature=temperature).finish_reason == "length"
