"""A Llama of a Hugging Face directory, in transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from apr._core import check_config

# Its bars would break into ours.
disable_progress_bar()


def load_model(directory: str | Path, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> LlamaForCausalLM:
    """The Llama in a Hugging Face directory. ValueError if there is none, or one that needs more than a plain Llama, or
    if its weights are not exactly the model's."""
    if not (Path(directory) / "config.json").is_file():
        raise ValueError(f"{directory} holds no model: config.json is missing")
    check_config(directory)
    try:
        model, found = LlamaForCausalLM.from_pretrained(
            directory, dtype=dtype, attn_implementation=attention, output_loading_info=True
        )
    except OSError:
        raise
    except Exception as error:
        # The library raises what its many layers raise.
        raise ValueError(f"{directory}: {next(iter(str(error).splitlines()), type(error).__name__)}") from None
    for what, names in (("missing", found["missing_keys"]), ("not of this model", found["unexpected_keys"])):
        for name in sorted(names):
            raise ValueError(f"{directory}: weight {name}: {what}")
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if model.config.tie_word_embeddings and head is not embedding:
        raise ValueError(f"{directory}: weight lm_head.weight: differs from the embedding it is tied to")
    return model
