"""Docstrings of the compiled half, for the site: they stand in Rust, and its stub does not repeat them."""

from __future__ import annotations

import inspect
from typing import Any

from griffe import Docstring, Extension, Module, Object


class Compiled(Extension):
    """Gives the names of a package's extension the docstrings that they have at run time."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        if pkg.name == "apr":
            import apr._core

            tell(pkg["_core"], apr._core)


def tell(stub: Object, compiled: object) -> None:
    for name, member in stub.members.items():
        if name.startswith("_") or member.is_alias:
            continue
        found = getattr(compiled, name)
        if member.docstring is None and (said := inspect.getdoc(found)) and not member.is_attribute:
            member.docstring = Docstring(said, parent=member)
        if member.is_class:
            tell(member, found)
