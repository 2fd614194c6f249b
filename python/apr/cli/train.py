"""`apr train`: training runs, one kind a subcommand.

A run is a directory; started again, it goes on with its recipe from its newest checkpoint. Under `torchrun` the
processes share each step. What can be refused is refused before anything is made there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from apr.cli.common import METHODS, SERVER_HELP, Parser, UsageError, Waiting, natural, note, positive
from apr.cli.progress import SftLine, Watch, rl_line
from apr.cli.signals import Signals, signals
from apr.engine import ENGINES
from apr.policy import install

if TYPE_CHECKING:
    from apr.task import Task
    from apr.threads.language import Language
    from apr.train.processes import Processes
    from apr.train.recipes import RlConfig
    from apr.train.run import RunDirectory
    from apr.train.run_recipe import RunRecipe, Trainer

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
    again = shlex.join(["apr", "train", *arguments])
    with signals() as handler:
        return _sft(options, again, handler) if options.kind == "sft" else _rl(options, again, handler)


def _add_common(parser: Parser) -> None:
    add = parser.add_argument
    add("--recipe", metavar="NAME|FILE", help="shipped, or a .toml file (default: the run's own, or tiny)")
    add("--method", choices=METHODS, help="(default: the run's own, or apr)")
    add("--out", required=True, metavar="DIR", help="the run directory")
    add("--steps", type=positive, metavar="N", help="instead of the recipe's")
    add("--seed", type=natural, metavar="N", help="instead of the recipe's")
    add("--until", type=positive, metavar="N", help="stop after this step of the run, to go on later")
    add("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    add("--threads", type=positive, metavar="N", help="CPU threads")


def _sft(options: Any, again: str, handler: Signals) -> int:
    from apr.train.lessons import lessons_of
    from apr.train.start import check_start

    with ExitStack() as files:
        plan = _plan(options, "sft")
        config = _checked(plan.recipe.sft)
        lessons = _checked(lambda: lessons_of(config))
        start = _start(options, files, shipped=False)
        if start is not None:
            _checked(lambda: check_start(start, config.model, lessons.tokenizer))
        _checked(lambda: plan.run.check(plan.recipe.text(), start))
        processes = files.enter_context(_launched(options))
        from apr.train.sft import SftTrainer

        _checked(lessons.check)
        files.enter_context(_begun(plan, start, processes))
        trainer = _checked(lambda: SftTrainer(config, plan.run, device=str(processes.device)))
        if _finished(trainer.step, config.steps, processes):
            return 0
        with Watch(trainer.step, config.steps, SftLine(), shown=processes.rank == 0) as watch, handler.asking() as stop:
            return _trained(lambda: trainer.train(watch, until=options.until, stop=stop), trainer, again, handler)


def _rl(options: Any, again: str, handler: Signals) -> int:
    from apr.engine import load_engine
    from apr.engine.base import EngineError
    from apr.threads.language import Trainable
    from apr.train.rl.check import check
    from apr.train.start import check_start

    if options.engine != "sglang" and options.server is not None:
        raise UsageError("--server is for --engine sglang")
    with ExitStack() as files:
        plan = _plan(options, "rl")
        config = _checked(plan.recipe.rl)
        start = _start(options, files, shipped=not plan.run.start.exists())
        task, language = _checked(lambda: _taught(config, start or plan.run.start))
        if not isinstance(language, Trainable):
            raise UsageError(f"no model can be trained in the language {language.name}")
        _checked(lambda: check(task, language, config))
        if start is not None:
            _checked(lambda: check_start(start, tokenizer=language.tokenizer))
        _checked(lambda: plan.run.check(plan.recipe.text(), start))
        processes = files.enter_context(_launched(options))
        from apr.train.rl.trainer import GrpoTrainer

        files.enter_context(_begun(plan, start, processes))
        waiting = Waiting()

        def open_engine(model: Any, directory: Path) -> Any:
            if options.engine == "torch":
                return load_engine("torch", model)
            if options.engine == "native":
                return load_engine("native", directory, threads=options.threads)
            return load_engine("sglang", directory, url=options.server, progress=waiting)

        try:
            trainer = _checked(
                lambda: GrpoTrainer(config, plan.run, task, language, open_engine, device=str(processes.device))
            )
        except EngineError as error:
            raise UsageError(str(error)) from None
        finally:
            waiting.done()
        files.callback(trainer.close)
        if _finished(trainer.step, trainer.step if trainer.done else config.steps, processes):
            return 0
        with Watch(trainer.step, config.steps, rl_line, shown=processes.rank == 0) as watch, handler.asking() as stop:
            return _trained(lambda: trainer.train(watch, until=options.until, stop=stop), trainer, again, handler)


def _taught(config: RlConfig, start: Path) -> tuple[Task[Any], Language]:
    """What a policy goes on with: the recipe's task and language, or what it was trained for."""
    from apr.policy import language_of, task_of
    from apr.task import load_task
    from apr.threads.language import load_language

    task, language = task_of(start, config.task), language_of(start, config.language)
    return load_task(task, config.method), load_language(language, None, config.method)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where a run is, and what it is of."""

    run: RunDirectory
    recipe: RunRecipe


def _plan(options: Any, trainer: Trainer) -> _Plan:
    """The run's own recipe, if no other is asked for; its method, steps and seed too, as far as they are not given."""
    from apr.train.recipes import recipe_text
    from apr.train.run import RunDirectory
    from apr.train.run_recipe import RunRecipe

    def read() -> _Plan:
        run = RunDirectory(options.out)
        given = {name: value for name in ("method", "steps", "seed") if (value := getattr(options, name)) is not None}
        if options.recipe is None and (text := run.recipe()) is not None:
            try:
                kept = RunRecipe.read(text)
            except ValueError:
                raise ValueError(f"{options.out} holds a run of another recipe; choose another directory") from None
            if kept.trainer == trainer:
                told = {"method": kept.method, "steps": kept.steps, "seed": kept.seed, **given}
                return _Plan(run, RunRecipe(trainer, recipe=kept.recipe, **told))
        recipe = recipe_text(options.recipe or "tiny", "" if trainer == "sft" else trainer)
        return _Plan(run, RunRecipe(trainer, recipe=recipe, **{"method": "apr", **given}))

    return _checked(read)


def _start(options: Any, files: ExitStack, *, shipped: bool) -> Path | None:
    """The weights to begin with: those that are asked for, or the shipped ones."""
    from apr.policy import checkpoint

    if options.start_from is None and not shipped:
        return None
    return _checked(lambda: checkpoint(options.start_from, files))


@contextmanager
def _begun(plan: _Plan, start: Path | None, processes: Processes) -> Iterator[None]:
    """The run's directory, held and made, or found as it was left."""
    from apr.train.trackers import trackers

    run = plan.run
    with ExitStack() as held:
        if processes.rank == 0:
            held.enter_context(_checked(run.hold))
            _checked(lambda: run.create(plan.recipe.text(), start))
            for step, wrong in _checked(run.damaged).items():
                note(f"warning: the checkpoint of step {step} is damaged and not used: {wrong}")
            latest = _checked(run.latest)
            run.trackers += trackers(run.path, int(latest.name) if latest else 0)
        processes.wait()
        yield


def _checked(make: Callable[[], T]) -> T:
    try:
        return make()
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from None


def _finished(step: int, steps: int, processes: Processes) -> bool:
    """Whether there is nothing left to do; says where the run stands."""
    if processes.rank == 0 and step:
        note(f"going on from step {step}" if step < steps else f"the run is at its last step, {steps}, already")
    return step >= steps


def _trained(train: Callable[[], None], trainer: Any, again: str, handler: Signals) -> int:
    """Train, and say what came of it; the exit status."""
    from apr.engine.base import EngineError

    shown = trainer.processes.rank == 0
    try:
        train()
    except (EngineError, FloatingPointError, OSError, ValueError) as error:
        if shown:
            note(f"apr train: {error}")
            note(_where(trainer, again))
        return 1
    if handler.came is None:
        if shown:
            print(trainer.run.checkpoints / str(trainer.saved))
        return 0
    if shown:
        done = f"after step {trainer.step} of" if trainer.step else "before the first of"
        note(f"stopped {done} {trainer.config.steps}")
        note(_where(trainer, again))
    return 128 + handler.came


def _where(trainer: Any, again: str) -> str:
    if not trainer.saved:
        return f"no step is saved; `{again}` begins again"
    return f"saved: {trainer.run.checkpoints / str(trainer.saved)}; `{again}` goes on from there"


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
def _launched(options: Any) -> Iterator[Processes]:
    """This process, with torch loaded, among those that `torchrun` started, or alone."""
    if os.environ.get("RANK", "0") == "0":
        note("loading torch")
    try:
        import torch
        import torch.distributed as dist
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"training needs {error.name}: {install('train')}") from None
    from apr.train.processes import Processes

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = _device(options.device)
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
