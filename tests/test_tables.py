"""The tables in docs/: made from the code, and of all of it."""

from __future__ import annotations

import dataclasses
import re
import typing

import pytest

import pages
import tables
from apr.threads import events
from apr.train import recipes


@pytest.mark.parametrize("name", tables.PAGES)
def test_the_tables_are_the_codes(name: str) -> None:
    text = pages.page(name)
    assert tables.filled(text) == text


def test_every_kind_of_event_has_its_fields() -> None:
    sections = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## )", pages.page("events.md"), re.MULTILINE | re.DOTALL))
    for kind in typing.get_args(events.Event):
        name = re.sub(r"(?<=\w)([A-Z])", r"_\1", kind.__name__).lower()
        named = set(re.findall(r"^\| `(\w+)` \|", sections.pop(name), re.MULTILINE))
        assert named == {field.name for field in dataclasses.fields(kind)} - {"rollout", "time"}
    assert not sections


def test_every_table_of_a_recipe_is_there() -> None:
    told = set(re.findall(r"^<!-- table apr\.train\.recipes:(\w+) -->", pages.page("recipes.md"), re.MULTILINE))
    defined = {name for name, kind in vars(recipes).items() if getattr(kind, "__module__", "") == recipes.__name__}
    assert told == {name for name in defined if dataclasses.is_dataclass(getattr(recipes, name))}
