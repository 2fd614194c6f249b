"""`apr problems`: problems of a split, one a line."""

from __future__ import annotations

from collections.abc import Sequence

from apr.cli.common import Parser, UsageError, compact, natural, span


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr problems",
        description="Print the first problems of a split. All are solvable; train, val and test share none.",
        epilog="example: apr problems -n 10 --split test --json",
    )
    made.add_argument("-n", "--count", type=natural, default=10, metavar="N", help="how many (default 10)")
    made.add_argument("--seed", type=natural, default=0, metavar="N")
    made.add_argument("--split", choices=("train", "val", "test"), default="test")
    made.add_argument("--numbers", type=span, default=(4, 4), metavar="N", help="how many, `4` or `2-6`")
    made.add_argument("--json", action="store_true", help='print {"numbers": [...], "target": n} a line')
    return made


def run(arguments: Sequence[str]) -> int:
    from apr import problems as stream

    options = parser().parse_args(list(arguments))
    try:
        for problem in stream(options.count, options.seed, numbers=options.numbers, split=options.split):
            values = {"numbers": list(problem.numbers), "target": problem.target}
            line = f"{' '.join(map(str, problem.numbers))} --target {problem.target}"
            print(compact(values) if options.json else line)
    except (ValueError, OverflowError) as error:
        raise UsageError(str(error)) from None
    return 0
