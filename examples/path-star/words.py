"""The language of tags, with tokens for what a star's prompt says."""

from __future__ import annotations

from pathlib import Path

from apr.languages.tags import Tags, open_tags, vocabulary
from apr.task import Method


def open_words(directory: Path | None, method: Method) -> Tags:
    if directory is not None:
        return open_tags(directory, method)
    return Tags(method, vocabulary(["edges ", "from ", " to "]))
