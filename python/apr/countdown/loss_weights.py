"""Kinds of Countdown's tokens, and what they weigh in the loss of supervised training."""

from __future__ import annotations

from dataclasses import dataclass

from apr.fields import NotNegative

# The flags of a token's code, as in `rust/countdown/src/lesson/kind.rs`; 0: the model does not write it itself.
WRITTEN, RESULT, LARGE_RESULT, STATE, VERDICT, JOINED, LINE, CHOICE = (1 << place for place in range(8))
CODES = 2 * CHOICE


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

    lines: NotNegative = 1.0
    """The first token of each line, by which a thread goes on, spawns or gives up: a choice in a single token."""
    choices: NotNegative = 1.0
    """Times what they weigh else, where a thread that spawns chooses: the numbers and the sign of each step that it
    shows, and the first token of each of its lines. 0: it learns what follows from a choice, and none itself, as for
    lessons beside reinforcement learning."""

    def of(self, code: int) -> float:
        """The weight of a token with this code."""
        if not code & WRITTEN:
            return 0.0
        weight = 1.0
        # The last kind that a token is of tells its weight: a result in a state line is recalled.
        for flag, other in (
            (RESULT, self.results),
            (LARGE_RESULT, self.large_results),
            (STATE, self.states),
            (VERDICT, self.verdicts),
            (LINE, self.lines),
        ):
            weight = other if code & flag else weight
        weight = max(weight, self.joined) if code & JOINED else weight
        return weight * self.choices if code & CHOICE else weight


def _with(flag: int) -> frozenset[int]:
    return frozenset(code for code in range(CODES) if code & WRITTEN and code & flag)


KINDS = {
    "results": _with(RESULT),
    "large_results": _with(LARGE_RESULT),
    "states": _with(STATE),
    "verdicts": _with(VERDICT),
    "joined": _with(JOINED),
    "lines": _with(LINE),
    "choices": _with(CHOICE),
}
"""The codes of each kind's tokens. A token may be of several, and every large result is among the results."""
