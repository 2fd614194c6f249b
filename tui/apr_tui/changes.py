"""What is on screen already is not drawn again: a frame in which nothing happens costs next to nothing."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static


def write(widget: Static, content: str | Content) -> None:
    """Have it say this."""
    if str(widget.content) != str(content):
        widget.update(content if isinstance(content, Content) else Content(content))


def entitle(widget: Widget, title: str) -> None:
    """Have this stand on its upper border."""
    if widget.border_title != Content(title).markup:
        widget.border_title = Content(title)


def subtitle(widget: Widget, text: str) -> None:
    """Have this stand on its lower border."""
    if widget.border_subtitle != Content(text).markup:
        widget.border_subtitle = Content(text)
