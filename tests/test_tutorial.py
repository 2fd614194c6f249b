"""The page docs/tutorial.md: its texts are a spawn, a child and a join, and make the tree that it tells of."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import apr
import pages
from apr.testing.scripted import ScriptedEngine

PAGE = pages.page("tutorial.md")
FILES = pages.files(PAGE)
SPAWN, CHILD, JOIN, ANSWER = (FILES[f"{name}.txt"] for name in ("spawn", "child", "join", "answer"))
WHOLE = SPAWN.rstrip()  # As the functions take it; the token of its last line has the line break too.
PROBLEM = apr.Problem([22, 26, 31, 53], 27)
LOST = "No solution found.\n"
ONE_WAVE, TWO_WAVES = (block for block in pages.blocks(PAGE, "") if "threads" in block)


def texts() -> list[str]:
    """The children's, those that found nothing in short."""
    assert LOST.rstrip() in " ".join(PAGE.split())
    prompts = apr.child_prompts(WHOLE)
    assert CHILD.startswith(prompts[2])
    return [CHILD if place == 2 else f"{prompt}\n{LOST}" for place, prompt in enumerate(prompts)]


def test_the_spawn_and_the_join_are_the_languages() -> None:
    trunk = SPAWN[: SPAWN.index("<Calling")]
    assert apr.join(WHOLE, texts()) == trunk + JOIN


def test_the_steps_are_right() -> None:
    assert apr.check_trace(apr.join(WHOLE, texts()) + ANSWER).correct
    assert apr.check_trace(CHILD).correct
    ways = sum(len(apr.combine(a, b)) for a, b in combinations(PROBLEM.numbers, 2))
    assert f"in {ways} ways" in PAGE


def test_the_threads_make_the_tree() -> None:
    engine = ScriptedEngine([SPAWN, apr.join(WHOLE, texts()) + ANSWER, *texts()], apr.Tokenizer())
    tree = apr.run_threads(PROBLEM, engine, budget=4)
    assert tree.correct
    assert list(tree.threads) == ["0", "0.0", "0.1", "0.2", "0.3"]
    assert tree.main.text == apr.join(WHOLE, texts()) + ANSWER
    assert tree.main.calls[1].kept == int(re.findall(r"The (\d+) tokens before it", PAGE)[0])
    # What the command prints of the threads whose texts are shown whole.
    for thread, sign in (("0", "✓ main"), ("0.2", "✓ 0.2")):
        [shown] = re.findall(rf"{re.escape(sign)} .* ([\d,]+) tok$", ONE_WAVE, re.MULTILINE)
        assert int(shown.replace(",", "")) == tree.threads[thread].sampled_tokens


def costs(shown: str) -> tuple[list[int], int, int]:
    """Tokens of each thread, the main one's first; in all; and in sequence."""
    threads = [int(tokens) for tokens in re.findall(r" (\d+) tok$", shown, re.MULTILINE)]
    [(total, sequential)] = re.findall(r"tokens ([\d,]+) \(([\d,]+) sequential\)", shown)
    return threads, int(total.replace(",", "")), int(sequential.replace(",", ""))


def test_the_costs_add_up() -> None:
    words = " ".join(PAGE.split())
    (main, *children), total, sequential = costs(ONE_WAVE)
    assert (main + sum(children), main + max(children)) == (total, sequential)
    assert f"It took {total:,} tokens in all, {main} of the main thread" in words
    assert f"{main} + {max(children)} = {sequential:,}" in words


def test_waves_come_one_after_the_other() -> None:
    words = " ".join(PAGE.split())
    (main, *children), total, sequential = costs(TWO_WAVES)
    waves = [max(children[:4]), max(children[4:])]
    assert (main + sum(children), main + sum(waves)) == (total, sequential)
    assert f"{main} tokens of the main thread" in words
    assert f"{waves[0]} and {waves[1]}, which makes {sequential:,}" in words


def timeless(printed: str) -> str:
    """Without what another machine measures otherwise."""
    return re.sub(r"[\d.]+ s · [\d,]+ tokens/s", "", printed)


def test_the_commands_print_this(tmp_path: Path) -> None:
    """The page's own, in its order, in a directory of nobody's."""
    ask, again, harder = pages.blocks(PAGE, "sh")
    paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    alone = os.environ | {"PATH": paths, "COLUMNS": "100"}
    for script, shown in ((ask, ONE_WAVE), (again, ONE_WAVE), (harder, TWO_WAVES)):
        made = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=alone, capture_output=True, text=True)
        assert (made.returncode, timeless(made.stdout)) == (0, timeless(shown)), made.stderr
    told = subprocess.run(["bash", "-ec", f"{harder.rstrip()} --json"], cwd=tmp_path, env=alone, capture_output=True)
    events = [json.loads(line) for line in told.stdout.splitlines()]
    tried = re.search(r"One of the children, `([\d.]+)`, met large numbers", PAGE)
    assert tried is not None
    written = "".join(event.get("text", "") for event in events if event.get("thread") == tried[1])
    assert FILES["trial.txt"] in written
