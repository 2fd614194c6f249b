"""Logs and rows made of anything: each line is read or refused in words, what is read can be folded or summed up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apr.evaluate.metrics import summarise
from apr.evaluate.protocol import Condition, Protocol
from apr.evaluate.row import judged, row_key
from apr.evaluate.shape import check_row
from apr.jsonl import parse
from apr.threads.events import from_json, to_json
from apr.threads.tree import ThreadTree
from rows import TASK, made_row
from test_events import recorded

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
EVENTS = [json.loads(to_json(event)) for event in recorded()]
ROW = made_row(0, True)
PROTOCOL = Protocol(conditions=(Condition(),))
QUICK = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(line=st.binary(max_size=60) | ANYTHING.map(json.dumps).map(str.encode))
def test_a_line_of_anything_is_refused_in_words(line: bytes) -> None:
    with pytest.raises(ValueError, match="not an event"):
        from_json(line)


@QUICK
@given(place=st.integers(0, len(EVENTS) - 1), data=st.data())
def test_an_event_with_a_changed_field_is_refused_or_folds_or_is_out_of_place(place: int, data: Any) -> None:
    values = EVENTS[place]
    name = data.draw(st.sampled_from(sorted(values)))
    changed = json.dumps({**values, name: data.draw(ANYTHING)})
    try:
        event = from_json(changed)
    except ValueError:
        return
    tree = ThreadTree()
    try:
        for other in EVENTS[:place]:
            tree.apply(from_json(json.dumps(other)))
        tree.apply(event)
    except ValueError:
        return
    assert tree.total_tokens >= 0
    assert tree.sequential_tokens <= tree.total_tokens


@QUICK
@given(data=st.data())
def test_a_row_with_a_changed_value_is_refused_or_summed_up(data: Any) -> None:
    name = data.draw(st.sampled_from(sorted(ROW)))
    value = data.draw(ANYTHING)
    try:
        row = check_row(parse(json.dumps({**ROW, name: value})), PROTOCOL, TASK)
    except ValueError:
        return
    assert row_key(row)[0] == 0
    assert summarise([row])["judged"] == int(judged(row))
