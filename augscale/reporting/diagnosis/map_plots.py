"""Maps of a diagnosis for its page: views of some images, and all images, in the plane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from augscale.records.diagnosis import DiagnosisRecord, PointMap
from augscale.reporting.diagnosis.plots import PALETTE
from augscale.reporting.shared.style import FAINT, SURFACE, Key, Panel, Plot, new_figure, scatter

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross")
MAPS = {
    "views_tsne": "Views, t-SNE",
    "views_pca": "Views, PCA",
    "images_tsne": "Images, t-SNE",
    "images_pca": "Images, PCA",
}
"""Title of each kind of map, in the order of the page."""


def map_plot(diagnosis: DiagnosisRecord, kind: str) -> Plot | None:
    """One kind of map, a panel per checkpoint. Points carry the row of their image for the thumbnails."""
    found = [(c, c.maps[kind]) for c in diagnosis.checkpoints if kind in c.maps]
    if not found:
        return None
    of_views = kind.startswith("views")
    labels = [image.label for image in diagnosis.images]
    panels = [
        Panel(title=c.name, figure=_view_groups(points) if of_views else _labelled(points, labels))
        for c, points in found
    ]
    levels = list(dict.fromkeys(points.level for _, points in found if points.level))
    notes = [f"Views at {', '.join(levels)}."] if levels else []
    if kind.endswith("tsne"):
        notes.append("t-SNE keeps neighbors together; distances between far groups and sizes of groups mean nothing.")
    collapsed = [c.name for c, points in found if len(set(points.xy)) == 1]
    if collapsed:
        notes.append(f"All points of {', '.join(collapsed)} lie in one place.")
    keys: list[Key] = []
    if not of_views:
        by_label = label_colors(labels)
        keys = [Key(label=name, color=color, mark="dot") for name, color in by_label.items()]
        if any(label not in by_label for label in labels) and by_label:
            keys.append(Key(label="other or no label", color=FAINT, mark="dot"))
    return Plot(panels=tuple(panels), keys=tuple(keys), notes=tuple(notes))


def square(points: PointMap) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges of x and y of equal length that contain all points, with a margin."""
    spans = [(min(values), max(values)) for values in zip(*points.xy, strict=True)]
    half = 0.55 * max(high - low for low, high in spans) or 0.5
    middles = [(low + high) / 2 for low, high in spans]
    return (middles[0] - half, middles[0] + half), (middles[1] - half, middles[1] + half)


def spokes(points: PointMap) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Lines from the mean of each image's views to each view, so that a group is visible without its color."""
    groups: dict[int, list[tuple[float, float]]] = {}
    for image, place in zip(points.images, points.xy, strict=True):
        groups.setdefault(image, []).append(place)
    lines = []
    for places in groups.values():
        middle = (sum(x for x, _ in places) / len(places), sum(y for _, y in places) / len(places))
        lines += [(middle, place) for place in places if len(places) > 1]
    return lines


def _view_groups(points: PointMap) -> go.Figure:
    figure = _map_figure(points)
    xs: list[float | None] = []
    ys: list[float | None] = []
    for (x0, y0), (x1, y1) in spokes(points):
        xs += [x0, x1, None]
        ys += [y0, y1, None]
    figure.add_trace(scatter(xs, ys, mode="lines", line={"color": FAINT, "width": 1}))
    order = {image: index for index, image in enumerate(dict.fromkeys(points.images))}
    looks = [group_look(order[image]) for image in points.images]
    figure.add_trace(_points(points, [color for color, _ in looks], [symbol for _, symbol in looks], 8))
    return figure


def _labelled(points: PointMap, labels: Sequence[str | None]) -> go.Figure:
    figure = _map_figure(points)
    by_label = label_colors(labels)
    own = [labels[row] if 0 <= row < len(labels) else None for row in points.images]
    unlabelled = FAINT if by_label else PALETTE[0]
    figure.add_trace(_points(points, [by_label.get(str(label), unlabelled) for label in own], "circle", 7))
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


def group_look(index: int) -> tuple[str, str]:
    """Color and symbol of the n-th image on a map of views; the combinations repeat after 35 images."""
    return PALETTE[index % len(PALETTE)], SYMBOLS[index // len(PALETTE) % len(SYMBOLS)]


def label_colors(labels: Sequence[str | None]) -> dict[str, str]:
    """A color for each of the most frequent labels, in the order of their names; the others are gray."""
    counts = Counter(label for label in labels if label is not None)
    kept = sorted(name for name, _ in counts.most_common(len(PALETTE)))
    return dict(zip(kept, PALETTE, strict=False))
