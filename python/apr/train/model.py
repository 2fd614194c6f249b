"""The policy: a new Llama with the vocabulary of its language, or a model of others with its own, kept in Hugging Face
layout.

Shapes: B rows, H heads, T positions, D head size, V vocabulary.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from apr.engine.checkpoint import load_model, model_without_weights
from apr.threads.language import Vocabulary
from apr.tokenizer import ForeignTokenizer
from apr.train.disk import told_as_oserror
from apr.train.processes import Processes
from apr.train.recipes import ModelConfig

TOKENIZER_FILE = "tokenizer.json"

CAUSAL = "apr_causal"
"""Attention for training: causal unless a mask is given. Rows are padded on the right, where no row looks, so there is
no mask to build; a mask, even an all-causal one, costs the fused kernels up to half their speed on long rows."""


def _causal_attention(
    module: torch.nn.Module,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    grouped = key_BHTD.shape[1] != query_BHTD.shape[1]
    out_BHTD = torch.nn.functional.scaled_dot_product_attention(
        query_BHTD,
        key_BHTD,
        value_BHTD,
        attn_mask=attention_mask,
        dropout_p=dropout,
        is_causal=attention_mask is None,
        scale=scaling,
        enable_gqa=grouped,
    )
    return out_BHTD.transpose(1, 2).contiguous(), None


AttentionInterface.register(CAUSAL, _causal_attention)
AttentionMaskInterface.register(CAUSAL, lambda *args, **kwargs: None)


def new_model(config: ModelConfig, tokenizer: Vocabulary, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights in float32, the same for the same seed; its attention is for training."""
    llama = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads or config.heads,
        intermediate_size=config.mlp_size,
        max_position_embeddings=config.context_length,
        tie_word_embeddings=config.tied_embeddings,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        bos_token_id=tokenizer.bos,
        eos_token_id=tokenizer.eos,
        pad_token_id=tokenizer.pad,
        attn_implementation=CAUSAL,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(llama)


def trained_model(directory: Path, processes: Processes) -> PreTrainedModel:
    """The model of a checkpoint, to be trained in a `Network`. ValueError as in `load_model`."""
    if processes.rank:
        return model_without_weights(directory, attention=CAUSAL)
    return load_model(directory, attention=CAUSAL)


def compiled(model: PreTrainedModel, device: torch.device) -> Callable[..., Any]:
    """The model through torch.compile; as it is on a CPU without a C++ compiler."""
    forward: Callable[..., Any] = torch.compile(model, dynamic=True) if _compiles(device) else model
    return forward


def compile_blocks(model: PreTrainedModel, device: torch.device) -> None:
    """Put each block through torch.compile, inside of what is to be hooked around it; likewise."""
    if _compiles(device):
        for block in model.model.layers:
            block.forward = torch.compile(block.forward, dynamic=True)


def _compiles(device: torch.device) -> bool:
    return device.type != "cpu" or shutil.which("c++") is not None


def save_model(
    model: PreTrainedModel,
    tokenizer: Vocabulary,
    directory: str | Path,
    dtype: torch.dtype | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write model and tokenizer as a Hugging Face directory; `dtype` rounds the written weights. `weights` are the
    model's, where it does not hold them whole. OSError if they cannot be written."""
    directory = Path(directory)
    held = model.state_dict() if weights is None else weights
    state = {name: value.to(dtype or value.dtype) for name, value in held.items()}
    with told_as_oserror(directory):
        model.save_pretrained(directory, state_dict=state)
    # safetensors writes for the owner alone.
    readable = (directory / "config.json").stat().st_mode
    for file in directory.glob("*.safetensors"):
        file.chmod(readable)
    if isinstance(tokenizer, ForeignTokenizer):
        tokenizer.save(directory)
        return
    words = tokenizer.to_json()
    (directory / TOKENIZER_FILE).write_text(words, "utf-8")
    special = {token["id"]: token["content"] for token in json.loads(words).get("added_tokens", ())}
    roles = {"bos_token": tokenizer.bos, "eos_token": tokenizer.eos, "pad_token": tokenizer.pad}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{role: special[token_id] for role, token_id in roles.items() if token_id in special},
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.config.max_position_embeddings,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings) + "\n", "utf-8")


def all_logprobs(logits_BTV: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of every token of the vocabulary at each place from the second on: [B, T - 1, V], float32."""
    return torch.log_softmax(logits_BTV[:, :-1].float() / temperature, dim=-1)


def token_logprobs(logits_BTV: Tensor, token_ids_BT: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of each token from the second on, given those before it: [B, T - 1], float32."""
    return of_tokens(all_logprobs(logits_BTV, temperature), token_ids_BT[:, 1:])


def of_tokens(values_BTV: Tensor, token_ids_BT: Tensor) -> Tensor:
    """At each place the value of its token, [B, T]."""
    return values_BTV.gather(-1, token_ids_BT[..., None]).squeeze(-1)


def entropy(logprobs_BTV: Tensor) -> Tensor:
    """Entropy of each prediction in nats, [B, T]."""
    return -(logprobs_BTV.exp() * logprobs_BTV).sum(-1)
