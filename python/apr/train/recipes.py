"""Recipes: frozen dataclasses read from TOML.

A key that no field is named after is refused, and so is a value that makes no sense: each field says by its type what
it takes. Where 0 turns something off, the field says so.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from apr import Ranking
from apr._core import ProblemStream
from apr.fields import Ascending, Count, Filled, Natural, NotNegative, Positive, Range, Share, Span, build

Method = Literal["apr", "sos+"]
Weighting = Literal["rollout_constant", "rollout_mean", "global_mean", "tinyrl"]
"""How the loss of tokens adds up to that of a step.

rollout_constant  tokens count alike in all rollouts: summed, divided by a constant and the rollouts (Dr. GRPO)
rollout_mean      every rollout counts alike: the mean of its tokens, over all its threads
global_mean       every token of the step counts alike (DAPO)
tinyrl            the authors' code: the mean of a sequence's tokens, divided by the sequences of its rollout for the
                  policy term but not for the KL term, divided by the sequences of the step
"""

Autocast = Literal["auto", "bf16", "none"]
"""Precision of a forward pass: bfloat16, float32, or bfloat16 where the device computes in it."""
Numbers = Annotated[tuple[int, int], Range(2, 6), Ascending()]
"""Fewest and most numbers of a problem."""
Seed = Annotated[int, Range(least=0, most=2**63 - 2)]
"""Validation takes the one after it."""
Width = Annotated[int, Range(1, 2**20)]
Rate = Annotated[float, Range(0.0, 1e36, open=True)]
Beta = Annotated[float, Range(0.0, 1.0 - 1e-9)]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A Llama's shape; the vocabulary is the tokenizer's."""

    hidden_size: Width
    layers: Annotated[int, Range(1, 1024)]
    heads: Width
    mlp_size: Width
    kv_heads: Width | None = None
    """None: as many as `heads`."""
    context_length: Annotated[int, Range(1, 2**24)] = 4096
    tied_embeddings: bool = True
    rope_theta: Annotated[float, Range(1.0, 1e9)] = 10_000.0
    rms_norm_eps: Annotated[float, Range(0.0, 1.0, open=True)] = 1e-6

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.hidden_size % (2 * self.heads):
            yield "heads", f"{self.heads} heads of an even size do not fill a hidden_size of {self.hidden_size}"
        if self.kv_heads is not None and self.heads % self.kv_heads:
            yield "kv_heads", f"{self.kv_heads} do not divide {self.heads} heads"


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of teacher trace in a mix."""

    weight: Positive
    """Share of lessons, relative to the other parts."""
    beam_size: Span | None = None
    """Smallest and largest width of the main thread, drawn per problem. In waves: the budget of children that a prompt
    may name, and the steps of a main thread that does not spawn; None: no bound."""
    child_beam_size: Span | None = None
    """Smallest and largest width of children (apr); None: as narrow as can be, in waves without a bound."""
    promising: Share = 0.9
    """Probability that an expanded node is promising; in waves (apr), that the main thread spawns at all."""
    conditioned: Share = 0.8
    """Share of root prompts that carry their condition."""
    numbers: Numbers = (4, 4)
    """Fewest and most numbers of a problem."""
    max_number: Annotated[int, Range(1, 1_000_000)] = 99
    """The largest number of a problem."""
    target: Annotated[tuple[int, int], Range(1, 1_000_000), Ascending()] = (10, 100)
    """Smallest and largest target."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is taught up to a point of the run."""

    until: Share
    """Share of the run's steps at which the stage ends; the last is 1."""
    parts: Annotated[tuple[Part, ...], Filled()]


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Lessons: fresh traces, a pure function of seed and position."""

    stages: Annotated[tuple[Stage, ...], Filled()]
    ranking: Ranking = "paper"
    """In which order teachers keep, show and follow steps, see `apr.search`. What comes next in any but the paper's
    follows from what stands there: it is learned sooner, and a greedy model repeats itself less."""
    largest: Count | None = None
    """Teachers leave out steps to a greater result: large products, hard to compute and seldom of use."""
    slack: Annotated[int, Range(1, 1000)] | None = None
    """Teachers leave out steps to a number more than so many times what the others could bring down to the target."""
    waves: tuple[Count, ...] = ()
    """Teachers search in waves, whose sizes are drawn from these; one that stands here twice comes twice as often."""
    shuffled: bool = False
    """In waves: the root's steps come in random order, which teaches a main thread without a preference."""
    children: Natural = 3
    """At most so many children of a trace are taught."""
    cancelled: Share = 0.1
    """Share of solved rounds joined as the policy `first` would."""
    held_out_targets: tuple[Count, ...] = ()
    """Targets that neither training nor validation sees."""

    def faults(self) -> Iterator[tuple[str, str]]:
        ends = [stage.until for stage in self.stages]
        for place, (before, end) in enumerate(pairwise([0.0, *ends])):
            if end <= before:
                yield f"stages[{place}].until", f"{end:g} is not above {before:g}, where the stage begins"
        if ends[-1] != 1:
            yield f"stages[{len(ends) - 1}].until", f"{ends[-1]:g} is not 1, and it is the last stage's"
        for place, stage in enumerate(self.stages):
            for part in stage.parts:
                if part.beam_size is None and not self.waves:
                    yield f"stages[{place}].parts", "a beam_size is missing: only a search in waves needs none"


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """Optimiser and learning rate."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: hidden matrices by Muon, all else by AdamW."""
    learning_rate: Rate = 1e-3
    """Peak of AdamW."""
    muon_learning_rate: Rate = 0.02
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    weight_decay: NotNegative = 0.01
    clip: NotNegative = 1.0
    """Largest norm of the gradient; 0: any."""
    warmup_steps: Natural = 100
    decay: Literal["linear", "cosine"] = "linear"
    decay_share: Share = 1.0
    """Share of the steps over which the rate falls, at the end of the run; it is flat before."""
    final: Share = 0.0
    """Last rate, relative to the peak."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Of tokens that do not count as the others do, nearly all of which are copied from nearby or chosen freely. 0:
    they are not trained."""

    results: NotNegative = 1.0
    """Digits of results below 1,000: computed."""
    large_results: NotNegative = 1.0
    """Digits of greater ones: hard to compute, and seldom on the way to a target."""
    states: NotNegative = 1.0
    """Numbers and operations of state lines: recalled by the node's id from a line far above."""
    verdicts: NotNegative = 1.0
    """Equal to the target or not: one wrong word claims a false solution."""
    joined: NotNegative = 1.0
    """At least so much for what follows a join: the solution once more, a few lines after a long context."""


@dataclass(frozen=True, slots=True)
class SftConfig:
    """A supervised run."""

    method: Method
    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig
    steps: Count
    tokens_per_step: Count
    """Tokens of a step, over all processes; whole lessons, so a step may exceed it by one."""
    tokens_per_batch: Count = 8192
    """Largest padded batch that goes through the model at once."""
    seed: Seed = 0
    weights: LossWeights = LossWeights()
    autocast: Autocast = "auto"
    compile: bool = False
    """torch.compile, a third faster; on a CPU without a C++ compiler it is left out."""
    validate_every: Natural = 200
    """Steps, and at the last one; 0: never."""
    validation_lessons: Count = 64
    checkpoint_every: Natural = 200
    """Steps, and where training stops; 0: only there."""
    keep_checkpoints: Natural = 2
    """The newest; an older one is used where the newest is damaged. 0: all."""


@dataclass(frozen=True, slots=True)
class GrpoConfig:
    """The loss of reinforcement learning."""

    advantage: Literal["mean", "std"] = "mean"
    """Rewards less the group's mean; "std" divides by the group's standard deviation too, as the paper does."""
    weighting: Weighting = "global_mean"
    constant: Positive = 8192.0
    """Tokens that "rollout_constant" divides by."""
    clip_low: Share = 0.2
    clip_high: NotNegative = 0.28
    """A ratio is clipped to 1 - clip_low and 1 + clip_high."""
    kl: NotNegative = 0.0
    """Weight of the KL to the policy that the run began with; 0: there is no such term."""
    updates: Count = 1
    """Of the weights, by the same rollouts."""
    behaviour: Literal["engine", "recompute"] = "engine"
    """Whose log-probabilities the rollouts were drawn by: the engine's, corrected by importance weights, or those that
    the trainer computes anew."""
    importance_cap: Positive = 2.0
    """Largest importance weight, trainer's over engine's probability of a token."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What is taken from the reward of a rollout that is correct; the others get nothing in any case."""

    per_1000_tokens: NotNegative = 0.0
    """Of all threads."""
    per_thread: NotNegative = 0.0
    """Children, that is."""
    per_second: NotNegative = 0.0


@dataclass(frozen=True, slots=True)
class RlConfig:
    """A run of reinforcement learning."""

    method: Method
    optimizer: OptimizerConfig
    steps: Count
    groups: Count
    """Problems of a step, over all processes."""
    group_size: Annotated[int, Range(least=2)]
    """Rollouts of a problem."""
    loss: GrpoConfig = GrpoConfig()
    costs: Costs = Costs()
    numbers: Numbers = (4, 4)
    """Fewest and most numbers of a problem."""
    held_out_targets: tuple[Count, ...] = ()
    """Targets that neither training nor validation sees."""
    max_solutions: Count | None = None
    """Problems have at most so many distinct solutions, validation's too: where nearly every rollout solves a problem,
    there is nothing to learn."""
    budgets: Annotated[tuple[Natural | Literal["free"], ...], Filled()] = ("free",)
    """Conditions of the prompts, drawn per problem; "free" is the model's choice."""
    temperature: Annotated[float, Range(1e-4, 1e4)] = 1.0
    """Equal rollouts teach nothing, so it is never greedy."""
    max_threads: Count = 64
    """Of a rollout."""
    max_tokens: Count | None = None
    """Sampled tokens of a rollout; its threads share them equally, so a tight bound cuts wide searches short and
    teaches narrow ones."""
    refill: Natural = 0
    """How often a step draws other problems for those whose rollouts all have one reward."""
    overlap: bool = False
    """Sample the next step's rollouts while this one trains: they are one update old, and a checkpoint holds the
    weights that drew them too."""
    share_trunks: bool = True
    """Compute what several sequences of a thread share once."""
    tokens_per_batch: Count = 8192
    """Largest padded batch that goes through the model at once."""
    autocast: Autocast = "auto"
    compile: bool = False
    """torch.compile; on a CPU without a C++ compiler it is left out."""
    gradient_checkpointing: bool = False
    seed: Seed = 0
    validate_every: Natural = 20
    """Steps, and at the last one; 0: never."""
    validation_problems: Count = 64
    checkpoint_every: Natural = 1
    """Steps, and where training stops; 0: only there."""
    keep_checkpoints: Natural = 2
    """The newest; an older one is used where the newest is damaged. 0: all."""

    def faults(self) -> Iterator[tuple[str, str]]:
        try:
            ProblemStream(0, held_out_targets=list(self.held_out_targets))
        except ValueError as error:
            yield "held_out_targets", str(error)


def recipe_text(name: str, kind: str = "") -> str:
    """The TOML of a shipped recipe of a kind ("" for training), or of a file. ValueError if there is neither."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"no recipe file {name}")
        try:
            # A byte-order mark is no part of the text.
            return path.read_text("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{name} is not UTF-8 text") from None
    shipped = (resources.files("apr") / "recipes").joinpath(kind)
    if (shipped / f"{name}.toml").is_file():
        return (shipped / f"{name}.toml").read_text("utf-8")
    known = sorted(p.name.removesuffix(".toml") for p in shipped.iterdir() if p.name.endswith(".toml"))
    raise ValueError(f"no recipe {name}; shipped: {', '.join(known)}; or give a .toml file")


def sft_recipe(text: str, method: Method, **changes: Any) -> SftConfig:
    """A supervised recipe for one method; a table `[methods.apr]` or `[methods."sos+"]` holds the data that is its own.

    `changes` replace top-level values. Raises ValueError for anything the recipe may not hold.
    """
    values = _read(text)
    own = _own(values, method)
    if not own:
        raise ValueError(f"the recipe has no methods.{method!r} table")
    values["data"] = {**_table(values, "data"), **own}
    return build(SftConfig, {**values, "method": method, **changes})


def rl_recipe(text: str, method: Method, **changes: Any) -> RlConfig:
    """A recipe of reinforcement learning for one method; a table `[methods.apr]` or `[methods."sos+"]` holds values
    that are its own.

    `changes` replace top-level values, the method's own too. Raises ValueError for anything the recipe may not hold.
    """
    values = _read(text)
    for key, value in _own(values, method).items():
        tables = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if tables else value
    return build(RlConfig, {**values, "method": method, **changes})


def _read(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
    except RecursionError:
        raise ValueError("not TOML that anyone would write: it is nested too deep") from None


def _own(values: dict[str, Any], method: Method) -> dict[str, Any]:
    """What the recipe says of one method alone; no table of methods is left in `values`."""
    if "method" in values:
        raise ValueError("unknown key method; the command line says which, and tables of methods what is their own")
    methods = _table(values, "methods")
    for name in methods:
        if name not in get_args(Method):
            raise ValueError(f"methods.{name}: there is no such method; known: {', '.join(get_args(Method))}")
    values.pop("methods", None)
    return _table(methods, method, "methods.")


def _table(values: dict[str, Any], key: str, where: str = "") -> dict[str, Any]:
    table = values.get(key, {})
    if not isinstance(table, dict):
        raise ValueError(f"{where}{key}: {table!r} is not a table")
    return table
