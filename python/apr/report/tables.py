"""The tables of a report: rows of cells, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from apr.evaluate.schedule import WORKERS
from apr.evaluate.statistics import Difference, Share, share
from apr.report.claims import Candidate, Match, Outcome
from apr.report.results import NAMES, Line, Result, at_pace, model_names
from apr.report.series import (
    diagnostics,
    distances,
    efforts,
    losses,
    profiles,
    sequential_limits,
    simulations,
    stages,
    temperatures,
    within,
)
from apr.report.votes import votes

Table = list[list[str]]
"""A head, then rows; empty if there is nothing to show."""
Names = dict[Line, str]

NOTHING = "-"
COSTS = ("authors_total_tokens", "llama2_sequential_tokens", "llama2_context")
_WINDOWS = (512, 1024, 2048, 3072, 4096, 6144, 8192)


def claims_table(outcomes: Sequence[Outcome], names: Names) -> Table:
    if not outcomes:
        return []
    rows = [["claim", "method", "ours", "interval", "with", "cost", "paper"]]
    for outcome in outcomes:
        for method, theirs in outcome.claim.paper.items():
            standing = outcome.standings.get(method)
            told = [NOTHING] * 4 if standing is None else _standing(standing, names)
            rows.append([outcome.claim.name, NAMES[method], *told, f"{theirs:.1%}"])
    return rows


def _standing(standing: Candidate, names: Names) -> list[str]:
    return [*cells(standing.accuracy), f"{names[standing.line]} {standing.label}", amount(standing.cost)]


def matches_table(matches: Sequence[Match], names: Names, unit: str) -> Table:
    if not matches:
        return []
    rows = [["APR", f"{unit}", "solved", "SoS+ that costs no more", f"{unit}", "solved", "lead, points", "interval"]]
    for match in matches:
        ours, rival = match.ours, match.rival
        told = [f"{names[ours.line]} {ours.label}", amount(ours.cost), f"{ours.accuracy.mean:.1%}"]
        theirs = [NOTHING] * 3
        if rival is not None:
            theirs = [f"{names[rival.line]} {rival.label}", amount(rival.cost), f"{rival.accuracy.mean:.1%}"]
        rows.append([*told, *theirs, *lead_cells(match.lead)])
    return rows


def conditions_table(found: Sequence[Result], names: Names) -> Table:
    head = ["method", "budget", "temperature", "at once", "problems", "samples", "solved", "interval"]
    head += ["total tokens", "sequential", "context", "threads", "spawns", "depth", "cached", "latency, s"]
    rows = [[*head, "sampled", "sampled, own tokens", "engine failures"]]
    for result in found:
        figures = result.summary
        accuracy = result.accuracy
        rows.append(
            [
                names[result.line],
                result.budget,
                f"{result.condition.temperature:g}",
                f"{result.concurrency}{', warm cache' * result.warm}",
                str(accuracy.problems),
                str(result.condition.samples),
                *cells(accuracy),
                *(f"{figures[name]:,.0f}" for name in COSTS),
                *(f"{figures[name]:.1f}" for name in ("threads", "rounds", "depth")),
                f"{figures['cached_share']:.0%}",
                f"{figures['latency']:.2f}",
                f"{figures['llama2_total_tokens']:,.0f}",
                f"{figures['total_tokens']:,.0f}",
                str(result.failures),
            ]
        )
    return rows


def brief_table(found: Sequence[Result], names: Names) -> Table:
    """The conditions in as many columns as a terminal has."""
    rows = [["method", "budget", "T", "at once", "solved", "total", "sequential", "context", "seconds"]]
    for result in found:
        accuracy = result.accuracy
        tokens = [f"{result.mean(name):,.0f}" for name in COSTS]
        where = [names[result.line], result.budget, f"{result.condition.temperature:g}", str(result.concurrency)]
        solved = f"{accuracy.mean:.1%} ({100 * accuracy.low:.0f}-{100 * accuracy.high:.0f})"
        rows.append([*where, solved, *tokens, f"{result.mean('latency'):.2f}"])
    return rows


def windows_table(found: Sequence[Result], names: Names) -> Table:
    return _within_table(found, names, "a context of", "llama2_context", _WINDOWS)


def sequential_table(found: Sequence[Result], names: Names) -> Table:
    limits = sequential_limits(found, 6)
    return _within_table(found, names, "sequential tokens of", "llama2_sequential_tokens", limits)


def _within_table(found: Sequence[Result], names: Names, what: str, cost: str, limits: Sequence[float]) -> Table:
    rows = [[f"solved within {what}", *(f"{limit:,.0f}" for limit in limits)]]
    for line, shares in within(found, cost, limits).items():
        rows.append([names[line], *(f"{one.mean:.1%} ({_span(one)})" for one in shares)])
    return rows


def samples_table(found: Sequence[Result], names: Names) -> Table:
    rows: Table = []
    for result in found:
        if result.condition.samples > 1:
            pools = votes(result)
            many = [share(list(pool.majority.values())) for pool in pools]
            some = [share(list(pool.any.values())) for pool in pools]
            label = f"{names[result.line]} budget {result.budget}, temperature {result.condition.temperature:g}"
            for pool, majority, solved in zip(pools, many, some, strict=True):
                tokens = f"{pool.n * result.mean('authors_total_tokens'):,.0f}"
                rows.append([label, str(pool.n), *cells(majority), *cells(solved), tokens, str(majority.problems)])
    head = ["samples of", "n", "cons@n", "interval", "pass@n", "interval", "total tokens", "problems"]
    return [head, *rows] if rows else []


def temperatures_table(found: Sequence[Result], names: Names) -> Table:
    rows = temperatures(found)
    heats = sorted({heat for row in rows for heat in row.accuracy})
    table = [["temperature", *("greedy" if heat == 0 else f"{heat:g}" for heat in heats)]]
    for row in rows:
        told = [row.accuracy.get(heat) for heat in heats]
        shown = [NOTHING if one is None else f"{one.mean:.1%} ({_span(one)})" for one in told]
        table.append([f"{names[row.line]} budget {row.budget}", *shown])
    return table if rows else []


def models_table(found: Sequence[Result]) -> Table:
    rows = [["method", "budget", "model", "solved", "interval", "children", "total tokens", "sequential", "context"]]
    models = model_names(result.line for result in found)
    for row in stages(found):
        result = row.result
        costs = [result.mean(name) for name in COSTS]
        where = [NAMES[result.line.method], f"{result.budget}{' (enforced)' * row.enforced}", models[result.line]]
        rows.append([*where, *cells(result.accuracy), f"{row.children:.1f}", *(f"{cost:,.0f}" for cost in costs)])
    return rows if len(rows) > 1 else []


def simulations_table(found: Sequence[Result], names: Names) -> Table:
    measured = {(r.line, r.budget): r.mean("latency") for r in found if r.alone and r.greedy}
    head = ["simulated", "a token, ms", *(f"{workers} processors" for workers in WORKERS), "one a thread"]
    rows = [[*head, "measured here, s"]]
    for one in simulations(found):
        seconds = [f"{one.seconds[workers]:.2f}" for workers in (*WORKERS, None)]
        known = measured.get((one.result.line, one.result.budget))
        label = f"{names[one.result.line]} budget {one.result.budget}"
        last = NOTHING if known is None else f"{known:.2f}"
        rows.append([label, f"{1000 * one.per_token:.3f}", *seconds, last])
    return rows if len(rows) > 1 else []


def profiles_table(found: Sequence[Result], names: Names) -> Table:
    head = ["one problem at a time", "latency, s", "queue", "prefill", "decode", "waiting at joins", "between calls"]
    rows = [[*head, "of the waiting: queue", "prefill", "decode"]]
    for result, one in profiles(found):
        whole = one.queue + one.prefill + one.decode + one.waiting + one.other
        parts = [one.queue, one.prefill, one.decode, one.waiting, one.other]
        slowest = [one.waiting_queue, one.waiting_prefill, one.waiting_decode]
        label = f"{names[result.line]} budget {result.budget}"
        rows.append([label, f"{whole:.2f}", *_parts(parts, whole), *_parts(slowest, one.waiting)])
    return rows if len(rows) > 1 else []


def diagnostics_table(found: Sequence[Result], names: Names) -> Table:
    told = [(result, diagnostics(result.rows)) for result in at_pace(found, alone=False)]
    rows = [["", *told[0][1]]]
    for result, figures in told:
        shown = [
            NOTHING if value is None else f"{value:.1f}" if "1,000" in name else f"{value:.1%}"
            for name, value in figures.items()
        ]
        rows.append([_label(result, names), *shown])
    return rows


def losses_table(found: Sequence[Result], names: Names) -> Table:
    told = [(result, losses(result.rows)) for result in at_pace(found, alone=False)]
    causes = sorted({cause for _, lost in told for cause in lost})
    rows = [["lost to", *(cause.replace("_", " ") for cause in causes)]]
    for result, lost in told:
        rows.append([_label(result, names), *(f"{lost.get(cause, 0.0):.1%}" for cause in causes)])
    return rows if causes else []


def distances_table(found: Sequence[Result], names: Names) -> Table:
    head = ["", "the teacher, as wide", "interval", "the model", "interval", "of the teacher's the model solves"]
    rows = [head]
    for one in distances(found):
        kept = NOTHING if one.kept is None else f"{one.kept.mean:.1%} ({_span(one.kept)})"
        rows.append([_label(one.result, names), *cells(one.teacher), *cells(one.result.accuracy), kept])
    return rows if len(rows) > 1 else []


def efforts_table(found: Sequence[Result], names: Names) -> Table:
    head = ["", "kind of problem", "problems", "children", "the teacher's", "rounds", "the teacher's"]
    rows = [head]
    for one in efforts(found):
        taught = {effort.kind: (f"{effort.children:.1f}", f"{effort.rounds:.2f}") for effort in one.teacher}
        for effort in one.model:
            children, rounds = taught.get(effort.kind, (NOTHING, NOTHING))
            own = f"{effort.children:.1f}", f"{effort.rounds:.2f}"
            rows.append([names[one.line], effort.kind, str(effort.problems), own[0], children, own[1], rounds])
    return rows if len(rows) > 1 else []


def cells(one: Share) -> list[str]:
    """A share and its interval."""
    return [f"{one.mean:.1%}", _span(one)]


def lead_cells(lead: Difference | None) -> list[str]:
    """A lead in points and its interval."""
    return [NOTHING, NOTHING] if lead is None else [points(lead.mean), f"{points(lead.low)} to {points(lead.high)}"]


def points(part: float) -> str:
    """A difference of shares in points."""
    return f"{100 * part:+.1f}"


def amount(cost: float) -> str:
    """A cost in few digits."""
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.2f}"


def _span(one: Share) -> str:
    return f"{100 * one.low:.1f} to {100 * one.high:.1f}"


def _parts(values: Iterable[float], whole: float) -> list[str]:
    return [f"{value / whole:.1%}" if whole else NOTHING for value in values]


def _label(result: Result, names: Names) -> str:
    return f"{names[result.line]} {result.label}"
