"""Whether a task and a language can give what a recipe asks for, told before anything is made; no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from apr.limits import request_seed
from apr.selection import selected
from apr.task import Corrects, Decides, Foresees, Sorts, Task, Weighs
from apr.threads.language import Trainable, Vocabulary
from apr.train.lessons import Lessons, lessons_of
from apr.train.recipes import Replay, RlConfig, recipe_text, sft_recipe
from apr.train.rl.rewards import load_reward


def check(
    task: Task[Any],
    language: Trainable,
    config: RlConfig,
    start: Path,
    lessons: str | None = None,
    *,
    several: bool = False,
) -> None:
    """ValueError, in one line and by key, for what cannot be given to a policy that begins as the one in `start`.
    `lessons` is the recipe that a run keeps of those beside its rollouts; `several` processes train."""
    if config.overlap and config.refill and several:
        raise ValueError("overlap and refill: several processes cannot do both")
    credit = config.credit
    for key, wanted, able, lacks in (
        ("credit.children", credit.children, isinstance(task, Foresees), "tell what children could have found"),
        ("credit.choices", credit.choices, isinstance(task, Weighs), "tell good choices from bad ones"),
        ("credit.lines", credit.lines, isinstance(task, Corrects), "find wrong lines"),
        ("credit.corrections", credit.corrections, isinstance(task, Corrects), "correct wrong lines"),
        (
            "loss.outcome",
            config.loss.outcome == "decisions",
            isinstance(task, Decides),
            "tell where something is decided",
        ),
        ("edge", config.edge, isinstance(task, Sorts), "tell kinds of problems apart"),
    ):
        if wanted and not able:
            raise ValueError(f"{key}: the task {task.name} cannot {lacks}")
    load_reward(config.reward)
    selected(task, config.problem_options)
    if config.replay is not None:
        replayed(config.replay, config, language.tokenizer, start, lessons)


def replayed(
    wanted: Replay,
    config: RlConfig,
    tokenizer: Vocabulary,
    start: Path,
    kept: str | None,
    context_length: int | None = None,
) -> tuple[Lessons, str]:
    """The lessons beside a run's rollouts, of at most so many tokens and what their recipe says, and their recipe:
    the one that the run keeps, or what is found by name; one without a model is as good, for they are for the one in
    `start`. ValueError, in one line, if there are none in the policy's tokens."""
    try:
        text = recipe_text(wanted.recipe) if kept is None else kept
        # The stream that made the policy begins with the recipe's own seed.
        recipe = sft_recipe(text, config.method, seed=request_seed(config.seed, "replay", 0) // 2)
        longest = min((length for length in (context_length, recipe.max_tokens) if length is not None), default=None)
        lessons = lessons_of(replace(recipe, max_tokens=longest), start)
        if lessons.tokenizer.to_json() != tokenizer.to_json():
            raise ValueError("its lessons are in the tokens of another language")
        lessons.samples(0, 1.0)
    except ValueError as error:
        raise ValueError(f"replay.recipe: {wanted.recipe}: {error}") from None
    return lessons, text
