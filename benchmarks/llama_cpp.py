"""The native engine against llama.cpp: one thread, the same weights, streams at the contexts that rollouts have.

llama.cpp is compiled for this processor, in an environment of its own:

    uv venv DIR
    CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" \\
        uv pip install --python DIR --no-binary llama-cpp-python llama-cpp-python

Each of llama.cpp's forms of weights and cache has its turns right after turns of the engine in each of its own; the
ratios are those to llama.cpp's best form. All have computed the prompts before their clocks run. llama.cpp is given the
tokens that the engine chooses greedily with a float32 cache, so that it can be told how often it would choose others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import gguf
from gguf.quants import quantize
from rich.console import Console
from rich.table import Table
from transformers import LlamaForCausalLM

from apr.engine.checkpoint import load_model
from apr.engine.native import CacheDtype, ComputeDtype, NativeEngine
from benchmarks.engine import checkpoint, random_prompts
from benchmarks.measure import Result, Spent, one_core
from benchmarks.rollouts import CONTEXTS, STREAMS, decode

ENGINES: list[tuple[CacheDtype, ComputeDtype]] = [
    ("bfloat16", "float32"),
    ("bfloat16", "bfloat16"),
    ("int8", "bfloat16"),
]
"""What the engine keeps and multiplies in, its default first."""
NEW = 128
"""Tokens that each stream decodes."""
ONE_TARGET, SEVERAL_TARGET = 1.8, 2.5
"""Ratios to reach with one stream, and with more."""
WEIGHTS = ("f32", "bf16", "f16", "q8_0")
CACHES = ("f32", "bf16", "f16", "q8_0")


@dataclass(frozen=True, slots=True)
class Form:
    """How llama.cpp keeps weights, keys and values, and which attention it computes."""

    weights: str
    cache: str
    flash: bool

    def __str__(self) -> str:
        return f"{self.weights} weights, {self.cache} cache{', flash attention' * self.flash}"


FORMS = [
    Form(*form)
    for form in product(WEIGHTS, CACHES, (False, True))
    # It quantizes no values without flash attention.
    if form[1] != "q8_0" or form[2]
]


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a form in one setting."""

    tokens: int
    """Of a turn."""
    others: list[float]
    """Of each in whose place llama.cpp would choose another, how far above its logit the other one's is."""
    turns: list[tuple[list[Spent], Spent]] = field(default_factory=list)
    """What each form of the engine spent, and llama.cpp right after them."""


Ask = Callable[[Form, Sequence[Sequence[int]], Sequence[Sequence[int]]], tuple[Spent, list[float]]]
"""Gives llama.cpp prompts and what follows each; what it spent on that, and `Found.others`."""


def write(model: LlamaForCausalLM, file: Path, weights: str) -> None:
    """A Llama as a GGUF file without a vocabulary; its matrices in a type of `WEIGHTS`, its norms in float32."""
    config = model.config
    if config.model_type != "llama" or config.rope_parameters["rope_type"] != "default":
        raise ValueError(f"not a plain Llama: {config.model_type}, {config.rope_parameters['rope_type']} positions")
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        matrix = tensor.float().numpy()
        part = name.split(".")[-2]
        if part in ("q_proj", "k_proj"):
            # There the halves that a rotation turns alternate.
            matrix = matrix.reshape(-1, 2, config.head_dim // 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)
        kind = gguf.GGMLQuantizationType[weights.upper() if matrix.ndim > 1 else "F32"]
        known = names.get_name(name, try_suffixes=(".weight",))
        assert known is not None, name
        writer.add_tensor(known, quantize(matrix, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextmanager
def peer(python: str, model: LlamaForCausalLM) -> Iterator[Ask]:
    """llama.cpp in a process of another Python, with the model in all types of weights."""

    def ask(
        form: Form, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> tuple[Spent, list[float]]:
        request = {
            "weights": str(files[form.weights]),
            "cache": gguf.GGMLQuantizationType[form.cache.upper()],
            "flash": form.flash,
            "prompts": prompts,
            "answers": answers,
        }
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"llama.cpp ended: {form}")
        reply: dict[str, Any] = json.loads(line)
        return Spent(reply["processor"], reply["wall"]), reply["others"]

    with TemporaryDirectory() as directory:
        files = {weights: Path(directory) / f"{weights}.gguf" for weights in WEIGHTS}
        for weights, file in files.items():
            write(model, file, weights)
        # Isolated: it finds its own packages, and nothing that lies beside the script.
        command = [python, "-I", str(Path(__file__).with_name("llama_cpp_peer.py"))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            version = process.stdout.readline().strip()
            if not version:
                raise SystemExit(f"{python} has no llama-cpp-python that can be used")
            print(f"{version}\n", flush=True)
            try:
                yield ask
            finally:
                process.kill()


def best(found: dict[Form, Found], engine: int, clock: str) -> tuple[float, str]:
    """One of the engine's forms: the median ratio to the form of llama.cpp with the least, and what is behind it."""
    spent = {
        form: [(getattr(natives[engine], clock), getattr(other, clock)) for natives, other in one.turns]
        for form, one in found.items()
    }
    ratios: dict[Form, float] = {form: median(other / native for native, other in both) for form, both in spent.items()}
    form = min(ratios, key=ratios.__getitem__)
    rates = [found[form].tokens / median(seconds) for seconds in zip(*spent[form], strict=True)]
    return ratios[form], f"{rates[0]:,.0f} against {rates[1]:,.0f} tokens/s: {form}"


def table(settings: dict[str, dict[Form, Found]]) -> Table:
    """Of every form tokens a second of processor time, and how often it would choose another token."""
    table = Table("weights", "cache", "flash attention", box=None, header_style="")
    for column in (*settings, "other tokens", "above by"):
        table.add_column(column, justify="right")
    for form in FORMS:
        all_of_it = [found[form] for found in settings.values()]
        rates = (one.tokens / median(other.processor for _, other in one.turns) for one in all_of_it)
        others = [above for one in all_of_it for above in one.others]
        table.add_row(
            form.weights,
            form.cache,
            "yes" if form.flash else "no",
            *(f"{rate:,.0f}" for rate in rates),
            f"{len(others):,} of {sum(one.tokens for one in all_of_it):,}",
            f"{max(others):.2g}" if others else "",
        )
    return table


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks llama-cpp", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, metavar="FILE", help="a Python that has llama-cpp-python")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each form (default 5)")
    parser.add_argument("--tokens", type=int, default=NEW, metavar="N", help=f"of each stream (default {NEW})")
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS, metavar="N")
    parser.add_argument("--contexts", type=int, nargs="+", default=CONTEXTS, metavar="N")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    settings: dict[str, dict[Form, Found]] = {}
    with one_core(), checkpoint() as directory, peer(options.python, load_model(directory)) as ask:
        engines = [
            NativeEngine(directory, threads=1, cache_dtype=cache, compute_dtype=compute) for cache, compute in ENGINES
        ]
        exact = NativeEngine(directory, threads=1, cache_dtype="float32")
        for context, streams in product(options.contexts, options.streams):
            prompts = random_prompts(streams, context, len(settings))
            _, answers = decode(exact, prompts, options.tokens)
            # Prompts are computed here, and the first turns are not counted.
            found = {form: Found(streams * options.tokens, ask(form, prompts, answers)[1]) for form in FORMS}
            for _ in range(options.rounds):
                for form in FORMS:
                    natives = [decode(engine, prompts, options.tokens)[0] for engine in engines]
                    other, _ = ask(form, prompts, answers)
                    found[form].turns.append((natives, other))
            setting = f"{streams} after {context:,}"
            settings[setting] = found
            for place, (cache, compute) in enumerate(ENGINES):
                for clock in ("processor", "wall"):
                    what = f"{setting}, {cache} cache, {compute} products, {clock} time"
                    ratio, detail = best(found, place, clock)
                    target = ONE_TARGET if streams == 1 else SEVERAL_TARGET
                    print(Result("llama-cpp", what, ratio, "x", target, True, detail).row(), flush=True)
    print("\nllama.cpp, tokens a second of processor time; for how many it would choose others, how far above\n")
    Console(width=140).print(table(settings))
    return 0
