"""`apr problems`: problems of a split, one a line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import islice
from typing import Any

from apr.arguments import Parser, UsageError
from apr.cli.common import asked, compact, natural, open_task, span
from apr.form import fill, form_of
from apr.selection import problems_of
from apr.task import Asks, Selects, Task


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        prog="apr problems",
        description="Print the first problems of a split. Train, val and test share none.",
        examples=[
            "apr problems -n 10",
            "apr problems -n 1000 --split val --seed 7 --json",
            "apr problems --task sudoku",
        ],
    )
    made.add_argument("-n", "--count", type=natural, default=10, metavar="N", help="how many (default: 10)")
    made.add_argument("--seed", type=natural, default=0, metavar="N", help="of the stream of problems (default: 0)")
    made.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: test")
    made.add_argument("--task", metavar="NAME", help="a task, or module:attribute (default: the shipped model's)")
    made.add_argument("--numbers", type=span, metavar="N", help="Countdown's: how many, `4` or `2-6` (default: 4)")
    made.add_argument("--json", action="store_true", help="print a JSON object a line, as the task writes a problem")
    return made


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(list(arguments))
    options.model = options.method = None
    task = open_task(*asked(options))
    try:
        if options.numbers is not None:
            if not isinstance(task, Selects):
                raise ValueError(f"the task {task.name} has one kind of problems: --numbers is for others")
            task = task.select({"numbers": options.numbers})
        # Repeats belong to the train split: item i is what a run trains on.
        found = problems_of(task, options.split, options.seed, distinct=options.split != "train")
        shown = 0
        for problem in islice(found, options.count):
            print(compact(task.to_json(problem)) if options.json else _words(task, problem))
            shown += 1
        if shown < options.count:
            raise ValueError(f"the {options.split} split has only {shown} such problems")
    except (ValueError, OverflowError) as error:
        raise UsageError(str(error)) from None
    return 0


def _words(task: Task[Any], problem: Any) -> str:
    """The problem as `apr solve` takes it."""
    first, *others = fill(task, problem)
    if not isinstance(task, Asks):
        return f"--problem {shlex.quote(first)}"
    names = [field.name for field in form_of(task).fields[1:]]
    return " ".join([first, *(f"--{name} {text}" for name, text in zip(names, others, strict=True))])
