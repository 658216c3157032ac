"""Figures of a diagnosis for its page: distances, metrics over the levels, and spectra.

Each function returns a `Plot`, or None where there is nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import plotly.graph_objects as go

from augscale.records.diagnosis import CheckpointRecord, DiagnosisRecord, Histogram, Level, Metric
from augscale.reporting.diagnosis.wording import PAPER_REMARK, PAPER_SILHOUETTES, metric_text, value_text
from augscale.reporting.shared import ridges
from augscale.reporting.shared.style import (
    BEST,
    CONTROLS,
    FAINT,
    INK,
    MUTED,
    OTHERS,
    UNTRAINED_COLOR,
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

PALETTE = (CONTROLS["strong"], BEST, CONTROLS["weak"], CONTROLS["weak+med"], *OTHERS)
ROW_PIXELS = 66
LEVEL_LENGTH = 17
SPIKE_SHARE = 0.95
"""Share of the positive pairs in one bin above which the density is a spike and is not drawn."""
OVERVIEW = ("pair_auroc", "dprime", "silhouette", "recall_at_1")
"""Metrics drawn over the levels."""


class CheckpointColors:
    """One color per checkpoint, the same in every figure; gray once the palette is used up."""

    def __init__(self, diagnosis: DiagnosisRecord) -> None:
        free = iter(PALETTE)
        self._colors = {
            c.name: UNTRAINED_COLOR if c.kind == "untrained" else next(free, MUTED) for c in diagnosis.checkpoints
        }

    def __getitem__(self, name: str) -> str:
        return self._colors.get(name, MUTED)


def distances(diagnosis: DiagnosisRecord, colors: CheckpointColors) -> Plot | None:
    """Distances at unit length, a panel per level and a row per checkpoint: rows can be compared."""
    shown = {level.name: _with_distances(diagnosis, level.name) for level in diagnosis.levels}
    every = [(c, c.levels[level].normalized) for level, rows in shown.items() for c in rows]
    if not every:
        return None
    # The spike of a collapsed network at 0 would flatten all other densities.
    wide = [histogram for c, histogram in every if not c.is_collapsed]
    bounds = axis_bounds(wide or [histogram for _, histogram in every], most=2.0)
    panels = []
    for level, rows in shown.items():
        if rows:
            ridge_rows = [_unit_ridge(c, level, colors[c.name]) for c in rows]
            figure = _ridges(ridge_rows, bounds, "distance at unit length (0 to 2)")
            panels.append(Panel(title=f"Views at {level}", figure=figure))
    return Plot(panels=tuple(panels), keys=_distance_keys(colors[diagnosis.checkpoints[0].name]))


def raw_distances(diagnosis: DiagnosisRecord, colors: CheckpointColors) -> Plot | None:
    """Distances of embeddings as they are, a panel per checkpoint and a row per level, each panel on its own axis."""
    panels = []
    for checkpoint in diagnosis.checkpoints:
        rows = [
            _Ridge(
                label=ridges.row_label(level.name, "", INK),
                histogram=found.raw,
                color=colors[checkpoint.name],
                means=_means(found.metrics, "raw_positive_mean", "raw_negative_mean"),
            )
            for level in diagnosis.levels
            if (found := checkpoint.levels.get(level.name)) is not None and found.raw.is_usable
        ]
        if rows:
            bounds = axis_bounds([row.histogram for row in rows])
            figure = _ridges(rows, bounds, "Euclidean distance, features as they are")
            panels.append(Panel(title=checkpoint.name, figure=figure))
    if not panels:
        return None
    return Plot(panels=tuple(panels), keys=_distance_keys(colors[diagnosis.checkpoints[0].name]))


def _with_distances(diagnosis: DiagnosisRecord, level: str) -> list[CheckpointRecord]:
    return [c for c in diagnosis.checkpoints if level in c.levels and c.levels[level].normalized.is_usable]


class _Ridge(NamedTuple):
    label: str
    histogram: Histogram
    color: str
    means: tuple[float | None, float | None]
    """Mean distances of positive and of negative pairs."""


def _unit_ridge(checkpoint: CheckpointRecord, level: str, color: str) -> _Ridge:
    found = checkpoint.levels[level]
    dprime, _ = metric_text(found.metrics.get("dprime"), places=2)
    return _Ridge(
        label=ridges.row_label(checkpoint.name, dprime, color),
        histogram=found.normalized,
        color=color,
        means=_means(found.metrics, "positive_mean", "negative_mean"),
    )


def _means(metrics: Mapping[str, Metric], positive: str, negative: str) -> tuple[float | None, float | None]:
    return metrics.get(positive, Metric()).value, metrics.get(negative, Metric()).value


def _ridges(rows: Sequence[_Ridge], bounds: tuple[float, float], title: str) -> go.Figure:
    """A ridge per row, the first on top; where the density cannot be drawn, a text says where the pairs are."""
    figure = new_figure(height=ROW_PIXELS * len(rows) + 60, left=94, right=10)
    upwards = list(reversed(rows))
    for place, row in enumerate(upwards):
        if is_drawable(row.histogram, bounds):
            ridges.ridge(figure, place, *curves(row.histogram), row.color, row.means)
        else:
            figure.add_annotation(
                x=0.03, xref="paper", xanchor="left", y=place + 0.3, showarrow=False,
                text=place_words(row.histogram, bounds), font={"color": MUTED, "size": 11},
            )  # fmt: skip
    ridges.finish(figure, [row.label for row in upwards], bounds, title)
    return figure


def curves(histogram: Histogram) -> tuple[ridges.Curve, ridges.Curve]:
    """Densities of positive and negative pairs."""
    return ridges.density(histogram.positive, histogram.edges), ridges.density(histogram.negative, histogram.edges)


def axis_bounds(histograms: Sequence[Histogram], most: float | None = None) -> tuple[float, float]:
    """A range of distances that shows all these densities."""
    xs = ridges.used([curve for histogram in histograms for curve in curves(histogram)])
    air = 0.04 * (max(xs) - min(xs)) or 0.05
    high = max(xs) + air
    return max(0.0, min(xs) - air), high if most is None else min(most, high)


def is_drawable(histogram: Histogram, bounds: tuple[float, float]) -> bool:
    """True if the positive pairs are spread over several bins and their median lies within the bounds."""
    spike = max(histogram.positive) > SPIKE_SHARE * sum(histogram.positive)
    return not spike and bounds[0] <= middle(histogram) <= bounds[1]


def place_words(histogram: Histogram, bounds: tuple[float, float]) -> str:
    """Text in place of a density that cannot be drawn."""
    at = f"at {value_text(middle(histogram), places=2)}"
    return f"pairs {at}" if bounds[0] <= middle(histogram) <= bounds[1] else f"outside: pairs {at}"


def middle(histogram: Histogram) -> float:
    """The center of the bin that contains the median of the positive pairs."""
    counts = accumulate(histogram.positive)
    reached = next(i for i, count in enumerate(counts) if 2 * count >= sum(histogram.positive))
    return (histogram.edges[reached] + histogram.edges[reached + 1]) / 2


def over_levels(diagnosis: DiagnosisRecord, colors: CheckpointColors) -> Plot | None:
    """The main metrics over the levels with their intervals, a panel per metric."""
    figures = [(key, figure) for key in OVERVIEW if (figure := _level_figure(diagnosis, key, colors)) is not None]
    if not figures:
        return None
    panels = tuple(Panel(title=diagnosis.meaning(key).label, figure=figure) for key, figure in figures)
    keys = [Key(label=c.name, color=colors[c.name], mark="dot") for c in diagnosis.checkpoints]
    drawn = any(key == "silhouette" for key, _ in figures)
    return Plot(panels=panels, keys=tuple(keys), notes=(PAPER_REMARK,) if drawn else ())


def spectra(diagnosis: DiagnosisRecord, colors: CheckpointColors) -> Plot | None:
    """Share of the variance along each principal direction, both axes logarithmic."""
    rows = [(c, spectrum_points(c)) for c in diagnosis.checkpoints]
    rows = [(c, points) for c, points in rows if points]
    if not rows:
        return None
    figure = new_figure(height=380, right=96, left=66)
    lows = [max(min(y for _, y in points), 1e-9) for _, points in rows]
    bounds = (math.log10(min(lows)) - 0.1, 0.08)
    labels = []
    for checkpoint, points in rows:
        color = colors[checkpoint.name]
        said = [hover(checkpoint.name, f"direction {x}: {100 * y:.3g} %") for x, y in points]
        xs, ys = zip(*points, strict=True)
        figure.add_trace(scatter(xs, ys, hover=said, mode="lines", line={"color": color, "width": 2}))
        labels.append((text(checkpoint.name), math.log10(points[-1][1]), color))
    label_margin(figure, labels, bounds)
    longest = max(len(points) for _, points in rows)
    figure.update_xaxes(
        title="principal direction", type="log", range=[-0.04, max(math.log10(longest), 0.3) + 0.04], dtick=1
    )
    figure.update_yaxes(title="share of the variance", type="log", range=bounds, **powers(bounds))
    keys = []
    for checkpoint, _ in rows:
        facts = [
            f"{diagnosis.meaning(key).label} {value_text(metric.value)}"
            for key in ("rankme", "stable_rank", "alpha_req")
            if (metric := checkpoint.overall.get(key)) and metric.value is not None
        ]
        label = f"{checkpoint.name}: {', '.join(facts)}" if facts else checkpoint.name
        keys.append(Key(label=label, color=colors[checkpoint.name], mark="line"))
    return Plot(panels=(Panel(title="", figure=figure),), keys=tuple(keys))


def powers(bounds: tuple[float, float]) -> dict[str, Any]:
    """Ticks at powers of ten, because plotly writes its own in a larger font than all other ticks."""
    exponents = range(math.ceil(bounds[0]), math.floor(bounds[1]) + 1)
    return {
        "tickvals": [10.0**e for e in exponents],
        "ticktext": [f"10<sup>{e}</sup>" if e else "1" for e in exponents],
    }


def spectrum_points(checkpoint: CheckpointRecord) -> list[tuple[int, float]]:
    """Direction, counted from 1, and its share; shares below a billionth are rounding and left out."""
    return [(rank, share) for rank, share in enumerate(checkpoint.spectrum, start=1) if share > 1e-9]


def _level_figure(diagnosis: DiagnosisRecord, key: str, colors: CheckpointColors) -> go.Figure | None:
    levels, label, count = diagnosis.levels, diagnosis.meaning(key).label, len(diagnosis.checkpoints)
    figure = new_figure(height=290, left=52, right=10, bottom=84 if len(levels) > 4 else 46)
    step = min(0.16, 0.7 / max(count, 1))
    every: list[float] = []
    for index, checkpoint in enumerate(diagnosis.checkpoints):
        found = _over_levels(checkpoint, levels, key, shift=(index - (count - 1) / 2) * step)
        for point in found:
            every += [point.value, *(point.interval or ())]
        _add_points(figure, found, checkpoint.name, label, colors[checkpoint.name])
    if not every:
        return None
    if key == "silhouette":
        every += PAPER_SILHOUETTES.values()
        _add_paper_lines(figure)
    figure.update_xaxes(
        range=[-0.55, len(levels) - 0.45],
        tickvals=list(range(len(levels))),
        ticktext=[text(level.name, LEVEL_LENGTH) for level in levels],
        showgrid=False,
        tickangle=0 if len(levels) <= 4 else -35,
    )
    figure.update_yaxes(range=robust_range([], every), nticks=6)
    return figure


class _Point(NamedTuple):
    x: float
    level: str
    value: float
    interval: tuple[float, float] | None
    words: tuple[str, str]
    """Value and interval as text."""


def _over_levels(checkpoint: CheckpointRecord, levels: Sequence[Level], key: str, *, shift: float) -> list[_Point]:
    points = []
    for place, level in enumerate(levels):
        metric = checkpoint.levels[level.name].metrics.get(key) if level.name in checkpoint.levels else None
        if metric is not None and metric.value is not None:
            points.append(_Point(place + shift, level.name, metric.value, metric.interval, metric_text(metric)))
    return points


def _add_points(figure: go.Figure, points: Sequence[_Point], name: str, label: str, color: str) -> None:
    for point in points:
        if point.interval:
            line = {"color": color, "width": 2}
            figure.add_trace(scatter([point.x, point.x], point.interval, mode="lines", line=line))
    texts = [hover(name, f"{label} {p.words[0]} at {text(p.level)}", p.words[1]) for p in points]
    figure.add_trace(scatter([p.x for p in points], [p.value for p in points], marker(color), texts))


def _add_paper_lines(figure: go.Figure) -> None:
    for name, value in PAPER_SILHOUETTES.items():
        figure.add_hline(y=value, line={"color": MUTED, "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=1, xref="paper", xanchor="right", y=value, yanchor="top" if name == "strong" else "bottom",
            text=f"paper, {name}", showarrow=False, font={"color": MUTED, "size": 10},
        )  # fmt: skip


def _distance_keys(color: str) -> tuple[Key, ...]:
    return (
        Key(label="colored: two views of one photograph (positive pairs)", color=color, mark="area"),
        Key(label="gray: photographs of different patients (negative pairs)", color=FAINT, mark="area"),
    )
