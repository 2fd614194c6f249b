"""A run's numbers for the dashboards that people have already: TensorBoard and Weights & Biases, where installed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from apr.files import write_atomically

Tracker = Callable[[dict[str, Any]], None]
"""Takes one line of a run's log."""
WANDB_ID = "wandb-id"
"""Holds what the run is called there."""


def trackers(run: Path, step: int = 0) -> list[Tracker]:
    """Those that are installed; Weights & Biases only where its environment says that it may be used. The run goes on
    after `step`: what they show of later ones comes again."""
    found: list[Tracker] = []
    if find_spec("tensorboard") is not None:
        found.append(_tensorboard(run, step))
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


def _tensorboard(run: Path, step: int) -> Tracker:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def track(line: dict[str, Any]) -> None:
        for name, value in scalars(line):
            if name != "step":
                writer.add_scalar(name, value, line["step"])
        writer.flush()

    return track


def _wandb(run: Path) -> Tracker:
    import wandb

    # Runs of one name in other folders are other runs.
    identity = run / WANDB_ID
    if not identity.is_file():
        write_atomically(identity, uuid.uuid4().hex)
    name = run.resolve().name
    session = wandb.init(project="apr", name=name, dir=str(run), id=identity.read_text(), resume="allow")

    def track(line: dict[str, Any]) -> None:
        session.log(dict(scalars(line)), step=line["step"])

    return track
