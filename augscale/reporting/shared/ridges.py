"""Ridge plots of pair distances: a row per model, positive pairs in its color over negative pairs in gray."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import plotly.graph_objects as go

from augscale.reporting.shared.style import FAINT, MUTED, marker, scatter, text
from augscale.reporting.shared.wording import number

ROW_FILL = 0.92
"""Height of a row's highest density, in rows."""
MANY_PAIRS = 5000
"""With at least this many pairs, a histogram is smooth enough without further smoothing."""

Curve = tuple[list[float], list[float]]
"""Bin centers and densities."""


def has_histogram(counts: Sequence[Sequence[float]], edges: Sequence[float]) -> bool:
    """True if each histogram has a count per bin and is not empty."""
    bins = len(edges) - 1
    return bins > 0 and all(len(c) == bins and sum(c) > 0 for c in counts)


def density(counts: Sequence[float], edges: Sequence[float]) -> Curve:
    """Bin centers and density per unit of distance, smoothed over adjacent bins (1 : 2 : 1, once or three times)."""
    smooth = list(counts)
    for _ in range(1 if sum(counts) >= MANY_PAIRS else 3):
        padded = [0.0, *smooth, 0.0]
        smooth = [(padded[i] + 2 * padded[i + 1] + padded[i + 2]) / 4 for i in range(len(counts))]
    centers = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    widths = [b - a for a, b in itertools.pairwise(edges)]
    total = sum(counts)
    return centers, [y / (total * width) for y, width in zip(smooth, widths, strict=True)]


def used(curves: Sequence[Curve]) -> list[float]:
    """The distances at which a curve is more than 1 % of its height, for the range of an axis."""
    return [x for xs, ys in curves for x, y in zip(xs, ys, strict=True) if y > 0.01 * max(ys)]


def row_label(name: str, value: str, color: str) -> str:
    """A tick's text: the name in its color, and a value in a second line."""
    label = f'<b style="color:{color}">{text(name)}</b>'
    return f"{label}<br>{value}" if value else label


def ridge(
    figure: go.Figure,
    row: int,
    positive: Curve,
    negative: Curve,
    color: str,
    means: tuple[float | None, float | None],
) -> None:
    """Draws one row: both densities at one scale, and triangles at the means.

    Args:
        figure: rows stand at whole numbers of its y axis.
        row: number of the row.
        positive, negative: curves from `density`.
        color: of the positive pairs.
        means: of positive and negative pairs; None draws no triangle.
    """
    top = max(*positive[1], *negative[1])
    for (xs, ys), fill, opacity in ((negative, FAINT, 0.55), (positive, color, 0.6)):
        figure.add_trace(
            scatter(
                [xs[0], *xs, xs[-1]],
                [row, *(row + ROW_FILL * y / top for y in ys), row],
                mode="lines",
                line={"color": fill, "width": 1.2},
                fill="toself",
                fillcolor=fill,
                opacity=opacity,
            )
        )
    figure.add_hline(y=row, line={"color": FAINT, "width": 0.8})
    for mean, mark in zip(means, (color, MUTED), strict=True):
        if mean is not None:
            look = marker(mark, "triangle-up", 9)
            figure.add_trace(scatter([mean], [row], look, [f"mean {number(mean)}"]))


def finish(figure: go.Figure, ticks: Sequence[str], bounds: tuple[float, float], title: str) -> None:
    """Sets the axes once all rows are drawn."""
    figure.update_xaxes(title=title, range=bounds, nticks=6)
    figure.update_yaxes(
        range=[-0.12, len(ticks) - 1 + ROW_FILL + 0.06],
        tickvals=[row + 0.3 for row in range(len(ticks))],
        ticktext=list(ticks),
        showgrid=False,
        ticks="",
        showline=False,
    )
