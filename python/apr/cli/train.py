"""`apr train`: training runs, one kind a subcommand.

A run is a directory; started again, it goes on with its recipe from its newest checkpoint. Under `torchrun` the
processes share each step.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from apr.cli.common import METHODS, SERVER_HELP, Parser, UsageError, Waiting, natural, note, positive
from apr.cli.progress import SftLine, Watch, rl_line
from apr.engine import ENGINES
from apr.policy import install

if TYPE_CHECKING:
    from apr.processes import Processes
    from apr.run import RunDirectory

T = TypeVar("T")


def run(arguments: Sequence[str]) -> int:
    main = Parser(
        prog="apr train",
        description="Train a model. A run that was stopped goes on when it is started again.",
        epilog="example: apr train sft --recipe tiny --out runs/first",
    )
    kinds = main.add_subparsers(dest="kind", metavar="KIND", required=True)
    sft = kinds.add_parser("sft", help="supervised, on fresh teacher traces", prog="apr train sft")
    _add_common(sft)
    sft.add_argument("--start-from", metavar="DIR", help="begin with these weights instead of random ones")
    rl = kinds.add_parser("rl", help="reinforcement learning over whole thread trees", prog="apr train rl")
    _add_common(rl)
    rl.add_argument("--start-from", metavar="DIR", help="the policy to begin with (default: the shipped model)")
    rl.add_argument("--engine", choices=ENGINES, default="native", help="what samples the rollouts (default native)")
    rl.add_argument("--server", metavar="URL", help=SERVER_HELP)
    options = main.parse_args(list(arguments))
    return _sft(options) if options.kind == "sft" else _rl(options)


def _add_common(parser: Parser) -> None:
    add = parser.add_argument
    add("--recipe", metavar="NAME|FILE", help="shipped, or a .toml file (default: the run's own, or tiny)")
    add("--method", choices=METHODS, default="apr")
    add("--out", required=True, metavar="DIR", help="the run directory")
    add("--steps", type=positive, metavar="N", help="instead of the recipe's")
    add("--seed", type=natural, metavar="N", help="instead of the recipe's")
    add("--until", type=positive, metavar="N", help="stop after this step of the run, to go on later")
    add("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    add("--threads", type=positive, metavar="N", help="CPU threads")


def _sft(options: Any) -> int:
    from apr.config import sft_recipe

    text, config = _recipe(options, "", sft_recipe)
    if options.start_from is not None and not (Path(options.start_from) / "config.json").is_file():
        raise UsageError(f"{options.start_from} holds no model: config.json is missing")
    with _begun(options, text) as (run, processes):
        from apr.sft import SftTrainer

        trainer = _made(lambda: SftTrainer(config, run, device=str(processes.device), start_from=options.start_from))
        if not _finished(trainer.step, config.steps, processes):
            with Watch(trainer.step, config.steps, SftLine(), shown=processes.rank == 0) as watch:
                trainer.train(watch, until=options.until)
            if processes.rank == 0:
                print(run.latest())
    return 0


def _rl(options: Any) -> int:
    from apr.config import rl_recipe
    from apr.engine import load_engine
    from apr.engine.base import EngineError
    from apr.grammar import default_grammar
    from apr.policy import PolicyError, checkpoint

    if options.engine != "sglang" and options.server is not None:
        raise UsageError("--server is for --engine sglang")
    text, config = _recipe(options, "rl", rl_recipe)
    with ExitStack() as files, _begun(options, text) as (run, processes):
        from apr.grpo import GrpoTrainer

        waiting = Waiting()

        def open_engine(model: Any, directory: Path) -> Any:
            if options.engine == "torch":
                return load_engine("torch", model)
            if options.engine == "native":
                return load_engine("native", directory, threads=options.threads)
            return load_engine("sglang", directory, url=options.server, progress=waiting)

        def make() -> GrpoTrainer:
            start = checkpoint(options.start_from, files)
            grammar = default_grammar(options.method)
            return GrpoTrainer(config, run, grammar, open_engine, start_from=start, device=str(processes.device))

        try:
            trainer = _made(make)
        except (PolicyError, EngineError) as error:
            raise UsageError(str(error)) from None
        finally:
            waiting.done()
        try:
            if not _finished(trainer.step, config.steps, processes):
                with Watch(trainer.step, config.steps, rl_line, shown=processes.rank == 0) as watch:
                    trainer.train(watch, until=options.until)
                if processes.rank == 0:
                    print(run.latest())
        except EngineError as error:
            note(f"apr train rl: {error}")
            return 1
        finally:
            trainer.close()
    return 0


def _recipe(options: Any, kind: str, read: Callable[..., T]) -> tuple[str, T]:
    """What a run's directory says of it, a recipe's text with the changes that were asked for; and what that means."""
    from apr.config import recipe_text
    from apr.run import RunDirectory

    head = ("# trainer: rl\n" if kind else "") + f"# method: {options.method}\n"
    changes = {name: getattr(options, name) for name in ("steps", "seed") if getattr(options, name) is not None}
    try:
        kept = RunDirectory(options.out).recipe() if options.recipe is None else None
        if kept is not None and kept.startswith(head):
            recipe = kept.removeprefix(head)
        else:
            recipe = recipe_text(options.recipe or "tiny", kind)
        text = head + _changed(recipe, changes)
        return text, read(text, options.method)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from None


@contextmanager
def _begun(options: Any, text: str) -> Iterator[tuple[RunDirectory, Processes]]:
    """The run's directory and its processes, with torch loaded."""
    from apr.run import RunDirectory
    from apr.trackers import trackers

    if os.environ.get("RANK", "0") == "0":
        note("loading torch")
    try:
        import torch
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"training needs {error.name}: {install('train')}") from None
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    run = RunDirectory(options.out)
    with _launched(_device(options.device)) as processes:
        try:
            if processes.rank == 0:
                run.create(text)
                run.trackers += trackers(run.path)
        except (ValueError, OSError) as error:
            raise UsageError(str(error)) from None
        processes.wait()
        yield run, processes


def _made(make: Callable[[], T]) -> T:
    try:
        return make()
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from None


def _finished(step: int, steps: int, processes: Processes) -> bool:
    """Whether there is nothing left to do; says where the run stands."""
    if processes.rank == 0 and step:
        note(f"going on from step {step}" if step < steps else f"the run is at its last step, {steps}, already")
    return step >= steps


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


@contextmanager
def _launched(device: str) -> Iterator[Processes]:
    """This process among those that `torchrun` started, or alone."""
    import torch
    import torch.distributed as dist

    from apr.processes import Processes

    shared = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if shared and device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if shared:
        if device.startswith("cuda"):
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(torch.device(device))
    finally:
        if shared:
            dist.destroy_process_group()
