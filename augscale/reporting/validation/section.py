"""The validation's part of a report: verdict, scatter plots, tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

from augscale.records.validation import STUDY_KEY, CorrelationCell, MetricColumn, NetworkRow, ValidationRecord
from augscale.reporting.shared.page import plot_section
from augscale.reporting.shared.screen_page import screen_html
from augscale.reporting.shared.style import Colors
from augscale.reporting.shared.templates import render
from augscale.reporting.shared.wording import NOTHING, interval, number, signed
from augscale.reporting.validation import figures
from augscale.reporting.validation.terminal import FIRST_LEVELS, validation_screen

LEVEL_WORDS = {"study": "what the search used", "ladder": "mean over the ladder", "clean": "no augmentation"}
CAVEATS = (
    "Correlations are over the trials of one study: other images, networks or lengths of training can rank otherwise.",
    "Each trial is one training: luck of its seed is part of both its score and its outcome.",
    "Intervals are bootstrap intervals over trials and test images. They are rough below some ten trials.",
)
LINKS = (
    ("validation", "Verdict"),
    ("validation-score", "Score"),
    ("validation-metrics", "Metrics"),
    ("validation-correlations", "Correlations"),
    ("validation-regret", "Regret"),
    ("validation-trials", "Trials"),
)


def validation_sections(
    values: ValidationRecord, drawings: dict[str, str], *, titled: bool = True
) -> tuple[list[tuple[str, str]], Markup]:
    """Links and HTML.

    Args:
        values: the content of validation.json.
        drawings: each plot's JSON is added here by element id.
        titled: begin with a heading and the verdict; False if the page's header has them.
    """
    colors = Colors(None, [row.name for row in values.rows])
    score = plot_section(
        "validation-score",
        "The study's score against AUROC",
        "Each mark is a trial. If the score is a good guide, marks rise from left to right. Dotted lines are "
        "references without training: a trial below them has learned nothing that these labels need.",
        figures.study_score(values, colors),
        drawings,
        missing="No trial has a score.",
    )
    metrics = plot_section(
        "validation-metrics",
        "Other label-free metrics",
        "The same for other metrics, against the outcome of the headline.",
        figures.other_metrics(values, colors),
        drawings,
        missing="No other metric was measured.",
    )
    html = render(
        "validation/sections.html",
        values=values,
        titled=titled,
        opening=screen_html(validation_screen(values, Path()), CAVEATS),
        plots=(Markup(score), Markup(metrics)),
        tables=list(_correlation_tables(values)),
        reliabilities=[
            "" if o.reliability is None else f"reliability {number(o.reliability, 2)}" for o in values.outcomes
        ],
        regrets=list(_regrets(values)),
        networks=[(_faded(row), _network(values, row)) for row in values.rows],
    )
    return list(LINKS), html


def _correlation_tables(
    values: ValidationRecord,
) -> Iterator[tuple[str, list[tuple[MetricColumn, str, list[dict[str, str]]]]]]:
    """The title of each table, and for each metric its level in words and its cells; empty tables are left out."""
    cells = {(cell.score, cell.outcome): cell for cell in values.correlations}
    for title, first in (("", True), ("Single levels of the panel", False)):
        rows = [
            (metric, _level(metric), [_cell(cells[metric.key, outcome.key]) for outcome in values.outcomes])
            for metric in values.metrics
            if (metric.level in FIRST_LEVELS) == first
        ]
        if rows:
            yield title, rows


def _cell(cell: CorrelationCell) -> dict[str, str]:
    if cell.spearman is None:
        return {"note": cell.note, "rho": NOTHING, "bold": "", "bounds": "", "tau": ""}
    return {
        "note": cell.note,
        "rho": signed(cell.spearman, 2),
        "bold": "bold" if cell.p_value is not None and cell.p_value < 0.05 else "",
        "bounds": interval(cell.spearman_interval, sign=True, digits=2),
        "tau": f"τ {signed(cell.kendall, 2)}" if cell.kendall is not None else "",
    }


def _regrets(values: ValidationRecord) -> Iterator[tuple[str, list[tuple[str, str]], list[tuple[str, str]]]]:
    """For each outcome its label, its cells, and the gains over the alternatives; both as (text, small text)."""
    labels = {outcome.key: outcome.label for outcome in values.outcomes}
    for row in values.regrets:
        v = row.values
        if v.regret is not None:
            cells = [
                (v.best or "", number(v.best_outcome)),
                (number(v.best_corrected), number(v.best_crossfitted)),
                (v.pick or "", number(v.pick_outcome)),
                (number(v.regret), interval(v.interval)),
            ]
            gains = [(f"{o.name} {signed(o.gain)}", interval(o.gain_interval, sign=True)) for o in v.alternatives]
            yield labels[row.outcome], cells, gains


def _network(values: ValidationRecord, row: NetworkRow) -> list[tuple[str, str]]:
    """Sort key and text of each cell in a network's row."""
    reason = row.reason or row.kind
    numbers = [row.scores.get(STUDY_KEY), *(row.outcomes.get(outcome.key) for outcome in values.outcomes)]
    return [(row.name,) * 2, (reason,) * 2, *(("" if v is None else repr(v), number(v)) for v in numbers)]


def _faded(row: NetworkRow) -> bool:
    return not row.used and row.kind != "reference"


def _level(metric: MetricColumn) -> str:
    return LEVEL_WORDS.get(metric.level, metric.level) + (", sign reversed" if metric.turned else "")
