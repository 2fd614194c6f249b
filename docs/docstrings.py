"""Docstrings of the compiled half, for the site: they stand in Rust, and its stub does not repeat them."""

from __future__ import annotations

import inspect
from typing import Any

from griffe import Alias, Docstring, Extension, Module, Object


class Compiled(Extension):
    """Gives the names of a package's extension the docstrings that they have at run time."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        if pkg.name == "apr":
            import apr._core

            tell(pkg["_core"], apr._core)


def tell(stub: Object | Alias, compiled: Any) -> None:
    for name, found in vars(compiled).items():
        member = stub.members.get(name)
        if member is None or name.startswith("_"):
            continue
        if member.docstring is None and (said := inspect.getdoc(found)):
            member.docstring = Docstring(said)
        if member.is_class:
            tell(member, found)
