"""Text of models and logs cut to the columns of a terminal, once it is clean."""

from __future__ import annotations

from rich.cells import cell_len

from apr.plain import clean, one_line

__all__ = ["clean", "cut", "one_line", "pad"]


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
