"""The file that llama.cpp is given in its benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("gguf")

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize
from transformers import LlamaConfig, LlamaForCausalLM

import smollm
from apr.engine.checkpoint import load_model
from benchmarks.engine import checkpoint
from benchmarks.llama_cpp import WEIGHTS, write


def grouped() -> LlamaForCausalLM:
    """Heads that share keys and values, and a matrix of its own for logits."""
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**shape, **heads, tie_word_embeddings=False))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shipped", [True, False])
def test_a_model_is_read_back(weights: str, shipped: bool, tmp_path: Path) -> None:
    if shipped:
        with checkpoint() as directory:
            model = load_model(directory)
    else:
        model = grouped()
    write(model, tmp_path / "model.gguf", weights)
    found = dict(smollm.read(GGUFReader(tmp_path / "model.gguf")))
    expected = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    if shipped:
        # It is the embedding.
        del expected["lm_head.weight"]
    assert found.keys() == expected.keys()
    for name, matrix in expected.items():
        kind = GGMLQuantizationType[weights.upper() if matrix.ndim > 1 else "F32"]
        np.testing.assert_array_equal(found[name], dequantize(quantize(matrix, kind), kind), name)
