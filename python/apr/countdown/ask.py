"""How people ask for a Countdown problem: some numbers, and the target."""

from __future__ import annotations

from collections.abc import Mapping

from apr._core import Problem
from apr.task import Field, Form, Kind, Method

MIN_NUMBERS, MAX_NUMBERS = 2, 6
_DIGITS = "0123456789-"
_FIELDS = (
    Field("numbers", "two to six numbers", "22 26 31 53", f"{_DIGITS} ,", 22),
    Field("target", "the number to reach", "27", _DIGITS, 9),
)
_RULE = "reach the target, each number once"
_KINDS = {
    "medium": Kind("4 numbers", {"numbers": (4, 4)}),
    "hard": Kind("5 numbers", {"numbers": (5, 5)}),
    "easy": Kind("3 numbers", {"numbers": (3, 3)}),
}

FORMS: Mapping[Method, Form] = {
    "apr": Form(_FIELDS, _RULE, _KINDS, (None, 1, 3, 5, 10, 16), "child threads"),
    "sos+": Form(_FIELDS, _RULE, _KINDS, (None, 1024, 2048, 4096, 8192), "tokens"),
    "sos": Form(_FIELDS, _RULE, _KINDS, unit="tokens"),
}


def parse(numbers: str, target: str) -> Problem:
    """The problem that the two fields name, or the first alone: "2 3 = 5". ValueError, in one line for people, if they
    name none."""
    if not target.strip():
        numbers, _, target = numbers.partition("=")
    given = [_integer(word, "numbers") for word in numbers.replace(",", " ").split()]
    if not MIN_NUMBERS <= len(given) <= MAX_NUMBERS:
        many = f"{len(given)} given: " if given else ""
        raise ValueError(f"numbers: {many}{_FIELDS[0].says} are wanted, as in {_FIELDS[0].example}")
    if not target.strip():
        raise ValueError("give the target to reach")
    try:
        return Problem(given, _integer(target.strip(), "target"))
    except OverflowError:
        raise ValueError("a number is too large") from None


def fill(problem: Problem) -> tuple[str, str]:
    """The fields of a problem."""
    return " ".join(map(str, problem.numbers)), str(problem.target)


def _integer(word: str, field: str) -> int:
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{field}: {word[:20]!r} is not a whole number")
    # Python itself refuses to read very long ones, with a message of its own.
    if len(digits) > 40:
        raise ValueError("a number is too large")
    return int(word)
