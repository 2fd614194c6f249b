"""`apr train`: training runs, one kind a subcommand.

A run is a directory; started again, it goes on with its recipe from its newest checkpoint. Under `torchrun` the
processes share each step. What can be refused is refused before anything is made there.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from apr.arguments import Parser, UsageError, in_words
from apr.cli.common import METHODS, SERVER_HELP, check_engine, natural, note, positive
from apr.cli.progress import SftLine, Watch, rl_line
from apr.cli.signals import Signals, signals
from apr.engine import ENGINES
from apr.policy import install

if TYPE_CHECKING:
    from apr.task import Method, Task
    from apr.threads.language import Language
    from apr.train.processes import Processes
    from apr.train.recipes import RlConfig
    from apr.train.run import RunDirectory
    from apr.train.run_recipe import RunRecipe, Trainer

T = TypeVar("T")
MOST_THREADS = 1024
"""As for the native engine; nothing here has more processors."""


def parser() -> Parser:
    """The command's arguments."""
    main = Parser(
        prog="apr train",
        description="Train a model. A run that was stopped, by Ctrl-C too, goes on when it is started again.",
        examples=[
            "apr train sft --recipe tiny --out runs/tiny",
            "apr train sft --recipe sudoku --out runs/sudoku",
            "apr train rl --recipe tiny --steps 3 --out runs/rl",
        ],
    )
    kinds = main.add_subparsers(dest="kind", metavar="KIND", required=True, help="how it learns")
    sft = kinds.add_parser(
        "sft",
        help="supervised, on fresh searches of a teacher",
        prog="apr train sft",
        description="Supervised training on fresh searches of a teacher, a recipe of any task.",
        examples=[
            "apr train sft --recipe tiny --out runs/tiny",
            "apr train sft --recipe tiny --method sos+ --out runs/rival",
            "torchrun --nproc_per_node 2 --no-python apr train sft --recipe tiny --out runs/two",
        ],
    )
    _add_common(sft)
    sft.add_argument("--start-from", metavar="DIR", help="begin with these weights (default: random ones)")
    rl = kinds.add_parser(
        "rl",
        help="reinforcement learning over whole thread trees",
        prog="apr train rl",
        description="Reinforcement learning (GRPO) over whole thread trees, on the native engine, torch or SGLang.",
        examples=[
            "apr train rl --recipe tiny --steps 3 --out runs/rl",
            "apr train rl --recipe apr-tiny-rl --start-from checkpoints/apr-tiny-sft --out runs/again",
        ],
    )
    _add_common(rl)
    rl.add_argument("--start-from", metavar="DIR", help="the policy to begin with (default: the shipped model)")
    rl.add_argument("--engine", choices=ENGINES, default="native", help="what samples the rollouts (default: native)")
    rl.add_argument("--server", metavar="URL", help=SERVER_HELP)
    rl.add_argument("--servers", type=positive, metavar="N", help="SGLang servers to start (default: 1)")
    rl.add_argument(
        "--hand-over",
        choices=("directory", "tensors", "distributed"),
        help="how servers get weights: from a directory that they can read, in requests, or from device to device "
        "(default: directory)",
    )
    return main


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(list(arguments))
    again = shlex.join(["apr", "train", *arguments])
    with signals() as handler:
        try:
            return _sft(options, again, handler) if options.kind == "sft" else _rl(options, again, handler)
        except KeyboardInterrupt:
            # While it loads, or by an impatient second one while it saves.
            if _first_process():
                note(f"stopped; `{again}` goes on with what is saved")
            raise


def _add_common(parser: Parser) -> None:
    add = parser.add_argument
    add("--recipe", metavar="NAME|FILE", help="shipped, or a .toml file (default: the run's own, or tiny)")
    add("--method", choices=METHODS, help="what is learned (default: the run's own, or apr)")
    add("--out", required=True, metavar="DIR", help="the run directory, new or to go on with")
    add("--steps", type=positive, metavar="N", help="of the whole run (default: the recipe's)")
    add("--seed", type=natural, metavar="N", help="of weights and data (default: the recipe's)")
    add("--until", type=positive, metavar="N", help="stop after this step, to go on later (default: the last one)")
    add("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    add("--threads", type=_threads, metavar="N", help="CPU threads (default: as many as torch likes)")


def _threads(text: str) -> int:
    value = positive(text)
    if value > MOST_THREADS:
        raise ArgumentTypeError(f"it is at most {MOST_THREADS}")
    return value


def _sft(options: Any, again: str, handler: Signals) -> int:
    from apr.train.lessons import lessons_of
    from apr.train.start import check_start

    with ExitStack() as files:
        plan = _plan(options, "sft")
        config = _checked(plan.recipe.sft)
        start = _start(options, files)
        lessons = _checked(lambda: lessons_of(config, start or plan.run.kept_start()))
        if start is not None:
            _checked(lambda: check_start(start, config.model, lessons.tokenizer))
        _checked(lambda: plan.run.check(plan.recipe.text(), start))
        _checked(lessons.check)
        watch = files.enter_context(Watch(SftLine(), shown=_first_process()))
        processes = files.enter_context(_launched(options, watch))
        from apr.train.sft import SftTrainer

        files.enter_context(_begun(plan, start, processes))
        watch.phase("loading the model")
        trainer = _checked(lambda: SftTrainer(config, plan.run, device=str(processes.device)))
        return _trained(trainer, watch, config.steps, options, again, handler)


def _rl(options: Any, again: str, handler: Signals) -> int:
    from apr.engine import load_engine
    from apr.engine.base import EngineError
    from apr.policy import method_of
    from apr.threads.language import Trainable
    from apr.train.rl.check import check
    from apr.train.start import check_start

    check_engine(options.engine, options.server)
    if options.engine != "sglang" and (options.servers or options.hand_over):
        raise UsageError(f"--servers and --hand-over are for --engine sglang, not {options.engine}")
    if options.servers and options.server is not None:
        raise UsageError("--servers are started, and --server is one that runs: give one of the two")
    with ExitStack() as files:
        plan = _plan(options, "rl")
        config = _checked(plan.recipe.rl)
        start = _start(options, files, None if plan.run.kept_start() else config.method, config.task)
        task, language = _checked(lambda: _taught(config, start or plan.run.start))
        if not isinstance(language, Trainable):
            raise UsageError(f"no model can be trained in the language {language.name}")
        begin, lessons = start or plan.run.start, plan.run.lessons()
        _checked(lambda: check(task, language, config, begin, lessons, several=_several()))
        if start is not None:
            _checked(lambda: method_of(start, config.method))
            _checked(lambda: check_start(start, tokenizer=language.tokenizer))
        _checked(lambda: plan.run.check(plan.recipe.text(), start))
        if config.overlap and options.engine == "torch" and not _several():
            raise UsageError("overlap: the engine torch samples with the very weights that train; choose another")
        if options.engine == "sglang":
            _sglang(options.server)
        watch = files.enter_context(Watch(rl_line, shown=_first_process()))
        processes = files.enter_context(_launched(options, watch))
        from apr.train.rl.trainer import GrpoTrainer

        files.enter_context(_begun(plan, start, processes))
        log = plan.run.path / "servers"

        def waits(_: float, line: str) -> None:
            watch.phase(f"starting SGLang, see {log}: {line}" if watch.live else f"starting SGLang, see {log}")

        def open_engine(model: Any, directory: Path) -> Any:
            if options.engine == "torch":
                # A share of a model samples nothing.
                alone = processes.count == 1
                return load_engine("torch", model if alone else directory, device=None if alone else processes.device)
            if options.engine == "native":
                # Ratios are of log-probabilities: those of the engine are the model's own in float32.
                return load_engine("native", directory, cache_dtype="float32", threads=options.threads)
            return load_engine(
                "sglang", directory, url=options.server, servers=options.servers or 1, log=log, progress=waits
            )

        watch.phase("loading the model")
        try:
            trainer = _checked(
                lambda: GrpoTrainer(
                    config,
                    plan.run,
                    task,
                    language,
                    open_engine,
                    device=str(processes.device),
                    hand_over=options.hand_over or "directory",
                )
            )
        except EngineError as error:
            raise UsageError(str(error)) from None
        files.callback(trainer.close)
        return _trained(trainer, watch, config.steps, options, again, handler)


def _sglang(url: str | None) -> None:
    """UsageError where no server of SGLang is, or none can be started as it is not installed."""
    from apr.engine.base import EngineError
    from apr.engine.sglang.client import SglangEngine
    from apr.engine.sglang.server import installed

    try:
        if url is None:
            installed("sglang")
        else:
            asyncio.run(SglangEngine(url).close())
    except EngineError as error:
        raise UsageError(str(error)) from None


def _taught(config: RlConfig, start: Path) -> tuple[Task[Any], Language]:
    """What a policy goes on with: the recipe's task and language, or what it was trained for."""
    from apr.policy import language_of, task_of
    from apr.task import load_task
    from apr.train.lessons import trained_language

    task, language = task_of(start, config.task), language_of(start, config.language)
    return load_task(task, config.method), trained_language(language, start, config.method)


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


def _start(options: Any, files: ExitStack, shipped: Method | None = None, task: str | None = None) -> Path | None:
    """The weights to begin with: those that are asked for, or the ones that ship for a method and a task."""
    from apr.policy import check_ships, checkpoint

    if options.start_from is None and shipped is None:
        return None
    if options.start_from is None and shipped is not None and task is not None:
        _checked(lambda: check_ships(task, shipped))
    return _checked(lambda: checkpoint(options.start_from, files, shipped, task))


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
    from apr.policy import install

    try:
        return make()
    except ModuleNotFoundError as error:
        raise UsageError(f"this needs {error.name}: {install('train')}") from None
    except (ValueError, OSError) as error:
        raise UsageError(in_words(error)) from None


def _trained(trainer: Any, watch: Watch[Any], steps: int, options: Any, again: str, handler: Signals) -> int:
    """Train to the last of `steps`, and say what came of it; the exit status."""
    from apr.engine.base import EngineError

    shown, step = trainer.processes.rank == 0, trainer.step
    if shown and step:
        note(f"the run is at its last step, {step}, already" if trainer.idle else f"going on from step {step}")
    if trainer.idle:
        return 0
    watch.begin(step, steps)
    try:
        with handler.asking() as stop:
            trainer.train(watch, until=options.until, stop=stop, phase=watch.phase)
    except (EngineError, FloatingPointError, OSError, ValueError) as error:
        if shown:
            note(f"apr train: {in_words(error)}")
            note(_where(trainer, again))
        return 1
    except Exception:
        # A signal to the group ends compilers of torch as well, and what they were at breaks.
        if handler.came is None:
            raise
    if handler.came is None:
        if shown:
            print(trainer.run.checkpoints / str(trainer.saved))
        return 0
    if shown:
        done = f"after step {trainer.step} of" if trainer.step else "before the first of"
        note(f"stopped {done} {steps}")
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
        # Of a device that only knows shapes, no number can be read.
        torch.zeros(1, device=wanted).item()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"no device {wanted!r}: {str(error).splitlines()[0]}") from None
    return wanted


def _first_process() -> bool:
    """Whether this is the process that shows what is done, before torch knows it."""
    return os.environ.get("RANK", "0") == "0"


def _several() -> bool:
    """Whether processes share the run, before torch knows it."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def _launched(options: Any, watch: Watch[Any]) -> Iterator[Processes]:
    """This process, with torch loaded, among those that `torchrun` started, or alone."""
    watch.phase("loading torch")
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
    shared = _several()
    if shared and device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if shared:
        if device.startswith("cuda"):
            torch.cuda.set_device(device)
        # Of shares that are kept in the CPU's memory, what is summed is there too.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(torch.device(device))
    finally:
        if shared:
            dist.destroy_process_group()
