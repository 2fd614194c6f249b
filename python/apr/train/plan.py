"""What a supervised run needs of GPUs, in bytes and in seconds, worked out before anything is loaded.

Of a Llama that is trained as `network` and `shards` do it: weights, gradients and optimiser in float32, each process
its share; what is computed with in bfloat16 or float32. Tests hold parameters, shares, kept activations and operations
to what torch counts; peak, share of it and bandwidths are taken as given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from apr.train.data import by_length, cost, loose, share
from apr.train.recipes import ModelConfig, SftConfig
from apr.types import Sample

FLOAT32 = 4
BFLOAT16 = 2
_HEAD = 64
"""Size of an attention head, and how many times as wide as deep a model of a given size is taken to be."""


@dataclass(frozen=True, slots=True)
class Gpus:
    """Those of a run, all alike."""

    count: int
    flops: float
    """Operations a second that a model reaches."""
    link: float
    """Bytes a second from one to the others of its machine."""
    network: float
    """Bytes a second from one to those of other machines."""
    per_machine: int = 8

    def bandwidth(self, count: int) -> float:
        """Of an exchange among so many."""
        return self.link if count <= self.per_machine else self.network


@dataclass(frozen=True, slots=True)
class Llama:
    """Parameters of a model, by how they are used."""

    shape: ModelConfig
    vocabulary: int

    @property
    def keys(self) -> int:
        """Numbers of a token's keys in a block."""
        return self.shape.hidden_size * (self.shape.kv_heads or self.shape.heads) // self.shape.heads

    @property
    def matrices(self) -> int:
        """Of a block's matrices."""
        hidden = self.shape.hidden_size
        return 2 * hidden * (hidden + self.keys) + 3 * hidden * self.shape.mlp_size

    @property
    def block(self) -> int:
        """Of a block."""
        return self.matrices + 2 * self.shape.hidden_size

    @property
    def outside(self) -> int:
        """Of no block: embeddings, the last norm, and the head where it is another matrix."""
        tables = 1 if self.shape.tied_embeddings else 2
        return tables * self.vocabulary * self.shape.hidden_size + self.shape.hidden_size

    @property
    def parameters(self) -> int:
        return self.shape.layers * self.block + self.outside

    @property
    def most_alike(self) -> int:
        """Of all blocks' matrices of one shape, where that is most."""
        hidden = self.shape.hidden_size
        square = 4 if self.keys == hidden else 2
        return self.shape.layers * hidden * max(square * hidden, 2 * self.keys, 2 * self.shape.mlp_size)


@dataclass(frozen=True, slots=True)
class Work:
    """A process's part of a step."""

    batches: int
    largest: int
    """Positions of the largest batch."""
    positions: int
    """Of all batches."""
    pairs: int
    """Of positions in one row, over all rows: what attention compares."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a process: bytes that it holds on its GPU, and seconds of a step."""

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    """Weights that are whole for a while, and a block's whole gradients."""
    activations: float
    logits: float
    update: float
    """Matrices that Muon holds whole, when activations are gone."""
    computing: float
    exchanging: float
    offloaded: float
    """Bytes of it that it holds in the CPU's memory instead."""

    @property
    def memory(self) -> float:
        held = self.weights + self.gradients + self.optimizer
        return held + max(self.gathered + self.activations + self.logits, self.update)

    @property
    def step(self) -> float:
        """A block's weights travel while another computes."""
        return max(self.computing, self.exchanging)


def shape_of(parameters: int, like: ModelConfig) -> ModelConfig:
    """A model of so many parameters beside its embeddings, 64 times as wide as deep. ValueError if none is so small."""
    layers = max(1, round((parameters / (12 * _HEAD**2)) ** (1 / 3)))
    heads = max(1, round((parameters / (12 * layers)) ** 0.5 / _HEAD))
    hidden = heads * _HEAD
    mlp = round((parameters / layers - 4 * hidden**2) / (3 * hidden))
    if mlp < 1:
        raise ValueError(f"a model of {parameters:,} parameters is too small to be planned")
    return replace(like, hidden_size=hidden, layers=layers, heads=heads, kv_heads=None, mlp_size=mlp)


def work_of(
    samples: Sequence[Sample], processes: int, tokens_per_batch: int, width: int, *, rounded: bool = False
) -> Work:
    """What the process with most to do has of a step's samples, for a model of this `width`; `rounded`: its batches are
    of few shapes."""
    shares = (share(samples, rank, processes, width) for rank in range(processes))
    most = max(shares, key=lambda own: sum(cost(sample, width) for sample in own))
    padding = loose(width, rounded=rounded)
    cut = by_length(most, tokens_per_batch, lambda sample: sample, padding)
    shapes = [padding.shape(len(rows), max(len(s.token_ids) for s in rows)) for rows in cut]
    sizes = [rows * length for rows, length in shapes]
    pairs = sum(rows * length**2 for rows, length in shapes)
    return Work(len(cut), max(sizes, default=0), sum(sizes), pairs)


def operations(model: Llama, work: Work, *, checkpointing: bool = False) -> float:
    """Floating point operations of a step's matrices: three passes, and one more through blocks that compute twice.
    Attention counts whole, though half of it is masked, as the share of a peak that models reach is told."""
    shape = model.shape
    blocks = shape.layers * (2 * model.matrices * work.positions + 4 * shape.hidden_size * work.pairs)
    head = 2 * model.vocabulary * shape.hidden_size * work.positions
    # What a block's last matrix makes is kept by nobody, so it is not made again.
    last = shape.layers * 2 * shape.hidden_size * shape.mlp_size * work.positions
    return 3 * (blocks + head) + (blocks - last if checkpointing else 0)


def activations(model: Llama, positions: int, *, number: int, checkpointing: bool = False) -> float:
    """Bytes that are kept of a batch for its gradient, before the head; `number` is what a number has. torch.compile
    keeps fewer."""
    hidden, shape = model.shape.hidden_size, model.shape
    norm = (FLOAT32 + 2 * number) * hidden
    attention = number * (3 * hidden + 2 * model.keys)
    block = 2 * norm + attention + 4 * number * shape.mlp_size
    # Of blocks that compute twice their inputs are kept, and all of the one that does.
    blocks = shape.layers * number * hidden + block if checkpointing else shape.layers * block
    return positions * (blocks + norm)


def estimate(config: SftConfig, model: Llama, work: Work, gpus: Gpus, *, checkpointing: bool = False) -> Estimate:
    """What a process of a recipe needs; `checkpointing` computes blocks twice instead of keeping what they computed.
    ValueError for processes that the recipe cannot group."""
    number = FLOAT32 if config.autocast == "none" else BFLOAT16
    parameters, alone = model.parameters, gpus.count == 1
    parts = 1 if alone else config.sharding.shares(gpus.count)
    replicas, offloads = gpus.count // parts, config.sharding.offload and not alone
    by_muon = model.shape.layers * model.matrices if config.optimizer.name == "muon" else 0
    remembered = FLOAT32 * (by_muon + 2 * (parameters - by_muon))
    if alone:
        # What autocast has rounded; a block's gradients are the model's own.
        gathered = 0 if number == FLOAT32 else number * parameters
    elif work.batches > 1:
        # Gathered with the first batch and given up with the last.
        gathered = number * parameters
    else:
        # Two blocks, as the next is on its way, and all that is outside of blocks.
        gathered = number * (2 * model.block + model.outside) + FLOAT32 * max(model.block, model.outside)
    logits = (number + 2 * FLOAT32) * model.vocabulary * work.largest
    summed = 0 if work.batches == 1 else FLOAT32 * parameters
    shares = {
        "weights": FLOAT32 * parameters / parts,
        "gradients": FLOAT32 * parameters / parts,
        "optimizer": remembered / parts,
    }
    on_gpu = dict.fromkeys(shares, 0.0) if offloads else shares
    between, among = _exchanged(parameters, by_muon, work, parts, number), 2 * FLOAT32 * parameters / parts
    return Estimate(
        weights=on_gpu["weights"],
        # Those of several batches add up whole.
        gradients=max(on_gpu["gradients"], summed),
        optimizer=on_gpu["optimizer"],
        gathered=gathered,
        activations=activations(model, work.largest, number=number, checkpointing=checkpointing),
        logits=logits,
        # In float32 before and after, and in bfloat16 on the way.
        update=(2 * FLOAT32 + BFLOAT16) * model.most_alike if by_muon else 0,
        computing=operations(model, work, checkpointing=checkpointing) / gpus.flops,
        exchanging=between / gpus.bandwidth(parts) + _others(replicas) * among / gpus.bandwidth(gpus.count),
        offloaded=sum(shares.values()) if offloads else 0,
    )


def _others(count: int) -> float:
    """What the others hold, of what `count` share out."""
    return (count - 1) / count


def _exchanged(parameters: int, by_muon: int, work: Work, parts: int, number: int) -> float:
    """Bytes that a process is sent by its group in a step: weights once, or before both passes of a single batch;
    gradients once; and what Muon makes orthogonal."""
    gathers = 2 if work.batches == 1 else 1
    return _others(parts) * (gathers * number * parameters + FLOAT32 * parameters + FLOAT32 * by_muon)
