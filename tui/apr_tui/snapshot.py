"""Training runs as they are now, printed: how each stands, its last alarms, the curves of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from apr_tui.curves import COLUMNS, Look, chart
from apr_tui.pane import pack
from apr_tui.plain import one_line
from apr_tui.plot import STROKES
from apr_tui.record import RunFeed, overview

_GAP = 2
_LINES = 9
"""Of a chart."""
_ALARMS = 5


def snapshot(feeds: Sequence[RunFeed], width: int, now: float) -> Iterator[RenderableType]:
    """What the monitor shows of these runs, in so many columns, at this time."""
    for stroke, feed in zip(STROKES, feeds, strict=False):
        while feed.take():
            pass
        sign = f"{stroke.sign * 2} " if len(feeds) > 1 else ""
        yield Text(f"{sign}{one_line(feed.path.name)} · {one_line(feed.plan.kind)}", "bold")
        yield from (Text(line) for line in pack([one_line(part) for part in overview(feed, now)], " · ", width))
        alarms = feed.run.alarms
        yield from (Text(f"! step {step}: {one_line(what)}", "yellow") for step, what in alarms[-_ALARMS:])
    runs = [feed.run for feed in feeds]
    groups = list(dict.fromkeys(group for run in runs for group in run.groups()))
    columns = max(1, width // COLUMNS)
    room = (width - (columns - 1) * _GAP) // columns
    table = Table.grid(padding=(1, _GAP, 0, 0))
    for begin in range(0, len(groups), columns):
        table.add_row(*(chart(group, runs, Look(), room, _LINES) for group in groups[begin : begin + columns]))
    yield table
