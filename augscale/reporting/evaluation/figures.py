"""Figures of an evaluation: results per dataset, curves of each class, calibration.

Each function reads a finished summary and returns a `Plot`, or None where there is nothing to draw. A checkpoint has
the same color in all of them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from augscale.records.evaluation import Cell, ClassSummary, EvaluationSummary
from augscale.records.metrics import EVALUATION_METRICS
from augscale.reporting.shared.style import (
    FAINT,
    GRID,
    INK,
    Colors,
    Key,
    Panel,
    Plot,
    hover,
    label_rows,
    marker,
    new_figure,
    robust_range,
    scatter,
    text,
)
from augscale.reporting.shared.wording import interval, number

CHECKPOINT_PIXELS = 17
"""Height of one checkpoint's line in a dataset's row."""
CURVE_CLASSES = 6
"""Largest number of classes that get a panel of curves."""
LEAST_METRIC = 0.04
"""Smallest extent of a metric's axis."""


def internal(summary: EvaluationSummary, colors: Colors, metric: str) -> Plot | None:
    """A panel per protocol, a row per dataset, a mark per checkpoint: intervals over test images and over seeds."""
    panels = []
    for protocol in summary.protocols:
        cells = [c for c in summary.select(protocol, internal=True) if c.metrics[metric].mean is not None]
        if cells:
            panels.append(Panel(title=f"Protocol {protocol}", figure=_internal_panel(summary, cells, colors, metric)))
    if not panels:
        return None
    return Plot(
        panels=tuple(panels),
        keys=(
            *checkpoint_keys(summary, colors),
            Key(label="thin: 95 % interval over test images; thick: over head seeds", color=INK, mark="bar"),
        ),
    )


def roc_curves(summary: EvaluationSummary, protocol: str, dataset: str, colors: Colors) -> Plot | None:
    """A panel per class: true over false positive rate of every checkpoint, mean over seeds."""
    return _curves(summary, protocol, dataset, colors, roc=True)


def pr_curves(summary: EvaluationSummary, protocol: str, dataset: str, colors: Colors) -> Plot | None:
    """A panel per class: precision over recall of every checkpoint, mean over seeds; the dashed line is chance."""
    return _curves(summary, protocol, dataset, colors, roc=False)


def calibration(summary: EvaluationSummary, protocol: str, colors: Colors) -> Plot | None:
    """Reliability diagrams, a panel per dataset: accuracy over the highest score of a prediction."""
    panels = []
    for dataset in summary.datasets:
        figure = new_figure(height=290, left=54)
        figure.add_trace(_line([0, 1], [0, 1], FAINT, dash="dash", width=1.2))
        drawn = False
        for cell in _internal_cells(summary, protocol, dataset):
            bins = [b for b in cell.reliability if b.confidence is not None and b.accuracy is not None]
            if not bins:
                continue
            drawn, color = True, colors[cell.checkpoint]
            most = max(b.count for b in bins)
            look = marker(color) | {"size": [4 + 8 * (b.count / most) ** 0.5 for b in bins]}
            texts = [
                hover(
                    cell.checkpoint,
                    f"scores {number(b.low, 2)} to {number(b.high, 2)}: {b.count} predictions",
                    f"mean score {number(b.confidence)}, right {number(b.accuracy)}",
                )
                for b in bins
            ]
            line = {"color": color, "width": 1.5}
            confidences, accuracies = [b.confidence for b in bins], [b.accuracy for b in bins]
            figure.add_trace(scatter(confidences, accuracies, look, texts, mode="lines+markers", line=line))
        if drawn:
            figure.update_xaxes(title="highest score", range=[0, 1.02], nticks=6)
            figure.update_yaxes(title="share right", range=[-0.02, 1.04], nticks=6)
            panels.append(Panel(title=dataset, figure=figure))
    if not panels:
        return None
    keys = (*checkpoint_keys(summary, colors), Key(label="perfect calibration", color=FAINT, mark="dotted"))
    return Plot(panels=tuple(panels), keys=keys, notes=("Larger marks hold more predictions; all seeds together.",))


def checkpoint_keys(summary: EvaluationSummary, colors: Colors) -> tuple[Key, ...]:
    return tuple(Key(label=name, color=colors[name], mark="dot") for name in summary.checkpoints)


def _internal_panel(summary: EvaluationSummary, cells: Sequence[Cell], colors: Colors, metric: str) -> go.Figure:
    datasets = [d for d in summary.datasets if any(c.tested_on == d for c in cells)][::-1]
    count = len(summary.checkpoints)
    figure = new_figure(height=max(CHECKPOINT_PIXELS * (count + 1), 40) * len(datasets) + 62, left=94, right=14)
    every: list[float] = []
    for cell in cells:
        found, color = cell.metrics[metric], colors[cell.checkpoint]
        mean = found.mean if found.mean is not None else 0.0
        offset = (summary.checkpoints.index(cell.checkpoint) - (count - 1) / 2) / (count + 1)
        y = datasets.index(cell.tested_on) - offset
        for bounds, width in ((found.test_images, 1.2), (found.seeds_t, 4)):
            if bounds:
                every += bounds
                figure.add_trace(_line(bounds, [y, y], color, width=width))
        every.append(mean)
        words = hover(
            cell.checkpoint,
            f"{html.escape(cell.tested_on)}: {EVALUATION_METRICS[metric].label} {number(mean)}",
            f"{len(cell.seeds)} seeds {interval(found.seeds_t)}" if found.seeds_t else "",
            f"test images {interval(found.test_images)}" if found.test_images else "",
        )
        figure.add_trace(scatter([mean], [y], marker(color, colors.symbol(cell.checkpoint), 9), [words]))
    for boundary in range(len(datasets) - 1):
        figure.add_hline(y=boundary + 0.5, line={"color": GRID, "width": 1})
    figure.update_xaxes(title=EVALUATION_METRICS[metric].label, range=robust_range([], every, LEAST_METRIC), nticks=6)
    label_rows(figure, [text(name) for name in datasets])
    return figure


def _curves(summary: EvaluationSummary, protocol: str, dataset: str, colors: Colors, *, roc: bool) -> Plot | None:
    cells = _internal_cells(summary, protocol, dataset)
    shown, left_out = _classes_to_show(cells)
    if not shown:
        return None
    panels = []
    for index in shown:
        figure = new_figure(height=260, left=54)
        first = cells[0].per_class[index]
        if roc:
            figure.add_trace(_line([0, 1], [0, 1], FAINT, dash="dash", width=1.2))
        else:
            chance = first.support / cells[0].images
            figure.add_trace(_line([0, 1], [chance, chance], FAINT, dash="dash", width=1.2))
        for cell in cells:
            found = cell.per_class[index]
            ys = found.true_positive_rate if roc else found.precision
            value, kind = (found.auroc, "AUROC") if roc else (found.aupr, "AUPR")
            xs, ys = ((0.0, *summary.grid), (0.0, *ys)) if roc else (summary.grid, ys)
            texts = [hover(cell.checkpoint, f"{kind} {number(value)}")] * len(xs)
            figure.add_trace(
                scatter(xs, ys, hover=texts, mode="lines", line={"color": colors[cell.checkpoint], "width": 2})
            )
        figure.update_xaxes(title="false positive rate" if roc else "recall", range=[0, 1.01], nticks=6)
        figure.update_yaxes(title="true positive rate" if roc else "precision", range=[0, 1.03], nticks=6)
        panels.append(Panel(title=f"{first.name} ({first.support} test images)", figure=figure))
    keys = (*checkpoint_keys(summary, colors), Key(label="chance", color=FAINT, mark="dotted"))
    notes: tuple[str, ...] = ()
    if left_out:
        notes = (
            f"Shown are the {len(shown)} classes in which checkpoints differ most in AUROC; "
            f"{left_out} further classes are in the table of each class.",
        )
    return Plot(panels=tuple(panels), keys=keys, notes=notes)


def _classes_to_show(cells: Sequence[Cell]) -> tuple[list[int], int]:
    """Classes with curves, at most CURVE_CLASSES: those where checkpoints differ most, in the order of classes."""
    if not cells:
        return [], 0

    def spread(index: int) -> float:
        values = [_auroc(cell.per_class[index]) for cell in cells]
        return max(values) - min(values)

    drawable = [i for i, c in enumerate(cells[0].per_class) if c.true_positive_rate]
    kept = sorted(sorted(drawable, key=lambda i: -spread(i))[:CURVE_CLASSES])
    return kept, len(drawable) - len(kept)


def _auroc(found: ClassSummary) -> float:
    return 0.0 if found.auroc is None else found.auroc


def _internal_cells(summary: EvaluationSummary, protocol: str, dataset: str) -> list[Cell]:
    return [cell for cell in summary.row(protocol, dataset, dataset) if cell is not None and cell.images]


def _line(xs: Sequence[float], ys: Sequence[float], color: str, *, width: float, dash: str | None = None) -> go.Scatter:
    look: dict[str, Any] = {"color": color, "width": width} | ({"dash": dash} if dash else {})
    return scatter(xs, ys, mode="lines", line=look)
