"""`apr report`: evaluations as tables in the terminal, figures, and a page beside the paper's; logs as timelines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apr.arguments import Parser, UsageError, in_words
from apr.cli.common import note
from apr.cli.eval import RESULTS
from apr.plain import one_line
from apr.plugins import vouch
from apr.policy import install

if TYPE_CHECKING:
    from rich.console import Console

    from apr.report.claims import Paper
    from apr.report.results import Evaluations
    from apr.report.tables import Table

PAGE = "report.md"
_WIDE = 100
"""Columns from which on a table's are set further apart."""
_WORD = 12
"""Characters of words that stay whole in a table."""


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr report",
        description="Tables and figures of evaluations, beside the paper's. What is there of an unfinished one counts. "
        "Of a log of events, a timeline of each rollout's threads, as SVG and HTML.",
        examples=[
            "apr eval --recipe paper-small; apr report",
            "apr report results/before results/after --out compared",
            "apr solve 22 26 31 53 --target 27 --json > events.jsonl; apr report events.jsonl",
        ],
    )
    add = made.add_argument
    add("reported", nargs="*", metavar="DIR|LOG", help="where `apr eval` put rows, or logs of events (default: the "
        f"newest in {RESULTS})")  # fmt: skip
    add("--out", metavar="DIR", help=f"write figures (SVG, PNG) and {PAGE} there (default: the first DIR), or "
        "timelines (default: beside each LOG)")  # fmt: skip
    add("--task", metavar="NAME", help="a task that is not installed, as module:attribute")
    return made


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(list(arguments))
    vouch(options.task)
    given = [Path(name) for name in options.reported]
    out = None if options.out is None else Path(options.out)
    if gone := next((path for path in given if not path.exists()), None):
        raise UsageError(f"there is no {gone}")
    if any(path.is_file() for path in given):
        return _timelines(given, out, options.task)

    try:
        import scipy.special  # noqa: F401
    except ModuleNotFoundError:
        raise UsageError(f"intervals need scipy: {install('report')}") from None
    from apr.files import write_atomically
    from apr.report.claims import paper
    from apr.report.page import page
    from apr.report.results import load

    directories = given or [_newest()]
    try:
        evaluations = load(directories)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    if not evaluations.results:
        raise UsageError("there is no judged rollout yet")
    quoted = paper()
    _print(evaluations, quoted)
    directory = directories[0] if out is None else out
    try:
        directory.mkdir(parents=True, exist_ok=True)
        figures = _draw(evaluations, directory)
        write_atomically(directory / PAGE, page(evaluations, quoted, figures))
    except OSError as error:
        raise UsageError(f"cannot write to {directory}: {error.strerror or error}") from None
    note(f"written: {directory / PAGE}" + (f" and {len(figures)} figures, as SVG and PNG" if figures else ""))
    return 0


def _timelines(logs: Sequence[Path], out: Path | None, task: str | None) -> int:
    """Draw each rollout of some logs."""
    from apr.files import write_atomically
    from apr.report.recorded import rollouts
    from apr.report.timeline import document, svg
    from apr.shown import give
    from apr.task import load_task
    from apr.threads.events import read_events

    try:
        if task is not None:
            give(load_task(task))
    except ValueError as error:
        raise UsageError(str(error)) from None
    written: set[Path] = set()
    for log in logs:
        try:
            found = rollouts(read_events(log))
        except OSError as error:
            raise UsageError(f"cannot read {in_words(error)}") from None
        except ValueError as error:
            raise UsageError(f"cannot read {log}: {error}") from None
        if not found:
            raise UsageError(f"{log} holds no rollout yet")
        directory = log.parent if out is None else out
        # Not by their ids, which are anything.
        names = [log.stem] if len(found) == 1 else [f"{log.stem}-{number}" for number in range(1, len(found) + 1)]
        files = {directory / f"{log.stem}.html", *(directory / f"{name}.svg" for name in names)}
        if twice := files & written:
            raise UsageError(f"{min(twice)} is another log's already: give {log} a directory of its own (--out)")
        written |= files
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for name, rollout in zip(names, found, strict=True):
                write_atomically(directory / f"{name}.svg", svg(rollout))
            write_atomically(directory / f"{log.stem}.html", document(log.name, found))
        except OSError as error:
            raise UsageError(f"cannot write to {directory}: {error.strerror or error}") from None
        many = f"{len(found)} timelines" if len(found) > 1 else names[0] + ".svg"
        note(f"written: {directory / log.stem}.html and {many}")
    return 0


def _newest() -> Path:
    from apr.evaluate.rows import ROWS_FILE

    rows = sorted(Path(RESULTS).glob(f"*/{ROWS_FILE}"), key=lambda path: path.stat().st_mtime)
    if not rows:
        raise UsageError(
            f"{RESULTS} holds no evaluation: run `apr eval --recipe paper-small` first, or name a directory"
        )
    return rows[-1].parent


def _draw(evaluations: Evaluations, directory: Path) -> list[str]:
    # Figures are drawn into files; the windows of a notebook, which this may name, are none of theirs.
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        from apr.report.figures import draw
    except ModuleNotFoundError:
        note(f"figures need matplotlib: {install('report')}")
        return []
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return draw(evaluations.results, directory)


def _print(evaluations: Evaluations, quoted: Paper) -> None:
    from rich.console import Console

    from apr.report import tables
    from apr.report.page import verdict
    from apr.report.results import names

    console = Console(highlight=False)
    found = evaluations.results
    lines = names(result.line for result in found)
    outcomes = quoted.outcomes(evaluations)
    _table(console, "All conditions (tokens: means, Llama-2 equivalents)", tables.brief_table(found, lines))
    _table(console, "Many samples", tables.samples_table(found, lines))
    _table(console, "Temperatures", tables.temperatures_table(found, lines))
    _table(console, "Several models of a method", tables.models_table(found))
    _table(console, "What lost the problems", tables.losses_table(found, lines))
    _table(console, "The paper's claims", tables.claims_table(outcomes, lines))
    for outcome in outcomes:
        console.print(one_line(verdict(outcome, evaluations).replace("**", "")), markup=False)


def _table(console: Console, title: str, cells: Table) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    if not cells:
        return
    space = 1 if console.width >= _WIDE else 0
    table = RichTable(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, space, 0, 0))
    for place, column in enumerate(zip(*cells, strict=True)):
        # Lines break between words; long names alone are cut, where there is no room for them.
        words = [word for cell in column for word in cell.split() if len(word) <= _WORD]
        least = max(map(len, words), default=1)
        table.add_column(
            Text(one_line(column[0])), justify="right" if place else "left", overflow="fold", min_width=least
        )
    for row in cells[1:]:
        # Names of models and of losses are no markup, and no commands for a terminal.
        table.add_row(*(Text(one_line(cell)) for cell in row))
    console.print(table)
