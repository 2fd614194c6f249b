"""Curves drawn with braille characters, two by four dots each: pure, no terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]
Cell = tuple[str, int | None]
"""A character, and which curve it belongs to; None: no curve."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """How a curve is drawn, so that it is told apart without colour: so many dots, across, of each so many."""

    sign: str
    dots: int
    of: int


SOLID = Stroke("─", 1, 1)
STROKES = (SOLID, Stroke("┈", 2, 4), Stroke("╌", 6, 8), Stroke("·", 1, 4))
"""What runs are drawn in, by their place."""

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a braille character by column and row."""


@dataclass(frozen=True, slots=True)
class Box:
    """What part of the plane is drawn."""

    left: float
    right: float
    bottom: float
    top: float

    @classmethod
    def around(cls, curves: Sequence[Points]) -> Box:
        """The smallest one with some room around all points."""
        xs = [x for curve in curves for x, _ in curve] or [0.0]
        ys = [y for curve in curves for _, y in curve] or [0.0]
        left, right, bottom, top = min(xs), max(xs), min(ys), max(ys)
        # Averages of equal values differ in their last digits.
        if top - bottom <= 1e-9 * max(abs(top), abs(bottom)):
            margin = abs(top) * 0.1 or 1.0
            bottom, top = bottom - margin, top + margin
        # Of steps so large that one more is the same number, the next number.
        return cls(left, right if right > left else max(left + 1.0, math.nextafter(left, math.inf)), bottom, top)


def smooth(points: Points, weight: float) -> list[tuple[float, float]]:
    """A moving average that forgets `1 - weight` at each point and is not drawn towards zero at the begin."""
    if not weight:
        return list(points)
    smoothed, mean, total = [], 0.0, 0.0
    for x, y in points:
        mean, total = weight * mean + (1 - weight) * y, weight * total + (1 - weight)
        smoothed.append((x, mean / total))
    return smoothed


def draw(
    curves: Sequence[Points], box: Box, width: int, height: int, strokes: Sequence[Stroke] = ()
) -> list[list[Cell]]:
    """Rows of cells from the top, each curve in its stroke (default: all solid). A later curve lies over an earlier
    one."""
    bits = [[0] * width for _ in range(height)]
    owner: list[list[int | None]] = [[None] * width for _ in range(height)]
    for number, curve in enumerate(curves):
        stroke = strokes[number] if strokes else SOLID
        for x, low, high in _columns(curve, box, 2 * width, 4 * height):
            if x % stroke.of >= stroke.dots:
                continue
            for y in range(low, high + 1):
                row, column = height - 1 - y // 4, x // 2
                bits[row][column] |= _DOTS[x % 2][3 - y % 4]
                owner[row][column] = number
    return [
        [(chr(0x2800 + dots) if dots else " ", number) for dots, number in zip(line, owners, strict=True)]
        for line, owners in zip(bits, owner, strict=True)
    ]


def _columns(curve: Points, box: Box, width: int, height: int) -> list[tuple[int, int, int]]:
    """Column of dots, lowest and highest dot: a curve without gaps that keeps its peaks."""
    columns: dict[int, tuple[int, int, int]] = {}
    for x, y in curve:
        if not box.left <= x <= box.right:
            continue
        column = min(width - 1, int((x - box.left) / (box.right - box.left) * width))
        share = (y - box.bottom) / (box.top - box.bottom)
        # Half way between two rows, equal values that differ in their last digits are still in one.
        row = max(0, min(height - 1, round(round(share * (height - 1), 6)))) if math.isfinite(share) else 0
        low, high, _ = columns.get(column, (row, row, row))
        columns[column] = (min(low, row), max(high, row), row)
    drawn: list[tuple[int, int, int]] = []
    before: tuple[int, int] | None = None
    for column, (low, high, last) in sorted(columns.items()):
        if before is not None:
            begin, row = before
            for between in range(begin + 1, column):
                here = round(row + (low - row) * (between - begin) / (column - begin))
                drawn.append((between, here, here))
            if begin + 1 == column:
                low, high = min(low, row), max(high, row)
        drawn.append((column, low, high))
        before = (column, last)
    return drawn


def figure(value: float) -> str:
    """A number in at most about seven columns."""
    size = abs(value)
    if size >= 1e6 or (size and size < 1e-3):
        return f"{value:.1e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"
