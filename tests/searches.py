"""Small searches of Countdown written by hand, with whatever right or wrong lines a test needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apr
from apr import Problem, Tokenizer
from apr.testing.scripted import Fault, ScriptedEngine
from apr.threads.tree import ThreadTree
from apr.train.rl.groups import Drawn, Group

PROBLEM = Problem([2, 3, 4], 10)
HOPEFUL, OTHER, HOPELESS = ("2*3=6", "4, 6"), ("3*4=12", "2, 12"), ("2+3=5", "4, 5")
"""First steps, and the numbers that they leave."""


def tried(equation: str, left: str = "") -> str:
    """The line of a step that leaves its result alone, or these numbers."""
    return f"Exploring Operation: {equation}, Resulting Numbers: [{left or equation.partition('=')[2]}]\n"


def reached(equation: str) -> str:
    """What a child writes that claims to have reached the target by one step."""
    return 2 * f"{tried(equation)}10,10 equal: Goal Reached\n"


def missed(*equations: str) -> str:
    """What a child writes that found nothing."""
    lines = (f"{tried(equation)}{equation.partition('=')[2]},10 unequal: No Solution\n" for equation in equations)
    return "".join(lines) + "No solution found.\n"


Wave = tuple[Sequence[tuple[str, str]], Sequence[str]]
"""First steps that are shown, and what the child of each writes."""


def searched(
    steps: Sequence[tuple[str, str]],
    children: Sequence[str],
    *waves: Wave,
    faults: Iterable[Fault] = (),
    context_length: int = 1 << 20,
) -> ThreadTree:
    """A rollout whose main thread shows some first steps and spawns a child for each, which write these lines; then
    come more waves of the kind."""
    written: list[str] = []
    main, number = "", 0
    for shown, lines in ((steps, children), *waves):
        main += "Moving to Node #0\nCurrent State: 10:[2, 3, 4], Operations: []\n"
        spawned = ""
        for place, (equation, left) in enumerate(shown):
            main += f"{tried(equation, left)}Generated Node #0,{number}: 10:[{left}] Operation: {equation}\n"
            spawned += f"<Start Sub Search {place} at level 1> Moving to Node #0,{number}\n"
            number += 1
        spawn = f"{main}<Calling Sub Searches>\n{spawned}<End Calling Sub Searches>"
        texts = [f"{prompt}\n{own}" for prompt, own in zip(apr.child_prompts(spawn), lines, strict=True)]
        written += [f"{spawn}\n", *texts]
        main = apr.join(spawn, [text.removesuffix("\n") for text in texts])
    written.append(f"{main}No solution found.")
    engine = ScriptedEngine(written, Tokenizer(), faults=faults, context_length=context_length)
    return apr.run_threads(PROBLEM, engine)


def group(*trees: ThreadTree, rewards: Sequence[float] | None = None) -> Group:
    """Rollouts of the problem, and what they are worth: all the same, unless it is said."""
    worth = [0.0] * len(trees) if rewards is None else rewards
    return Group(
        Drawn(0, PROBLEM, None), trees, tuple(None if t.failed else r for t, r in zip(trees, worth, strict=True))
    )
