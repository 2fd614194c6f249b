"""What a model is asked to reason about: problems, how they are asked, and what is right. A task knows no tokens.

`Task` is all that a rollout, an evaluation and reinforcement learning need. What else a task can do it says by having
the methods of `Teaches`, `Diagnoses` or `Shows`; a trainer, a report or a screen lacks what a task does not bring.
Problems are opaque to everyone else; P is a task's own type of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from apr.conversation import Message, Prompt
from apr.plugins import find

if TYPE_CHECKING:
    from apr.threads.tree import ThreadTree

P = TypeVar("P")
Split = Literal["train", "val", "test"]
Method = Literal["apr", "sos", "sos+"]
"""How a model is asked to search: in threads that it spawns (apr), or serially, for the authors' two rivals."""

GROUP = "apr.tasks"
"""The entry-point group of tasks."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says of an answer."""

    correct: bool
    reason: str
    """Why, in a few words."""
    steps: tuple[str, ...] = ()
    """What led there, for people to read; empty unless correct."""
    score: float | None = None
    """From 0 to 1, what reinforcement learning rewards; None: 1 if it is correct, else 0."""

    @property
    def reward(self) -> float:
        """The score, whoever gave it."""
        return float(self.correct) if self.score is None else self.score


class Task(Protocol[P]):
    """Problems and their judge."""

    @property
    def name(self) -> str:
        """What it is called in recipes, logs and on the command line: a name of the entry-point group, or
        `module:attribute`."""
        ...

    def problems(self, split: Split, seed: int, start: int, count: int) -> Sequence[P]:
        """Items `start` to `start + count` of an endless stream; fewer only where it ends. A pure function of its
        arguments. No item of one split is in another."""
        ...

    def to_json(self, problem: P) -> dict[str, Any]:
        """The problem as a plain JSON object."""
        ...

    def from_json(self, values: Mapping[str, Any]) -> P:
        """The problem of such an object, which may come from anywhere; ValueError if it is none."""
        ...

    def key(self, problem: P) -> str:
        """A text that problems share when they are the same one."""
        ...

    def prompt(self, problem: P, budget: int | None) -> Prompt:
        """What the main thread begins with. `budget` is what the search may cost, in the task's own measure (for
        Countdown, children); None: the model's choice."""
        ...

    def read_prompt(self, prompt: str) -> tuple[P, int | None]:
        """The problem and the budget that a main thread's prompt names; ValueError if it names no problem."""
        ...

    def judge(self, problem: P, answer: str | None, text: str) -> Verdict | None:
        """Judge a main thread that ended: what the language reads as its answer (None: it gives none), and all of its
        text, for judges of whole traces. Both are a model's: anything may stand there. None where nobody can tell what
        is right; it counts as neither."""
        ...

    def judge_child(self, problem: P, prompt: str, claim: str) -> Verdict | None:
        """Judge what a child with this prompt says it found; None where nobody can tell before the end."""
        ...

    def vote(self, answer: str) -> str | None:
        """A text that equal answers share, for majorities; None: it is no vote."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """Text that a thread of a teacher's search writes."""

    text: str
    kind: str = ""
    """What it is, to whoever weighs tokens: a recipe's `[weights]` names kinds; all others count 1."""


@dataclass(frozen=True, slots=True)
class Search:
    """One thread of a teacher's search: what a model is to write. How spawns, joins and answers are written is the
    language's."""

    prompt: str
    parts: tuple[Written | tuple[Search, ...], ...]
    """What it writes and, between that, the children that it spawns together and waits for."""
    answer: str | None
    """What it found in the end; None: nothing."""


@runtime_checkable
class Teaches(Protocol):
    """A task that has a teacher, so that models can be trained on its searches."""

    def search(self, data: Mapping[str, Any], *, split: Split, seed: int, index: int, progress: float) -> Search:
        """Search `index` of an endless stream: a pure function of its arguments. `data` is the `[data]` table of a
        recipe, `progress` the share of the run that is done, from 0 to 1. ValueError, by key, for what the teacher
        does not take."""
        ...


@runtime_checkable
class Converses(Protocol):
    """A task that can be asked in a conversation."""

    def read_messages(self, messages: Sequence[Message]) -> Any:
        """The problem that a conversation asks, which ends with a turn of the user's. ValueError if it asks none."""
        ...


@runtime_checkable
class Selects(Protocol):
    """A task with kinds of problems, of which a run may want some."""

    def select(self, options: Mapping[str, Any]) -> Task[Any]:
        """The task with the problems of these options only. ValueError, by key, for what it does not take."""
        ...

    def accepts(self, problem: Any) -> bool:
        """Whether an item of `problems` is one of those that are wanted; the others are passed over."""
        ...


@runtime_checkable
class Grades(Protocol):
    """A task that knows how hard its problems are."""

    def difficulty(self, problem: Any) -> str:
        """One of a few words, such as "hard"."""
        ...


@runtime_checkable
class Sorts(Protocol):
    """A task that knows which of its problems are alike."""

    def kind(self, problem: Any) -> str:
        """What problems share that are about as hard as each other: a short word, of a few dozen."""
        ...


@runtime_checkable
class Foresees(Protocol):
    """A task with a solver that misses nothing of what children are asked."""

    def solvable(self, problem: Any, prompt: str) -> bool:
        """Whether there is anything to find for a child with this prompt, which a model wrote."""
        ...


@runtime_checkable
class Decides(Protocol):
    """A task that knows what in a main thread's text follows from what stands before it, and what was decided."""

    def decisions(self, text: str) -> Sequence[tuple[int, int]]:
        """Where something was decided: characters of the text, from and to."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a parent chose a child's part of the problem, and whether it chose well."""

    begin: int
    end: int
    """Characters of the parent's text, from and to: what was free to choose, and nothing that follows from it."""
    good: bool


@runtime_checkable
class Weighs(Protocol):
    """A task with a solver that misses nothing of what parents choose."""

    def choices(self, problem: Any, text: str, prompts: Sequence[str]) -> Sequence[Choice | None]:
        """For each child of a main thread with this text, by the prompts in the order of spawning, where it was chosen,
        and whether by it alone the problem could still be solved; one that a sibling before it was given already brings
        nothing. None where nobody can tell."""
        ...


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a text went wrong."""

    at: int
    """The first character that cannot stand there, given those before it."""
    right: str | None
    """What stands from there to the line's end, its line break included; None: several things could, or nothing."""


@runtime_checkable
class Corrects(Protocol):
    """A task whose every line can be judged."""

    def faults(self, problem: Any, text: str) -> Sequence[Fault]:
        """What is wrong in the whole text of a thread, each fault where it was made and not again where it is
        copied; where each line follows from those before it, the first alone."""
        ...


@runtime_checkable
class Diagnoses(Protocol):
    """A task that can tell why a rollout went wrong."""

    def diagnose(self, problem: Any, tree: ThreadTree) -> dict[str, float]:
        """Counts of one finished rollout that add up over rollouts. Those called `wrong_results` of `steps` and
        `wrong_states` of `states` are watched in training."""
        ...

    def failure_cause(self, problem: Any, tree: ThreadTree) -> str | None:
        """What lost a finished rollout, in a word; None if it is solved, or if nobody can tell."""
        ...


@runtime_checkable
class Compares(Protocol):
    """A task whose teacher can be set beside a rollout."""

    def check_teacher(self, teacher: Mapping[str, Any]) -> None:
        """ValueError, by key, for options that the teacher does not take."""
        ...

    def width(self, tree: ThreadTree) -> int:
        """How widely the main thread of a rollout searched."""
        ...

    def teacher_solves(self, teacher: Mapping[str, Any], problem: Any, tree: ThreadTree) -> bool:
        """Whether a search as wide as the rollout's finds a solution."""
        ...

    def teacher_effort(self, teacher: Mapping[str, Any], problem: Any) -> tuple[int, int]:
        """Children and rounds of a search of its own, as long as it takes."""
        ...


@runtime_checkable
class Shows(Protocol):
    """A task that can be put in words. What it says is one line, and ValueError if it can say nothing."""

    def title(self, problem: Any) -> str:
        """The problem in one line."""
        ...

    def label(self, prompt: str) -> str:
        """A child's part of the problem, in a few characters."""
        ...

    def answer(self, problem: Any, verdict_steps: Sequence[str]) -> str:
        """The solution of a correct rollout in one line, as a program takes it. ValueError if the steps are none."""
        ...


@runtime_checkable
class Tells(Protocol):
    """A task that shows and has words of its own for what threads write."""

    @property
    def checked(self) -> str:
        """What a solution was checked for, in a few words."""
        ...

    def steps(self, claim: str) -> Sequence[str]:
        """The steps that a claim tells, unverified, from the problem on."""
        ...

    def solution(self, problem: Any, answer: str) -> str:
        """An answer beside what it answers."""
        ...


LineKind = Literal["state", "step", "dead", "found", "spawn", "join"]
"""What a line tells: where the search is, a step that is tried, a dead end, a solution, that children are asked for, or
what they found."""


@runtime_checkable
class Marks(Protocol):
    """A task, or a language, that tells the lines of threads apart."""

    def line_kind(self, line: str) -> LineKind | None:
        """What a line tells, its line break left out; None for any other, which a model may write at any time."""
        ...


@runtime_checkable
class Solves(Protocol):
    """A task with a solver that misses nothing."""

    def solve(self, problem: Any) -> Sequence[str] | None:
        """The steps of a solution; None if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """One line that a person types in."""

    name: str
    """A word in lower case; no other field or option of `apr solve` is called so, or by its first letter."""
    says: str
    """What is to be typed in, in a few words."""
    example: str
    keys: str = ""
    """The characters that it takes; empty: all."""
    width: int | None = None
    """Columns that it takes; None: all that are left."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Problems of a kind, to draw one at random."""

    says: str
    options: Mapping[str, Any]
    """What `Selects.select` makes of them."""


@dataclass(frozen=True, slots=True)
class Form:
    """How people ask for a rollout."""

    fields: tuple[Field, ...]
    rule: str = ""
    """What is to be done with such a problem, in a few words."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """By name, the first one unless another is asked for; empty: problems are all of a kind."""
    budgets: tuple[int | None, ...] = (None,)
    """What people try; the model's own choice (None), which they get unless they say another, stands first."""
    unit: str = ""
    """What a budget counts."""


@runtime_checkable
class Asks(Protocol):
    """A task whose problems people can type in."""

    @property
    def form(self) -> Form:
        """The same one every time."""
        ...

    def parse(self, texts: Sequence[str]) -> Any:
        """The problem that the fields' texts name. ValueError, in one line for people, if they name none."""
        ...

    def fill(self, problem: Any) -> tuple[str, ...]:
        """The fields' texts of a problem."""
        ...


def load_task(name: str, method: Method = "apr") -> Task[Any]:
    """A task by name. ValueError if there is none.

    What is found is the task, or is called with the method to get it."""
    found = find(GROUP, name)
    if isinstance(found, type) or not hasattr(found, "judge"):
        try:
            found = found(method)
        except TypeError as error:
            raise ValueError(f"the task {name!r} is none: called with a method, {error}") from error
    if not hasattr(found, "judge"):
        raise ValueError(f"the task {name!r} is none: it judges nothing")
    task: Task[Any] = found
    return task
