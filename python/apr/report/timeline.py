"""A rollout as a picture: a bar a thread over time, spawns and joins, and the longest chain of dependent threads.

One SVG without scripts or anything to load, in the reader's own light or dark. Lengths are pixels; times are seconds
since the rollout started. What a model wrote is hostile: it is cleaned, and escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from xml.sax.saxutils import escape

from apr.plain import one_line
from apr.report.recorded import Recorded
from apr.shown import Shown
from apr.threads.causes import end_of
from apr.threads.lanes import Kind, Span, critical, round_step
from apr.threads.marks import SIGNS, mark_of
from apr.threads.tree import MAIN, Thread

STYLE = (resources.files("apr.report") / "timeline.css").read_text(encoding="utf-8")
"""Colours of everything drawn below an element of the class `timeline`."""

_WIDTH, _LEFT, _RIGHT = 960, 300, 20
"""Of the picture, of the threads' names, and of what stays free behind the bars."""
_HEAD, _ROW, _FOOT = 62, 20, 42
"""Heights of the title with the axis, of a thread, and of the legend."""
_BAR: dict[Kind, int] = {"queue": 4, "prefill": 12, "start": 12, "decode": 12, "waiting": 2}
"""How high a bar is while its thread does this."""
_SHORTEST = 0.4
"""Pixels that anything takes at least."""
_SEEN = 1.0
"""Pixels from which on the legend tells what is there."""
_MARKS_APART = 80
"""Pixels from one number of the axis to the next, about."""
_LONGEST = 110
"""Characters of a title."""
_CHARACTER = 7.3
"""Pixels of a character of a name."""
_LEGEND: tuple[tuple[str, Kind, str], ...] = (
    ("longest chain", "decode", "chain"),
    ("decode", "decode", ""),
    ("prefill", "prefill", ""),
    ("before the first token", "start", ""),
    ("queue", "queue", ""),
    ("waits for children", "waiting", ""),
)
_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>body {{ margin: 2em auto; max-width: 960px }} section {{ margin-bottom: 3em }} svg {{ max-width: 100% }}</style>
</head>
<body>
{parts}
</body>
</html>
"""


def svg(rollout: Recorded) -> str:
    """The picture. ValueError for a rollout without events."""
    if rollout.tree.started is None:
        raise ValueError("there is no rollout to draw")
    return "\n".join(_Picture(rollout, Shown.of(rollout.tree.started)).lines()) + "\n"


def headline(rollout: Recorded, shown: Shown) -> str:
    """The problem, and what came of it."""
    tree = rollout.tree
    if tree.finished is None:
        end = "running"
    elif tree.solved:
        end = f"solved: {shown.solution(tree.steps) or ', '.join(tree.steps)}"
    elif tree.unjudged:
        end = "answered"
    else:
        end = "engine failure" if tree.failed else f"unsolved: {end_of(tree.finished.reason)}"
    return _cut(one_line(f"{shown.title()} · {end}"), _LONGEST)


def meters(rollout: Recorded) -> str:
    """What it cost."""
    tree = rollout.tree
    count = len(tree.threads)
    assert tree.started is not None
    parts = [
        one_line(tree.started.method),
        "free budget" if tree.started.budget is None else f"budget {tree.started.budget:,}",
        f"{count} thread{'' if count == 1 else 's'}",
        f"{tree.total_tokens:,} tokens, {tree.sequential_tokens:,} in sequence",
        f"{rollout.seconds:.2f} s",
    ]
    return " · ".join(parts)


def document(title: str, rollouts: Sequence[Recorded]) -> str:
    """All of them as a page of HTML: the picture of each, and below it the threads' texts."""
    parts = "\n".join(f"<section>\n{svg(rollout)}{rollout.tree._repr_html_()}\n</section>" for rollout in rollouts)
    return _DOCUMENT.format(title=escape(one_line(title)), parts=parts)


class _Picture:
    def __init__(self, rollout: Recorded, shown: Shown) -> None:
        self.rollout, self.shown = rollout, shown
        self.threads = list(rollout.tree.ordered())
        self.place = {thread.id: index for index, thread in enumerate(self.threads)}
        self.chain = critical(rollout.tree, rollout.lanes)
        self.bottom = _HEAD + _ROW * len(self.threads)
        # Of a rollout that took no time, everything stands at its begin.
        self.scale = (_WIDTH - _LEFT - _RIGHT) / (rollout.seconds or 1.0)

    def x(self, time: float) -> float:
        return _LEFT + max(0.0, min(time, self.rollout.seconds)) * self.scale

    def y(self, thread: str) -> int:
        """The middle of its row."""
        return _HEAD + _ROW * self.place[thread] + _ROW // 2

    def lines(self) -> Iterator[str]:
        title = headline(self.rollout, self.shown)
        height = self.bottom + _FOOT
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline" role="img" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}">'
        )
        yield f"<title>{escape(title)}</title>"
        yield f"<style>{STYLE}</style>"
        yield _text(0, 16, title, "title")
        yield _text(0, 34, meters(self.rollout), "quiet")
        yield from self.axis()
        yield from self.forks()
        for thread in self.threads:
            yield from self.row(thread)
        yield from self.legend()
        yield "</svg>"

    def axis(self) -> Iterator[str]:
        length = self.rollout.seconds
        step = round_step(length, (_WIDTH - _LEFT - _RIGHT) // _MARKS_APART)
        for index in range(int(length / step) + 1 if step else 1):
            x = self.x(index * step)
            yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_HEAD - 4}" y2="{self.bottom}"/>'
            yield _text(x, _HEAD - 10, f"{index * step:g}{' s' if index == 0 else ''}", "quiet", "middle")

    def forks(self) -> Iterator[str]:
        """From each spawn, and back to each join, a line along the children."""
        for thread in self.threads:
            lane = self.rollout.lanes[thread.id]
            for spawn, times in zip(thread.rounds, _pairs(lane.spawns, lane.joins), strict=False):
                children = [self.y(child) for child in spawn.children if child in self.place]
                for time in times if children else ():
                    x = self.x(time)
                    yield (
                        f'<line class="fork" x1="{x:.1f}" x2="{x:.1f}" y1="{self.y(thread.id)}" y2="{max(children)}"/>'
                    )

    def row(self, thread: Thread) -> Iterator[str]:
        lane = self.rollout.lanes[thread.id]
        y = self.y(thread.id)
        yield f'<g class="thread{" chain" if thread.id in self.chain else ""}">'
        yield f"<title>{escape(self.told(thread))}</title>"
        yield from self.name(thread, y + 4)
        for span in lane.until(self.rollout.seconds):
            yield self.bar(span, y)
        for time in lane.spawns:
            yield _triangle(self.x(time), y, 1)
        for time in lane.joins:
            yield _triangle(self.x(time), y, -1)
        yield "</g>"

    def name(self, thread: Thread, y: int) -> Iterator[str]:
        holds = None
        if thread.result is not None:
            verdict = self.shown.judge(thread.prompt_text, thread.result)
            holds = None if verdict is None else verdict.correct
        mark = mark_of(self.rollout.tree, thread, holds)
        tokens = f"{thread.sampled_tokens:,} tok"
        x = 12 * thread.depth
        label = "" if thread.id == MAIN else self.shown.label(thread.prompt_text)
        said = f"{_name(thread):<6} {label}"
        room = int((_LEFT - 12 - x - 16) / _CHARACTER) - len(tokens) - 1
        yield _text(x, y, SIGNS[mark].sign, mark)
        yield _text(x + 16, y, _cut(said, room), "" if thread.id in self.chain else "quiet")
        yield _text(_LEFT - 12, y, tokens, "quiet", "end")

    def bar(self, span: Span, y: int) -> str:
        begin, end, kind = span
        height, x = _BAR[kind], self.x(begin)
        width = max(_SHORTEST, self.x(end) - x)
        return f'<rect class="{kind}" x="{x:.1f}" y="{y - height / 2:g}" width="{width:.1f}" height="{height}"/>'

    def told(self, thread: Thread) -> str:
        """What a thread came to."""
        if thread.result is not None:
            came = f"claims {self.shown.claim(thread.result)}"
        else:
            came = "runs" if thread.reason is None else end_of(thread.reason)
        return f"{_name(thread)}: {one_line(came)}"

    def legend(self) -> Iterator[str]:
        lanes = self.rollout.lanes.values()
        spans = [span for lane in lanes for span in lane.until(self.rollout.seconds)]
        met = {kind for begin, end, kind in spans if (end - begin) * self.scale >= _SEEN}
        x, y = _LEFT, self.bottom + 24
        for words, kind, group in _LEGEND:
            if kind not in met:
                continue
            height = _BAR[kind]
            yield (
                f'<g class="{group}"><rect class="{kind}" x="{x}" y="{y - 4 - height / 2:g}" width="14" '
                f'height="{height}"/></g>'
            )
            yield _text(x + 19, y, words, "quiet")
            x += 19 + int(_CHARACTER * len(words)) + 16
        if any(lane.spawns for lane in lanes):
            yield _triangle(6, y - 4, 1) + _text(16, y, "spawn", "quiet")
            yield _triangle(76, y - 4, -1) + _text(86, y, "join", "quiet")


def _pairs(spawns: tuple[float, ...], joins: tuple[float, ...]) -> Iterator[tuple[float, ...]]:
    """The times of each spawn and, once it is there, of its join."""
    for index, spawn in enumerate(spawns):
        yield (spawn, *joins[index : index + 1])


def _name(thread: Thread) -> str:
    return "main" if thread.id == MAIN else thread.id


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: max(0, most - 1)]}…"


def _text(x: float, y: int, text: str, style: str, anchor: str = "start") -> str:
    placed = f'x="{x:g}" y="{y}"' + ("" if anchor == "start" else f' text-anchor="{anchor}"')
    return f'<text {placed} class="{style}" xml:space="preserve">{escape(text)}</text>'


def _triangle(x: float, y: int, down: int) -> str:
    """A tick that points down (1), to the children, or up (-1)."""
    return f'<path class="tick" d="M{x - 4:.1f} {y - 4 * down}h8l-4 {8 * down}z"/>'
