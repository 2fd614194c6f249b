"""Where the time of a supervised step goes, and what of the processor's peak its products reach.

One step of a recipe's last stage, profiled after two that warm up; the peak is that of a large product in the same
precision, in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from apr.train.precision import has_bfloat16
from apr.train.recipes import recipe_text, sft_recipe
from apr.train.run import RunDirectory
from apr.train.sft import SftTrainer

_PEAK_SIZE = 1536
_PRODUCTS = ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "mkldnn::_linear_pointwise", "aten::linear")
_ATTENTION = "scaled_dot_product"
_OPTIMISER = "Optimizer.step"


def peak(dtype: torch.dtype) -> float:
    """Operations a second of a large product."""
    a, b = (torch.randn(_PEAK_SIZE, _PEAK_SIZE).to(dtype) for _ in range(2))
    a @ b
    best = float("inf")
    for _ in range(10):
        begun = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begun)
    return 2 * _PEAK_SIZE**3 / best


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks training", description=__doc__)
    parser.add_argument("--recipe", default="tiny", metavar="NAME|FILE")
    parser.add_argument("--autocast", choices=("auto", "bf16", "none"), default="auto")
    parser.add_argument("--threads", type=int, metavar="N")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    recipe = sft_recipe(recipe_text(options.recipe), "apr", autocast=options.autocast, compile=False)
    bfloat16 = options.autocast == "bf16" or (options.autocast == "auto" and has_bfloat16(torch.device("cpu")))
    with TemporaryDirectory() as place:
        trainer = SftTrainer(recipe, RunDirectory(place))
        # The last stage is most of a run.
        trainer.step = recipe.steps - 3
        for _ in range(2):
            trainer._train_step()
            trainer.step += 1
        with profile(activities=[ProfilerActivity.CPU], with_flops=True) as seen:
            begun = time.perf_counter()
            _, _, tokens = trainer._train_step()
            seconds = time.perf_counter() - begun
    spent: Counter[str] = Counter()
    operations = 0.0
    for event in seen.key_averages():
        if event.key.startswith(_OPTIMISER):
            spent["optimiser, all of it"] += event.cpu_time_total
        elif _ATTENTION in event.key:
            spent["attention"] += event.self_cpu_time_total
        elif event.key in _PRODUCTS:
            spent["products"] += event.self_cpu_time_total
            operations += event.flops
        else:
            spent["all else"] += event.self_cpu_time_total
    whole = sum(spent.values()) - spent["optimiser, all of it"]
    console, table = Console(), Table("part", "share of the step")
    for name, microseconds in spent.most_common():
        table.add_row(name, f"{microseconds / whole:.0%}")
    console.print(f"{tokens:,} tokens in {seconds:.2f} s, {tokens / seconds:,.0f} a second")
    console.print(table)
    share = operations / (spent["products"] / 1e6) / peak(torch.bfloat16 if bfloat16 else torch.float32)
    console.print(f"products run at {share:.0%} of the peak of a large one, in {'bfloat16' if bfloat16 else 'float32'}")
    return 0
