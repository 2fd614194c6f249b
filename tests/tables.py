"""Tables of pages that are made from the code: the keys of recipes, the fields of events.

A page holds each between `<!-- table module:name -->` and `<!-- end -->`. `python -m tests.tables` makes them anew.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Literal

from apr.fields import Ascending, Filled, Range
from apr.train.recipes import RlConfig, SftConfig
from tests.pages import ROOT

PAGES = ("recipes.md", "events.md")
MARK = re.compile(r"(<!-- table ([\w.]+):(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
ELSEWHERE = {(SftConfig, "method"), (RlConfig, "method")}
NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", dict: "table", type(None): "none"}


def filled(text: str) -> str:
    """A page whose tables are those of the code."""
    return MARK.sub(lambda found: f"{found[1]}\n{table(found[2], found[3])}\n\n{found[4]}", text)


def table(module: str, name: str) -> str:
    found = getattr(import_module(module), name)
    if dataclasses.is_dataclass(found):
        return rows(("key", "takes", "default", ""), fields(module, found))
    return rows(("value", ""), ((f"`{value}`", said) for value, said in choices(module, found)))


def rows(head: tuple[str, ...], body: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *body]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in lines)


def fields(module: str, kind: type) -> Iterator[tuple[str, ...]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    own, aliases = documented(module, kind.__name__), documented(module)
    for field in dataclasses.fields(kind):
        # Those that are inherited are told once, and the command line says the method.
        if field.name in own and (kind, field.name) not in ELSEWHERE:
            said, alias = own[field.name]
            said = said or aliases.get(alias, ("", ""))[0]
            yield f"`{field.name}`", takes(hints[field.name]), default(field), said


def takes(kind: Any) -> str:
    """What a field may be, in words."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return ", ".join([takes(args[0]), *filter(None, map(rule, args[1:]))])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (types.UnionType, typing.Union):
        words = [takes(one) for one in args]
        return (", or " if "," in words[0] else " or ").join(words)
    if origin is tuple:
        of = args[:1] if Ellipsis in args else args
        return f"list of {len(of)}: {takes(of[0])}" if len(of) > 1 else f"list: {takes(of[0])}"
    if dataclasses.is_dataclass(kind):
        return "table"
    return NAMES[origin or kind]


def rule(one: Any) -> str:
    match one:
        case Range(least, math.inf, open):
            return f"{'above' if open else 'at least'} {number(least)}"
        case Range(least, most, open):
            return f"between {number(least)} and {number(most)}" if open else f"from {number(least)} to {number(most)}"
        case Ascending():
            return "ascending"
        case Filled():
            return "at least one"
    raise TypeError(one)


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.9g}"


def default(field: dataclasses.Field[Any]) -> str:
    """Empty where there is none, or one that its own table tells."""
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "must be given"
    match field.default:
        case bool(value):
            return f"`{str(value).lower()}`"
        case int(value) | float(value) | str(value):
            return f"`{value}`"
        case tuple(values) if all(isinstance(value, int | float | str) for value in values):
            return f"`{json.dumps(values)}`"
    return ""


@cache
def documented(module: str, kind: str | None = None) -> dict[str, tuple[str, str]]:
    """Name -> the text behind it and its annotation, of a class's own fields or of a module's aliases."""
    body: list[ast.stmt] = ast.parse(inspect.getsource(import_module(module))).body
    if kind is not None:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == kind)
    found: dict[str, tuple[str, str]] = {}
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        match node:
            case ast.AnnAssign(target=ast.Name(name), annotation=annotation):
                alias = ast.unparse(annotation)
            case ast.Assign(targets=[ast.Name(name)]):
                alias = ""
            case _:
                continue
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = (" ".join(inspect.cleandoc(text).partition("\n\n")[0].split()), alias)
            case _:
                found[name] = ("", alias)
    return found


def choices(module: str, alias: Any) -> Iterator[tuple[str, str]]:
    """The values of a Literal, each with the comment beside it."""
    source = inspect.getsource(import_module(module))
    for value in typing.get_args(alias):
        [said] = re.findall(rf'^    "{value}",  # (.*)$', source, re.MULTILINE)
        yield value, said


if __name__ == "__main__":
    for name in PAGES:
        place = ROOT / "docs" / name
        place.write_text(filled(place.read_text()))
