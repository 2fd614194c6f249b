"""What a trainer's checkpoint holds beside the model: with it, a run that was killed goes on as if it had not been.

STEP/                     the model, whole, as a Hugging Face directory
STEP/trainer.json         where the run stands, in plain values
STEP/trainer/*            tensors in safetensors, KIND/PARAMETER: of each its parts, as the processes hold them

Parts are put together for any other number of processes, and nothing in a checkpoint is unpickled. All processes write
to one directory, so several machines need a file system that they share.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from transformers import PreTrainedModel

from apr.origin import Origin, write_origin
from apr.threads.language import Vocabulary
from apr.train.disk import told_as_oserror
from apr.train.model import save_model
from apr.train.optimizers import Optimizers
from apr.train.processes import Processes
from apr.train.run import RunDirectory
from apr.train.shards import whole_weights

VALUES_FILE = "trainer.json"
TENSORS = "trainer"
FORMER_FILE = "trainer.pt"
"""What held all of it in checkpoints of one process's making; they are still read."""
_WEIGHTS = ("behind", "reference")
_RANDOM = "random"


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
        model: PreTrainedModel,
        tokenizer: Vocabulary,
        optimizers: Optimizers,
        keep: int,
        origin: Origin,
        processes: Processes,
    ) -> None:
        """Leave a checkpoint of this step, noting what it was trained to do, and at most `keep` of them; every process
        writes its part. OSError if it cannot be written."""

        def write(directory: Path) -> None:
            first = processes.rank == 0
            processes.wait()
            with told_as_oserror(directory):
                _write(self._tensors(optimizers), directory / TENSORS)
                weights = whole_weights(model, here=first)
                if first:
                    save_model(model, tokenizer, directory, weights=weights)
                    write_origin(origin, directory)
                    (directory / VALUES_FILE).write_text(json.dumps(self._values()) + "\n", "utf-8")

        if processes.rank == 0:
            run.save(self.step, write, keep)
        else:
            write(run.draft(self.step))
        processes.wait()

    def _tensors(self, optimizers: Optimizers) -> dict[str, Tensor]:
        weights = {f"{kind}/{name}": value for kind in _WEIGHTS for name, value in (getattr(self, kind) or {}).items()}
        return {**optimizers.state(), **weights, _RANDOM: torch.get_rng_state()}

    def _values(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _WEIGHTS}

    @classmethod
    def restore(cls, checkpoint: Path, model: PreTrainedModel, optimizers: Optimizers) -> TrainerState:
        """Read a checkpoint's state, `model` being in this run's shares; `optimizers` and torch's random state are then
        what they were. ValueError if it is another step's."""
        if (checkpoint / FORMER_FILE).exists():
            return cls._restore_former(checkpoint, optimizers)
        values = json.loads((checkpoint / VALUES_FILE).read_bytes())
        tensors = _read(checkpoint / TENSORS, dict(model.named_parameters()))
        torch.set_rng_state(tensors.pop(_RANDOM))
        weights: dict[str, dict[str, Tensor]] = {kind: {} for kind in _WEIGHTS}
        for key in list(tensors):
            kind, _, name = key.partition("/")
            if kind in weights:
                weights[kind][name] = tensors.pop(key)
        optimizers.restore(tensors)
        return cls._of(checkpoint, {**values, **{kind: found or None for kind, found in weights.items()}})

    @classmethod
    def _restore_former(cls, checkpoint: Path, optimizers: Optimizers) -> TrainerState:
        state = torch.load(checkpoint / FORMER_FILE, map_location=optimizers.device, weights_only=True)
        optimizers.restore_numbered(state["optimizers"])
        torch.set_rng_state(state["random"].cpu())
        return cls._of(checkpoint, state)

    @classmethod
    def _of(cls, checkpoint: Path, values: Mapping[str, Any]) -> TrainerState:
        if values["step"] != int(checkpoint.name):
            raise ValueError(f"{checkpoint} holds step {values['step']}")
        return cls(**{each.name: values[each.name] for each in fields(cls) if each.name in values})


def _write(tensors: Mapping[str, Tensor], directory: Path) -> None:
    """Every process writes what it holds; of what all hold, one does."""
    with _alone_is_fine():
        writer = HuggingFaceStorageWriter(str(directory), save_distributed=True)
        state_dict_saver.save(dict(tensors), storage_writer=writer)


def _read(directory: Path, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors that were written; those of a parameter's shape in its shares."""
    reader = HuggingFaceStorageReader(str(directory))
    found: dict[str, Tensor] = {}
    for key, told in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(told, TensorStorageMetadata)
        parameter = parameters.get(key.partition("/")[2])
        if parameter is not None and parameter.shape == told.size:
            found[key] = torch.zeros_like(parameter.detach())
        else:
            found[key] = torch.zeros(told.size, dtype=told.properties.dtype)
    with _alone_is_fine():
        state_dict_loader.load(found, storage_reader=reader)
    return found


@contextmanager
def _alone_is_fine() -> Iterator[None]:
    with warnings.catch_warnings():
        # That there is one process is no mistake.
        warnings.filterwarnings("ignore", message=".*torch.distributed is disabled")
        yield
