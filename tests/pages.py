"""The pages of the documentation, and the files that stand in them: fences with a title."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def page(name: str) -> str:
    """The text of one in docs/."""
    return (ROOT / "docs" / name).read_text()


def blocks(text: str, *languages: str) -> Iterator[str]:
    """What stands in fences of these languages."""
    for language, body in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language in languages:
            yield body


def files(text: str) -> dict[str, str]:
    """The files that a page shows whole, by name."""
    return dict(re.findall(r'^```\w+ title="(\S+)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL))


def directory(name: str) -> dict[str, str]:
    """The same files where they stand by themselves, in a directory of examples."""
    return {path.name: path.read_text() for path in (EXAMPLES / name).iterdir() if path.is_file()}
