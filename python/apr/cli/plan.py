"""`apr plan`: what a supervised run needs of GPUs, estimated before it is started."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from apr.arguments import Parser, UsageError
from apr.cli.common import METHODS, compact, not_negative, positive, share

if TYPE_CHECKING:
    from apr.train.plan import Estimate, Llama, Work
    from apr.train.recipes import SftConfig

_GIGA = 1e9
_TERA = 1e12
PEAKS = {"bfloat16": 989.0, "float32": 67.0}
"""Of an H100, in TFLOP/s, by what is computed with."""
_UNITS = {"": 1, "M": 10**6, "B": 10**9}


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr plan",
        description="Estimate the memory and the time that a supervised run needs of GPUs: arithmetic over a step's "
        "own lessons, without GPUs and without torch.",
        examples=[
            "apr plan --recipe small --gpus 8",
            "apr plan --recipe paper --gpus 8 --model 1B",
        ],
    )
    add = made.add_argument
    add("--recipe", metavar="NAME|FILE", default="small", help="shipped, or a .toml file (default: small)")
    add("--method", choices=METHODS, default="apr", help="what is learned (default: apr)")
    add("--model", type=_count, metavar="SIZE", help="parameters beside embeddings, such as 228M or 7B, instead of the "
        "recipe's model")  # fmt: skip
    add("--json", action="store_true", help="print a JSON object, in bytes and seconds")
    add = made.add_argument_group("GPUs").add_argument
    add("--gpus", type=positive, default=1, metavar="N", help="of the run (default: 1)")
    add("--memory", type=not_negative, default=80.0, metavar="GB", help="of a GPU (default: 80)")
    add("--peak", type=not_negative, metavar="TFLOPS", help="of a GPU (default: an H100's, 989 in bfloat16 and 67 in "
        "float32)")  # fmt: skip
    add("--reached", type=share, default=0.4, metavar="SHARE", help="of the peak that the model reaches (default: 0.4)")
    add("--per-machine", type=positive, default=8, metavar="N", help="GPUs of a machine (default: 8)")
    add("--link", type=not_negative, default=450.0, metavar="GB/S", help="from a GPU to others of its machine "
        "(default: 450)")  # fmt: skip
    add("--network", type=not_negative, default=50.0, metavar="GB/S", help="from a GPU to other machines (default: 50)")
    return made


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(list(arguments))
    for name in ("peak", "reached", "link", "network"):
        if getattr(options, name) == 0:
            raise UsageError(f"--{name}: it is above 0")
    try:
        config, model, work = _asked(options)
        kept, twice = _estimates(options, config, model, work)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if options.json:
        told = {"parameters": model.parameters, "steps": config.steps, **asdict(work)}
        print(compact({**told, "kept": _values(kept), "checkpointing": _values(twice)}))
    else:
        _print(options, config, model, work, (kept, twice))
    return 0


def _count(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([MB]?)", text, re.ASCII)
    if found is None or (size := round(float(found[1]) * _UNITS[found[2]])) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no size of a model, such as 228M or 7B")
    return size


def _asked(options: Any) -> tuple[SftConfig, Llama, Work]:
    """The recipe, with the model that is asked for, and the work of a step in the middle of its run."""
    from apr.train.data import SftData
    from apr.train.plan import Llama, shape_of, work_of
    from apr.train.recipes import ModelConfig, recipe_text, sft_recipe

    config = sft_recipe(recipe_text(options.recipe), options.method)
    if options.model is not None:
        like = config.model or ModelConfig(1, 1, 1, 1, context_length=config.longest)
        config = replace(config, model=shape_of(options.model, like))
    if config.model is None:
        raise ValueError(f"the recipe {options.recipe} has no [model]: say its size by --model")
    data = SftData(config)
    model = Llama(config.model, data.lessons.tokenizer.vocab_size)
    samples = data.step(config.steps // 2)
    width, rounded = config.model.hidden_size, config.cuda_graphs and options.gpus == 1
    return config, model, work_of(samples, options.gpus, config.tokens_per_batch, width, rounded=rounded)


def _estimates(options: Any, config: SftConfig, model: Llama, work: Work) -> tuple[Estimate, Estimate]:
    """Where all that blocks compute is kept, and where they compute twice."""
    from apr.train.plan import Gpus, estimate

    peak = PEAKS[_precision(config)] if options.peak is None else options.peak
    gpus = Gpus(
        options.gpus,
        flops=peak * _TERA * options.reached,
        link=options.link * _GIGA,
        network=options.network * _GIGA,
        per_machine=options.per_machine,
    )
    kept, twice = (estimate(config, model, work, gpus, checkpointing=wanted) for wanted in (False, True))
    return kept, twice


def _precision(config: SftConfig) -> str:
    """What GPUs compute in."""
    return "float32" if config.autocast == "none" else "bfloat16"


def _values(found: Estimate) -> dict[str, float]:
    return {**asdict(found), "memory": found.memory, "step": found.step}


def _print(options: Any, config: SftConfig, model: Llama, work: Work, found: tuple[Estimate, Estimate]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    shape = model.shape
    console = Console(highlight=False)
    size = f"{model.parameters / 1e6:,.1f}M parameters: {shape.layers} blocks, {shape.hidden_size} wide"
    console.print(f"{size}, {_precision(config)}")
    batches = f"{work.positions:,} positions in {work.batches} batches of at most {work.largest:,}"
    console.print(f"a step of a process: {batches}")
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    for place, title in enumerate((f"a process of {options.gpus}", "all kept", "gradient checkpointing")):
        table.add_column(title, justify="right" if place else "left")
    rows = {
        "weights": "weights",
        "gradients": "gradients",
        "optimiser": "optimizer",
        "weights that are whole for a while": "gathered",
        "activations": "activations",
        "logits": "logits",
        "Muon's update, after these": "update",
    }
    for title, name in rows.items():
        if any(getattr(one, name) for one in found):
            table.add_row(title, *(f"{getattr(one, name) / _GIGA:,.2f} GB" for one in found))
    table.add_section()
    table.add_row("memory", *(f"{one.memory / _GIGA:,.2f} GB" for one in found), style="bold")
    if found[0].offloaded:
        table.add_row("in the CPU's memory", *(f"{one.offloaded / _GIGA:,.2f} GB" for one in found))
    table.add_row(f"of {options.memory:g} GB", *(_fits(one.memory / _GIGA, options.memory) for one in found))
    table.add_section()
    table.add_row("computing a step", *(_seconds(one.computing) for one in found))
    table.add_row("exchanging meanwhile", *(_seconds(one.exchanging) for one in found))
    table.add_row(f"{config.steps:,} steps", *(_hours(config.steps * one.step) for one in found), style="bold")
    console.print(table)


def _fits(needed: float, memory: float) -> str:
    return f"{needed / memory:.0%}" if needed <= memory else "[red]does not fit[/red]"


def _seconds(value: float) -> str:
    return f"{value:,.2f} s" if value >= 1 else f"{value * 1000:,.1f} ms"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.1f} min"
