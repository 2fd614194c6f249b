"""`apr report`: evaluations as tables in the terminal, figures, and a page beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apr.cli.common import Parser, UsageError, note
from apr.policy import install

if TYPE_CHECKING:
    from apr.evaluate.comparison import Outcome, Result

PAGE = "report.md"


def run(arguments: Sequence[str]) -> int:
    made = Parser(
        prog="apr report",
        description="Tables and figures of evaluations, beside the paper's. What is there of an unfinished one counts.",
        epilog="example: apr eval --recipe paper-small --out results; apr report results",
    )
    made.add_argument("evaluations", nargs="+", metavar="DIR", help="where `apr eval --out` put its rows")
    made.add_argument(
        "--out", metavar="DIR", help=f"write figures (SVG, PNG) and {PAGE} there (default: the first DIR)"
    )
    options = made.parse_args(list(arguments))

    from apr.evaluate.comparison import judge, paper, results
    from apr.evaluate.page import page

    try:
        found = results(options.evaluations)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    if not found:
        raise UsageError("there is no judged rollout yet")
    source, theirs, claims = paper()
    outcomes = [judge(claim, found) for claim in claims]
    _print(found, outcomes)
    directory = Path(options.out or options.evaluations[0])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        figures = _draw(found, directory)
        (directory / PAGE).write_text(page(found, outcomes, source, theirs, figures))
    except OSError as error:
        raise UsageError(f"cannot write to {directory}: {error.strerror}") from None
    note(f"written: {directory / PAGE}" + (f" and {2 * len(figures)} figures" if figures else ""))
    return 0


def _draw(found: Sequence[Result], directory: Path) -> list[str]:
    try:
        from apr.evaluate.figures import draw
    except ModuleNotFoundError:
        note(f"figures need matplotlib: {install('report')}")
        return []
    return draw(found, directory)


def _print(found: Sequence[Result], outcomes: Sequence[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Table

    from apr.evaluate.page import NAMES, figure_cells, standing_cells

    console = Console(highlight=False)
    table = Table(title="All conditions (tokens: means, Llama-2 equivalents)", title_justify="left")
    table.add_column("condition", overflow="fold")
    for name in ("solved", "interval", "total", "sequential", "context", "threads", "latency, s"):
        table.add_column(name, justify="right")
    for result in found:
        table.add_row(str(result.condition), *figure_cells(result))
    console.print(table)
    table = Table(title="The paper's claims", title_justify="left")
    for name in ("claim", "method", "ours", "interval", "paper"):
        table.add_column(name)
    for outcome in outcomes:
        for method, theirs in outcome.claim.paper.items():
            ours = standing_cells(outcome.standings.get(method))
            table.add_row(outcome.claim.name, NAMES[method], *ours, f"{theirs:.1%}")
    console.print(table)
