"""The rows of an evaluation as Parquet, for programs that read tables: beside the JSON lines, made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from apr.evaluate.protocol import Protocol
from apr.files import replace_atomically
from apr.jsonl import write

PARQUET_FILE = "rows.parquet"

_PAIRS = {"ends": pa.string(), "makespan": pa.int64()}
"""Columns of objects whose keys are data."""
_NESTED = ("problem", "profile", "diagnostics")
"""Columns of objects whose keys are names: one column each."""


def write_parquet(protocol: Protocol, rows: Sequence[dict[str, Any]], directory: str | Path) -> Path:
    """Write `rows.parquet` with a column for each value of a row and each field of its condition. ValueError if values
    of one name are of several kinds, as rows that were changed by hand may have them."""
    flat = [_flat(row, asdict(protocol.conditions[row["condition"]])) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    columns = {name: _column(name, [row.get(name) for row in flat]) for name in names}
    path = Path(directory) / PARQUET_FILE
    replace_atomically(path, lambda draft: pq.write_table(pa.table(columns), draft, compression="zstd"))
    return path


def _flat(row: dict[str, Any], condition: dict[str, Any]) -> dict[str, Any]:
    flat = {**condition, **row, "problem": {name: _words(value) for name, value in row["problem"].items()}}
    for name in _NESTED:
        flat.update({f"{name}_{key}": value for key, value in (flat.pop(name) or {}).items()})
    for name in _PAIRS:
        flat[name] = list(flat[name].items())
    return flat


def _words(value: Any) -> Any:
    """A value of a problem, as columns take it: its numbers may have more digits than any column of integers."""
    if isinstance(value, list):
        return [_words(item) for item in value]
    return value if value is None or isinstance(value, str) else write(value)


def _column(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, type=_type(name))
    except (pa.ArrowException, OverflowError):
        raise ValueError(f"{name} of all rows makes no column") from None


def _type(name: str) -> pa.DataType | None:
    return pa.map_(pa.string(), _PAIRS[name]) if name in _PAIRS else None
