"""Figures with matplotlib: values in, PNG and SVG files out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from apr.evaluate.comparison import Result, trade_off, within

# Told apart in print and by the colour-blind: colour and marker both.
_STYLES = {"apr": ("APR", "#0072b2", "o"), "sos+": ("SoS+", "#d55e00", "s")}
_AXES = {
    "llama2_total_tokens": "total tokens (mean, Llama-2 equivalents)",
    "llama2_sequential_tokens": "sequential tokens (mean, Llama-2 equivalents)",
    "latency": "latency (mean, seconds)",
}
_CONTEXTS = tuple(range(256, 8192 + 1, 256))


def draw(found: Sequence[Result], directory: Path) -> list[str]:
    """Write all figures to a directory; the names of the SVG files."""
    made = {f"accuracy-{cost.removeprefix('llama2_').replace('_', '-')}": _trade_off(found, cost) for cost in _AXES}
    made["accuracy-context"] = _context(found)
    for name, figure in made.items():
        for suffix in ("svg", "png"):
            # Without the date, the same results give the same file.
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(directory / f"{name}.{suffix}", dpi=150, metadata=metadata)
    return [f"{name}.svg" for name in made]


def _trade_off(found: Sequence[Result], cost: str) -> Figure:
    figure, axes = _axes(_AXES[cost])
    for method, points in trade_off(found, cost).items():
        label, color, marker = _STYLES[method]
        costs, shares = [p.cost for p in points], [p.accuracy for p in points]
        bars = [[p.accuracy - p.low for p in points], [p.high - p.accuracy for p in points]]
        axes.errorbar(costs, shares, yerr=bars, label=label, color=color, marker=marker, capsize=3)
        for point in points:
            axes.annotate(point.label, (point.cost, point.accuracy), textcoords="offset points", xytext=(5, 5))
    return _finish(figure, axes)


def _context(found: Sequence[Result]) -> Figure:
    figure, axes = _axes("context window (Llama-2 equivalents)")
    for method, shares in within(found, "llama2_context", _CONTEXTS).items():
        label, color, _ = _STYLES[method]
        axes.plot(_CONTEXTS, shares, label=label, color=color, drawstyle="steps-post")
    return _finish(figure, axes)


def _axes(cost: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=cost, ylabel="solved", ylim=(0, 1))
    axes.grid(alpha=0.3)
    return figure, axes


def _finish(figure: Figure, axes: Any) -> Figure:
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    return figure
