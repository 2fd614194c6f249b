"""Figures with matplotlib: values in, PNG and SVG files out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from apr.evaluate.statistics import Share, share
from apr.report.results import NAMES, Line, Result, model_names, names
from apr.report.series import (
    Point,
    efforts,
    losses,
    profiles,
    sequential_limits,
    simulations,
    stages,
    temperatures,
    trade_off,
    within,
)
from apr.report.votes import votes

# Told apart in print and by the colour-blind: colour, marker and dashes.
_COLORS = {"apr": ("#0072b2", "#56b4e9", "#004c78"), "sos+": ("#d55e00", "#e69f00", "#8f3f00")}
_OTHER = ("#555555", "#999999", "#222222")
_MARKERS = {"apr": "o", "sos+": "s"}
_DASHES = ("-", "--", ":")
_PARTS = ("#56b4e9", "#d55e00", "#e69f00", "#cc79a7", "#0072b2", "#f0e442", "#999999", "#444444")
_SOLVED = "#009e73"
# The main thread's time in blues, the slowest child's in oranges.
_TIMES = ("#9ad0ec", "#56b4e9", "#0072b2", "#f6cf8a", "#e69f00", "#d55e00", "#cc79a7", "#444444")
_CONTEXTS = tuple(range(256, 8192 + 1, 256))
_TOKENS = "mean, Llama-2 equivalents"


# What models and rows are called is no formula, whatever signs are in it.
@matplotlib.rc_context({"text.parse_math": False})
def draw(found: Sequence[Result], directory: Path) -> list[str]:
    """Write all figures that these results have to a directory; their names, of `TITLES`."""
    lines = names(result.line for result in found)
    drawn = {
        "accuracy-total-tokens": _total(found, lines),
        "accuracy-context": _context(found, lines),
        "solved-sequential-tokens": _within(
            found,
            "llama2_sequential_tokens",
            sequential_limits(found, 200),
            lines,
            "sequential tokens (Llama-2 equivalents)",
        ),
        "accuracy-sequential-tokens": _trade_off(
            trade_off(found, "llama2_sequential_tokens"), lines, f"sequential tokens ({_TOKENS})"
        ),
        "accuracy-latency": _trade_off(trade_off(found, "latency", alone=True), lines, "latency (mean, seconds)"),
        "accuracy-simulated-latency": _trade_off(_simulated(found), lines, "simulated latency (mean, seconds)"),
        "samples": _samples(found, lines),
        "temperatures": _temperatures(found, lines),
        "models": _models(found),
        "efforts": _efforts(found, lines),
        "losses": _losses(found, lines),
        "profile": _profile(found, lines),
    }
    made = []
    for name, figure in drawn.items():
        if figure is not None:
            _write(figure, directory / name)
            made.append(name)
    return made


def _write(figure: Figure, path: Path) -> None:
    # Without date and random ids the same results give the same file.
    with matplotlib.rc_context({"svg.hashsalt": path.name}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".png"), dpi=150)


def _total(found: Sequence[Result], lines: dict[Line, str]) -> Figure | None:
    figure = _trade_off(trade_off(found, "authors_total_tokens"), lines, f"total tokens ({_TOKENS})", legend=False)
    if figure is None:
        return None
    axes = figure.axes[0]
    for result in _pools(found):
        color = _color(result.line, lines)
        pools = votes(result)
        costs = [pool.n * result.mean("authors_total_tokens") for pool in pools]
        for label, style, shares in (
            ("cons@n", ":", [share(list(pool.majority.values())) for pool in pools]),
            ("pass@n (needs a judge)", "-.", [share(list(pool.any.values())) for pool in pools]),
        ):
            axes.plot(costs, [one.mean for one in shares], style, color=color, label=f"{lines[result.line]} {label}")
    axes.autoscale(axis="x")
    axes.set_xlim(left=0)
    axes.legend(fontsize="small")
    return figure


def _context(found: Sequence[Result], lines: dict[Line, str]) -> Figure | None:
    figure = _within(found, "llama2_context", _CONTEXTS, lines, "context window (Llama-2 equivalents)")
    if figure is not None:
        figure.axes[0].axvline(4096, color="#777777", linewidth=0.8, linestyle=":")
    return figure


def _within(
    found: Sequence[Result], cost: str, limits: Sequence[float], lines: dict[Line, str], label: str
) -> Figure | None:
    figure, axes = _axes(label)
    for line, shares in within(found, cost, limits).items():
        style = {"color": _color(line, lines), "drawstyle": "steps-post"}
        axes.plot(limits, [one.mean for one in shares], label=lines[line], linestyle=_dashes(line, lines), **style)
        lows, highs = [one.low for one in shares], [one.high for one in shares]
        axes.fill_between(limits, lows, highs, step="post", color=_color(line, lines), alpha=0.15, linewidth=0)
    axes.set_xlim(0, limits[-1])
    return _finish(figure, axes)


def _simulated(found: Sequence[Result]) -> dict[Line, list[Point]]:
    points: dict[Line, list[Point]] = {}
    for one in simulations(found):
        point = Point(one.result.budget, one.seconds[None], one.result.accuracy)
        points.setdefault(one.result.line, []).append(point)
    return {line: sorted(some, key=lambda point: point.cost) for line, some in points.items()}


def _trade_off(
    points: dict[Line, list[Point]], lines: dict[Line, str], cost: str, *, legend: bool = True
) -> Figure | None:
    if not points:
        return None
    figure, axes = _axes(cost)
    for line, some in points.items():
        style = {
            "marker": _MARKERS.get(line.method, "^"),
            "markersize": 5,
            "linestyle": _dashes(line, lines),
            "linewidth": 1,
        }
        costs, shares = [point.cost for point in some], [point.accuracy for point in some]
        _bars(axes, costs, shares, label=lines[line], color=_color(line, lines), **style)
        for place, point in enumerate(some):
            at, beside = (point.cost, point.accuracy.mean), (4, 4 if place % 2 == 0 else -10)
            axes.annotate(point.label, at, textcoords="offset points", xytext=beside, fontsize=7, color="#444444")
    axes.set_xlim(left=0)
    return _finish(figure, axes, legend=legend)


def _samples(found: Sequence[Result], lines: dict[Line, str]) -> Figure | None:
    pools = _pools(found)
    if not pools:
        return None
    figure, axes = _axes("samples n")
    for result in pools:
        color = _color(result.line, lines)
        made = votes(result)
        ns = [pool.n for pool in made]
        label = f"{lines[result.line]} budget {result.budget}, temperature {result.condition.temperature:g}:"
        majority = [share(list(pool.majority.values())) for pool in made]
        solved = [share(list(pool.any.values())) for pool in made]
        _bars(axes, ns, majority, label=f"{label} cons@n", color=color, marker="s", markersize=5, linestyle="-")
        # A little aside, so that the bars do not hide each other.
        _bars(
            axes,
            [n + 0.06 for n in ns],
            solved,
            label=f"{label} pass@n",
            color=color,
            marker="s",
            markersize=5,
            linestyle=":",
        )
        axes.set_xticks(ns)
    return _finish(figure, axes)


def _temperatures(found: Sequence[Result], lines: dict[Line, str]) -> Figure | None:
    rows = temperatures(found)
    if not rows:
        return None
    figure, axes = _axes("temperature")
    for place, row in enumerate(rows):
        style = {"marker": _MARKERS.get(row.line.method, "^"), "markersize": 5, "linestyle": _dashes(row.line, lines)}
        label = f"{lines[row.line]} budget {row.budget}"
        # A little aside, so that the bars do not hide each other.
        places = [heat + 0.006 * place for heat in row.accuracy]
        _bars(axes, places, list(row.accuracy.values()), label=label, color=_color(row.line, lines), **style)
    return _finish(figure, axes)


def _models(found: Sequence[Result]) -> Figure | None:
    rows = stages(found)
    if not rows:
        return None
    figure = Figure(figsize=(8, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    groups = list(dict.fromkeys((row.result.line.method, row.result.budget) for row in rows))
    models = {
        method: list(dict.fromkeys(row.result.line for row in rows if row.result.line.method == method))
        for method, _ in groups
    }
    called = model_names(row.result.line for row in rows)
    most = max(map(len, models.values()))
    width = 0.8 / most
    for row in rows:
        line = row.result.line
        place = models[line.method].index(line)
        at = groups.index((line.method, row.result.budget)) + (place - (len(models[line.method]) - 1) / 2) * width
        one, color = row.result.accuracy, _PARTS[place % len(_PARTS)]
        bars = [[one.mean - one.low], [one.high - one.mean]]
        panels[0].bar(at, one.mean, width * 0.95, yerr=bars, capsize=3, color=color)
        panels[1].bar(at, row.result.mean("authors_total_tokens"), width * 0.95, color=color)
    ticks = [f"{NAMES[method]}\n{budget if budget == 'free' else f'budget {budget}'}" for method, budget in groups]
    for axes, title in zip(panels, ("solved", f"total tokens\n({_TOKENS})"), strict=True):
        axes.set_xticks(range(len(groups)), ticks)
        axes.set_ylabel(title)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylim(0, 1)
    _percent(panels[0].yaxis)
    for place in range(most):
        label = ", ".join(called[own[place]] for own in models.values() if place < len(own))
        panels[0].bar(0, 0, color=_PARTS[place % len(_PARTS)], label=label)
    panels[0].legend(fontsize="small")
    return figure


def _efforts(found: Sequence[Result], lines: dict[Line, str]) -> Figure | None:
    made = efforts(found)
    if not made:
        return None
    figure = Figure(figsize=(8, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    kinds = {effort.kind: effort.problems for one in made for effort in one.model}
    places = {kind: place for place, kind in enumerate(kinds)}
    for one in made:
        style = {"color": _color(one.line, lines), "markersize": 5, "linewidth": 1}
        taught = {**style, "color": "#777777", "linestyle": ":"}
        for some, look, name in ((one.model, style, lines[one.line]), (one.teacher, taught, "its teacher")):
            at = [places[effort.kind] for effort in some]
            panels[0].plot(at, [effort.children for effort in some], marker="o", label=name, **look)
            panels[1].plot(at, [effort.rounds for effort in some], marker="o", label=name, **look)
    for axes, title in zip(panels, ("children (mean)", "rounds (mean)"), strict=True):
        axes.set_xticks(range(len(kinds)), [f"{kind}\n{count}" for kind, count in kinds.items()], fontsize="small")
        axes.set(xlabel="kind of problem, and how many there are", ylabel=title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    return figure


def _losses(found: Sequence[Result], lines: dict[Line, str]) -> Figure | None:
    chosen = [result for result in found if not result.alone] or list(found)
    causes = list(dict.fromkeys(cause for result in chosen for cause in losses(result.rows)))
    shares = []
    for result in chosen:
        lost = losses(result.rows)
        solved = sum(bool(row["correct"]) for row in result.rows) / len(result.rows)
        shares.append([solved, *(lost.get(cause, 0.0) for cause in causes)])
    parts = {"solved": _SOLVED}
    parts |= {f"lost: {cause.replace('_', ' ')}": color for cause, color in zip(causes, _PARTS, strict=False)}
    figure, axes = _stacked([_label(result, lines) for result in chosen], parts, shares, "share of rollouts")
    axes.set_xlim(0, 1)
    _percent(axes.xaxis)
    return figure


def _profile(found: Sequence[Result], lines: dict[Line, str]) -> Figure | None:
    rows = profiles(found)
    if not rows:
        return None
    shares = []
    for _, one in rows:
        rest = one.waiting - one.waiting_queue - one.waiting_prefill - one.waiting_decode
        waiting = [one.waiting_queue, one.waiting_prefill, one.waiting_decode, max(0.0, rest)]
        shares.append([one.queue, one.prefill, one.decode, *waiting, one.other])
    children = [f"at joins: slowest child's {part}" for part in ("queue", "prefill", "decode")]
    parts = dict(zip(("queue", "prefill", "decode", *children, "at joins: else", "between calls"), _TIMES, strict=True))
    figure, _ = _stacked([_label(result, lines) for result, _ in rows], parts, shares, "seconds (mean)")
    return figure


def _stacked(
    labels: Sequence[str], parts: dict[str, str], values: Sequence[Sequence[float]], title: str
) -> tuple[Figure, Any]:
    """One bar for each label, cut in parts, which have a name and a colour."""
    figure = Figure(figsize=(8, 1.6 + 0.28 * len(labels)), layout="constrained")
    axes = figure.add_subplot()
    left = [0.0] * len(labels)
    for place, (part, color) in enumerate(parts.items()):
        widths = [value[place] for value in values]
        axes.barh(range(len(labels)), widths, left=left, label=part, color=color, height=0.7)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(labels)), labels, fontsize="small")
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel(title)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize="small")
    return figure, axes


def _pools(found: Sequence[Result]) -> list[Result]:
    return [result for result in found if result.condition.samples > 1 and not result.alone]


def _label(result: Result, lines: dict[Line, str]) -> str:
    temperature = "" if result.greedy else f", temperature {result.condition.temperature:g}"
    return f"{lines[result.line]} {result.budget}{temperature}"


def _color(line: Line, lines: Iterable[Line]) -> str:
    own = [other for other in lines if other.method == line.method]
    colors = _COLORS.get(line.method, _OTHER)
    return colors[own.index(line) % len(colors)]


def _dashes(line: Line, lines: Iterable[Line]) -> str:
    own = [other for other in lines if other.method == line.method]
    return _DASHES[own.index(line) % len(_DASHES)]


def _bars(axes: Any, places: Sequence[float], shares: Sequence[Share], **style: Any) -> None:
    bars = [[one.mean - one.low for one in shares], [one.high - one.mean for one in shares]]
    axes.errorbar(places, [one.mean for one in shares], yerr=bars, capsize=2, elinewidth=0.8, **style)


def _axes(cost: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    # A margin, so that nothing at an end is cut.
    axes.set(xlabel=cost, ylabel="solved", ylim=(-0.03, 1.03), yticks=[share / 5 for share in range(6)])
    axes.grid(alpha=0.3)
    return figure, axes


def _percent(axis: Any) -> None:
    axis.set_major_formatter(lambda part, _: f"{part:.0%}")


def _finish(figure: Figure, axes: Any, *, legend: bool = True) -> Figure:
    _percent(axes.yaxis)
    if legend:
        axes.legend(fontsize="small")
    return figure
