"""What others bring, found by name: in an entry-point group of installed packages, or as `module:attribute`."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import Any

from apr.plain import hint


def names(group: str) -> tuple[str, ...]:
    """What is installed of a group."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


_vouched: set[str] = set()


def vouch(*given: str | None) -> None:
    """The user gave these names in this process: where a file has one of them, it may be looked up too."""
    _vouched.update(name for name in given if name is not None)


def noted(group: str, name: str, where: object) -> str:
    """A name that stands in a file, which may be a stranger's, if it may be looked up: it is installed, or the user
    gave it. ValueError says how to give it; whatever can be imported would be called otherwise."""
    if _installed(group, name) is not None or name in _vouched:
        return name
    kind = group.rpartition(".")[2].removesuffix("s")
    how = f"give it with --{kind}, or in a recipe"
    raise ValueError(f"{where} names the {kind} {name!r:.80}, which is not installed; {how}")


def find(group: str, name: str, known: tuple[str, ...] = ()) -> Any:
    """What a name stands for. ValueError, with what there is beside what is `known`, if it stands for nothing or cannot
    be imported."""
    kind = group.rpartition(".")[2].removesuffix("s")
    if (point := _installed(group, name)) is not None:
        return _imported(point.value, f"the {kind} {name!r}")
    if ":" in name:
        return _imported(name, f"the {kind} {name!r}")
    choices = sorted({*known, *names(group)})
    listed = f"choose one of {', '.join(choices)}, or module:attribute" if choices else "name it as module:attribute"
    raise ValueError(f"unknown {kind} {name!r}: {listed}{hint(name, choices)}")


def _installed(group: str, name: str) -> EntryPoint | None:
    """What a name stands for in a group: for something of this package first, since looking through all others that are
    installed can take longer than loading a small model."""
    with suppress(PackageNotFoundError):
        for point in distribution("apr").entry_points.select(group=group, name=name):
            return point
    return next(iter(entry_points(group=group, name=name)), None)


def _imported(value: str, what: str) -> Any:
    module, _, attribute = value.partition(":")
    try:
        found: Any = import_module(module)
        for part in attribute.strip().split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        here = "; for a file of your own set PYTHONPATH to its directory" if error.name == module else ""
        raise ValueError(f"{what} needs {error.name}, which is not installed{here}") from None
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be found: {error}") from None
    return found
