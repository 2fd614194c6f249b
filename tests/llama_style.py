"""A tokenizer as Llama-2's: byte pairs with a space before the first word, digits and line breaks by themselves, bytes
for what has no token, and a begin token before every text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from apr import problems, search
from apr.testing.scripted import trace_texts

BEGIN, END = "<s>", "</s>"


def train() -> Any:
    """It learns its words from teacher traces."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    texts = [text for p in problems(4, 5) for text in trace_texts(search(p, "apr", beam_size=4, promising=1.0))]
    # As there, no merge crosses a digit or a line break.
    runs = [run.replace(" ", "▁") for text in texts for run in re.split(r"\d|\n", text) if run]
    learner = Tokenizer(models.BPE())
    alphabet = [chr(code) for code in range(33, 127)] + ["▁"]
    learner.train_from_iterator(
        runs, trainers.BpeTrainer(vocab_size=150, initial_alphabet=alphabet, show_progress=False)
    )
    learned = json.loads(learner.to_str())["model"]
    words = ["<unk>", BEGIN, END, *(f"<0x{byte:02X}>" for byte in range(256))]
    words += [word for word in learned["vocab"] if word not in words]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in learned["merges"]]
    vocabulary = {word: id_ for id_, word in enumerate(words)}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.add_special_tokens(["<unk>", BEGIN, END])
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, vocabulary[BEGIN])]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def with_tags() -> Any:
    """The tokenizer of a model that was given tokens for the tags of a markup."""
    tokenizer = train()
    tokenizer.add_special_tokens(
        ["<|turn|>", "<Outlines>", "</Outlines>", "<Thread>", "</Thread>", "<Parallel>", "</Path>"]
    )
    return tokenizer


def template(messages: list[dict[str, str]]) -> str:
    """A chat template for it."""
    turns = (f"<|turn|>{message['role']}\n{message['content']}</s>\n" for message in messages)
    return "".join(turns) + "<|turn|>assistant\n"


def save(tokenizer: Any, directory: Path, kind: str = "LlamaTokenizer") -> None:
    """Write it as a Hugging Face directory has it, as a tokenizer of this class."""
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": kind, "bos_token": BEGIN, "eos_token": {"content": END}}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
