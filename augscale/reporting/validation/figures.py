"""Scatter plots of a validation: a label-free metric against an outcome, a mark per trial.

Each function returns a `Plot`, or None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from augscale.records.evaluation import Interval
from augscale.records.metrics import EVALUATION_METRICS
from augscale.records.validation import STUDY_KEY, NetworkRow, OutcomeColumn, ValidationRecord
from augscale.reporting.shared.style import (
    FAINT,
    MUTED,
    UNTRAINED_COLOR,
    Colors,
    Key,
    Panel,
    Plot,
    hover,
    label_margin,
    marker,
    new_figure,
    robust_range,
    scatter,
    text,
)
from augscale.reporting.shared.wording import interval, number, signed

LEAST_OUTCOME = 0.02
"""Smallest extent of an outcome's axis, so that meaningless differences do not look large."""
OTHER_METRICS = (
    "ladder/dprime", "ladder/pair_auroc", "ladder/raw_dprime", "ladder/margin", "ladder/retrieval_error",
    "ladder/uniformity", "ladder/lidar", "clean/rankme", "training/information",
)  # fmt: skip
"""Metrics drawn against the primary outcome; the table lists all metrics."""
MAX_PANELS = 9


def study_score(values: ValidationRecord, colors: Colors) -> Plot | None:
    """The study's score against AUROC: a panel per dataset and protocol, the primary one first."""
    wanted = [outcome for outcome in values.outcomes if outcome.metric == "auroc"]
    wanted.sort(key=lambda outcome: outcome.key != values.primary)
    panels = [_panel(values, STUDY_KEY, o, colors, title=o.label, bars=True) for o in wanted[:MAX_PANELS]]
    notes: tuple[str, ...] = ("Vertical bars: 95 % over test images; horizontal: over the images of the score.",)
    if len(wanted) > MAX_PANELS:
        notes += (f"{len(wanted) - MAX_PANELS} further outcomes are in the table.",)
    return _plot(values, panels, notes)


def other_metrics(values: ValidationRecord, colors: Colors) -> Plot | None:
    """Other metrics against the primary outcome."""
    known = {metric.key: metric for metric in values.metrics}
    shown = [known[key] for key in OTHER_METRICS if key in known]
    panels = [_panel(values, m.key, values.primary_outcome, colors, title=m.label, bars=False) for m in shown]
    notes = ("Signs are chosen so that further right is better by every metric.",)
    return _plot(values, panels, notes)


def _plot(values: ValidationRecord, panels: Sequence[Panel | None], notes: tuple[str, ...]) -> Plot | None:
    drawn = tuple(panel for panel in panels if panel is not None)
    if not drawn:
        return None
    keys = [Key(label="a trial", color=MUTED, mark="dot"), Key(label="controls by name", color=MUTED, mark="diamond")]
    if any(row.kind == "reference" for row in values.rows):
        keys.append(Key(label="what trials have to beat", color=UNTRAINED_COLOR, mark="dotted"))
    return Plot(panels=drawn, keys=tuple(keys), notes=notes)


def _panel(
    values: ValidationRecord, score: str, outcome: OutcomeColumn, colors: Colors, *, title: str, bars: bool
) -> Panel | None:
    key = outcome.key
    trials = [row for row in values.rows if row.used and row.scores.get(score) is not None]
    references = [row for row in values.rows if row.kind == "reference" and key in row.outcomes]
    if not trials:
        return None
    xs, ys = [_score(row, score) for row in trials], [row.outcomes[key] for row in trials]
    figure = new_figure(height=300, left=58, right=96)
    edges = [edge for row in trials for edge in row.outcome_intervals[key] or ()] if bars else []
    bounds = robust_range([*ys, *edges], [row.outcomes[key] for row in references], LEAST_OUTCOME)
    for row in trials:
        figure.add_trace(_point(row, score, key, colors, bars=bars))
    for row in references:
        figure.add_hline(y=row.outcomes[key], line={"color": UNTRAINED_COLOR, "width": 1.2, "dash": "dot"})
    label_margin(figure, [(text(row.name, 14), row.outcomes[key], UNTRAINED_COLOR) for row in references], bounds)
    wide = [edge for row in trials for edge in row.score_interval or ()] if bars else []
    metric = next(m.label for m in values.metrics if m.key == score)
    figure.update_xaxes(title=escape(metric), range=robust_range([*xs, *wide], xs), nticks=4, tickangle=0)
    figure.update_yaxes(title=EVALUATION_METRICS[outcome.metric].label, range=bounds, nticks=6)
    return Panel(title=f"{title}: {_agreement(values, score, key)}", figure=figure)


def _point(row: NetworkRow, score: str, key: str, colors: Colors, *, bars: bool) -> go.Scatter:
    x, y = _score(row, score), row.outcomes[key]
    across, up = row.score_interval if bars else None, row.outcome_intervals[key]
    look = marker(colors[row.name], colors.symbol(row.name), 10) if row.control else marker(MUTED)
    words = hover(
        row.name,
        f"score {number(x)}{' (' + interval(across) + ')' if across else ''}",
        f"outcome {number(y)}{' (' + interval(up) + ')' if up else ''}",
        escape(row.scales),
    )
    return scatter([x], [y], look, [words], error_x=_bar(x, across), error_y=_bar(y, up if bars else None))


def _score(row: NetworkRow, key: str) -> float:
    value = row.scores[key]
    assert value is not None, "rows without the score are left out"
    return value


def _bar(value: float, bounds: Interval | None) -> dict[str, Any]:
    if not bounds:
        return {"type": "data", "array": [], "visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, bounds[1] - value)],
        "arrayminus": [max(0.0, value - bounds[0])],
        "color": FAINT,
        "thickness": 1,
        "width": 0,
    }


def _agreement(values: ValidationRecord, score: str, key: str) -> str:
    cell = next((c for c in values.correlations if (c.score, c.outcome) == (score, key)), None)
    if cell is None or cell.spearman is None:
        return "no correlation"
    bounds = cell.spearman_interval
    inside = f" ({interval(bounds, sign=True, digits=2)})" if bounds else ""
    return f"ρ {signed(cell.spearman, 2)}{inside}"
