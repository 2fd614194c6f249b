"""Models of a recipe, one of each method, trained side by side on one GPU for as long as there is time.

A trainer of a small model leaves the GPU idle while it updates weights, so two get more out of it than one after the
other. First each is timed beside the other; then all train as many steps as the slowest has time for, on a schedule of
just so many.
"""

from __future__ import annotations

import multiprocessing
import tarfile
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch

from apr.engine.checkpoint import load_model
from apr.origin import Origin, write_origin
from apr.task import Method
from apr.train.model import save_model
from apr.train.recipes import SftConfig
from apr.train.run import RunDirectory
from apr.train.run_recipe import RunRecipe
from apr.train.sft import Progress, SftTrainer
from apr.train.stop import Stop

PIECE = 15 << 20
SPARE_S = 25.0
"""Kept for beginning anew and for saving."""
MARGIN = 0.94
"""Of the time that is left, what steps are counted on: they do not take the same time."""


def train_together(
    configs: Sequence[SftConfig], recipe: str, device: str, out: Path, deadline: float, *, timed: int
) -> dict[str, Any]:
    """Train them until about `deadline`, of the monotonic clock, and leave each in `out`, in bfloat16 with its log, in
    pieces that are easy to carry: `cat apr.tar.gz.* | tar xz`. `timed` steps are timed, after as many that are not.

    RuntimeError if one of them failed."""
    spawn = multiprocessing.get_context("spawn")
    links: list[Connection] = []
    workers = []
    for config in configs:
        link, theirs = spawn.Pipe()
        worker = spawn.Process(target=_work, args=(config, recipe, device, out, deadline, timed, theirs))
        worker.start()
        theirs.close()
        links.append(link)
        workers.append(worker)
    try:
        seconds = [float(link.recv()) for link in links]
        left = deadline - time.monotonic() - SPARE_S
        steps = max(2, min(configs[0].steps, int(MARGIN * left / max(seconds))))
        for link in links:
            link.send(steps)
        found = {config.method: link.recv() for config, link in zip(configs, links, strict=True)}
    except (EOFError, BrokenPipeError):
        raise RuntimeError("a trainer failed, and said why") from None
    finally:
        for worker in workers:
            # Others have until then to leave what they have.
            worker.join(max(10.0, deadline - time.monotonic()))
            worker.kill()
    return {"steps": steps, **found}


def _work(
    config: SftConfig, recipe: str, device: str, out: Path, deadline: float, timed: int, link: Connection
) -> None:
    link.send(_seconds_a_step(config, device, timed))
    steps: int = link.recv()
    with TemporaryDirectory() as place:
        run = RunDirectory(Path(place) / "run")
        run.create(RunRecipe("sft", config.method, recipe, steps).text())
        trainer = SftTrainer(replace(config, steps=steps), run, device=device)
        told: list[Progress] = []
        stop = Stop()

        def watch(progress: Progress) -> None:
            told.append(progress)
            if progress.step % 250 == 0:
                print(config.method, progress.step, f"loss {progress.loss:.5f}", flush=True)
            if time.monotonic() > deadline - SPARE_S / 2:
                stop.ask()

        begun = time.monotonic()
        trainer.train(watch, stop=stop)
        taken = time.monotonic() - begun
        last = run.latest()
        assert last is not None
        model = Path(place) / "model"
        save_model(load_model(last), trainer.tokenizer, model, torch.bfloat16)
        write_origin(Origin(config.task, config.language, config.method), model)
        archive = Path(place) / "archive"
        with tarfile.open(archive, "w:gz", compresslevel=1) as file:
            for content in (model, run.log_path, run.path / "recipe.toml"):
                file.add(content, content.name)
        _leave(archive, out, config.method)
    tokens = sum(progress.tokens for progress in told)
    link.send({"steps": told[-1].step, "tokens": tokens, "seconds": round(taken, 1), "loss": told[-1].loss})


def _seconds_a_step(config: SftConfig, device: str, timed: int) -> float:
    """Of the recipe's last stage, in which a run spends most of its time."""
    with TemporaryDirectory() as place:
        trainer = SftTrainer(config, RunDirectory(place), device=device)
        trainer.step = max(0, config.steps - 2 * timed)
        seconds = []
        for _ in range(2 * timed):
            begun = time.monotonic()
            trainer._train_step()
            trainer.step += 1
            seconds.append(time.monotonic() - begun)
        trainer._end_steps()
    if trainer.device.type == "cuda":
        del trainer
        torch.cuda.empty_cache()
    return mean(seconds[timed:])


def _leave(archive: Path, out: Path, method: Method) -> None:
    content = archive.read_bytes()
    name = method.replace("+", "-plus")
    for number, begin in enumerate(range(0, len(content), PIECE)):
        (out / f"{name}.tar.gz.{number:02d}").write_bytes(content[begin : begin + PIECE])
