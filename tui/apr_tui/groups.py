"""The watched groups of a run on disk, and how the text of their threads is coloured: pure, no terminal.

RUN/watched/STEP.jsonl   the events of all rollouts of one watched group, written while they run
RUN/groups/STEP.json     what the trainer made of them; it may be missing
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from apr.shown import installed_language, token_text
from apr.threads.events import open_log
from apr.threads.tree import Thread
from apr.train.run import RunDirectory
from apr_tui.state import Span, View
from apr_tui.text import Part

Colouring = Literal["origin", "advantage", "gap"]
COLOURINGS: tuple[Colouring, ...] = ("origin", "advantage", "gap")

_STRONG = 1.0
"""An advantage from which on a colour is strong."""
_OFF = (0.01, 0.1)
"""Nats between engine and trainer from which on a token is marked, and strongly so."""


@dataclass(frozen=True, slots=True)
class ThreadFigures:
    """A thread's sampled tokens as the trainer saw them; all are as long as each other."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    trainer: tuple[float, ...]
    advantages: tuple[float, ...] = ()
    """Empty where nobody tells."""


@dataclass(frozen=True, slots=True)
class RolloutFigures:
    """What the trainer made of a rollout."""

    reward: float | None = None
    advantage: float | None = None
    threads: Mapping[str, ThreadFigures] = field(default_factory=dict)

    @property
    def gap(self) -> float | None:
        """The mean distance of engine and trainer over its tokens, in nats."""
        gaps = [abs(a - b) for t in self.threads.values() for a, b in zip(t.logprobs, t.trainer, strict=True)]
        return sum(gaps) / len(gaps) if gaps else None


def watched_steps(run: Path) -> list[int]:
    """The steps that have a watched group, newest first."""
    folder = RunDirectory(run).watched(0).parent
    return sorted((int(p.stem) for p in folder.glob("*.jsonl") if p.stem.isdecimal()), reverse=True)


def read_group(run: Path, step: int) -> dict[str, RolloutFigures]:
    """Rollout -> its figures; empty where there are none yet, or none that can be read."""
    try:
        with open_log(RunDirectory(run).group(step)) as file:
            rollouts = json.load(file)["rollouts"]
        return {str(entry["rollout"]): _rollout(entry) for entry in rollouts}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _rollout(entry: dict[str, Any]) -> RolloutFigures:
    threads = {}
    for thread, told in (entry.get("threads") or {}).items():
        tokens, logprobs, trainer = (tuple(told.get(key) or ()) for key in ("tokens", "logprobs", "trainer"))
        if len(tokens) == len(logprobs) == len(trainer) and all(map(_number, (*logprobs, *trainer))):
            advantages = tuple(told.get("advantages") or ())
            known = len(advantages) == len(tokens) and all(map(_number, advantages))
            threads[str(thread)] = ThreadFigures(tokens, logprobs, trainer, advantages if known else ())
    reward, advantage = (entry.get(key) if _number(entry.get(key)) else None for key in ("reward", "advantage"))
    return RolloutFigures(reward, advantage, threads)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parts(view: View, thread: Thread, colouring: Colouring, figures: RolloutFigures | None) -> Sequence[Part]:
    """How the text of a thread is drawn; by where it comes from wherever nothing else is known."""
    origin: tuple[Span, ...] = view.forced[thread.id]
    if colouring == "origin" or figures is None:
        return origin
    by_token = any(told.advantages for told in figures.threads.values())
    if colouring == "advantage" and not by_token:
        name = _tone(figures.advantage)
        return origin if name is None else _filled(origin, len(thread.text), name)
    told = figures.threads.get(thread.id)
    if told is None or (colouring == "advantage" and not told.advantages):
        return origin
    names = [_tone(value) for value in told.advantages] if colouring == "advantage" else _distances(told)
    drawn = _drawn(view, thread, told, names)
    return origin if drawn is None else drawn


def _tone(advantage: float | None) -> str | None:
    if not advantage:
        return None
    return f"{'good' if advantage > 0 else 'bad'}{2 if abs(advantage) >= _STRONG else 1}"


def _filled(origin: Sequence[Span], end: int, name: str) -> list[Part]:
    """The forced parts, and what was sampled between them under one name."""
    filled: list[Part] = []
    place = 0
    for a, b, cause in origin:
        if place < a:
            filled.append((place, a, name))
        filled.append((a, b, cause))
        place = b
    return [*filled, (place, end, name)] if place < end else filled


def _distances(told: ThreadFigures) -> list[str | None]:
    gaps = [abs(ours - theirs) for ours, theirs in zip(told.logprobs, told.trainer, strict=True)]
    return ["off2" if gap >= _OFF[1] else "off1" if gap >= _OFF[0] else None for gap in gaps]


def _drawn(view: View, thread: Thread, told: ThreadFigures, names: Sequence[str | None]) -> list[Part] | None:
    """A part a token, by its name; None if the trainer's tokens or the texts of tokens are not this thread's."""
    sampled = [token for call in thread.calls for token in call.sampled]
    if tuple(sampled) != told.tokens:
        return None
    # Token, where its figures stand, and why it was forced if it was.
    sequence: list[tuple[int, int, str | None]] = []
    seen = 0
    for call in thread.calls:
        del sequence[call.kept :]
        sequence += ((token, -1, call.cause or "prompt") for token in call.forced)
        sequence += ((token, seen + i, None) for i, token in enumerate(call.sampled))
        seen += len(call.sampled)
    started = view.tree.started
    language = None if started is None else installed_language(started.language, started.method)
    if language is None:
        return None
    found: list[Part] = []
    place = 0
    text: list[str] = []
    for token, index, cause in sequence:
        piece = token_text(language, token)
        if piece is None:
            return None
        if piece:
            name = cause or names[index]
            if name is not None:
                found.append((place, place + len(piece), name))
            place += len(piece)
            text.append(piece)
    return found if "".join(text) == thread.text else None
