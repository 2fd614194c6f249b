"""What a trainer's checkpoint holds beside the model: with it, a run that was killed goes on as if it had not been."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from apr._core import Tokenizer
from apr.model import save_model
from apr.optimizers import Optimizers
from apr.run import RunDirectory

STATE_FILE = "trainer.pt"


@dataclass(frozen=True, slots=True)
class TrainerState:
    """Where a run stands; optimisers and random state are saved and restored with it."""

    step: int
    """Steps done."""
    position: int
    """The first item of the data that no step has taken yet."""

    def save(
        self, run: RunDirectory, model: LlamaForCausalLM, tokenizer: Tokenizer, optimizers: Optimizers, keep: int
    ) -> None:
        """Leave a checkpoint of this step, and at most `keep` of them."""

        def write(directory: Path) -> None:
            save_model(model, tokenizer, directory)
            state = {
                "step": self.step,
                "position": self.position,
                "optimizers": optimizers.state_dict(),
                "random": torch.get_rng_state(),
            }
            torch.save(state, directory / STATE_FILE)

        run.save(self.step, write, keep)

    @classmethod
    def restore(cls, checkpoint: Path, optimizers: Optimizers, device: torch.device) -> TrainerState:
        """Read a checkpoint's state; `optimizers` and torch's random state are then what they were."""
        state = torch.load(checkpoint / STATE_FILE, map_location=device, weights_only=True)
        optimizers.load_state_dict(state["optimizers"])
        torch.set_rng_state(state["random"].cpu())
        return cls(state["step"], state["position"])
