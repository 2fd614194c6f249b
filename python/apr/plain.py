"""Text of models and logs as a terminal may be given it: no character of it commands, hides or reorders."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Mn", "Me"))
"""Categories without a width of their own: controls, formats, surrogates, combining marks."""


class _Visible(dict[int, int]):
    """Code -> the code that is shown for it, worked out when it is first met."""

    def __missing__(self, code: int) -> int:
        if unicodedata.category(chr(code)) not in _HIDDEN:
            shown = code
        elif code < 32:
            shown = 0x2400 + code  # the control pictures, such as ␛
        elif code == 127:
            shown = 0x2421
        else:
            shown = ord("·")
        self[code] = shown
        return shown


_SHOWN = _Visible({ord("\n"): ord("\n")})


def clean(text: str) -> str:
    """The text, character by character, with a sign for each that would not be seen; lines stay lines."""
    return text if text.isascii() and text.replace("\n", "").isprintable() else text.translate(_SHOWN)


def one_line(text: str) -> str:
    """The text cleaned, in one line."""
    return clean(" ".join(text.split()))


def hint(word: str, known: Iterable[str]) -> str:
    """What to put behind a complaint about a word that is nearly a known one; empty if it is near none."""
    near = get_close_matches(word[:40], list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""
