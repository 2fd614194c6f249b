"""Text of models and logs cut to the columns of a terminal, once it is clean."""

from __future__ import annotations

from rich.cells import cell_len

from apr.plain import clean, one_line

__all__ = ["clean", "cut", "middle", "one_line", "pad"]


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


def middle(text: str, width: int) -> str:
    """The line if it fits so many columns, else its begin and its end around an ellipsis: names differ at both."""
    if cell_len(text) <= width:
        return text
    if width < 3:
        return cut(text, width)
    end, used = len(text), 0
    while end and (used := used + cell_len(text[end - 1])) <= (width - 1) // 2:
        end -= 1
    rest = text[end:]
    return f"{cut(text, width - cell_len(rest))}{rest}"
