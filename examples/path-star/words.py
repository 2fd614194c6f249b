"""The language of tags, with tokens for what a star's prompt says."""

from __future__ import annotations

from pathlib import Path

from apr.languages.tags import Tags, open_tags, vocabulary
from apr.task import Method


def open_words(directory: Path | None, method: Method) -> Tags:
    phrases = ["edges ", "from ", " to "]
    words = Tags(method, vocabulary(phrases)) if directory is None else open_tags(directory, method)
    words.name = "words:open_words"
    return words
