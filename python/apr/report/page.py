"""The report as a Markdown page: our figures beside the paper's, and which of its claims hold here, in words.

Nothing is left out in silence: tables and figures that the results do not have are named, and so are conditions that
lack rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apr.evaluate.statistics import FEW
from apr.report import tables
from apr.report.claims import OURS, RIVAL, Claim, Match, Outcome, Paper, matched
from apr.report.results import NAMES, Evaluations, Line, model_names, names
from apr.report.series import TITLES
from apr.report.tables import Table, amount, points


@dataclass(frozen=True, slots=True)
class Part:
    """A section: tables with a sentence before each, and figures beside them."""

    title: str
    tables: tuple[tuple[str, Table], ...]
    figures: tuple[str, ...] = ()
    """Names, of `TITLES`."""
    needs: str = ""
    """What is missing when there are no tables."""


_COUNTED = (
    "Tokens are means, in Llama-2 equivalents; total tokens are counted as the authors' code does, all sequences with "
    "their prompts, sequential tokens are those sampled on the longest chain of dependent threads. Intervals are at "
    "95 %: Wilson's for accuracies of one sample a problem, else the bootstrap's over problems; the paired bootstrap "
    f"for leads; and of fewer than {FEW} problems, and where all came out alike, exact ones (Clopper and Pearson's). "
    "Of each method the most accurate condition within a limit is taken, on the same problems it is reported on."
)


def page(evaluations: Evaluations, paper: Paper, figures: Sequence[str]) -> str:
    """The whole page; `figures` are those drawn beside it, by name."""
    outcomes = paper.outcomes(evaluations)
    lines = names(result.line for result in evaluations.results)
    texts = [
        "# Evaluation",
        _setting(evaluations),
        (f"The paper's figures are those of {paper.source}, for {paper.model}. " if outcomes else "") + _COUNTED,
    ]
    if outcomes:
        verdicts = "\n".join(f"- {verdict(outcome, evaluations)}" for outcome in outcomes)
        texts += ["## The claims", verdicts, markdown(tables.claims_table(outcomes, lines))]
    missing = [f"condition {condition}" for condition in evaluations.unfinished]
    for part in _parts(evaluations):
        shown = [(words, table) for words, table in part.tables if table]
        if not shown:
            missing.append(f"{part.title.lower()}: {part.needs}")
            continue
        texts.append(f"## {part.title}")
        for words, table in shown:
            texts += [words, markdown(table)] if words else [markdown(table)]
        texts += [f"![{TITLES[name]}]({name}.svg)\n\n*{TITLES[name]}.*" for name in part.figures if name in figures]
    wanted = [name for name in TITLES if name not in figures]
    missing += [f"the figure `{name}`: {TITLES[name]}" for name in wanted]
    texts.append("## What is missing")
    texts.append(
        "\n".join(f"- {what}" for what in missing) or "Nothing: each condition ran whole, each figure is drawn."
    )
    return "\n\n".join(texts) + "\n"


def verdict(outcome: Outcome, evaluations: Evaluations) -> str:
    """Whether a claim holds here, in words."""
    claim, lead = outcome.claim, outcome.lead
    head = f"**{claim.name.capitalize()}** ({_limit(claim)}): "
    missing = [NAMES[method] for method in claim.paper if method not in outcome.standings]
    if missing:
        how = " that ran one problem at a time" if claim.alone else ""
        return f"{head}not shown, for want of a condition of {' and '.join(missing)} within the limit{how}."
    if lead is None:
        return f"{head}not shown: the methods have no problem in common."
    theirs = claim.paper[OURS] - claim.paper[RIVAL]
    if lead.pairs < FEW:
        held = f"is open: {lead.pairs} problems are too few to tell, {FEW} are the least"
    elif lead.low > 0:
        held = (
            "holds: APR is ahead" if lead.mean >= theirs else "holds in part: APR is ahead, by less than in the paper"
        )
    elif lead.high < 0:
        held = "does not hold: SoS+ is ahead"
    else:
        held = "is open: the interval of the lead holds zero"
    sizes = {f"{_size(evaluations, standing.line)}" for standing in outcome.standings.values()}
    said = (
        f"{head}{held}, for models of {' and '.join(sorted(sizes))}. Lead {points(lead.mean)} points "
        f"({points(lead.low)} to {points(lead.high)}, {lead.pairs} problems); the paper's is {points(theirs)}."
    )
    return said if claim.each else f"{said} {_at_equal_cost(outcome, evaluations)}"


def _at_equal_cost(outcome: Outcome, evaluations: Evaluations) -> str:
    """The same question where the rival may spend no more than APR did, whatever the paper's limit."""
    claim, ours = outcome.claim, outcome.standings[OURS]
    matches = matched(evaluations.results, claim.cost, alone=claim.alone)
    match: Match | None = next((one for one in matches if one.ours == ours), None)
    cost = f"APR's own {amount(ours.cost)} {claim.unit}"
    if match is None or match.rival is None or match.lead is None:
        return f"No condition of SoS+ costs as little as {cost}."
    low, high = points(match.lead.low), points(match.lead.high)
    return f"Where SoS+ may spend no more than {cost}, the lead is {points(match.lead.mean)} ({low} to {high})."


def _parts(evaluations: Evaluations) -> list[Part]:
    found = evaluations.results
    lines = names(result.line for result in found)
    return [
        Part(
            "Matched budgets",
            (
                (
                    "Each condition of APR beside the most accurate use of SoS+ that costs no more, the majority of "
                    "several samples (cons@n) included. By total tokens:",
                    tables.matches_table(matched(found, "authors_total_tokens"), lines, "tokens"),
                ),
                (
                    "By sequential tokens:",
                    tables.matches_table(matched(found, "llama2_sequential_tokens"), lines, "tokens"),
                ),
                (
                    "By latency, one problem at a time:",
                    tables.matches_table(matched(found, "latency", alone=True), lines, "seconds"),
                ),
            ),
            needs="a condition of APR",
        ),
        Part(
            "Tokens and context",
            (
                (
                    "Share of rollouts solved within a context window; only rollouts that fit count, and of each line "
                    "the best condition at its lowest temperature is taken:",
                    tables.windows_table(found, lines),
                ),
                (
                    "Share of rollouts solved within so many sequential tokens, likewise:",
                    tables.sequential_table(found, lines),
                ),
            ),
            (
                *("accuracy-total-tokens", "accuracy-context"),
                *("accuracy-sequential-tokens", "solved-sequential-tokens"),
            ),
        ),
        Part(
            "Many samples",
            (
                (
                    "cons@n: the majority of the solutions that n samples found is right; solutions that differ in the "
                    "order of operations alone are one vote. pass@n: one of n is right, which only a judge could tell.",
                    tables.samples_table(found, lines),
                ),
            ),
            ("samples",),
            "a condition with several samples a problem",
        ),
        Part(
            "Temperatures",
            (("", tables.temperatures_table(found, lines)),),
            ("temperatures",),
            "a budget at two temperatures",
        ),
        Part(
            "Latency",
            (
                (
                    "Measured, one problem at a time: where the wall time of a rollout went, along its critical path.",
                    tables.profiles_table(found, lines),
                ),
                (
                    "Simulated, for more processors than there are: the mean time of the rollouts' tokens when each "
                    "processor decodes one thread at a time, at the speed measured for a thread alone.",
                    tables.simulations_table(found, lines),
                ),
            ),
            ("accuracy-latency", "accuracy-simulated-latency", "profile"),
            "a condition that ran one problem at a time, on an engine that tells where its time went",
        ),
        Part(
            "Several models of a method",
            (
                (
                    "Models of one method, free and with an enforced budget:",
                    tables.models_table(found),
                ),
            ),
            ("models",),
            "two checkpoints of one method, such as before and after reinforcement learning (figures 5 and 7)",
        ),
        Part(
            "Diagnostics",
            (
                ("What the exact solver tells of the threads:", tables.diagnostics_table(found, lines)),
                ("What lost the problems:", tables.losses_table(found, lines)),
            ),
            ("losses",),
        ),
        Part(
            "Distance to the teacher",
            (
                (
                    "The teacher searches as wide as the model's main thread did, and spawns where it spawned.",
                    tables.distances_table(found, lines),
                ),
            ),
            needs="a protocol with a `teacher` table",
        ),
        Part(
            "Effort",
            (("What is spawned at free choice, by the kind of problem:", tables.efforts_table(found, lines)),),
            ("efforts",),
            "a condition of free choice, on a task that sorts its problems",
        ),
        Part(
            "All conditions",
            (
                (
                    "Latency is that of so many rollouts at once; only one at once compares with the paper's.",
                    tables.conditions_table(found, lines),
                ),
            ),
        ),
    ]


def _setting(evaluations: Evaluations) -> str:
    models = dict.fromkeys(result.line for result in evaluations.results)
    called = model_names(models)
    told = [f"{NAMES[line.method]} is `{called[line]}` ({_size(evaluations, line)})" for line in models]
    machines = "; ".join(evaluations.machines) or "a machine that was not noted"
    return f"{', '.join(told)}. Engine: {', '.join(evaluations.engines)}, on {machines}."


def _size(evaluations: Evaluations, line: Line) -> str:
    count = evaluations.parameters.get(line)
    return "unknown size" if count is None else f"{count / 1e6:,.2f}M parameters"


def _limit(claim: Claim) -> str:
    bound = f"{claim.limit:,.0f} {claim.unit}"
    return f"each rollout within {bound}" if claim.each else f"{bound} in the mean"


def markdown(table: Table) -> str:
    """A table as Markdown."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])
