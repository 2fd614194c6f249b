"""The Rust half: Countdown (rust/countdown) and the native decoder (rust/decoder)."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Final, Literal, TypeAlias, final

__all__ = [
    "JOIN_OPEN",
    "SPAWN_END",
    "SPAWN_OPEN",
    "Decoder",
    "GrammarError",
    "Lessons",
    "Problem",
    "ProblemStream",
    "SeenProblems",
    "Solution",
    "Tokenizer",
    "Trace",
    "Traces",
    "Verdict",
    "__version__",
    "can_reach",
    "check_claim",
    "check_config",
    "check_solution",
    "check_trace",
    "child_prompts",
    "claimed_steps",
    "combine",
    "expand",
    "first_state",
    "first_width",
    "heuristic",
    "inspect",
    "join",
    "join_block",
    "llama2_tokens",
    "prompt",
    "prompt_budget",
    "search",
    "search_result",
    "solution",
    "solve",
    "solve_all",
    "solve_shortest",
]
__version__: str

SPAWN_OPEN: Final[str]
SPAWN_END: Final[str]
JOIN_OPEN: Final[str]

class GrammarError(ValueError): ...

@final
class Problem:
    def __new__(cls, numbers: Sequence[int], target: int) -> Problem: ...
    @property
    def numbers(self) -> list[int]: ...
    @property
    def target(self) -> int: ...
    def __hash__(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __reduce__(self) -> tuple[type[Problem], tuple[list[int], int]]: ...

@final
class Solution:
    @property
    def steps(self) -> list[str]: ...
    @property
    def expression(self) -> str: ...

@final
class Verdict:
    @property
    def correct(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def steps(self) -> list[str]: ...
    def __bool__(self) -> bool: ...

@final
class Trace:
    @property
    def main_calls(self) -> list[str]: ...
    @property
    def children(self) -> list[list[Trace]]: ...
    @property
    def solved(self) -> bool: ...
    @property
    def text(self) -> str: ...
    def cost(self, *, llama2: bool = False) -> tuple[int, int, int]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...

@final
class ProblemStream:
    def __new__(
        cls,
        seed: int,
        *,
        numbers: tuple[int, int] = ...,
        max_number: int = 99,
        target: tuple[int, int] = ...,
        split: str = "train",
        held_out_targets: Sequence[int] = ...,
    ) -> ProblemStream: ...
    def get(self, start: int, count: int) -> list[Problem]: ...

@final
class SeenProblems:
    def __new__(cls) -> SeenProblems: ...
    def add(self, problem: Problem) -> bool: ...

@final
class Traces:
    def __new__(
        cls,
        seed: int,
        method: str,
        *,
        beam_size: tuple[int, int] | None = None,
        child_beam_size: tuple[int, int] | None = None,
        promising: float,
        ranking: str = "paper",
        largest: int | None = None,
        slack: int | None = None,
        waves: Sequence[int] | None = None,
        shuffled: bool = False,
        conditioned: float = 1.0,
        numbers: tuple[int, int] = ...,
        max_number: int = 99,
        target: tuple[int, int] = ...,
        split: str = "train",
        held_out_targets: Sequence[int] = ...,
    ) -> Traces: ...
    def get(self, start: int, count: int) -> list[tuple[Problem, Trace, int | None, int | None, str | None]]: ...

@final
class Lessons:
    def __new__(
        cls,
        seed: int,
        parts: Sequence[tuple[float, Traces]],
        *,
        children: int,
        cancelled: float,
        max_tokens: int,
    ) -> Lessons: ...
    def get(self, start: int, count: int) -> list[list[tuple[bytes, bytes]]]: ...

@final
class Tokenizer:
    def __new__(cls) -> Tokenizer: ...
    @staticmethod
    def of(phrases: Sequence[str]) -> Tokenizer: ...
    @staticmethod
    def from_json(text: str) -> Tokenizer: ...
    def to_json(self) -> str: ...
    def encode(self, text: str, specials: bool = True) -> list[int]: ...
    def decode(self, ids: Sequence[int], skip_special: bool = False, whole: bool = True) -> str: ...
    def token_id(self, token: str) -> int | None: ...
    @property
    def state_tokens(self) -> list[int]: ...
    @property
    def verdict_tokens(self) -> list[int]: ...
    @property
    def join_end(self) -> int | None: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def pad(self) -> int: ...
    @property
    def bos(self) -> int: ...
    @property
    def eos(self) -> int: ...

_Update: TypeAlias = tuple[
    int,
    list[int],
    list[float],
    Literal["stop", "length", "abort", "error"] | None,
    int,
    int,
    tuple[float, float, float],
]

@final
class Decoder:
    def __new__(
        cls,
        directory: str | PathLike[str],
        *,
        cache_bytes: int | None = None,
        threads: int | None = None,
        max_batch: int | None = None,
    ) -> Decoder: ...
    @property
    def context_length(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def policy_version(self) -> int: ...
    def has_work(self) -> bool: ...
    def submit(
        self,
        id: int,
        prompt: Sequence[int],
        *,
        temperature: float,
        max_tokens: int | None,
        stop_token_ids: Sequence[int],
        seed: int,
    ) -> None: ...
    def abort(self, id: int) -> bool: ...
    def run(self, seconds: float) -> list[_Update]: ...
    def update_weights(self, state: Mapping[str, Any]) -> int: ...
    def stats(self) -> dict[str, int]: ...

def check_config(directory: str | PathLike[str]) -> None: ...
def combine(a: int, b: int) -> list[tuple[int, str]]: ...
def heuristic(numbers: Sequence[int], target: int, kind: str) -> int | float: ...
def expand(
    numbers: Sequence[int], target: int, kind: str, beam_size: int
) -> list[tuple[int | float, list[int], str]]: ...
def solve(numbers: Sequence[int], target: int) -> Solution | None: ...
def solve_shortest(numbers: Sequence[int], target: int) -> Solution | None: ...
def solve_all(numbers: Sequence[int], target: int) -> list[Solution]: ...
def solution(problem: Problem, steps: Sequence[str]) -> Solution | None: ...
def can_reach(numbers: Sequence[int], target: int) -> bool: ...
def search(
    problem: Problem,
    method_name: str,
    *,
    beam_size: int | None = None,
    child_beam_size: int | None = None,
    promising: float | None = None,
    order: str = "bfs",
    heuristic: str = "mult",
    ranking: str = "paper",
    largest: int | None = None,
    slack: int | None = None,
    waves: Sequence[int] | None = None,
    shuffled: bool = False,
    seed: int = 0,
    choices: Sequence[bool | int | Sequence[int]] | None = None,
) -> Trace: ...
def llama2_tokens(text: str) -> int: ...
def prompt(problem: Problem, method: str, budget: int | None = None) -> str: ...
def child_prompts(parent_text: str, budget: int | None = None, shared: bool = False) -> list[str]: ...
def join(parent_text: str, child_texts: Sequence[str]) -> str: ...
def join_block(parent_text: str, results: Sequence[str | None], cancelled: Sequence[int], level: int) -> str: ...
def search_result(text: str) -> str | None: ...
def check_solution(prompt: str, text: str) -> Verdict: ...
def check_trace(text: str) -> Verdict: ...
def check_claim(prompt: str, text: str) -> Verdict: ...
def inspect(text: str) -> dict[str, int]: ...
def first_state(text: str) -> tuple[int, list[int]] | None: ...
def first_width(text: str) -> int: ...
def claimed_steps(claim: str) -> list[str]: ...
def prompt_budget(prompt: str) -> int | None: ...
