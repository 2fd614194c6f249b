"""What a trainer's checkpoint holds beside the model: with it, a run that was killed goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import LlamaForCausalLM

from apr.origin import Origin, write_origin
from apr.threads.language import Vocabulary
from apr.train.model import save_model
from apr.train.optimizers import Optimizers
from apr.train.run import RunDirectory

STATE_FILE = "trainer.pt"


@dataclass(frozen=True, slots=True)
class TrainerState:
    """Where a run stands; optimisers and random state are saved and restored with it."""

    step: int
    """Steps done."""
    position: int
    """The first item of the data that no step has taken yet."""
    behind: dict[str, Tensor] | None = None
    """The weights that draw the next step's rollouts, where those are a step older than the model."""
    untold: dict[str, Any] | None = None
    """The line of this step, where what it holds out is still to be told."""
    sampled: int = 0
    """Tokens sampled so far."""
    kinds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """What is known of kinds of problems."""
    lessons: int = 0
    """The first lesson, of those beside rollouts, that no step has taken yet."""
    lessons_digest: str | None = None
    """What tells the recipe that those are of from others; None: there are none."""
    reference: dict[str, Tensor] | None = None
    """The weights that the policy may not leave too far, where those are no longer the run's first."""

    def save(
        self,
        run: RunDirectory,
        model: LlamaForCausalLM,
        tokenizer: Vocabulary,
        optimizers: Optimizers,
        keep: int,
        origin: Origin,
    ) -> None:
        """Leave a checkpoint of this step, noting what it was trained to do, and at most `keep` of them. OSError if it
        cannot be written."""

        def write(directory: Path) -> None:
            state = {
                **{each.name: getattr(self, each.name) for each in fields(self)},
                "optimizers": optimizers.state_dict(),
                "random": torch.get_rng_state(),
            }
            try:
                save_model(model, tokenizer, directory)
                write_origin(origin, directory)
                with (directory / STATE_FILE).open("wb") as file:
                    torch.save(state, file)
            except (RuntimeError, SafetensorError) as error:
                # What these libraries make of a full disk.
                reason = error.__context__ if isinstance(error.__context__, OSError) else error
                raise OSError(f"cannot write {directory}: {str(reason).splitlines()[0]}") from None

        run.save(self.step, write, keep)

    @classmethod
    def restore(cls, checkpoint: Path, optimizers: Optimizers, device: torch.device) -> TrainerState:
        """Read a checkpoint's state; `optimizers` and torch's random state are then what they were. ValueError if it is
        another step's."""
        state = torch.load(checkpoint / STATE_FILE, map_location=device, weights_only=True)
        if state["step"] != int(checkpoint.name):
            raise ValueError(f"{checkpoint} holds step {state['step']}")
        optimizers.load_state_dict(state["optimizers"])
        torch.set_rng_state(state["random"].cpu())
        return cls(**{each.name: state[each.name] for each in fields(cls) if each.name in state})
