"""Whether a run may begin with a checkpoint, told from its files before anything is loaded.

A run trains one tokenizer's language: what it begins with has to read and write that one, and to be of the shape that
the recipe says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from apr._core import Decoder, Tokenizer, architecture
from apr.jsonl import parse
from apr.threads.language import Vocabulary
from apr.train.recipes import ModelConfig

_SHAPE = {
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_size": "intermediate_size",
    "context_length": "max_position_embeddings",
    "tied_embeddings": "tie_word_embeddings",
    "rms_norm_eps": "rms_norm_eps",
}
"""Keys of a recipe's model, and what they are called in a checkpoint."""


def check_start(directory: Path, shape: ModelConfig | None = None, tokenizer: Vocabulary | None = None) -> None:
    """ValueError, in a line, for a checkpoint that no run may begin with, or none of this shape. `tokenizer` is the one
    of the run's language; None: that of traces."""
    config = _read(directory)
    # What no engine could sample with is no policy to train.
    architecture(directory)
    if not any(file.suffix == ".safetensors" and file.is_file() for file in directory.iterdir()):
        raise ValueError(f"{directory} holds no weights: *.safetensors is missing")
    tokenizer = Tokenizer() if tokenizer is None else tokenizer
    # One of others was read from there.
    own, said = isinstance(tokenizer, Tokenizer), config.get("vocab_size")
    if own and not _same_tokenizer(directory, tokenizer):
        raise ValueError(f"{directory} has a tokenizer of its own; a run trains the vocabulary of its language alone")
    # Models of others have rows to spare.
    if said != tokenizer.vocab_size if own else not isinstance(said, int) or said < tokenizer.vocab_size:
        raise ValueError(f"{directory}: vocab_size {said!r} is not the tokenizer's {tokenizer.vocab_size}")
    for ours, theirs in _SHAPE.items() if shape is not None else ():
        if config.get(theirs) != getattr(shape, ours):
            wanted, found = getattr(shape, ours), config.get(theirs)
            raise ValueError(f"model.{ours}: the recipe says {wanted}, {directory} has {found!r}")
    if shape is not None:
        heads = config.get("num_key_value_heads") or config.get("num_attention_heads")
        if heads != (shape.kv_heads or shape.heads):
            raise ValueError(
                f"model.kv_heads: the recipe says {shape.kv_heads or shape.heads}, {directory} has {heads}"
            )
        ropes = [holder.get("rope_theta") for holder in (config, config.get("rope_parameters") or {})]
        theta = next((base for base in ropes if base is not None), 10_000.0)
        if theta != shape.rope_theta:
            raise ValueError(f"model.rope_theta: the recipe says {shape.rope_theta:g}, {directory} has {theta:g}")
    try:
        # Reads all weights, and takes none but those of the configuration.
        Decoder(directory, threads=1)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from None


def _read(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.is_file():
        what = "holds no model: config.json is missing" if directory.is_dir() else "is not a directory"
        raise ValueError(f"{directory} {what}")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a JSON object")
    return config


def _same_tokenizer(directory: Path, tokenizer: Vocabulary) -> bool:
    words = directory / "tokenizer.json"
    if not words.is_file():
        # Without files of its own a model has this project's, as everywhere.
        return tokenizer.to_json() == Tokenizer().to_json() and not (directory / "tokenizer.model").is_file()
    try:
        text = words.read_text("utf-8")
        if isinstance(tokenizer, Tokenizer):
            return Tokenizer.from_json(text).to_json() == tokenizer.to_json()
        return bool(parse(text) == parse(tokenizer.to_json()))
    except ValueError:
        return False
