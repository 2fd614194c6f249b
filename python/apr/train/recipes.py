"""Recipes: frozen dataclasses read from TOML.

A key that no field is named after is refused, and so is a value that makes no sense: each field says by its type what
it takes. Where 0 turns something off, the field says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from apr.fields import Ascending, Count, Filled, Natural, NotNegative, Positive, Range, Share, build, read_toml
from apr.origin import Origin
from apr.plain import hint
from apr.train.lessons import lessons_of

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
class OptimizerConfig:
    """Optimiser and learning rate."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: hidden matrices by Muon, all else by AdamW."""
    learning_rate: Positive = 1e-3
    """Peak of AdamW."""
    muon_learning_rate: Positive = 0.02
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
class Sharding:
    """How several processes share out weights, gradients and optimiser; one by itself keeps all where it computes."""

    replicas: Count = 1
    """Groups of processes, such as machines, of which each holds all weights: these are exchanged within a group
    alone, gradients over all."""
    offload: bool = False
    """Shares stay in the CPU's memory, where AdamW updates them; a GPU holds what it computes with."""

    def shares(self, processes: int) -> int:
        """Processes of a group. ValueError if they make no groups of one size."""
        count, left = divmod(processes, self.replicas)
        if left:
            raise ValueError(f"sharding.replicas: {processes} processes make no {self.replicas} groups of one size")
        return count

    def fault(self, optimizer: OptimizerConfig) -> Iterator[tuple[str, str]]:
        """What an optimiser does not go with."""
        if self.offload and optimizer.name == "muon":
            yield "sharding.offload", "Muon makes whole matrices orthogonal, which is nothing for a CPU; take adamw"


@dataclass(frozen=True, slots=True)
class SftConfig:
    """A supervised run."""

    method: Method
    optimizer: OptimizerConfig
    steps: Count
    tokens_per_step: Count
    """Tokens of a step, over all processes; whole lessons, so a step may exceed it by one."""
    model: ModelConfig | None = None
    """The shape of a new model; None: that of the one that a run begins with, whoever made it."""
    max_tokens: Count | None = None
    """Longer samples are left out; None: those that are longer than the model's context."""
    task: str = Origin().task
    """What is taught."""
    language: str = Origin().language
    """What it is written in; of any other task "tags", where the recipe does not say."""
    data: dict[str, Any] = field(default_factory=dict)
    """What lessons are of: the task's own."""
    weights: dict[str, Any] = field(default_factory=dict)
    """Of kinds of token that do not count 1: the teacher's own."""
    tokens_per_batch: Count = 8192
    """Largest padded batch that goes through the model at once."""
    seed: Seed = 0
    autocast: Autocast = "auto"
    compile: bool = False
    """torch.compile, a third faster; on a CPU without a C++ compiler it is left out."""
    cuda_graphs: bool = False
    """On one GPU by itself, instead of `compile`: the kernels of a batch are started all at once, which pays where many
    of them do little, in small models."""
    gradient_checkpointing: bool = False
    """Blocks compute twice, and what they compute is not kept: slower, in less memory."""
    sharding: Sharding = Sharding()
    validate_every: Natural = 200
    """Steps, and at the last one; 0: never."""
    validation_lessons: Count = 64
    checkpoint_every: Natural = 200
    """Steps, and where training stops; 0: only there."""
    keep_checkpoints: Natural = 2
    """The newest; an older one is used where the newest is damaged. 0: all."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.model is None and self.max_tokens is None:
            yield "max_tokens", "without a [model] nothing says how long samples may be"
        if self.cuda_graphs and self.gradient_checkpointing:
            yield "cuda_graphs", "kernels that compute blocks twice are not recorded: drop gradient_checkpointing"
        yield from self.sharding.fault(self.optimizer)

    @property
    def longest(self) -> int:
        """Tokens of the longest sample."""
        lengths = (self.max_tokens, None if self.model is None else self.model.context_length)
        return min(length for length in lengths if length is not None)


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
    """A ratio, of the policy to what it was before the step's first update, is clipped to 1 - clip_low and 1 +
    clip_high; with one update it is 1."""
    kl: NotNegative = 0.0
    """Weight of the KL to the reference, the policy that the run began with, estimated in the k3 form (Schulman), token
    by token; 0: there is no such term."""
    renew_reference: Natural = 0
    """Every so many steps the policy becomes the reference, so that it may move on, and not fast; 0: never."""
    updates: Count = 1
    """Of the weights, by the same rollouts."""
    old_logprobs: Literal["engine", "trainer"] = "engine"
    """Whose log-probabilities the rollouts were drawn by: the engine's, corrected by importance weights, or those that
    the trainer computes anew."""
    importance_cap: Positive = 2.0
    """Largest importance weight, trainer's over engine's probability of a token."""
    outcome: Literal["all", "decisions"] = "all"
    """The tokens that an outcome, and what `credit.rounds` makes of it, is for: all of a rollout, or those of its main
    thread in which something was decided, for tasks that can tell. Lessons can teach all but those."""
    least_entropy: NotNegative = 0.0
    """Nats: where the policy is surer than that of its next token, that token is worth as much as any. What is copied
    is left alone so, and what is chosen is learned (Wang et al. 2025, arXiv 2506.01939)."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What is taken from a rollout's score, so that of two that are as good the cheaper is the better; never more than
    there is, so that what is wrong is worth nothing in any case."""

    per_1000_tokens: NotNegative = 0.0
    """Of all threads."""
    per_thread: NotNegative = 0.0
    """Children, that is."""
    per_second: NotNegative = 0.0


@dataclass(frozen=True, slots=True)
class CreditConfig:
    """What tokens are worth beside what their rollout's outcome is worth: weights, in units of a reward; 0: nothing.
    All but `rounds` are for tasks with a judge that can tell."""

    children: NotNegative = 0.0
    """Of what a child made of its own part of the problem; for all of its tokens."""
    choices: NotNegative = 0.0
    """Of whether what a main thread gave a child could lead to a solution; for the tokens that chose it."""
    rounds: NotNegative = 0.0
    """Of the group's mean reward less that of its rollouts that came as far, for the tokens of a round. With 1 a token
    is compared with what followed in those rollouts alone: late rounds belong to rollouts that went badly before."""
    lines: NotNegative = 0.0
    """Of a wrong line; taken from the token that made it wrong."""
    corrections: NotNegative = 0.0
    """Of a wrong line; of the cross entropy, at the token that made it wrong, toward the right one."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A supervised loss beside the rollouts', so that nothing that was taught is lost."""

    recipe: str
    """Shipped, or a .toml file: whose lessons, as at the end of it; those that made the policy, fresh ones."""
    weight: Positive
    """Of the mean loss of their tokens, in nats."""
    tokens: Count = 8192
    """Of lessons at each update, over all processes; whole lessons."""


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
    credit: CreditConfig = CreditConfig()
    replay: Replay | None = None
    """None: no lessons."""
    sampled_tokens: Count | None = None
    """The run ends before its last step once it has sampled so many, so that runs can be compared that cost the same;
    None: it does not."""
    task: str | None = None
    """What the policy is asked; None: what it was trained for."""
    language: str | None = None
    """What it writes; None: what it was trained to write."""
    reward: str | None = None
    """`module:attribute`, or a name of the entry-point group apr.rewards: what a rollout is worth, by its tree and the
    costs; None: the judge's score less the costs."""
    numbers: Numbers | None = None
    """Fewest and most numbers of a problem, for tasks whose problems have any."""
    held_out_targets: tuple[Count, ...] = ()
    """Targets that neither training nor validation sees, likewise."""
    max_solutions: Count | None = None
    """Problems have at most so many distinct solutions, validation's too, likewise: where nearly every rollout solves a
    problem, there is nothing to learn."""
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
    """How often a step draws other problems for those whose rollouts are all right or all wrong."""
    edge: NotNegative = 0.0
    """How strongly problems are preferred of whose kind some rollouts are solved and some are not: the chance that a
    problem is taken is its kind's share of such groups, over the best kind's, to this power. 0: all are taken alike."""
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
    """Blocks compute twice, and what they compute is not kept: slower, in less memory."""
    sharding: Sharding = Sharding()
    seed: Seed = 0
    validate_every: Natural = 20
    """Steps, and at the last one; 0: never."""
    validation_problems: Count = 64
    checkpoint_every: Natural = 1
    """Steps, and where training stops; 0: only there."""
    keep_checkpoints: Natural = 2
    """The newest; an older one is used where the newest is damaged. 0: all."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.loss.advantage == "std" and self.costs != Costs():
            yield "costs", 'advantage = "std" would blow up the smallest of them where all of a group is correct'
        if self.loss.advantage == "std" and self.credit.rounds:
            yield "credit.rounds", 'a mean reward is no measure of advantages that are divided (advantage = "std")'
        if self.loss.renew_reference and not self.loss.kl:
            yield "loss.renew_reference", "without a kl there is no reference"
        yield from self.sharding.fault(self.optimizer)

    @property
    def problem_options(self) -> dict[str, Any]:
        """The kind of problems that is wanted, as far as it is said."""
        said = {name: getattr(self, name) for name in ("numbers", "held_out_targets", "max_solutions")}
        return {name: value for name, value in said.items() if value}


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
    raise ValueError(f"no recipe {name}; shipped: {', '.join(known)}; or give a .toml file{hint(name, known)}")


def sft_recipe(text: str, method: Method, **changes: Any) -> SftConfig:
    """A supervised recipe for one method; a table `[methods.apr]` or `[methods."sos+"]` holds the data that is its own.

    `changes` replace top-level values. Raises ValueError for anything the recipe may not hold.
    """
    values = read_toml(text)
    one_for_all = "methods" not in values
    own = _own(values, method)
    if not own and not one_for_all:
        raise ValueError(f"the recipe has no methods.{method!r} table")
    values["data"] = {**_table(values, "data"), **own}
    if values.get("task", Origin().task) != Origin().task:
        values.setdefault("language", "tags")
    config = build(SftConfig, {**values, "method": method, **changes})
    # What the task's own tables may hold is known to its lessons; those for a model of others are in its tokens.
    if config.model is not None:
        lessons_of(config)
    return config


def rl_recipe(text: str, method: Method, **changes: Any) -> RlConfig:
    """A recipe of reinforcement learning for one method; a table `[methods.apr]` or `[methods."sos+"]` holds values
    that are its own.

    `changes` replace top-level values, the method's own too. Raises ValueError for anything the recipe may not hold.
    """
    values = read_toml(text)
    for key, value in _own(values, method).items():
        tables = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if tables else value
    return build(RlConfig, {**values, "method": method, **changes})


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
