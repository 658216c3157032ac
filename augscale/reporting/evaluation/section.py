"""The evaluation's part of a report: headline, tables, figures, and the disagreements of protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from augscale.records.evaluation import (
    METRIC_LABELS,
    METRIC_MEANINGS,
    Comparison,
    Disagreement,
    EvaluationSummary,
    Side,
)
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
from augscale.reporting.shared.page import figure
from augscale.reporting.shared.style import Colors, Plot
from augscale.reporting.shared.templates import render
from augscale.reporting.shared.wording import interval, number, signed

CURVE_PROTOCOLS = ("finetune", "linear", "released", "knn")
"""Curves and calibration are drawn for the first of these that ran, otherwise for the first protocol."""
MOST_DISAGREEMENTS = 30


@dataclass(frozen=True, kw_only=True)
class NamedPlot:
    """A plot under its own small heading."""

    name: str
    """Element id on the page."""
    title: str
    plot: Plot


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """One heading of the page."""

    anchor: str
    link: str
    """A short title for the list of contents."""
    title: str
    guide: str
    """Reading guide, plain text."""
    html: Markup = field(default_factory=Markup)
    """Tables and lists."""
    plots: tuple[NamedPlot, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProtocolTables:
    """The tables of one protocol."""

    protocol: str
    main: Markup
    details: dict[str, Markup]
    """The table of each fold by its title."""
    comparisons: Markup


def evaluation_sections(summary: EvaluationSummary, *, best: str | None = None) -> tuple[EvaluationSection, ...]:
    """The sections of a finished evaluation, in the order of the page; without results, one that says so.

    Args:
        best: the checkpoint to draw in the color of the best; None takes the one called `best`, if any.
    """
    if not summary.cells:
        nothing = EvaluationSection(
            anchor="evaluation",
            link="Evaluation",
            title="Downstream evaluation",
            guide="Nothing has been evaluated.",
            html=render("evaluation/notes.html", notes=summary.notes),
        )
        return (nothing,)
    colors = Colors(best or ("best" if "best" in summary.checkpoints else None), summary.checkpoints)
    detailed = next((p for p in CURVE_PROTOCOLS if p in summary.protocols), summary.protocols[0])
    sections = [
        _overview(summary),
        _internal(summary, colors),
        _external(summary),
        _disagreements(summary),
        _curves(summary, detailed, colors),
        _calibration(summary, detailed, colors),
    ]
    return tuple(section for section in sections if section is not None)


def section_html(section: EvaluationSection, drawings: dict[str, str]) -> Markup:
    """A section as HTML; each plot's JSON is added to `drawings` by element id, as `page.shell` takes it."""
    plots = [(plot.title, Markup(figure(plot.name, plot.title, plot.plot, drawings))) for plot in section.plots]
    return render("evaluation/section.html", section=section, plots=plots)


def _overview(summary: EvaluationSummary) -> EvaluationSection:
    runs = sum(len(cell.seeds) for cell in summary.cells)
    facts = (
        f"{_count(len(summary.checkpoints), 'checkpoint')}, {_count(len(summary.protocols), 'protocol')} "
        f"({', '.join(summary.protocols)}), {_count(len(summary.datasets), 'dataset')}, "
        f"{_count(len(summary.pairs), 'external pair')}, {_count(runs, 'run')}."
    )
    pairs = dict.fromkeys((c.first, c.second) for c in summary.comparisons)
    overview = protocols_table(summary)
    return EvaluationSection(
        anchor="evaluation",
        link="Evaluation",
        title="Downstream evaluation",
        guide="How often one checkpoint is distinguishably better than another, over all internal and external test "
        f"sets and protocols, by AUROC after Holm's correction. {facts}",
        html=render(
            "evaluation/overview.html",
            tallies=[_tally(summary, first, second) for first, second in pairs],
            table=to_html(overview) if overview.rows else "",
            notes=summary.notes,
            meanings=[(METRIC_LABELS[metric], METRIC_MEANINGS[metric]) for metric in METRIC_LABELS],
        ),
    )


def _internal(summary: EvaluationSummary, colors: Colors) -> EvaluationSection | None:
    found = _protocol_tables(summary, internal=True)
    if not found:
        return None
    plots = [
        NamedPlot(name=f"internal-{slug(metric)}", title=METRIC_LABELS[metric], plot=plot)
        for metric in PAPER_METRICS
        if (plot := figures.internal(summary, colors, metric)) is not None
    ]
    return EvaluationSection(
        anchor="internal",
        link="Internal",
        title="Internal evaluation",
        guide="Trained and tested on the same dataset. Where two checkpoints' differences are within chance the table "
        "marks both; overlapping intervals of two checkpoints do not by themselves mean that, as both saw the same "
        "test images.",
        html=render("evaluation/protocol_tables.html", found=found),
        plots=tuple(plots),
    )


def _external(summary: EvaluationSummary) -> EvaluationSection | None:
    found = _protocol_tables(summary, internal=False)
    if not found:
        return None
    plots = [
        NamedPlot(
            name=f"external-{slug(tables.protocol)}",
            title=f"AUROC from training set to test set, protocol {tables.protocol}",
            plot=plot,
        )
        for tables in found
        if (plot := figures.external_matrix(summary, tables.protocol)) is not None
    ]
    return EvaluationSection(
        anchor="external",
        link="External",
        title="External evaluation",
        guide="Trained on one dataset, tested on another with the same classes: what is left of a result under other "
        "cameras and patients. Each seed's model was chosen on validation images of its own training set.",
        html=render("evaluation/protocol_tables.html", found=found),
        plots=tuple(plots),
    )


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


def _disagreements(summary: EvaluationSummary) -> EvaluationSection | None:
    if len(summary.protocols) < 2 or len(summary.checkpoints) < 2:
        return None
    found = [d for d in summary.disagreements if d.metric in PAPER_METRICS]
    clear = sum(d.clear for d in found)
    asked = [c for c in summary.comparisons if c.metric in PAPER_METRICS]
    questions = {(c.trained_on, c.tested_on, c.metric, c.first, c.second) for c in asked}
    guide = f"All protocols order every pair of checkpoints alike, in all {len(questions)} questions."
    if found:
        guide = (
            f"In {len(found)} of {len(questions)} questions (a pair of checkpoints, a test set, one of the paper's "
            f"metrics) protocols put the two in opposite orders. In {clear} of them both orders are beyond chance, "
            "so the answer depends on the protocol; in the others at least one side may be chance."
        )
    rows = [_disagreement_row(d) for d in found[:MOST_DISAGREEMENTS]]
    return EvaluationSection(
        anchor="disagreements",
        link="Where protocols disagree",
        title="Where protocols disagree",
        guide=guide,
        html=render("evaluation/disagreements.html", rows=rows, more=len(found) - len(rows)) if found else Markup(),
    )


def _curves(summary: EvaluationSummary, protocol: str, colors: Colors) -> EvaluationSection | None:
    plots = []
    for index, dataset in enumerate(summary.datasets):
        for kind, draw in (("ROC", figures.roc_curves), ("Precision and recall", figures.pr_curves)):
            plot = draw(summary, protocol, dataset, colors)
            if plot is not None:
                plots.append(NamedPlot(name=f"curves-{slug(kind)}-{index}", title=f"{dataset}: {kind}", plot=plot))
    if not plots:
        return None
    return EvaluationSection(
        anchor="curves",
        link="Curves",
        title=f"Curves of each class, protocol {protocol}",
        guide="One class against the rest, mean over seeds. For rare classes precision and recall tell more: a ROC "
        "curve hides how many false alarms stand against each find.",
        plots=tuple(plots),
    )


def _calibration(summary: EvaluationSummary, protocol: str, colors: Colors) -> EvaluationSection | None:
    plot = figures.calibration(summary, protocol, colors)
    if plot is None:
        return None
    return EvaluationSection(
        anchor="calibration",
        link="Calibration",
        title=f"Calibration, protocol {protocol}",
        guide="On the dashed line a score means what it says: of predictions made with 0.8, eight in ten are right. "
        "Below it a model is too sure of itself.",
        plots=(NamedPlot(name="calibration-plot", title="Calibration", plot=plot),),
    )


def _tally(summary: EvaluationSummary, first: str, second: str) -> dict[str, Any]:
    """One pair of checkpoints over everything, by AUROC."""
    found = [c for c in summary.comparisons if (c.first, c.second, c.metric) == (first, second, "auroc")]
    better, worse = (sum(c.verdict == v for c in found) for v in ("better", "worse"))
    sentence = f"{first} is not distinguishable from {second} anywhere"
    if better or worse:
        sentence = f"{first} against {second}: {better} better, {worse} worse"
    detail = f"{_count(len(found), 'comparison')}, {len(found) - better - worse} not distinguishable"
    return {"decided": bool(better) != bool(worse), "sentence": sentence, "detail": detail}


def _comparisons(summary: EvaluationSummary, protocol: str, *, internal: bool) -> Markup:
    found = [
        c
        for c in summary.comparisons
        if c.protocol == protocol and c.internal == internal and c.metric in PAPER_METRICS
    ]
    if not found:
        return Markup()
    return render(
        "evaluation/comparisons.html",
        protocol=protocol,
        kind="internal" if internal else "external",
        covered=summary.covered[:1].upper() + summary.covered[1:],
        rows=[_comparison_row(c) for c in found],
    )


def _comparison_row(c: Comparison) -> list[tuple[str, str]]:
    """Text and small text of each cell."""
    return [
        (c.where, ""),
        (METRIC_LABELS[c.metric], ""),
        (f"{c.first} − {c.second}", ""),
        (signed(c.difference), interval(c.interval, sign=True)),
        (_p(c.p_value), ""),
        (_p(c.adjusted_p), ""),
        (f"{c.first} is {c.verdict}" if c.distinguishable else c.verdict, ""),
        (" and ".join(c.covers) if c.p_value is not None else c.reason, ""),
    ]


def _disagreement_row(d: Disagreement) -> list[tuple[str, str]]:
    """Text and small text of each cell."""
    one = any(s.distinguishable for s in (*d.for_first, *d.for_second))
    return [
        (d.where, ""),
        (METRIC_LABELS[d.metric], ""),
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
