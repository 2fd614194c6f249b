"""The path that a claim tells, read out of its text."""

from __future__ import annotations

import re

_EQUATION = re.compile(r"[0-9]{1,30}[-+*/][0-9]{1,30}=[0-9]{1,30}")
_QUOTED = re.compile(r"'([0-9]+[-+*/][0-9]+=[0-9]+)'")


def equations(text: str) -> tuple[str, ...]:
    """The equations of the last path in a text: those of its last quoted list, then the last one of all."""
    listed: list[str] = []
    for line in text.splitlines():
        if quoted := _QUOTED.findall(line):
            listed = quoted
    last = _EQUATION.findall(_QUOTED.sub("", text))[-1:]
    return (*listed, *last)
