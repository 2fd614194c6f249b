"""`apr traces`: problems with teacher traces, as a pure function of seed and options.

Items are cut into chunks of fixed size, so small that each shard gets some; chunk k is file k, named by its items, and
falls to shard k mod n, so shards may be counted from 0 or from 1. In the order of their names the files of all shards
are the rows of one run. A file appears whole under its name or not at all, so a killed run goes on where it stopped.
Shards may be written at once, each by one process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from apr.arguments import Parser, UsageError
from apr.cli.common import METHODS, compact, natural, note, positive, share, span
from apr.files import replace_atomically, write_atomically
from apr.lock import Hold, hold
from apr.policy import install

OPTIONS_FILE = "options.json"
"""What all files of a directory are made of."""
_BATCH = 64
"""Items drawn at once."""
_PROMISING = {"apr": 0.9, "sos+": 0.5}
_CHILD_BEAM_SIZE = (1, 8)


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr traces",
        description="Write problems with teacher traces in chunks. A run that was killed goes on when it is "
        "started again; shards may run anywhere, and their files are those of one run.",
        examples=[
            "apr traces --count 1000 --out traces",
            "apr traces --count 1000000 --out traces --shard 1/8 --format parquet",
            "apr traces --method sos+ --count 1000 --numbers 3-4 --out sos-traces",
        ],
    )
    add = made.add_argument_group("problems").add_argument
    add("--count", type=positive, required=True, metavar="N", help="items over all shards")
    add("--seed", type=natural, default=0, metavar="N", help="of problems and searches (default: 0)")
    add("--split", choices=("train", "val", "test"), default="train", help="default: train")
    add("--numbers", type=span, default=(4, 4), metavar="N", help="how many, `4` or `2-6` (default: 4)")
    add = made.add_argument_group("search").add_argument
    add("--method", choices=METHODS, default="apr", help="default: apr")
    add("--beam-size", type=span, default=(1, 5), metavar="A-B", help="width, drawn for each (default: 1-5)")
    add("--child-beam-size", type=span, metavar="A-B", help="width of children (apr; default: 1-8)")
    add("--promising", type=share, metavar="P", help="share of nodes that are spawned, or searched first (default: "
        "0.9 for apr, 0.5 for sos+)")  # fmt: skip
    add = made.add_argument_group("output").add_argument
    add("--out", required=True, metavar="DIR", help="the directory of the files")
    add("--shard", type=_shard, default=(0, 1), metavar="I/N", help="part I of N alone (default: all)")
    add("--format", choices=("jsonl", "parquet", "both"), default="jsonl", help="default: jsonl")
    add("--chunk", type=positive, default=1000, metavar="N", help="most items of a file (default: 1000)")
    return made


def run(arguments: Sequence[str]) -> int:
    from apr._core import Traces

    options = parser().parse_args(list(arguments))
    promising = _PROMISING[options.method] if options.promising is None else options.promising
    if options.child_beam_size is not None and options.method != "apr":
        raise UsageError(f"--child-beam-size goes with --method apr: {options.method} has no children")
    child_beam_size = options.child_beam_size or _CHILD_BEAM_SIZE
    index, shards = options.shard
    # Where there is less than a chunk for each, shards share it.
    chunk = min(options.chunk, -(-options.count // shards))
    values = {
        "method": options.method,
        "count": options.count,
        "seed": options.seed,
        "split": options.split,
        "chunk": chunk,
        "numbers": options.numbers,
        "beam_size": options.beam_size,
        "child_beam_size": child_beam_size if options.method == "apr" else None,
        "promising": promising,
    }
    try:
        stream = Traces(
            options.seed,
            options.method,
            beam_size=options.beam_size,
            child_beam_size=child_beam_size,
            promising=promising,
            numbers=options.numbers,
            split=options.split,
        )
    except (ValueError, OverflowError) as error:
        raise UsageError(str(error)) from None
    writers = _writers(options.format)
    out = Path(options.out)
    try:
        # Another shard may begin at this moment.
        with _hold(out, "options", seconds=10):
            _claim(out, compact(values) + "\n")
        with _hold(out, f"shard-{index % shards}-of-{shards}"):
            _write_chunks(out, _chunks(options.count, chunk)[index % shards :: shards], stream, options.method, writers)
    except KeyboardInterrupt:
        note("stopped; the same command goes on behind the files that are there")
        raise
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or out}: {error.strerror or error}") from None
    return 0


def _hold(out: Path, part: str, seconds: float = 0.0) -> Hold:
    try:
        return hold(out, part, seconds=seconds)
    except ValueError as error:
        raise UsageError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Chunk:
    """The items of one file."""

    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"traces-{self.start:09d}-{self.stop:09d}"


Writer = Callable[[Iterator[dict[str, Any]], Path], None]


def _chunks(count: int, size: int) -> list[Chunk]:
    return [Chunk(start, min(start + size, count)) for start in range(0, count, size)]


def _claim(out: Path, values: str) -> None:
    """Say what the directory holds; UsageError if it holds something else."""
    told = out / OPTIONS_FILE
    if told.exists():
        if told.read_text() != values:
            raise UsageError(f"{out} holds traces of other options (see {told}); choose another directory")
        return
    write_atomically(told, values)


def _write_chunks(out: Path, chunks: list[Chunk], stream: Any, method: str, writers: dict[str, Writer]) -> None:
    if not chunks:
        note("nothing is left for this shard: the items make fewer files than there are shards")
    for done, chunk in enumerate(chunks, 1):
        # What a killed process had begun.
        for draft in out.glob(f".{chunk.name}.*.partial"):
            draft.unlink(missing_ok=True)
        for suffix, write in writers.items():
            path = out / f"{chunk.name}.{suffix}"
            if path.exists():
                continue
            replace_atomically(path, partial(write, _rows(stream, method, chunk)))
        note(f"{done}/{len(chunks)} files  {chunk.name}")


def _rows(stream: Any, method: str, chunk: Chunk) -> Iterator[dict[str, Any]]:
    for start in range(chunk.start, chunk.stop, _BATCH):
        items = stream.get(start, min(_BATCH, chunk.stop - start))
        for item, (problem, trace, beam, child_beam, condition) in enumerate(items, start):
            yield {
                "item": item,
                "numbers": list(problem.numbers),
                "target": problem.target,
                "method": method,
                "beam_size": beam,
                "child_beam_size": child_beam,
                "condition": condition,
                "solved": trace.solved,
                "main_calls": list(trace.main_calls),
                "children": _children(trace),
                "llama2_tokens": _llama2_tokens(trace),
            }


def _children(trace: Any) -> list[list[dict[str, Any]]]:
    """Per spawn round the children's calls and, in turn, their children."""
    return [
        [{"main_calls": list(child.main_calls), "children": _children(child)} for child in spawn]
        for spawn in trace.children
    ]


def _llama2_tokens(trace: Any) -> int:
    """Llama-2 tokens of all sequences with begin and end; what a call shares with the one before counts
    once."""
    from apr._core import llama2_tokens

    calls = list(trace.main_calls)
    total = sum(llama2_tokens(text) + 2 for text in calls)
    for before, after in pairwise(calls):
        total -= llama2_tokens(os.path.commonprefix([before, after]))  # noqa: RUF071 - of characters
    return total + sum(_llama2_tokens(child) for spawn in trace.children for child in spawn)


def _writers(name: str) -> dict[str, Writer]:
    """File suffix -> how it is written."""
    known: dict[str, Writer] = {"jsonl": _write_jsonl, "parquet": _write_parquet}
    if name != "jsonl":
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError:
            raise UsageError(f"Parquet needs pyarrow: {install('train')}") from None
    return known if name == "both" else {name: known[name]}


def _write_jsonl(rows: Iterator[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(compact(row) + "\n")


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path) -> None:
    """The same columns; `children`, which nest without bound, as JSON text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("item", pa.int64()),
            ("numbers", pa.list_(pa.int64())),
            ("target", pa.int64()),
            ("method", pa.string()),
            ("beam_size", pa.int32()),
            ("child_beam_size", pa.int32()),
            ("condition", pa.string()),
            ("solved", pa.bool_()),
            ("main_calls", pa.list_(pa.string())),
            ("children", pa.string()),
            ("llama2_tokens", pa.int32()),
        ]
    )
    flat = [{**row, "children": json.dumps(row["children"], separators=(",", ":"))} for row in rows]
    pq.write_table(pa.Table.from_pylist(flat, schema=schema), path, compression="zstd")


def _shard(text: str) -> tuple[int, int]:
    from argparse import ArgumentTypeError

    part, slash, whole = text.partition("/")
    if not slash:
        raise ArgumentTypeError(f"{text!r} is not of the form I/N")
    pair = natural(part), positive(whole)
    if pair[0] > pair[1]:
        raise ArgumentTypeError(f"there is no part {pair[0]} of {pair[1]}")
    return pair
