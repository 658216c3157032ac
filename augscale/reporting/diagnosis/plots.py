"""Figures of a diagnosis for its page: distances, metrics over the levels, spectra and maps.

Each function returns a `Plot`, or None where there is nothing to draw.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import plotly.graph_objects as go

from augscale.reporting.diagnosis.records import CheckpointResult, Diagnosis, Histogram, PointMap
from augscale.reporting.diagnosis.wording import PAPER_REMARK, PAPER_SILHOUETTES, metric_text, value_text
from augscale.reporting.shared import ridges
from augscale.reporting.shared.style import (
    BEST,
    CONTROLS,
    FAINT,
    INK,
    MUTED,
    OTHERS,
    SURFACE,
    UNTRAINED_COLOR,
    Key,
    Panel,
    Plot,
    hover,
    label_margin,
    new_figure,
    robust_range,
    text,
)

PALETTE = (CONTROLS["strong"], BEST, CONTROLS["weak"], CONTROLS["weak+med"], *OTHERS)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross")
ROW_PIXELS = 66
LEVEL_LENGTH = 17
NEEDLE = 0.95
"""From this share of the positive pairs in one bin on, there is no hump to draw."""
OVERVIEW = ("pair_auroc", "dprime", "silhouette", "recall_at_1")
"""Metrics drawn over the levels."""
MAPS = {
    "views_tsne": "Views, t-SNE",
    "views_pca": "Views, PCA",
    "images_tsne": "Images, t-SNE",
    "images_pca": "Images, PCA",
}


class CheckpointColors:
    """One colour per checkpoint, the same in every figure; more than the palette has are grey."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        free = iter(PALETTE)
        self._colors = {
            c.name: UNTRAINED_COLOR if c.facts.get("kind") == "untrained" else next(free, MUTED)
            for c in diagnosis.checkpoints
        }

    def __getitem__(self, name: str) -> str:
        return self._colors.get(name, MUTED)


def group_look(index: int) -> tuple[str, str]:
    """Colour and symbol of the n-th image on a map of views: a pair repeats after 35 images."""
    return PALETTE[index % len(PALETTE)], SYMBOLS[index // len(PALETTE) % len(SYMBOLS)]


def label_colors(labels: Sequence[str | None]) -> dict[str, str]:
    """A colour for each of the most frequent labels; the others are grey. In the order of their names."""
    counts = Counter(label for label in labels if label is not None)
    kept = sorted(name for name, _ in counts.most_common(len(PALETTE)))
    return dict(zip(kept, PALETTE, strict=False))


def distances(diagnosis: Diagnosis, colors: CheckpointColors) -> Plot | None:
    """Distances at unit length, a panel per level and a row per checkpoint: rows can be compared."""
    panels = []
    shown = [
        (level, rows)
        for level, _ in diagnosis.levels
        if (rows := [(c, c.levels[level].normalized) for c in diagnosis.checkpoints if _has(c, level, raw=False)])
    ]
    if not shown:
        return None
    # The needle of a collapsed network at 0 would squeeze all others.
    wide = [histogram for _, rows in shown for c, histogram in rows if not c.is_collapsed]
    bounds = axis_bounds(wide or [histogram for _, rows in shown for _, histogram in rows], most=2.0)
    for level, rows in shown:
        figure = new_figure(height=ROW_PIXELS * len(rows) + 60, left=94, right=10)
        ticks = []
        for row, (checkpoint, histogram) in enumerate(reversed(rows)):
            metrics, color = checkpoint.levels[level].metrics, colors[checkpoint.name]
            value, _ = metric_text(metrics.get("dprime"), places=2)
            ticks.append(ridges.row_label(checkpoint.name, value, color))
            means = [m.value if (m := metrics.get(f"{side}_mean")) else None for side in ("positive", "negative")]
            if not is_drawable(histogram, bounds):
                _say(figure, row, place_words(histogram, bounds))
                continue
            ridges.ridge(figure, row, *curves(histogram), color, (means[0], means[1]))
        ridges.finish(figure, ticks, bounds, "distance at unit length (0 to 2)")
        panels.append(Panel(title=f"Views at {level}", figure=figure))
    first = colors[diagnosis.checkpoints[0].name]
    return Plot(panels=tuple(panels), keys=_distance_keys(first))


def raw_distances(diagnosis: Diagnosis, colors: CheckpointColors) -> Plot | None:
    """Distances of embeddings as they are, a panel per checkpoint and a row per level, each panel on its own axis."""
    panels = []
    for checkpoint in diagnosis.checkpoints:
        rows = [level for level, _ in diagnosis.levels if _has(checkpoint, level, raw=True)]
        if not rows:
            continue
        figure = new_figure(height=ROW_PIXELS * len(rows) + 60, left=94, right=10)
        bounds = axis_bounds([checkpoint.levels[level].raw for level in rows])
        ticks = []
        for row, level in enumerate(reversed(rows)):
            found = checkpoint.levels[level]
            means = [m.value if (m := found.metrics.get(f"raw_{s}_mean")) else None for s in ("positive", "negative")]
            ticks.append(ridges.row_label(level, "", INK))
            if not is_drawable(found.raw, bounds):
                _say(figure, row, place_words(found.raw, bounds))
                continue
            ridges.ridge(figure, row, *curves(found.raw), colors[checkpoint.name], (means[0], means[1]))
        ridges.finish(figure, ticks, bounds, "Euclidean distance, features as they are")
        panels.append(Panel(title=checkpoint.name, figure=figure))
    first = colors[diagnosis.checkpoints[0].name] if panels else MUTED
    return Plot(panels=tuple(panels), keys=_distance_keys(first)) if panels else None


def curves(histogram: Histogram) -> tuple[ridges.Curve, ridges.Curve]:
    """Densities of positive and negative pairs."""
    return ridges.density(histogram.positive, histogram.edges), ridges.density(histogram.negative, histogram.edges)


def axis_bounds(histograms: Sequence[Histogram], most: float | None = None) -> tuple[float, float]:
    """A range of distances in which all these densities are seen."""
    xs = ridges.used([curve for histogram in histograms for curve in curves(histogram)])
    air = 0.04 * (max(xs) - min(xs)) or 0.05
    high = max(xs) + air
    return max(0.0, min(xs) - air), high if most is None else min(most, high)


def is_drawable(histogram: Histogram, bounds: tuple[float, float]) -> bool:
    """Whether the hump of the positive pairs is one, and within a range of distances."""
    needle = max(histogram.positive) > NEEDLE * sum(histogram.positive)
    return not needle and bounds[0] <= middle(histogram) <= bounds[1]


def place_words(histogram: Histogram, bounds: tuple[float, float]) -> str:
    """Said in place of a hump that cannot be drawn."""
    at = f"at {value_text(middle(histogram), places=2)}"
    return f"pairs {at}" if bounds[0] <= middle(histogram) <= bounds[1] else f"outside: pairs {at}"


def middle(histogram: Histogram) -> float:
    """The bin centre at which half of the positive pairs are reached."""
    counts = accumulate(histogram.positive)
    reached = next(i for i, count in enumerate(counts) if 2 * count >= sum(histogram.positive))
    return (histogram.edges[reached] + histogram.edges[reached + 1]) / 2


def over_levels(diagnosis: Diagnosis, colors: CheckpointColors) -> Plot | None:
    """The main metrics over the levels with their intervals, a panel per metric."""
    levels = [name for name, _ in diagnosis.levels]
    figures = [(key, f) for key in OVERVIEW if (f := _level_figure(diagnosis, key, levels, colors)) is not None]
    if not figures:
        return None
    panels = tuple(Panel(title=diagnosis.meaning(key).label, figure=figure) for key, figure in figures)
    keys = [Key(label=c.name, color=colors[c.name], mark="dot") for c in diagnosis.checkpoints]
    drawn = any(key == "silhouette" for key, _ in figures)
    return Plot(panels=panels, keys=tuple(keys), notes=(PAPER_REMARK,) if drawn else ())


def spectra(diagnosis: Diagnosis, colors: CheckpointColors) -> Plot | None:
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
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in points], y=[y for _, y in points], mode="lines", text=said, hoverinfo="text",
                line={"color": color, "width": 2},
            )
        )  # fmt: skip
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
    """Ticks at powers of ten; plotly's own would be written larger than all other ticks."""
    exponents = range(math.ceil(bounds[0]), math.floor(bounds[1]) + 1)
    return {
        "tickvals": [10.0**e for e in exponents],
        "ticktext": [f"10<sup>{e}</sup>" if e else "1" for e in exponents],
    }


def spectrum_points(checkpoint: CheckpointResult) -> list[tuple[int, float]]:
    """Direction, counted from 1, and its share; shares below a billionth are rounding and left out."""
    return [(rank, share) for rank, share in enumerate(checkpoint.spectrum, start=1) if share > 1e-9]


def maps(diagnosis: Diagnosis, kind: str) -> Plot | None:
    """One kind of map, a panel per checkpoint. Points carry the row of their image for the thumbnails."""
    found = [(c, c.maps[kind]) for c in diagnosis.checkpoints if kind in c.maps]
    if not found:
        return None
    draw = _view_groups if kind.startswith("views") else _labelled
    panels = [Panel(title=c.name, figure=draw(diagnosis, points)) for c, points in found]
    levels = list(dict.fromkeys(points.level for _, points in found if points.level))
    notes = [f"Views at {', '.join(levels)}."] if levels else []
    if kind.endswith("tsne"):
        notes.append("t-SNE keeps neighbours together; distances between far groups and sizes of groups mean nothing.")
    collapsed = [c.name for c, points in found if len(set(points.xy)) == 1]
    if collapsed:
        notes.append(f"All points of {', '.join(collapsed)} lie in one place.")
    keys: list[Key] = []
    if not kind.startswith("views"):
        labels = [image.label for image in diagnosis.images]
        by_label = label_colors(labels)
        keys = [Key(label=name, color=color, mark="dot") for name, color in by_label.items()]
        if any(label not in by_label for label in labels) and by_label:
            keys.append(Key(label="other or no label", color=FAINT, mark="dot"))
    return Plot(panels=tuple(panels), keys=tuple(keys), notes=tuple(notes))


def square(points: PointMap) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges of x and y of one length, with some air, that hold all points."""
    spans = [(min(values), max(values)) for values in zip(*points.xy, strict=True)]
    half = 0.55 * max(high - low for low, high in spans) or 0.5
    middles = [(low + high) / 2 for low, high in spans]
    return (middles[0] - half, middles[0] + half), (middles[1] - half, middles[1] + half)


def spokes(points: PointMap) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Lines from the middle of each image's views to each view, so that a group is seen without its colour."""
    groups: dict[int, list[tuple[float, float]]] = {}
    for image, place in zip(points.images, points.xy, strict=True):
        groups.setdefault(image, []).append(place)
    lines = []
    for places in groups.values():
        middle = (sum(x for x, _ in places) / len(places), sum(y for _, y in places) / len(places))
        lines += [(middle, place) for place in places if len(places) > 1]
    return lines


def _view_groups(diagnosis: Diagnosis, points: PointMap) -> go.Figure:
    figure = _map_figure(points)
    xs: list[float | None] = []
    ys: list[float | None] = []
    for (x0, y0), (x1, y1) in spokes(points):
        xs += [x0, x1, None]
        ys += [y0, y1, None]
    figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line={"color": FAINT, "width": 1}, hoverinfo="skip"))
    order = {image: index for index, image in enumerate(dict.fromkeys(points.images))}
    looks = [group_look(order[image]) for image in points.images]
    figure.add_trace(_points(points, [color for color, _ in looks], [symbol for _, symbol in looks], 8))
    return figure


def _labelled(diagnosis: Diagnosis, points: PointMap) -> go.Figure:
    figure = _map_figure(points)
    by_label = label_colors([image.label for image in diagnosis.images])
    images = diagnosis.images
    labels = [images[row].label if 0 <= row < len(images) else None for row in points.images]
    nothing = FAINT if by_label else PALETTE[0]
    figure.add_trace(_points(points, [by_label.get(str(label), nothing) for label in labels], "circle", 7))
    return figure


def _points(points: PointMap, color: Any, symbol: Any, size: int) -> go.Scatter:
    return go.Scatter(
        x=[x for x, _ in points.xy],
        y=[y for _, y in points.xy],
        mode="markers",
        marker={"color": color, "symbol": symbol, "size": size, "line": {"color": SURFACE, "width": 0.7}},
        customdata=list(points.images),
        # The page's own script shows the thumbnail, name and label as text; plotly would read them as markup.
        hoverinfo="none",
    )


def _map_figure(points: PointMap) -> go.Figure:
    figure = new_figure(height=350, left=8, right=8, top=8, bottom=8)
    look = {"showticklabels": False, "ticks": "", "showgrid": False, "mirror": True, "showline": True}
    (left, right), (low, high) = square(points)
    figure.update_xaxes(range=[left, right], title=None, **look)
    figure.update_yaxes(range=[low, high], title=None, **look)
    figure.update_yaxes(scaleanchor="x", constrain="domain")
    figure.update_xaxes(constrain="domain")
    return figure


def _level_figure(diagnosis: Diagnosis, key: str, levels: Sequence[str], colors: CheckpointColors) -> go.Figure | None:
    figure = new_figure(height=290, left=52, right=10, bottom=84 if len(levels) > 4 else 46)
    label, count = diagnosis.meaning(key).label, len(diagnosis.checkpoints)
    step = min(0.16, 0.7 / max(count, 1))
    every: list[float] = []
    for index, checkpoint in enumerate(diagnosis.checkpoints):
        shift = (index - (count - 1) / 2) * step
        found = [
            (place + shift, level, metric)
            for place, level in enumerate(levels)
            if level in checkpoint.levels
            and (metric := checkpoint.levels[level].metrics.get(key)) is not None
            and metric.value is not None
        ]
        for x, _, metric in found:
            every.append(metric.value or 0.0)
            if metric.interval:
                every += metric.interval
                figure.add_trace(
                    go.Scatter(
                        x=[x, x], y=list(metric.interval), mode="lines", hoverinfo="skip",
                        line={"color": colors[checkpoint.name], "width": 2},
                    )
                )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=[x for x, _, _ in found],
                y=[metric.value for _, _, metric in found],
                mode="markers",
                marker={"color": colors[checkpoint.name], "size": 8, "line": {"color": SURFACE, "width": 1}},
                text=[
                    hover(checkpoint.name, f"{label} {metric_text(metric)[0]} at {text(level)}", metric_text(metric)[1])
                    for _, level, metric in found
                ],
                hoverinfo="text",
            )
        )
    if not every:
        return None
    if key == "silhouette":
        every += PAPER_SILHOUETTES.values()
        for name, value in PAPER_SILHOUETTES.items():
            figure.add_hline(y=value, line={"color": MUTED, "width": 1, "dash": "dot"})
            figure.add_annotation(
                x=1, xref="paper", xanchor="right", y=value, yanchor="top" if name == "strong" else "bottom",
                text=f"paper, {name}", showarrow=False,
                font={"color": MUTED, "size": 10},
            )  # fmt: skip
    figure.update_xaxes(
        range=[-0.55, len(levels) - 0.45],
        tickvals=list(range(len(levels))),
        ticktext=[text(level, LEVEL_LENGTH) for level in levels],
        showgrid=False,
        tickangle=0 if len(levels) <= 4 else -35,
    )
    figure.update_yaxes(range=robust_range([], every), nticks=6)
    return figure


def _say(figure: go.Figure, row: int, words: str) -> None:
    """Words in a row of a ridge plot instead of a ridge."""
    figure.add_annotation(
        x=0.03, xref="paper", xanchor="left", y=row + 0.3, showarrow=False, text=words,
        font={"color": MUTED, "size": 11},
    )  # fmt: skip


def _has(checkpoint: CheckpointResult, level: str, *, raw: bool) -> bool:
    found = checkpoint.levels.get(level)
    return found is not None and (found.raw if raw else found.normalized).is_usable


def _distance_keys(color: str) -> tuple[Key, ...]:
    return (
        Key(label="coloured: two views of one photograph (positive pairs)", color=color, mark="area"),
        Key(label="grey: photographs of different patients (negative pairs)", color=FAINT, mark="area"),
    )
