"""`python -m benchmarks`: a table of ratios measured in one run, each beside what it should be."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module

from benchmarks import countdown, engine, tui
from benchmarks.measure import Result, cores

BENCHMARKS: dict[str, Callable[[int], list[Result]]] = {
    "traces": countdown.traces,
    "threads": countdown.threads,
    "problems": countdown.problems,
    "checks": countdown.checks,
    "solve": countdown.solve,
    "engine": engine.engine,
    "engine-cores": engine.engine_cores,
    "prefix": engine.prefix,
    "start": engine.start,
    "tui": tui.tui,
}
"""What runs unless others are named."""


def sglang(rounds: int) -> list[Result]:
    """Minutes of servers starting: run when asked for."""
    from benchmarks.sglang import sglang

    return sglang(rounds)


def rl(rounds: int) -> list[Result]:
    """Minutes of training: run when asked for."""
    from benchmarks.rl import rl

    return rl(rounds)


def rollouts(rounds: int) -> list[Result]:
    """Minutes of `generate`: run when asked for."""
    from benchmarks.rollouts import rollouts

    return rollouts(rounds)


TABLES = {
    "teacher": "what schedules of the teacher solve and cost",
    "children": "what a model's children find, by how large their numbers are",
    "training": "where the time of a supervised step goes",
    "llama-cpp": "the native engine against llama.cpp on the same weights",
    "rounding": "what rounding in the native engine's cache and products changes",
}
"""Modules that print a table of their own, and take options of their own."""
ON_DEMAND: dict[str, Callable[[int], list[Result]]] = {"rollouts": rollouts, "sglang": sglang, "rl": rl}


def main() -> int:
    match sys.argv[1:]:
        case [name, *arguments] if name in TABLES:
            status: int = import_module(f"benchmarks.{name.replace('-', '_')}").main(arguments)
            return status
    known = BENCHMARKS | ON_DEMAND
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="Tables of their own, with options of their own: "
        + "; ".join(f"`{name}`: {what}" for name, what in TABLES.items()),
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help=f"some of {', '.join(known)} (default: all but {', '.join(ON_DEMAND)}, which take minutes)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns each side takes (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    for name in options.names:
        if name not in known:
            parser.error(f"there is no benchmark {name!r}; known: {', '.join(known)}")
    names = options.names or list(BENCHMARKS)
    if not options.json:
        print(f"{cores()} cores; ratios are medians of {options.rounds} turns\n", flush=True)
    for name in names:
        for result in known[name](options.rounds):
            print(json_line(result) if options.json else result.row(), flush=True)
    return 0


def json_line(result: Result) -> str:
    return json.dumps({**asdict(result), "passed": result.passed})


if __name__ == "__main__":
    raise SystemExit(main())
