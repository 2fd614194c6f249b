"""Recipes: frozen dataclasses read from TOML. A key that no field is named after is refused."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from apr import Ranking

Method = Literal["apr", "sos+"]
Weighting = Literal["rollout_constant", "rollout_mean", "global_mean", "tinyrl"]
"""How the loss of tokens adds up to that of a step.

rollout_constant  tokens count alike in all rollouts: summed, divided by a constant and the rollouts (Dr. GRPO)
rollout_mean      every rollout counts alike: the mean of its tokens, over all its threads
global_mean       every token of the step counts alike (DAPO)
tinyrl            the authors' code: the mean of a sequence's tokens, divided by the sequences of its rollout for the
                  policy term but not for the KL term, divided by the sequences of the step
"""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A Llama's shape; the vocabulary is the tokenizer's."""

    hidden_size: int
    layers: int
    heads: int
    mlp_size: int
    kv_heads: int | None = None
    """None: as many as `heads`."""
    context_length: int = 4096
    tied_embeddings: bool = True
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of teacher trace in a mix."""

    weight: float
    """Share of lessons, relative to the other parts."""
    beam_size: tuple[int, int] | None = None
    """Smallest and largest width of the main thread, drawn per problem. In waves: the budget of children that a prompt
    may name, and the steps of a main thread that does not spawn; None: no bound."""
    child_beam_size: tuple[int, int] | None = None
    """Smallest and largest width of children (apr); None: as narrow as can be, in waves without a bound."""
    promising: float = 0.9
    """Probability that an expanded node is promising; in waves (apr), that the main thread spawns at all."""
    conditioned: float = 0.8
    """Share of root prompts that carry their condition."""
    numbers: tuple[int, int] = (4, 4)
    """Fewest and most numbers of a problem."""
    max_number: int = 99
    """The largest number of a problem."""
    target: tuple[int, int] = (10, 100)
    """Smallest and largest target."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is taught up to a point of the run."""

    until: float
    """Share of the run's steps at which the stage ends; the last is 1."""
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Lessons: fresh traces, a pure function of seed and position."""

    stages: tuple[Stage, ...]
    ranking: Ranking = "paper"
    """In which order teachers keep, show and follow steps, see `apr.search`. What comes next in any but the paper's
    follows from what stands there: it is learned sooner, and a greedy model repeats itself less."""
    largest: int | None = None
    """Teachers leave out steps to a greater result: large products, hard to compute and seldom of use."""
    slack: int | None = None
    """Teachers leave out steps to a number more than so many times what the others could bring down to the target."""
    waves: tuple[int, ...] = ()
    """Teachers search in waves, whose sizes are drawn from these; one that stands here twice comes twice as often."""
    shuffled: bool = False
    """In waves: the root's steps come in random order, which teaches a main thread without a preference."""
    children: int = 3
    """At most so many children of a trace are taught."""
    cancelled: float = 0.1
    """Share of solved rounds joined as the policy `first` would."""
    held_out_targets: tuple[int, ...] = ()
    """Targets that neither training nor validation sees."""


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """Optimiser and learning rate."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: hidden matrices by Muon, all else by AdamW."""
    learning_rate: float = 1e-3
    """Peak of AdamW."""
    muon_learning_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of the gradient."""
    warmup_steps: int = 100
    decay: Literal["linear", "cosine"] = "linear"
    decay_share: float = 1.0
    """Share of the steps over which the rate falls, at the end of the run; it is flat before."""
    final: float = 0.0
    """Last rate, relative to the peak."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Of tokens that do not count as the others do, nearly all of which are copied from nearby or chosen freely."""

    results: float = 1.0
    """Digits of results below 1,000: computed."""
    large_results: float = 1.0
    """Digits of greater ones: hard to compute, and seldom on the way to a target."""
    states: float = 1.0
    """Numbers and operations of state lines: recalled by the node's id from a line far above."""
    verdicts: float = 1.0
    """Equal to the target or not: one wrong word claims a false solution."""
    joined: float = 1.0
    """At least so much for what follows a join: the solution once more, a few lines after a long context."""


@dataclass(frozen=True, slots=True)
class SftConfig:
    """A supervised run."""

    method: Method
    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig
    steps: int
    tokens_per_step: int
    """Tokens of a step, over all processes; whole lessons, so a step may exceed it by one."""
    tokens_per_batch: int = 8192
    """Largest padded batch that goes through the model at once."""
    seed: int = 0
    weights: LossWeights = LossWeights()
    autocast: Literal["bf16", "none"] = "bf16"
    compile: bool = False
    """torch.compile, a third faster; on a CPU without a C++ compiler it is left out."""
    validate_every: int = 200
    validation_lessons: int = 64
    checkpoint_every: int = 200
    keep_checkpoints: int = 2


@dataclass(frozen=True, slots=True)
class GrpoConfig:
    """The loss of reinforcement learning."""

    advantage: Literal["mean", "std"] = "mean"
    """Rewards less the group's mean; "std" divides by the group's standard deviation too, as the paper does."""
    weighting: Weighting = "global_mean"
    constant: float = 8192.0
    """Tokens that "rollout_constant" divides by."""
    clip_low: float = 0.2
    clip_high: float = 0.28
    """A ratio is clipped to 1 - clip_low and 1 + clip_high."""
    kl: float = 0.0
    """Weight of the KL to the policy that the run began with."""
    updates: int = 1
    """Of the weights, by the same rollouts."""
    behaviour: Literal["engine", "recompute"] = "engine"
    """Whose log-probabilities the rollouts were drawn by: the engine's, corrected by importance weights, or those that
    the trainer computes anew."""
    importance_cap: float = 2.0
    """Largest importance weight, trainer's over engine's probability of a token."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What is taken from the reward of a rollout that is correct; the others get nothing in any case."""

    per_1000_tokens: float = 0.0
    """Of all threads."""
    per_thread: float = 0.0
    """Children, that is."""
    per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class RlConfig:
    """A run of reinforcement learning."""

    method: Method
    optimizer: OptimizerConfig
    steps: int
    groups: int
    """Problems of a step, over all processes."""
    group_size: int
    """Rollouts of a problem."""
    loss: GrpoConfig = GrpoConfig()
    costs: Costs = Costs()
    numbers: tuple[int, int] = (4, 4)
    """Fewest and most numbers of a problem."""
    held_out_targets: tuple[int, ...] = ()
    max_solutions: int | None = None
    """Train on problems with at most so many distinct solutions: where nearly every rollout solves a problem, there is
    nothing to learn."""
    budgets: tuple[int | Literal["free"], ...] = ("free",)
    """Conditions of the prompts, drawn per problem."""
    temperature: float = 1.0
    max_threads: int = 64
    """Of a rollout."""
    max_tokens: int | None = None
    """Sampled tokens of a rollout; its threads share them equally, so a tight bound cuts wide searches short and
    teaches narrow ones."""
    refill: int = 0
    """How often a step draws other problems for those whose rollouts all have one reward."""
    overlap: bool = False
    """Sample the next step's rollouts while this one trains: they are one update old."""
    share_trunks: bool = True
    """Compute what several sequences of a thread share once."""
    tokens_per_batch: int = 8192
    """Largest padded batch that goes through the model at once."""
    autocast: Literal["bf16", "none"] = "bf16"
    compile: bool = False
    """torch.compile; on a CPU without a C++ compiler it is left out."""
    gradient_checkpointing: bool = False
    seed: int = 0
    validate_every: int = 20
    validation_problems: int = 64
    checkpoint_every: int = 1
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        if self.max_solutions is not None and self.max_solutions < 1:
            raise ValueError(f"max_solutions: every problem has one at least, not {self.max_solutions}")


T = TypeVar("T")


def build(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """Make a config from plain values.

    Raises ValueError, with the key's full name, for an unknown or missing key or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    names = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise ValueError(f"unknown key {where}{key}; known: {', '.join(sorted(names))}")
    made = {key: _convert(hints[key], value, f"{where}{key}") for key, value in values.items()}
    try:
        return kind(**made)
    except TypeError as error:
        raise ValueError(f"{where or kind.__name__}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(typing.cast(type, hint), value, f"{where}.")
    if origin is tuple and isinstance(value, list | tuple):
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(args) == len(value):
            return tuple(
                _convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(args, value, strict=True))
            )
    if origin is Literal and value in args:
        return value
    if origin in (types.UnionType, typing.Union):
        for option in args:
            try:
                return _convert(option, value, where)
            except ValueError:
                continue
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise ValueError(f"{where}: {value!r} is not {getattr(hint, '__name__', hint)}")


def recipe_text(name: str, kind: str = "") -> str:
    """The TOML of a shipped recipe of a kind ("" for training), or of a file. ValueError if there is neither."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"no recipe file {name}")
        return path.read_text()
    shipped = (resources.files("apr") / "recipes").joinpath(kind)
    if (shipped / f"{name}.toml").is_file():
        return (shipped / f"{name}.toml").read_text()
    known = sorted(p.name.removesuffix(".toml") for p in shipped.iterdir() if p.name.endswith(".toml"))
    raise ValueError(f"no recipe {name}; shipped: {', '.join(known)}; or give a .toml file")


def sft_recipe(text: str, method: Method, **changes: Any) -> SftConfig:
    """A supervised recipe for one method. `[data.apr]` and `["data.sos+"]` style tables hold what differs.

    `changes` replace top-level values. Raises ValueError for anything the recipe may not hold.
    """
    values = _read(text)
    methods = values.pop("methods", {})
    if method not in methods:
        raise ValueError(f"the recipe has no methods.{method!r} table")
    values["data"] = {**values.get("data", {}), **methods[method]}
    return build(SftConfig, {**values, "method": method, **changes})


def rl_recipe(text: str, method: Method, **changes: Any) -> RlConfig:
    """A recipe of reinforcement learning for one method; a table `[methods.apr]` or `[methods."sos+"]` holds values
    that are its own.

    `changes` replace top-level values. Raises ValueError for anything the recipe may not hold.
    """
    values = _read(text)
    own = values.pop("methods", {}).get(method, {})
    for key, value in own.items():
        tables = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if tables else value
    config = build(RlConfig, {**values, "method": method, **changes})
    least = {"steps": 1, "groups": 1, "group_size": 2, "loss.updates": 1, "tokens_per_batch": 1, "checkpoint_every": 1}
    for name, smallest in least.items():
        value = config.loss.updates if name == "loss.updates" else getattr(config, name)
        if value < smallest:
            raise ValueError(f"{name}: {value} is not at least {smallest}")
    if not config.temperature > 0:
        raise ValueError(f"temperature: {config.temperature} is not above 0, and equal rollouts teach nothing")
    if not config.budgets:
        raise ValueError('budgets: none; "free" is the model\'s choice')
    return config


def _read(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
