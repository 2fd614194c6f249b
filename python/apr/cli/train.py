"""`apr train`: training runs, one kind a subcommand.

A run is a directory; started again with the same recipe, it goes on from its newest checkpoint. Under
`torchrun` the processes share each step.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.cli.common import METHODS, Parser, UsageError, natural, note, positive
from apr.policy import install

if TYPE_CHECKING:
    from apr.sft import Progress


def run(arguments: Sequence[str]) -> int:
    main = Parser(
        prog="apr train",
        description="Train a model. A run that was stopped goes on when the same command is given again.",
        epilog="example: apr train sft --recipe tiny --out runs/first",
    )
    kinds = main.add_subparsers(dest="kind", metavar="KIND", required=True)
    sft = kinds.add_parser("sft", help="supervised, on fresh teacher traces", prog="apr train sft")
    sft.add_argument("--recipe", default="tiny", metavar="NAME|FILE", help="shipped (default tiny), or a .toml file")
    sft.add_argument("--method", choices=METHODS, default="apr")
    sft.add_argument("--out", required=True, metavar="DIR", help="the run directory")
    sft.add_argument("--steps", type=positive, metavar="N", help="instead of the recipe's")
    sft.add_argument("--seed", type=natural, metavar="N", help="instead of the recipe's")
    sft.add_argument("--until", type=positive, metavar="N", help="stop after this step of the run, to go on later")
    sft.add_argument("--start-from", metavar="DIR", help="begin with these weights instead of random ones")
    sft.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    sft.add_argument("--threads", type=positive, metavar="N", help="CPU threads")
    return _sft(main.parse_args(list(arguments)))


def _sft(options: Any) -> int:
    from apr.config import recipe_text, sft_recipe
    from apr.run import RunDirectory

    changes = {name: getattr(options, name) for name in ("steps", "seed") if getattr(options, name) is not None}
    try:
        text = _changed(recipe_text(options.recipe), changes)
        config = sft_recipe(text, options.method)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if options.start_from is not None and not (Path(options.start_from) / "config.json").is_file():
        raise UsageError(f"{options.start_from} holds no model: config.json is missing")
    if os.environ.get("RANK", "0") == "0":
        note("loading torch")
    try:
        import torch

        from apr.sft import SftTrainer
    except ModuleNotFoundError as error:
        raise UsageError(f"training needs {error.name}: {install('train')}") from None
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    run_directory = RunDirectory(options.out)
    with _Processes(_device(options.device)) as processes:
        try:
            if processes.rank == 0:
                run_directory.create(f"# method: {options.method}\n{text}")
            processes.wait()
            trainer = SftTrainer(config, run_directory, device=processes.device, start_from=options.start_from)
        except (ValueError, OSError) as error:
            raise UsageError(str(error)) from None
        if processes.rank == 0 and trainer.step:
            note(f"going on from step {trainer.step}")
        if trainer.step >= config.steps:
            note(f"the run is at its last step, {config.steps}, already")
            return 0
        with _Watch(trainer.step, config.steps, shown=processes.rank == 0) as watch:
            trainer.train(watch, until=options.until)
        if processes.rank == 0:
            print(run_directory.latest())
    return 0


def _changed(recipe: str, changes: dict[str, int]) -> str:
    """The recipe's text with other values, so that the run's directory tells what was run."""
    for name, value in changes.items():
        line = f"{name} = {value}"
        recipe, replaced = re.subn(rf"(?m)^{name}\s*=.*$", line, recipe, count=1)
        if not replaced:
            recipe = f"{line}\n{recipe}"
    return recipe


def _device(wanted: str | None) -> str:
    import torch

    if wanted is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"no device {wanted!r}: {str(error).splitlines()[0]}") from None
    return wanted


class _Processes:
    """The processes of `torchrun`, or this one alone."""

    def __init__(self, device: str) -> None:
        self.shared = int(os.environ.get("WORLD_SIZE", "1")) > 1
        self.rank = int(os.environ.get("RANK", "0")) if self.shared else 0
        self.device = device
        if self.shared and device == "cuda":
            self.device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"

    def __enter__(self) -> _Processes:
        if self.shared:
            import torch
            import torch.distributed as dist

            if self.device.startswith("cuda"):
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if self.device.startswith("cuda") else "gloo")
        return self

    def wait(self) -> None:
        """Until all are here."""
        if self.shared:
            import torch.distributed as dist

            dist.barrier()

    def __exit__(self, *_: object) -> None:
        if self.shared:
            import torch.distributed as dist

            dist.destroy_process_group()


class _Watch:
    """Shows progress on stderr: a bar in a terminal, else a line now and then."""

    EVERY = 10

    def __init__(self, step: int, steps: int, *, shown: bool) -> None:
        self.step, self.steps, self.shown = step, steps, shown
        self._held_out = ""
        self._close: Callable[[], None] | None = None
        self._bar: Any = None

    def __enter__(self) -> _Watch:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

            console = Console(stderr=True)
            columns: list[ProgressColumn] = [TextColumn("{task.description}")]
            if console.width >= 110:
                columns.append(BarColumn(bar_width=16))
            self._bar = Progress(*columns, console=console)
            self._bar.start()
            self._bar.add_task("...", total=self.steps, completed=self.step)
            self._close = self._bar.stop
        return self

    def __call__(self, progress: Progress) -> None:
        if progress.validation_loss is not None:
            self._held_out = f"  held-out {progress.validation_loss:.3f}"
            if progress.validation_results is not None:
                self._held_out += f"  right {progress.validation_results:.1%}"
        line = (
            f"{progress.step}/{progress.steps}  loss {progress.loss:.3f}{self._held_out}"
            f"  {progress.tokens_per_second:,.0f} tokens/s  {_duration(progress.seconds_left)} left"
        )
        due = progress.step % self.EVERY == 0 or progress.step == progress.steps
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=progress.step, description=line)
        elif self.shown and (due or progress.validation_loss is not None):
            note(line)

    def __exit__(self, *_: object) -> None:
        if self._close is not None:
            self._close()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
