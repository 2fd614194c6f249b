"""A thread's mark is the same wherever it is shown."""

from __future__ import annotations

from typing import Any, get_args

import pytest

pytest.importorskip("textual")

from apr.cli.view import Glyphs, render
from apr.shown import Shown
from apr.threads.events import CloseReason, RolloutStarted, ThreadClosed, ThreadOpened, ThreadSpawned
from apr.threads.marks import SIGNS, Mark
from apr.threads.tree import ThreadTree
from apr_tui.figures import row
from apr_tui.state import State, fold_all
from apr_tui.threads import draw_row

ENDS: dict[CloseReason, Mark] = {
    "no_answer": "nothing",
    "cancelled": "cancelled",
    "engine_error": "failed",
    "malformed_spawn": "stopped",
    "interrupted": "stopped",
    "length": "stopped",
}


def ending(reason: CloseReason, result: str | None = None) -> list[Any]:
    """A rollout whose only child ended so."""
    at: Any = {"rollout": "a", "time": 1.0}
    opened = {"depth": 0, "token_ids": (1,), "text": "a", **at}
    return [
        RolloutStarted(
            problem={}, method="apr", budget=None, limits={}, join="all", temperature=0.0, seed=0, policy_version=0,
            task="nobody's", **at,
        ),
        ThreadOpened(thread="0", parent=None, **opened),
        ThreadSpawned(thread="0", children=("0.0",), **at),
        ThreadOpened(thread="0.0", parent="0", **{**opened, "depth": 1}),
        ThreadClosed(thread="0.0", reason=reason, result=result, **at),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "result", "mark"),
    [("answered", "5", "claimed"), *((reason, None, ENDS.get(reason, "stopped")) for reason in get_args(CloseReason))],
)
def test_an_end_has_one_sign(reason: CloseReason, result: str | None, mark: Mark) -> None:
    events = ending(reason, result)
    tree = ThreadTree.fold(events)
    sign = SIGNS[mark].sign
    printed = render(tree, Glyphs.of("utf-8"), Shown.of(events[0]), lambda _: None, seconds=1.0, width=80)
    assert [line.plain.split()[1] for line in printed if "─" in line.plain] == [sign]
    assert f"<summary>{sign} 0.0 " in tree._repr_html_()
    view = fold_all(State(), events).view
    assert view is not None
    rows = [draw_row(row(view, thread), 80, 1).plain.split() for thread in tree.ordered()]
    assert [cells[0] for cells in rows if "─" in cells[0]] == ["└─"]
    assert rows[1][1] == sign


def test_signs_are_told_apart() -> None:
    for column in (0, 1):
        assert len({sign[column] for sign in SIGNS.values()}) == len(SIGNS)
    assert all(len(sign.sign) == 1 and sign.ascii.isascii() for sign in SIGNS.values())
