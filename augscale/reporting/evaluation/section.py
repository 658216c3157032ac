"""The evaluation's part of a report: headline, tables, figures, and the disagreements of protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from augscale.records.evaluation import Comparison, Disagreement, EvaluationSummary, Side
from augscale.records.metrics import EVALUATION_METRICS
from augscale.reporting.evaluation import figures
from augscale.reporting.evaluation.table_formats import to_html
from augscale.reporting.evaluation.tables import (
    EXTRA_METRICS,
    PAPER_METRICS,
    external_matrix,
    external_table,
    internal_table,
    per_class_table,
    protocols_table,
    slug,
)
from augscale.reporting.evaluation.terminal import evaluation_screen
from augscale.reporting.shared.page import figure
from augscale.reporting.shared.screen_page import screen_html
from augscale.reporting.shared.style import Colors, Plot
from augscale.reporting.shared.templates import render
from augscale.reporting.shared.wording import interval, number, signed

CURVE_PROTOCOLS = ("finetune", "linear", "released", "knn")
"""Curves and calibration are drawn for the first of these that ran, otherwise for the first protocol."""
MOST_DISAGREEMENTS = 30
LINKS = {
    "evaluation": "Evaluation",
    "internal": "Internal",
    "external": "External",
    "disagreements": "Where protocols disagree",
    "curves": "Curves",
    "calibration": "Calibration",
}
"""Short title of every section, by its anchor."""

Cells = list[tuple[str, str]]
"""The cells of a row: text and small text of each."""


@dataclass(frozen=True, kw_only=True)
class ProtocolTables:
    """The tables of one protocol."""

    protocol: str
    main: Markup
    details: dict[str, Markup]
    """The table of each fold by its title."""
    comparisons: list[Cells]


def evaluation_sections(
    summary: EvaluationSummary, drawings: dict[str, str], *, best: str | None = None, titled: bool = True
) -> tuple[list[tuple[str, str]], Markup]:
    """Links and HTML of all sections; without results, one section that says so.

    Args:
        drawings: each plot's JSON is added here by element id, as `page.shell` takes it.
        best: the checkpoint to draw in the color of the best; None takes the one called `best`, if any.
        titled: begin with a heading and the headline; False if the page's header has them.
    """
    if not summary.cells:
        return [("evaluation", LINKS["evaluation"])], render("evaluation/nothing.html", notes=summary.notes)
    colors = Colors(best or ("best" if "best" in summary.checkpoints else None), summary.checkpoints)
    detailed = next((p for p in CURVE_PROTOCOLS if p in summary.protocols), summary.protocols[0])
    sections: dict[str, dict[str, Any]] = {
        "evaluation": _overview(summary, titled=titled),
        "internal": _internal(summary, colors, drawings),
        "external": _external(summary),
        "disagreements": _disagreements(summary),
        "curves": _curves(summary, detailed, colors, drawings),
        "calibration": _calibration(summary, detailed, colors, drawings),
    }
    html = render("evaluation/sections.html", **sections, covered=summary.covered[:1].upper() + summary.covered[1:])
    return [(anchor, LINKS[anchor]) for anchor, values in sections.items() if values], html


def _overview(summary: EvaluationSummary, *, titled: bool) -> dict[str, Any]:
    counts = [
        _count(len(summary.checkpoints), "checkpoint"),
        f"{_count(len(summary.protocols), 'protocol')} ({', '.join(summary.protocols)})",
        _count(len(summary.datasets), "dataset"),
        _count(len(summary.pairs), "external pair"),
        _count(sum(len(cell.seeds) for cell in summary.cells), "run"),
    ]
    table = protocols_table(summary)
    screen = evaluation_screen(summary, Path())
    return {
        "titled": titled,
        "headline": screen.headline,
        "opening": screen_html(screen),
        "counts": ", ".join(counts),
        "tallies": [_tally(summary, *pair) for pair in dict.fromkeys((c.first, c.second) for c in summary.comparisons)],
        "table": to_html(table) if table.rows else "",
        "meanings": [(info.label, info.explanation) for info in EVALUATION_METRICS.values()],
    }


def _internal(summary: EvaluationSummary, colors: Colors, drawings: dict[str, str]) -> dict[str, Any]:
    tables = _protocol_tables(summary, internal=True)
    drawn = {
        metric: _drawn(f"internal-{slug(metric)}", EVALUATION_METRICS[metric].label, plot, drawings)
        for metric in PAPER_METRICS
        if tables and (plot := figures.internal(summary, colors, metric)) is not None
    }
    return {"tables": tables, "plots": list(drawn.values())} if tables else {}


def _external(summary: EvaluationSummary) -> dict[str, Any]:
    tables = _protocol_tables(summary, internal=False)
    return {"tables": tables} if tables else {}


def _protocol_tables(summary: EvaluationSummary, *, internal: bool) -> list[ProtocolTables]:
    """The tables of each protocol that has results; only the first table has a caption."""
    found: list[ProtocolTables] = []
    for protocol in summary.protocols:
        table = (internal_table if internal else external_table)(summary, protocol)
        if not table.rows:
            continue
        details = {"As a matrix": external_matrix(summary, protocol)}
        if internal:
            more = internal_table(summary, protocol, EXTRA_METRICS, name="further-metrics")
            details = {"Further metrics": more, "Each class": per_class_table(summary, protocol)}
        found.append(
            ProtocolTables(
                protocol=protocol,
                main=to_html(table, caption=not found),
                details={title: to_html(detail) for title, detail in details.items()},
                comparisons=_comparisons(summary, protocol, internal=internal),
            )
        )
    return found


def _disagreements(summary: EvaluationSummary) -> dict[str, Any]:
    if len(summary.protocols) < 2 or len(summary.checkpoints) < 2:
        return {}
    found = [d for d in summary.disagreements if d.metric in PAPER_METRICS]
    asked = [c for c in summary.comparisons if c.metric in PAPER_METRICS]
    return {
        "count": len(found),
        "clear": sum(d.clear for d in found),
        "questions": len({(c.trained_on, c.tested_on, c.metric, c.first, c.second) for c in asked}),
        "rows": [_disagreement_row(d) for d in found[:MOST_DISAGREEMENTS]],
    }


def _curves(summary: EvaluationSummary, protocol: str, colors: Colors, drawings: dict[str, str]) -> dict[str, Any]:
    plots = []
    for index, dataset in enumerate(summary.datasets):
        for kind, draw in (("ROC", figures.roc_curves), ("Precision and recall", figures.pr_curves)):
            plot = draw(summary, protocol, dataset, colors)
            if plot is not None:
                plots.append(_drawn(f"curves-{slug(kind)}-{index}", f"{dataset}: {kind}", plot, drawings))
    return {"protocol": protocol, "plots": plots} if plots else {}


def _calibration(summary: EvaluationSummary, protocol: str, colors: Colors, drawings: dict[str, str]) -> dict[str, Any]:
    plot = figures.calibration(summary, protocol, colors)
    if plot is None:
        return {}
    return {"protocol": protocol, "plots": [_drawn("calibration-plot", "Calibration", plot, drawings)]}


def _drawn(name: str, title: str, plot: Plot, drawings: dict[str, str]) -> tuple[str, Markup]:
    """Title and HTML of a plot.

    Args:
        name: element id on the page.
    """
    return title, Markup(figure(name, title, plot, drawings))


def _tally(summary: EvaluationSummary, first: str, second: str) -> dict[str, Any]:
    """Counts the comparisons of one pair of checkpoints by AUROC, over all test sets and protocols."""
    found = [c for c in summary.comparisons if (c.first, c.second, c.metric) == (first, second, "auroc")]
    better, worse = (sum(c.verdict == v for c in found) for v in ("better", "worse"))
    sentence = f"{first} is not distinguishable from {second} anywhere"
    if better or worse:
        sentence = f"{first} against {second}: {better} better, {worse} worse"
    detail = f"{_count(len(found), 'comparison')}, {len(found) - better - worse} not distinguishable"
    return {"decided": bool(better) != bool(worse), "sentence": sentence, "detail": detail}


def _comparisons(summary: EvaluationSummary, protocol: str, *, internal: bool) -> list[Cells]:
    return [
        _comparison_row(c)
        for c in summary.comparisons
        if c.protocol == protocol and c.internal == internal and c.metric in PAPER_METRICS
    ]


def _comparison_row(c: Comparison) -> Cells:
    return [
        (c.where, ""),
        (EVALUATION_METRICS[c.metric].label, ""),
        (f"{c.first} − {c.second}", ""),
        (signed(c.difference), interval(c.interval, sign=True)),
        (_p(c.p_value), ""),
        (_p(c.adjusted_p), ""),
        (f"{c.first} is {c.verdict}" if c.distinguishable else c.verdict, ""),
        (" and ".join(c.covers) if c.p_value is not None else c.reason, ""),
    ]


def _disagreement_row(d: Disagreement) -> Cells:
    one = any(s.distinguishable for s in (*d.for_first, *d.for_second))
    return [
        (d.where, ""),
        (EVALUATION_METRICS[d.metric].label, ""),
        (f"{d.first} before {d.second}", _protocols(d.for_first)),
        (f"{d.second} before {d.first}", _protocols(d.for_second)),
        ("both" if d.clear else "one" if one else "neither", ""),
    ]


def _protocols(sides: Sequence[Side]) -> str:
    return "; ".join(
        f"{s.protocol} {signed(abs(s.difference))} ({'beyond chance' if s.distinguishable else 'may be chance'})"
        for s in sides
    )


def _p(p: float | None) -> str:
    return number(p) if p is None or p >= 0.001 else "< 0.001"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
