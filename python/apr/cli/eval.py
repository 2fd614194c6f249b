"""`apr eval`: accuracy, tokens, context and latency of models on many problems."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.arguments import Parser, UsageError, in_words
from apr.cli.common import (
    add_model_arguments,
    add_search_arguments,
    asked,
    check_engine,
    compact,
    note,
    open_policy,
    positive,
    said,
    span,
)
from apr.cli.tally import Progress, report

if TYPE_CHECKING:
    from apr.evaluate.protocol import Protocol
    from apr.evaluate.rows import Rows
    from apr.policy import Policy
    from apr.task import Task

RESULTS = "results"
"""Where recipes keep their results, and `apr report` looks for them."""

_OF_ONE = ("task", "language", "split", "numbers", "budget", "method", "join", "temperature", "samples")
"""Arguments that describe one condition; a recipe has its own."""


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr eval",
        description="Run models on many problems at once. Accuracy is the share of answers that the exact "
        "judge accepts; rollouts that the engine failed are reported apart. A recipe, or any run with --out, goes on "
        "where it was stopped when the same command is given again; failed rollouts are then run again.",
        examples=[
            "apr eval --problems 200 --budget 10 --out results/ten",
            "apr eval --recipe paper-small; apr report",
            "apr eval --recipe paper-small --model runs/mine/checkpoints/4500 --out results/mine",
        ],
    )
    add = made.add_argument_group("problems").add_argument
    add("--recipe", metavar="NAME|FILE", help="a protocol of several conditions, instead of the one described below; "
        "--model then stands for the shipped one of its method")  # fmt: skip
    add("--quick", action="store_true", help="the recipe's quick form: few problems, few samples")
    add("--problems", metavar="N|FILE", help="a count (default: 200, or the recipe's), or a file: JSON lines, or the "
        "JSON list of the authors' data")  # fmt: skip
    add("--split", choices=("train", "val", "test"), default="test", help="where they come from (default: test)")
    add("--numbers", type=span, metavar="N", help="Countdown's: how many, `4` or `2-6` (default: 4)")
    add("--samples", type=positive, default=1, metavar="N", help="rollouts of each problem (default: 1)")
    add_model_arguments(made)
    add_search_arguments(made, "child threads (apr) or tokens (sos+)")
    add = made.add_argument_group("output").add_argument
    add("--concurrency", type=positive, default=32, metavar="N", help="rollouts at once (default: 32)")
    add("--out", metavar="DIR", help="keep a row for each rollout, and go on there (default with --recipe NAME: "
        f"{RESULTS}/NAME)")  # fmt: skip
    add("--json", action="store_true", help="end with one JSON object")
    return made


def run(arguments: Sequence[str]) -> int:
    from apr.evaluate.metrics import summarise
    from apr.task import load_task

    made = parser()
    options = made.parse_args(list(arguments))
    of = _recipe if options.recipe is not None else _described
    protocol = of(options, said(made, arguments))
    check_engine(protocol.engine, options.server)
    task = load_task(protocol.task)
    problems = _problems(protocol, task)
    total = protocol.rollouts(len(problems))
    with ExitStack() as files:
        models = _models(protocol, files)
        rows = _open(protocol, task, problems, models, options)
        files.callback(rows.close)
        if rows.rows or rows.forgotten:
            failed = f"; {rows.forgotten} that the engine failed are run again" if rows.forgotten else ""
            note(f"going on after {len(rows.rows)} of {total} rollouts{failed}")
        progress = Progress(total, rows.rows, max(map(protocol.at_once, protocol.conditions)))
        try:
            stopped = _evaluate(protocol, problems, rows, progress, options)
        except KeyboardInterrupt:
            kept = "nothing is kept without --out" if options.out is None else "the same command goes on from there"
            note(f"apr eval: stopped after {progress.done} of {total} rollouts - {kept}")
            raise
    if stopped is not None:
        how = "" if options.out is None else " - the same command goes on from there"
        note(f"apr eval: {stopped}{how}")
    results = []
    for place, condition in enumerate(protocol.conditions):
        figures = summarise([row for row in rows.rows if row["condition"] == place])
        results.append((condition, figures))
    _print(protocol, results, progress, as_json=options.json)
    return 1 if stopped is not None or not all(figures["judged"] for _, figures in results) else 0


def _print(protocol: Protocol, results: list[tuple[Any, dict[str, Any]]], progress: Progress, *, as_json: bool) -> None:
    if as_json:
        speed = {"seconds": progress.seconds, "tokens_per_second": progress.tokens_per_second}
        objects = [_setting(protocol, condition) | figures | speed for condition, figures in results]
        print(compact(objects[0] if len(objects) == 1 else {"conditions": objects}))
        return
    for condition, figures in results:
        if len(results) > 1:
            print(f"== {condition} ({protocol.model_name(condition)})")
        print(report(figures))
    print(f"in all        {progress.seconds:.1f} s, {progress.tokens_per_second:,.0f} tokens/s")


def _open(protocol: Protocol, task: Task[Any], problems: Sequence[Any], models: dict[str, Path], options: Any) -> Rows:
    """The rows so far, with what they are made of noted beside them."""
    from apr.engine.base import EngineError
    from apr.evaluate.rows import Rows
    from apr.evaluate.served import served_model
    from apr.evaluate.setting import SETTING_FILE, note_setting

    try:
        served = "" if options.server is None else served_model(options.server, models)
        rows = Rows(protocol, options.out, problems)
    except EngineError as error:
        raise UsageError(str(error)) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--out: {in_words(error)}") from None
    try:
        if options.out is not None:
            if not rows.rows:
                # Nothing has begun, whatever is noted.
                (Path(options.out) / SETTING_FILE).unlink(missing_ok=True)
            note_setting(options.out, task, models, problems, served, begun=bool(rows.rows))
    except (OSError, ValueError) as error:
        rows.close()
        raise UsageError(f"--out: {in_words(error)}") from None
    return rows


def _evaluate(protocol: Protocol, problems: Sequence[Any], rows: Rows, progress: Progress, options: Any) -> str | None:
    """Run what is not done; why it ended early, in one line."""
    from apr.engine.base import EngineError

    stopped: str | None = None
    try:
        asyncio.run(_run(protocol, problems, rows, progress, options.server))
    except EngineError as error:
        stopped = str(error)
    except OSError as error:
        stopped = f"rows cannot be written: {in_words(error)}"
    finally:
        progress.end()
        unkept = _keep(protocol, rows, options.out)
    return stopped or unkept


async def _run(protocol: Protocol, problems: Sequence[Any], rows: Rows, progress: Progress, server: str | None) -> None:
    from apr.engine.base import EngineError
    from apr.evaluate.rollouts import run_protocol
    from apr.evaluate.served import empty_cache

    def load(engine: str, model: str | None, method: Any, task: str) -> Policy:
        return open_policy(engine, model, method, server, task=task, language=protocol.language)

    def refresh() -> bool:
        try:
            if server is not None:
                empty_cache(server)
        except EngineError as error:
            note(f"the server's cache was not emptied, so no latency is that of a fresh engine: {error}")
            return False
        return True

    def watch(row: dict[str, Any]) -> None:
        rows.append(row)
        progress.count(row)

    await run_protocol(protocol, problems, watch, done=rows.done, load=load, refresh=refresh)


def _models(protocol: Protocol, files: ExitStack) -> dict[str, Path]:
    """All models' checkpoints, on disk as long as `files` is open. UsageError if one is missing, or is not for what it
    would be asked."""
    from apr.policy import PolicyError, checkpoint, install, meant

    models: dict[str, Path] = {}
    # Conditions share models.
    for name, model, method in dict.fromkeys((protocol.model_name(c), c.model, c.method) for c in protocol.conditions):
        try:
            directory = checkpoint(model, files, method, protocol.task)
            meant(directory, method, protocol.task, protocol.language)
        except PolicyError as error:
            raise UsageError(str(error)) from None
        except ModuleNotFoundError as error:
            raise UsageError(f"{directory} needs {error.name}: {install('train')}") from None
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot load {directory}: {in_words(error)}") from None
        models[name] = directory
    return models


def _keep(protocol: Protocol, rows: Rows, directory: str | None) -> str | None:
    """Bring the rows to the disk, as Parquet too; why that cannot be, if it cannot."""
    try:
        if directory is not None:
            _tabulate(protocol, rows, directory)
        rows.close()
    except (OSError, ValueError) as error:
        return f"rows cannot be kept: {in_words(error)}"
    return None


def _tabulate(protocol: Protocol, rows: Rows, directory: str) -> None:
    from apr.policy import install

    try:
        from apr.report.parquet import write_parquet
    except ModuleNotFoundError:
        note(f"rows as Parquet need pyarrow: {install('report')}")
    else:
        write_parquet(protocol, rows.rows, directory)


def _recipe(options: Any, given: Mapping[str, Any]) -> Protocol:
    """The recipe's protocol, with what was given instead of its own."""
    from apr.evaluate.protocol import read_protocol
    from apr.train.recipes import recipe_text

    for name in _OF_ONE:
        if name in given:
            raise UsageError(f"--{name} is the recipe's to say: --recipe goes without it")
    names = ("engine", "seed", "max_threads", "max_tokens", "concurrency")
    changes = {name: given[name] for name in names if name in given}
    if options.out is None:
        options.out = str(Path(RESULTS) / (Path(options.recipe).stem + ("-quick" if options.quick else "")))
    count, file = _count(options)
    try:
        protocol = read_protocol(recipe_text(options.recipe, "eval"), quick=options.quick, count=count, **changes)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if options.model is not None:
        protocol = _standing_in(options.model, protocol)
    if file is None:
        return protocol
    # Where it is short, it is so of whatever problems.
    first = min(protocol.problems.count, protocol.problems.first or protocol.problems.count) if options.quick else None
    return replace(protocol, problems=replace(protocol.problems, file=file, first=first))


def _standing_in(model: str, protocol: Protocol) -> Protocol:
    """The protocol with another model in the conditions of its method that name none."""
    from apr.policy import task_and_method

    try:
        _, method = task_and_method(model, protocol.task, None)
    except ValueError as error:
        raise UsageError(str(error)) from None
    conditions = tuple(
        replace(condition, model=model) if (condition.model, condition.method) == (None, method) else condition
        for condition in protocol.conditions
    )
    if conditions == protocol.conditions:
        raise UsageError(
            f"--model: each condition of the recipe names its model, or is for another method than {method}"
        )
    return replace(protocol, conditions=conditions)


def _described(options: Any, given: Mapping[str, Any]) -> Protocol:
    """The protocol of one condition that the arguments describe."""
    from apr.evaluate.protocol import Condition, ProblemSet, Protocol

    if options.quick:
        raise UsageError("--quick is the short form of a --recipe")
    count, file = _count(options)
    for name in ("split", "numbers"):
        if file is not None and name in given:
            raise UsageError(f"--{name} is of problems that are drawn: --problems {file} goes without it")
    check_engine(options.engine, options.server)
    task, method = asked(options)
    problems = ProblemSet(
        split=options.split,
        seed=options.seed,
        count=ProblemSet().count if count is None else count,
        numbers=options.numbers,
        file=file,
    )
    condition = Condition(
        method=method,
        model=options.model,
        budget=options.budget,
        temperature=options.temperature,
        join=options.join,
        samples=options.samples,
    )
    return Protocol(
        task=task,
        language=options.language,
        conditions=(condition,),
        problems=problems,
        engine=options.engine,
        seed=options.seed,
        max_threads=options.max_threads,
        max_tokens=options.max_tokens,
        concurrency=options.concurrency,
    )


def _count(options: Any) -> tuple[int | None, str | None]:
    """What --problems says: a count, or a file."""
    wanted = options.problems
    if wanted is None or not (wanted.isascii() and wanted.isdigit() and len(wanted) < 10):
        if wanted is not None and not Path(wanted).exists():
            raise UsageError(f"--problems: {wanted!r} is no count from 1 on, and there is no such file")
        return None, wanted
    if int(wanted) == 0:
        raise UsageError("--problems: at least one is needed")
    return int(wanted), None


def _problems(protocol: Protocol, task: Task[Any]) -> list[Any]:
    from apr.evaluate.problems import distinct

    try:
        found = protocol.problems.load(task)
    except (OSError, ValueError) as error:
        raise UsageError(f"--problems: {in_words(error)}") from None
    once = distinct(task, found)
    if len(once) < len(found):
        note(f"{protocol.problems.file}: problems that stand there again count once, {len(once)} of {len(found)}")
    return once


def _setting(protocol: Protocol, condition: Any) -> dict[str, Any]:
    names = ("model", "method", "budget", "temperature", "join", "samples")
    setting = {name: getattr(condition, name) for name in names}
    return {"engine": protocol.engine, "split": protocol.problems.split, "seed": protocol.seed, **setting}
