"""The report as a Markdown page: our figures beside the paper's, and which of its claims hold here, in words."""

from __future__ import annotations

from collections.abc import Sequence

from apr.evaluate.comparison import Claim, Outcome, Result, Standing, diagnostics

NAMES = {"apr": "APR", "sos+": "SoS+"}


def page(found: Sequence[Result], outcomes: Sequence[Outcome], source: str, theirs: str, figures: Sequence[str]) -> str:
    """The whole page; `figures` are file names beside it."""
    parts = [
        "# Evaluation",
        f"The paper's figures are those of {source}, for {theirs}. Intervals are at 95 %: Wilson's for accuracies, the "
        "paired bootstrap over problems for leads. Of each method the most accurate condition within a limit is "
        "taken, on the same problems it is reported on.",
        "## The claims",
        "\n\n".join(verdict(outcome) for outcome in outcomes),
        claims_table(outcomes),
        "## All conditions",
        conditions_table(found),
    ]
    if any(diagnostics(result.rows) for result in found):
        parts += ["## Diagnostics", diagnostics_table(found)]
    if figures:
        parts += ["## Figures", "\n\n".join(f"![{name.removesuffix('.svg')}]({name})" for name in figures)]
    return "\n\n".join(parts) + "\n"


def verdict(outcome: Outcome) -> str:
    """Whether a claim holds here, in words."""
    claim, lead = outcome.claim, outcome.lead
    missing = [NAMES[method] for method in claim.paper if method not in outcome.standings]
    head = f"**{claim.name.capitalize()}** ({_limit(claim)}): "
    if lead is None:
        return f"{head}not shown, for want of a condition of {' and '.join(missing)} within the limit."
    paper = claim.paper["apr"] - claim.paper["sos+"]
    if lead.low > 0:
        held = "holds: APR is ahead" if lead.mean >= paper else "holds in part: APR is ahead, by less than in the paper"
    elif lead.high < 0:
        held = "does not hold: SoS+ is ahead"
    else:
        held = "is open: the interval of the lead holds zero"
    return (
        f"{head}{held}. Lead {_points(lead.mean)} points ({_points(lead.low)} to {_points(lead.high)}, "
        f"{lead.pairs} problems); the paper's is {_points(paper)}."
    )


def claims_table(outcomes: Sequence[Outcome]) -> str:
    rows = [["claim", "method", "ours", "interval", "condition", "paper"]]
    for outcome in outcomes:
        for method, theirs in outcome.claim.paper.items():
            standing = outcome.standings.get(method)
            condition = "-" if standing is None else str(standing.result.condition)
            rows.append([outcome.claim.name, NAMES[method], *standing_cells(standing), condition, f"{theirs:.1%}"])
    return _table(rows)


def standing_cells(standing: Standing | None) -> list[str]:
    """Accuracy and its interval, for a table."""
    return ["-", "-"] if standing is None else _share_cells(standing.accuracy, standing.low, standing.high)


def conditions_table(found: Sequence[Result]) -> str:
    rows = [
        [
            "condition",
            "rollouts",
            "solved",
            "interval",
            "total tokens",
            "sequential",
            "context",
            "threads",
            "latency, s",
            "engine failures",
        ]
    ]
    rows += [
        [str(result.condition), str(len(result.rows)), *figure_cells(result), str(result.failures)] for result in found
    ]
    return _table(rows) + "\n\nTokens are means, in Llama-2 equivalents; latency is that of the run's own concurrency."


def figure_cells(result: Result) -> list[str]:
    """Accuracy, its interval, the three Llama-2 token counts, threads and latency, for a table."""
    figures = result.summary
    return [
        *_share_cells(figures["accuracy"], figures["accuracy_low"], figures["accuracy_high"]),
        *(f"{figures[f'llama2_{name}']:,.0f}" for name in ("total_tokens", "sequential_tokens", "context")),
        f"{figures['threads']:.1f}",
        f"{figures['latency']:.2f}",
    ]


def _share_cells(share: float, low: float, high: float) -> list[str]:
    return [f"{share:.1%}", f"{low:.1%} to {high:.1%}"]


def diagnostics_table(found: Sequence[Result]) -> str:
    told = [(result, diagnostics(result.rows)) for result in found]
    names = sorted({name for _, figures in told for name in figures}, key=lambda name: (name.startswith("lost"), name))
    rows = [["", *(str(result.condition) for result, _ in told)]]
    for name in names:
        form = "{:.1f}" if "1,000" in name else "{:.1%}"
        rows.append([name, *(form.format(figures.get(name, 0.0)) if figures else "-" for _, figures in told)])
    return _table(rows)


def _limit(claim: Claim) -> str:
    bound = f"{claim.limit:,.0f} {claim.unit}"
    return f"each rollout within {bound}" if claim.each else f"{bound} in the mean"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
