"""Lanes as lines of characters: a bar a thread over time, its axis, how many threads were at work. No terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from rich.text import Text

from apr.threads.lanes import Kind, Lane, Span, columns, round_step

GLYPHS: dict[Kind, tuple[str, str]] = {
    "queue": ("·", "dim"),
    "prefill": ("▒", "magenta"),
    "start": ("░", "magenta"),
    "decode": ("▄", "cyan"),
    "waiting": ("┄", "dim"),
}
"""The sign of what a thread does, one column wide, and its style."""
CRITICAL = ("█", "bold yellow")
"""How the longest chain of dependent threads decodes."""
SPAWN, JOIN, BOTH = "▼", "▲", "◆"
_TICK = "bold"
_LEVELS = " ▁▂▃▄▅▆▇█"
_LABEL = 9
"""Columns from one number of the axis to the next, at least."""


def lane_cells(
    lane: Lane, length: float, width: int, now: float | None = None, *, critical: bool = False, known: float
) -> Text:
    """A thread's bar over `length` seconds. `known` is the time up to which there are events; what comes after the
    moment `now` is dim."""
    if length <= 0 or width <= 0:
        return Text(" " * max(0, width), no_wrap=True, end="")
    kinds = _fill(lane.until(known), length, width)
    ticks = _ticks(lane, length, width)
    cursor = None if now is None else column(now, length, width)
    cells = []
    for index in range(width):
        kind = kinds[index]
        glyph, style = (" ", "") if kind is None else GLYPHS[kind]
        if kind is not None and critical and kind != "waiting":
            glyph, style = (CRITICAL[0] if kind == "decode" else glyph), CRITICAL[1]
        if index in ticks:
            glyph, style = ticks[index], _TICK
        if cursor is not None and index > cursor:
            style = "dim"
        cells.append((glyph, f"{style} reverse" if index == cursor else style))
    return _joined(cells)


def _joined(cells: Iterable[tuple[str, str]]) -> Text:
    """Characters with their styles as a line: a span for all that look alike, as each costs a terminal time."""
    text = Text(no_wrap=True, end="")
    for style, alike in groupby(cells, key=itemgetter(1)):
        text.append("".join(glyph for glyph, _ in alike), style)
    return text


def _fill(spans: Sequence[Span], length: float, width: int) -> list[Kind | None]:
    """What takes the most of each column's time."""
    each = length / width
    kinds: list[Kind | None] = [None] * width
    most = [0.0] * width
    for begin, end, kind in spans:
        if end <= begin:
            continue
        for index in range(column(begin, length, width), column(end, length, width) + 1):
            share = min(end, (index + 1) * each) - max(begin, index * each)
            if share > most[index]:
                most[index], kinds[index] = share, kind
    return kinds


def _ticks(lane: Lane, length: float, width: int) -> dict[int, str]:
    ticks: dict[int, str] = {}
    for sign, times in ((SPAWN, lane.spawns), (JOIN, lane.joins)):
        for time in times:
            at = column(time, length, width)
            ticks[at] = sign if ticks.get(at, sign) == sign else BOTH
    return ticks


def column(time: float, length: float, width: int) -> int:
    """Where a moment stands."""
    share = max(0.0, min(1.0, time / length)) if length > 0 else 0.0
    return min(width - 1, int(share * width))


def axis(length: float, width: int, now: float | None = None) -> Text:
    """Round seconds above their places; the moment `now` is marked."""
    marks = [" "] * width
    most = max(1, width // _LABEL)
    step = round_step(length, most)
    for index in range(most + 1):
        value = index * step
        label = f"{value:g}{' s' if index == 0 else ''}"
        at = column(value, length, width)
        if value <= length and at + len(label) <= width and (at == 0 or marks[at - 1] == " "):
            marks[at : at + len(label)] = label
        if not step:
            break
    text = Text("".join(marks), "dim", no_wrap=True, end="")
    if now is not None and width > 0:
        at = column(now, length, width)
        said = f"▾{now:.2f} s" if length < 100 else f"▾{now:.0f} s"
        begin = max(0, min(at, width - len(said)))
        said = said if begin == at else f"{said[1:]}▾"
        plain = f"{text.plain[:begin]}{said}{text.plain[begin + len(said) :]}"[:width]
        text = Text(plain, "dim", no_wrap=True, end="")
        text.stylize("not dim bold", begin, begin + len(said))
    return text


def area(steps: Sequence[tuple[float, int]], length: float, width: int, height: int, now: float | None) -> list[Text]:
    """How many threads were in the engine over time, as an area of so many lines from the top."""
    values = columns(steps, length, width)
    most = max((count for _, count in steps), default=0)
    cursor = None if now is None else column(now, length, width)
    lines = []
    for row in range(height):
        base = height - 1 - row
        cells = []
        for index, value in enumerate(values):
            eighths = round(8 * (value / most * height - base)) if most else 0
            style = "dim" if cursor is not None and index > cursor else "green"
            cells.append((_LEVELS[max(0, min(8, eighths))], f"{style} reverse" if index == cursor else style))
        lines.append(_joined(cells))
    return lines


def legend(width: int) -> str:
    """What the signs mean, as far as there is room."""
    parts = [
        f"{CRITICAL[0]} longest chain",
        f"{GLYPHS['decode'][0]} decode",
        f"{GLYPHS['waiting'][0]} waits",
        f"{SPAWN} spawn",
        f"{JOIN} join",
        f"{GLYPHS['prefill'][0]} prefill",
        f"{GLYPHS['queue'][0]} queue",
    ]
    while parts and len("  ".join(parts)) > width:
        parts.pop()
    return "  ".join(parts)
