"""How people ask for a sudoku, and which kinds of them a run may want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from apr.fields import Filled, Range, Share
from apr.task import Field, Form, Kind

GIVENS = (4, 4, 4, 5, 5, 5, 6, 6, 7, 8)
"""How many cells are given unless somebody says otherwise, one as often as it stands here."""
PLAIN = 0.2
"""The share of problems without a sum unless somebody says otherwise."""

Givens = Annotated[tuple[int, ...], Range(4, 11), Filled()]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which problems a stream holds."""

    givens: Givens = GIVENS
    """How many cells are given: one of these, and one that stands here twice comes twice as often."""
    plain: Share = PLAIN
    """The share of problems without a sum, which need no search."""


FORM = Form(
    (Field("grid", "four rows and the diagonal's sum", "..../..14/..../23.. sum=10", width=40),),
    "fill rows, columns and boxes with 1 to 4; the falling diagonal has the sum",
    {
        "medium": Kind("6 cells are given", {"givens": (6,), "plain": 0.0}),
        "hard": Kind("4 cells are given", {"givens": (4,), "plain": 0.0}),
        "easy": Kind("no sum, no search", {"plain": 1.0}),
    },
    (None, 0, 1, 2),
    "child threads",
)
