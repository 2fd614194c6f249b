"""The model of a Hugging Face directory, in transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from apr._core import architecture

# Its bars would break into ours.
disable_progress_bar()


def load_model(directory: str | Path, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> PreTrainedModel:
    """The Llama, Qwen2 or Qwen3 in a Hugging Face directory. ValueError if there is none, or one that asks for more
    than the native engine computes, or if its weights are not exactly the model's."""
    kind = _kind(directory)
    try:
        model, found = kind.from_pretrained(
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


def model_without_weights(directory: str | Path, attention: str = "sdpa") -> PreTrainedModel:
    """The same in float32, with whatever its weights happen to be: memory that is given and not touched."""
    kind = _kind(directory)
    config = kind.config_class.from_pretrained(directory, attn_implementation=attention)
    return hollow(lambda: kind(config))


def hollow(make: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """The model that is made, without the work and the memory of its weights and buffers."""
    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu")
    model.tie_weights()
    return model


def _kind(directory: str | Path) -> type[PreTrainedModel]:
    if not (Path(directory) / "config.json").is_file():
        raise ValueError(f"{directory} holds no model: config.json is missing")
    kind: type[PreTrainedModel] = getattr(transformers, architecture(directory))
    return kind
