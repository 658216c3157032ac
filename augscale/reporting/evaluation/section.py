"""The evaluation's part of a report: headline, tables, figures, and where protocols disagree.

It reads `evaluation.json` and nothing else. Texts in `html` are escaped; plots are drawn by `page.figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from augscale.evaluation.records import (
    METRIC_LABELS,
    METRIC_MEANINGS,
    Comparison,
    Disagreement,
    EvaluationSummary,
    Side,
    from_dict,
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
    narrow: bool = False


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """One heading of the page."""

    anchor: str
    link: str
    """A short title for the list of contents."""
    title: str
    guide: str
    """How to read it, plain text."""
    html: str
    """Tables and lists, escaped."""
    plots: tuple[NamedPlot, ...] = ()


def evaluation_sections(values: Mapping[str, Any], *, best: str | None = None) -> tuple[EvaluationSection, ...]:
    """The sections of a finished evaluation, in the order of the page; without results, one that says so.

    Args:
        values: what `evaluation.json` holds.
        best: the checkpoint to draw in the colour of the best; None takes the one called `best`, if any.
    Raises:
        DataError: not what `augscale evaluate` writes.
    """
    summary = from_dict(values)
    if not summary.cells:
        html = _list(summary.notes) if summary.notes else ""
        return (
            EvaluationSection(
                anchor="evaluation", link="Evaluation", title="Downstream evaluation", guide="Nothing has been "
                "evaluated.", html=html,
            ),
        )  # fmt: skip
    best = best or ("best" if "best" in summary.checkpoints else None)
    colors = Colors(best, summary.checkpoints)
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


def section_html(section: EvaluationSection, drawings: dict[str, str]) -> str:
    """A section as HTML; each plot's JSON is added to `drawings` by element id, as `page.shell` takes it."""
    plots = "".join(
        f"<h3>{escape(plot.title)}</h3>{figure(plot.name, plot.title, plot.plot, drawings, narrow=plot.narrow)}"
        for plot in section.plots
    )
    return (
        f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>'
        f'<p class="guide">{escape(section.guide)}</p>{section.html}{plots}</section>'
    )


def _overview(summary: EvaluationSummary) -> EvaluationSection:
    runs = sum(len(cell.seeds) for cell in summary.cells)
    facts = (
        f"{_count(len(summary.checkpoints), 'checkpoint')}, {_count(len(summary.protocols), 'protocol')} "
        f"({', '.join(summary.protocols)}), {_count(len(summary.datasets), 'dataset')}, "
        f"{_count(len(summary.pairs), 'external pair')}, {_count(runs, 'run')}."
    )
    verdicts = "".join(_tally(summary, first, second) for first, second in _pairs(summary))
    overview = protocols_table(summary)
    table = to_html(overview) if overview.rows else ""
    notes = f"<h3>Notes</h3>{_list(summary.notes)}" if summary.notes else ""
    meanings = "".join(f"<li>{escape(METRIC_LABELS[m])}: {escape(METRIC_MEANINGS[m])}.</li>" for m in METRIC_LABELS)
    return EvaluationSection(
        anchor="evaluation",
        link="Evaluation",
        title="Downstream evaluation",
        guide="How often one checkpoint is distinguishably better than another, over all internal and external test "
        f"sets and protocols, by AUROC after Holm's correction. {facts}",
        html=f'<ul class="verdicts">{verdicts}</ul>{table}{notes}'
        f"<details><summary>What each metric is</summary><ul>{meanings}</ul></details>",
    )


def _internal(summary: EvaluationSummary, colors: Colors) -> EvaluationSection | None:
    plots = [
        NamedPlot(name=f"internal-{slug(metric)}", title=METRIC_LABELS[metric], plot=plot)
        for metric in PAPER_METRICS
        if (plot := figures.internal(summary, colors, metric)) is not None
    ]
    parts: list[str] = []
    for protocol in summary.protocols:
        table = internal_table(summary, protocol)
        if not table.rows:
            continue
        more = internal_table(summary, protocol, EXTRA_METRICS, name="further-metrics")
        classes = per_class_table(summary, protocol)
        parts.append(f"<h3>Protocol {escape(protocol)}</h3>{to_html(table, caption=not parts)}")
        parts.append(f"<details><summary>Further metrics, {escape(protocol)}</summary>{to_html(more)}</details>")
        parts.append(f"<details><summary>Each class, {escape(protocol)}</summary>{to_html(classes)}</details>")
        parts.append(_comparisons(summary, protocol, internal=True))
    if not parts:
        return None
    return EvaluationSection(
        anchor="internal",
        link="Internal",
        title="Internal evaluation",
        guide="Trained and tested on the same dataset. Where two checkpoints' differences are within chance the table "
        "marks both; overlapping intervals of two checkpoints do not by themselves mean that, as both saw the same "
        "test images.",
        html="".join(parts),
        plots=tuple(plots),
    )


def _external(summary: EvaluationSummary) -> EvaluationSection | None:
    parts: list[str] = []
    plots = []
    for protocol in summary.protocols:
        table = external_table(summary, protocol)
        if not table.rows:
            continue
        matrix = to_html(external_matrix(summary, protocol))
        parts.append(f"<h3>Protocol {escape(protocol)}</h3>{to_html(table, caption=not parts)}")
        parts.append(f"<details><summary>As a matrix, {escape(protocol)}</summary>{matrix}</details>")
        parts.append(_comparisons(summary, protocol, internal=False))
        plot = figures.external_matrix(summary, protocol)
        if plot is not None:
            title = f"AUROC from training set to test set, protocol {protocol}"
            plots.append(NamedPlot(name=f"external-{slug(protocol)}", title=title, plot=plot))
    if not parts:
        return None
    return EvaluationSection(
        anchor="external",
        link="External",
        title="External evaluation",
        guide="Trained on one dataset, tested on another with the same classes: what is left of a result under other "
        "cameras and patients. Each seed's model was chosen on validation images of its own training set.",
        html="".join(parts),
        plots=tuple(plots),
    )


def _disagreements(summary: EvaluationSummary) -> EvaluationSection | None:
    if len(summary.protocols) < 2 or len(summary.checkpoints) < 2:
        return None
    found = [d for d in summary.disagreements if d.metric in PAPER_METRICS]
    clear = sum(d.clear for d in found)
    questions = {
        (c.trained_on, c.tested_on, c.metric, c.first, c.second)
        for c in summary.comparisons
        if c.metric in PAPER_METRICS
    }
    if found:
        guide = (
            f"In {len(found)} of {len(questions)} questions (a pair of checkpoints, a test set, one of the paper's "
            f"metrics) protocols put the two in opposite orders. In {clear} of them both orders are beyond chance, "
            "so the answer depends on the protocol; in the others at least one side may be chance."
        )
    else:
        guide = f"All protocols order every pair of checkpoints alike, in all {len(questions)} questions."
    rows = "".join(_disagreement_row(d) for d in found[:MOST_DISAGREEMENTS])
    more = len(found) - MOST_DISAGREEMENTS
    rest = f'<p class="note">and {more} more, listed in evaluation.json</p>' if more > 0 else ""
    heads = "".join(
        f'<th scope="col">{h}</th>' for h in ("Test set", "Metric", "One order", "The other", "Beyond chance")
    )
    table = f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{rest}'
    return EvaluationSection(
        anchor="disagreements",
        link="Where protocols disagree",
        title="Where protocols disagree",
        guide=guide,
        html=table if found else "",
    )


def _curves(summary: EvaluationSummary, protocol: str, colors: Colors) -> EvaluationSection | None:
    plots = []
    for dataset in summary.datasets:
        for kind, draw in (("ROC", figures.roc_curves), ("Precision and recall", figures.pr_curves)):
            plot = draw(summary, protocol, dataset, colors)
            if plot is not None:
                name = f"curves-{slug(kind)}-{summary.datasets.index(dataset)}"
                plots.append(NamedPlot(name=name, title=f"{dataset}: {kind}", plot=plot))
    if not plots:
        return None
    return EvaluationSection(
        anchor="curves",
        link="Curves",
        title=f"Curves of each class, protocol {protocol}",
        guide="One class against the rest, mean over seeds. For rare classes precision and recall tell more: a ROC "
        "curve hides how many false alarms stand against each find.",
        html="",
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
        html="",
        plots=(NamedPlot(name="calibration-plot", title="Calibration", plot=plot),),
    )


def _pairs(summary: EvaluationSummary) -> list[tuple[str, str]]:
    return list(dict.fromkeys((c.first, c.second) for c in summary.comparisons))


def _tally(summary: EvaluationSummary, first: str, second: str) -> str:
    """One pair of checkpoints over everything, by AUROC."""
    found = [c for c in summary.comparisons if (c.first, c.second, c.metric) == (first, second, "auroc")]
    better, worse = (sum(c.verdict == v for c in found) for v in ("better", "worse"))
    css = ' class="clear"' if bool(better) != bool(worse) else ""
    sentence = (
        f"{first} is not distinguishable from {second} anywhere"
        if not better and not worse
        else f"{first} against {second}: {better} better, {worse} worse"
    )
    detail = f"{_count(len(found), 'comparison')}, {len(found) - better - worse} not distinguishable"
    return f"<li{css}><strong>{escape(sentence)}</strong><span>{escape(detail)}</span></li>"


def _comparisons(summary: EvaluationSummary, protocol: str, *, internal: bool) -> str:
    found = [
        c
        for c in summary.comparisons
        if c.protocol == protocol and (c.trained_on == c.tested_on) == internal and c.metric in PAPER_METRICS
    ]
    if not found:
        return ""
    covered = escape(summary.covered[:1].upper() + summary.covered[1:])
    names = ("Test set", "Metric", "Checkpoints", "Difference", "p", "Holm p", "Verdict", "Covers")
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(_comparison_row(c) for c in found)
    return (
        f"<details><summary>Comparisons of checkpoints, {escape(protocol)}</summary>"
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="note">Difference of the first and the second with its 95 % interval, not adjusted. Holm\'s '
        "correction runs over one protocol and metric, all pairs of checkpoints on all "
        f"{'internal' if internal else 'external'} test sets. {covered}. "
        "DeLong, paired bootstrap and paired t-tests stand beside in evaluation.json.</p></details>"
    )


def _comparison_row(c: Comparison) -> str:
    cells = [
        _test_set(c.trained_on, c.tested_on),
        METRIC_LABELS[c.metric],
        f"{c.first} − {c.second}",
        signed(c.difference),
        _p(c.p_value),
        _p(c.adjusted_p),
        f"{c.first} is {c.verdict}" if c.distinguishable else c.verdict,
        " and ".join(c.covers) if c.p_value is not None else c.reason,
    ]
    written = [escape(cell) for cell in cells]
    written[3] += f"<small>{escape(interval(c.interval, sign=True))}</small>"
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in written)}</tr>"


def _disagreement_row(d: Disagreement) -> str:
    cells = [
        escape(_test_set(d.trained_on, d.tested_on)),
        escape(METRIC_LABELS[d.metric]),
        _order(d.first, d.second, d.for_first),
        _order(d.second, d.first, d.for_second),
        "both" if d.clear else "one" if any(s.distinguishable for s in (*d.for_first, *d.for_second)) else "neither",
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _order(ahead: str, behind: str, sides: Sequence[Side]) -> str:
    words = "; ".join(
        f"{s.protocol} {signed(abs(s.difference))} ({'beyond chance' if s.distinguishable else 'may be chance'})"
        for s in sides
    )
    return f"{escape(ahead)} before {escape(behind)}<small>{escape(words)}</small>"


def _test_set(trained_on: str, tested_on: str) -> str:
    return tested_on if trained_on == tested_on else f"{trained_on} to {tested_on}"


def _p(p: float | None) -> str:
    return number(p) if p is None or p >= 0.001 else "< 0.001"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
