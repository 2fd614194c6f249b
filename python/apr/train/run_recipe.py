"""What a run was asked for: a recipe as it was written, and what replaces values of it.

The run keeps it as one text: four lines of comments that say what stands beside the recipe, then the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from apr.train.recipes import Method, RlConfig, SftConfig, rl_recipe, sft_recipe

Trainer = Literal["sft", "rl"]
_HEAD = ("trainer", "method", "steps", "seed")
_WRITTEN = "as written"


@dataclass(frozen=True, slots=True)
class RunRecipe:
    """A recipe for one method, with the steps and the seed that a command gave instead of its own."""

    trainer: Trainer
    method: Method
    recipe: str
    """TOML."""
    steps: int | None = None
    seed: int | None = None
    """None: as written."""

    def text(self) -> str:
        """What the run's directory tells of it."""
        told = [getattr(self, name) for name in _HEAD]
        lines = [f"# {name}: {_WRITTEN if value is None else value}" for name, value in zip(_HEAD, told, strict=True)]
        return "\n".join([*lines, self.recipe])

    @classmethod
    def read(cls, text: str) -> RunRecipe:
        """The reverse of `text`. ValueError for another text."""
        *head, recipe = text.split("\n", len(_HEAD))
        told = [line.partition(": ")[2] for line in head]
        if [line.partition(": ")[0] for line in head] != [f"# {name}" for name in _HEAD]:
            raise ValueError("it does not begin with what a run says of its recipe")
        trainer, method, steps, seed = told
        if trainer not in ("sft", "rl") or method not in ("apr", "sos+"):
            raise ValueError(f"a run of trainer {trainer!r} and method {method!r}")
        return cls(trainer, method, recipe, _number(steps), _number(seed))  # type: ignore[arg-type]

    def sft(self) -> SftConfig:
        """The supervised run that is meant. ValueError for anything the recipe may not hold."""
        return sft_recipe(self.recipe, self.method, **self._changes())

    def rl(self) -> RlConfig:
        """The run of reinforcement learning that is meant. ValueError as in `sft`."""
        return rl_recipe(self.recipe, self.method, **self._changes())

    def _changes(self) -> dict[str, int]:
        changes = {"steps": self.steps, "seed": self.seed}
        return {name: value for name, value in changes.items() if value is not None}


def _number(text: str) -> int | None:
    return None if text == _WRITTEN else int(text)
