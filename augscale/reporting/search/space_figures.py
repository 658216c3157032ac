"""Figures of the searched space: score over each parameter, and over crops and jitter together.

Each function returns a `Plot`, or None where there is nothing to draw yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from augscale.records.metrics import score_label
from augscale.records.trial import TrialRecord
from augscale.reporting.search.figures import Range, left_out, scores, trial_hover
from augscale.reporting.search.results import RunResults
from augscale.reporting.shared.style import (
    FAINT,
    INK,
    LEAST_SCORES,
    LINE_PIXELS,
    MUTED,
    Colors,
    Key,
    Panel,
    Plot,
    marker,
    new_figure,
    plot_height,
    robust_range,
    scatter,
    spread,
    text,
)
from augscale.reporting.shared.wording import is_area, parameter_label

LABEL_OFFSET_PIXELS = 24


@dataclass(frozen=True, kw_only=True)
class NamedPoint:
    """The best or a control, marked and named in a plane."""

    name: str
    x: float
    y: float
    hover: str


def slices(run: RunResults, colors: Colors) -> Plot | None:
    """Score over each searched parameter; controls are marked where they lie in the space."""
    usable = [t for t in run.trials if t.is_usable]
    shares = run.answer.importance if run.answer else {}
    names = sorted({name for t in usable for name in t.params}, key=lambda name: (-shares.get(name, 0.0), name))
    if not names:
        return None
    marked = [t for t in run.best_and_controls if t.is_usable]
    bounds = robust_range(scores(usable), scores(marked), LEAST_SCORES)
    label = score_label(run.score_name)
    panels = tuple(_slice(name, usable, marked, bounds, colors, label) for name in names)
    keys = [Key(label="a complete trial", color=MUTED, mark="dot")]
    outside = [t.name for t in marked if not t.params]
    notes = left_out(scores(usable), bounds, "trials")
    if outside:
        notes += (f"Outside the searched space, so not marked: {', '.join(outside)}.",)
    return Plot(panels=panels, keys=tuple(keys), notes=notes)


def crop_jitter_map(run: RunResults, colors: Colors) -> Plot | None:
    """Every trial at its smallest global crop and jitter strength, colored by score."""
    placed = [(t, place) for t in run.trials if (place := _place(t)) and t.state != "FAIL"]
    usable = [(t, place) for t, place in placed if t.is_usable]
    if not usable:
        return None
    label = score_label(run.score_name)
    values = scores(t for t, _ in usable)
    low, high = robust_range(values, least=LEAST_SCORES)
    figure = new_figure(height=400, right=74)
    bounds = robust_range([], [y for _, (_, y) in placed])
    crops = robust_range([], [x for _, (x, _) in placed])
    figure.update_xaxes(title="smallest global crop (% of the image area)", range=crops)
    figure.update_yaxes(title="jitter strength (brightness, ± factor)", range=bounds)
    rest = [(t, place) for t, place in placed if not t.is_usable]
    figure.add_trace(_map_points(rest, label, {"symbol": "circle-open", "size": 7, "color": FAINT}))
    colored = {"color": values, "colorscale": "Cividis", "cmin": low, "cmax": high, "colorbar": _color_bar(label)}
    figure.add_trace(_map_points(usable, label, colored | {"size": 12, "line": {"color": INK, "width": 0.6}}))
    places = {t.number: place for t, place in placed}
    points = [
        NamedPoint(name=t.name, x=places[t.number][0], y=places[t.number][1], hover=trial_hover(t, label))
        for t in run.best_and_controls
        if t.number in places
    ]
    _mark(figure, points, colors, bounds, filled=False)
    keys = (Key(label="not scored at full length, or collapsed", color=FAINT, mark="ring"),) if rest else ()
    return Plot(panels=(Panel(title="", figure=figure),), keys=keys)


def _slice(
    name: str, usable: Sequence[TrialRecord], marked: Sequence[TrialRecord], bounds: Range, colors: Colors, label: str
) -> Panel:
    factor = 100 if is_area(name) else 1
    title, unit = parameter_label(name)
    figure = new_figure(height=270, left=60, right=12)
    inside = [t for t in usable if name in t.params]
    plain = [t for t in inside if t not in marked]
    xs = [factor * t.params[name] for t in inside]
    figure.update_xaxes(title=unit or title, range=robust_range([], xs), nticks=6)
    figure.update_yaxes(title=f"score ({label})", range=bounds, nticks=6)
    texts = [trial_hover(t, label) for t in plain]
    places = [factor * t.params[name] for t in plain]
    figure.add_trace(scatter(places, scores(plain), marker(MUTED, size=7), texts, opacity=0.75))
    points = [
        NamedPoint(name=t.name, x=factor * t.params[name], y=t.score or 0.0, hover=trial_hover(t, label))
        for t in marked
        if t in inside
    ]
    _mark(figure, points, colors, bounds)
    return Panel(title=title, figure=figure)


def _map_points(
    placed: Sequence[tuple[TrialRecord, tuple[float, float]]], label: str, look: dict[str, Any]
) -> go.Scatter:
    xs, ys = [x for _, (x, _) in placed], [y for _, (_, y) in placed]
    return scatter(xs, ys, look, [trial_hover(t, label) for t, _ in placed], cliponaxis=False)


def _color_bar(label: str) -> dict[str, Any]:
    title = {"text": f"score<br>({label})"}
    return {"title": title, "thickness": 10, "len": 0.9, "outlinewidth": 0, "tickfont": {"color": MUTED}}


def _mark(
    figure: go.Figure, points: Sequence[NamedPoint], colors: Colors, bounds: Range, *, filled: bool = True
) -> None:
    """Marks the best and the controls, with names beside them that do not overlap."""
    if not points:
        return
    for point in points[::-1]:
        symbol, size = colors.symbol(point.name), colors.size(point.name)
        look = marker(colors[point.name], symbol, size)
        if not filled:
            look = {"symbol": f"{symbol}-open", "size": size + 6, "color": colors[point.name], "line": {"width": 2.2}}
        figure.add_trace(scatter([point.x], [point.y], look, [point.hover], cliponaxis=False))
    low, high = figure.layout.xaxis.range
    pixel = (bounds[1] - bounds[0]) / plot_height(figure)
    heights = spread([p.y for p in points], LINE_PIXELS * pixel, bounds[0], bounds[1] - 8 * pixel)
    for point, y in zip(points, heights, strict=True):
        on_left_half = point.x < (low + high) / 2
        figure.add_annotation(
            x=point.x,
            y=point.y,
            ax=LABEL_OFFSET_PIXELS if on_left_half else -LABEL_OFFSET_PIXELS,
            ay=-(y - point.y) / pixel,
            xanchor="left" if on_left_half else "right",
            text=f"<b>{text(point.name)}</b>",
            font={"color": colors[point.name], "shadow": "auto"},
            showarrow=True,
            arrowhead=0,
            arrowwidth=1,
            arrowcolor=colors[point.name],
            standoff=6,
        )


def _place(trial: TrialRecord) -> tuple[float, float] | None:
    """Smallest global crop in percent and jitter strength; None where the scales do not say."""
    crop, jitter = trial.scales.get("global_crops_scale"), trial.scales.get("brightness")
    if not isinstance(crop, (list, tuple)) or not crop or not isinstance(jitter, (int, float)):
        return None
    return 100 * float(crop[0]), float(jitter)
