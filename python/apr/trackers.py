"""A run's numbers for the dashboards that people have already: TensorBoard and Weights & Biases, where installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Tracker = Callable[[dict[str, Any]], None]
"""Takes one line of a run's log."""


def trackers(run: Path) -> list[Tracker]:
    """Those that are installed; Weights & Biases only where its environment says that it may be used."""
    found: list[Tracker] = []
    if find_spec("tensorboard") is not None:
        found.append(_tensorboard(run))
    if find_spec("wandb") is not None and ("WANDB_API_KEY" in os.environ or "WANDB_MODE" in os.environ):
        found.append(_wandb(run))
    return found


def scalars(line: dict[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a log line; those of nested objects have names with a slash."""
    for name, value in line.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{before}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{before}{name}", float(value)


def _tensorboard(run: Path) -> Tracker:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / "tensorboard"))

    def track(line: dict[str, Any]) -> None:
        for name, value in scalars(line):
            if name != "step":
                writer.add_scalar(name, value, line["step"])
        writer.flush()

    return track


def _wandb(run: Path) -> Tracker:
    import wandb

    session = wandb.init(project="apr", name=run.name, dir=str(run), id=run.resolve().name, resume="allow")

    def track(line: dict[str, Any]) -> None:
        session.log(dict(scalars(line)), step=line["step"])

    return track
