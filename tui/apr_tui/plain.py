"""Text of models and logs as a terminal may be given it: no character of it commands, hides or reorders."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

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


def cut(text: str, width: int) -> str:
    """As much of a cleaned line as fits so many columns; an ellipsis stands for the rest."""
    if len(text) <= width and text.isascii():
        return text
    if cell_len(text) <= width:
        return text
    kept, used = [], 1
    for character in text:
        used += cell_len(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept) + ("…" if width > 0 else "")


def pad(text: str, width: int) -> str:
    """The line cut or filled to exactly so many columns."""
    text = cut(text, width)
    return text + " " * (width - cell_len(text))
