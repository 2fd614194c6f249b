"""Threads that write a plan, a line for each step, and are given what came of every step."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from apr.languages.markup import Markup, between
from apr.languages.published import opens


def steps(text: str) -> list[str]:
    plans = between(text, "<plan>", "</plan>")
    lines = [line.strip() for line in plans[-1].splitlines() if line.strip()] if plans else []
    if not lines:
        raise ValueError("a plan ends that has no step")
    return lines


def done(results: Sequence[str | None], cancelled: Collection[int]) -> str:
    return "\n" + "".join(f"<done>{result or 'nothing'}</done>\n" for result in results)


PLANS = Markup(
    name="plans:open_plans",
    spawn="</plan>",
    children=steps,
    words=("<plan>", "</plan>", "<done>", "</done>"),
    join=done,
    inherits=True,
    header=lambda place, said, parent: f"\nNow only: {said}\n",
)
open_plans = opens(PLANS)
