"""What one GPU makes of APR, within a time: `bash benchmarks/gpu.sh`.

Each part prints its figures as one line of JSON, which also go to results.jsonl in the directory that is asked for; a
part that fails says so in its line, and the others run. Trained models go there too, with their logs, in pieces that
are easy to carry: `cat apr.tar.gz.* | tar xz`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from apr.cli.common import METHODS
from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.engine import load_engine
from apr.policy import checkpoint
from apr.task import Method
from apr.train.precision import compute_dtype
from apr.train.recipes import ModelConfig, SftConfig, recipe_text, rl_recipe, sft_recipe
from apr.train.rl.trainer import GrpoTrainer
from apr.train.run import RunDirectory
from apr.train.sft import SftTrainer
from benchmarks.gpu_training import train_together

PARTS = ("tests", "supervised", "reinforcement", "training")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done."""

    sft: dict[str, Any]
    """What a supervised recipe has instead of its own."""
    steps: int
    """Timed, after as many that are not."""
    rl: dict[str, int]
    """What one of reinforcement learning has."""
    product: int
    """Rows of the square matrices whose product is the measure."""

    def recipe(self, name: str, method: Method, **changes: Any) -> SftConfig:
        """A supervised recipe at this size, as it would be without torch.compile and recorded graphs."""
        eager = {"compile": False, "cuda_graphs": False, "validate_every": 0, "checkpoint_every": 0}
        return replace(sft_recipe(recipe_text(name), method), **{**eager, **self.sft, **changes})


ON_GPU = Sizes({}, 40, {"groups": 8, "steps": 3, "max_tokens": 4000}, 8192)
ON_CPU = Sizes(
    {
        "model": ModelConfig(hidden_size=32, layers=2, heads=2, mlp_size=64, context_length=8192),
        "tokens_per_step": 2048,
        "tokens_per_batch": 2048,
    },
    2,
    {"groups": 1, "group_size": 2, "steps": 1, "max_tokens": 100},
    512,
)
"""Those of a minute."""


def tests() -> dict[str, Any]:
    """Those that need a GPU; without one they skip themselves."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "tests/test_gpu.py"], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:])
    return {"said": done.stdout.strip().splitlines()[-1]}


def product_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Operations a second of a large product, the best of ten."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        _finish(device)
        begun = time.perf_counter()
        a @ b
        _finish(device)
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def supervised(device: str, size: Sizes, config: SftConfig) -> dict[str, Any]:
    """Steps of a recipe's last stage: tokens a second, and their operations over those of a large product."""
    with TemporaryDirectory() as place:
        trainer = SftTrainer(config, RunDirectory(place), device=device)
        trainer.step = max(0, config.steps - 2 * size.steps)
        seconds, tokens = [], 0
        for turn in range(2 * size.steps):
            begun = time.perf_counter()
            _, _, count = trainer._train_step()
            _finish(trainer.device)
            trainer.step += 1
            if turn >= size.steps:
                seconds.append(time.perf_counter() - begun)
                tokens += count
        trainer._end_steps()
        parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
        dtype = compute_dtype(config.autocast, trainer.device)
        rate = tokens / sum(seconds)
        peak = product_rate(trainer.device, dtype, size.product)
        return {
            "parameters": parameters,
            "dtype": str(dtype),
            "tokens_per_second": round(rate),
            "step_seconds": round(median(seconds), 3),
            # Two operations a weight forward, four backward; attention is left out.
            "utilisation": round(6 * parameters * rate / peak, 4),
            "product_operations_per_second": peak,
            "memory_bytes": torch.cuda.max_memory_allocated() if trainer.device.type == "cuda" else None,
        }


def reinforcement(device: str, size: Sizes) -> dict[str, Any]:
    """Steps of the recipe `tiny` on the shipped model, which the torch engine samples with."""
    with ExitStack() as stack:
        start = checkpoint(None, stack)
        run = RunDirectory(stack.enter_context(TemporaryDirectory()))
        run.create("")
        trainer = GrpoTrainer(
            rl_recipe(recipe_text("tiny", "rl"), "apr", validate_every=0, **size.rl),
            *(run, Countdown("apr"), Traces("apr"), lambda model, _: load_engine("torch", model)),
            start_from=start,
            device=device,
        )
        stack.callback(trainer.close)
        lines: list[dict[str, Any]] = []
        trainer.train(lines.append)
    names = ("tokens", "solved", "seconds", "tokens_per_second", "logprob_gap", "failures")
    return {"steps": [{name: line[name] for name in names if name in line} for line in lines]}


def main(arguments: Sequence[str]) -> int:
    """Run the parts; 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="bash benchmarks/gpu.sh", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="at tiny sizes on the CPU, to try the script")
    parser.add_argument("--recipe", default="small", metavar="NAME|FILE", help="what is trained (default small)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["apr"], help="of the models (default apr)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is done (default all)")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too, which takes minutes")
    parser.add_argument("--minutes", type=float, default=12.0, metavar="N", help="for all of it (default 12)")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), metavar="DIR")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    if not (options.cpu or torch.cuda.is_available()):
        parser.error("there is no GPU; --cpu tries the script")
    device, size = ("cpu", ON_CPU) if options.cpu else ("cuda", ON_GPU)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False

    def part(name: str, work: Callable[[], dict[str, Any]]) -> None:
        nonlocal failed
        started = time.monotonic()
        try:
            found = work()
        except Exception as error:
            found, failed = {"error": f"{type(error).__name__}: {error}"}, True
        line = json.dumps({"part": name, "seconds": round(time.monotonic() - started, 1), **found})
        print(line, flush=True)
        with (options.out / "results.jsonl").open("a") as file:
            file.write(line + "\n")

    def machine() -> dict[str, Any]:
        named = "a CPU" if options.cpu else torch.cuda.get_device_name()
        return {"device": named, "torch": torch.__version__, "python": sys.version.split()[0]}

    part("machine", machine)

    def config(method: Method = "apr", **changes: Any) -> SftConfig:
        return size.recipe(options.recipe, method, **changes)

    def training() -> dict[str, Any]:
        seconds = 60.0 if options.cpu else 60 * options.minutes - (time.monotonic() - begun)
        configs = [config(method, cuda_graphs=True) for method in options.methods]
        deadline = time.monotonic() + seconds
        return train_together(configs, recipe_text(options.recipe), device, options.out, deadline, timed=size.steps)

    if "tests" in options.parts:
        part("tests", tests)
    if "supervised" in options.parts:
        part("supervised", lambda: supervised(device, size, config()))
        part("supervised, recorded", lambda: supervised(device, size, config(cuda_graphs=True)))
        if options.compile:
            part("supervised, compiled", lambda: supervised(device, size, config(compile=True)))
    if "reinforcement" in options.parts:
        part("reinforcement", lambda: reinforcement(device, size))
    if "training" in options.parts:
        part("training", training)
    return int(failed)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
