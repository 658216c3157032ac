"""Figures of the best beside the controls: fresh seeds, pair distances, and the course of training.

Each function returns a `Plot`, or None where there is nothing to draw yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from augscale.config import StudyConfig
from augscale.records.answer import ContenderRecord
from augscale.records.metrics import score_label
from augscale.reporting.search.results import RunResults
from augscale.reporting.shared import ridges
from augscale.reporting.shared.style import (
    FAINT,
    INK,
    LEAST_SCORES,
    MUTED,
    SURFACE,
    UNTRAINED_COLOR,
    Colors,
    Key,
    Panel,
    Plot,
    hover,
    label_margin,
    label_rows,
    marker,
    new_figure,
    robust_range,
    scatter,
    text,
)
from augscale.reporting.shared.wording import UNTRAINED, UNTRAINED_WORDS, interval, number, signed

ROW_PIXELS = 46
SEED_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "pentagon")


def confirmation(run: RunResults, colors: Colors) -> Plot | None:
    """Scores on fresh seeds, and their differences to the best, paired by seed."""
    if run.answer is None:
        return None
    best = run.best
    confirmed = [c for c in run.answer.contenders if c.confirm_scores]
    rows = sorted(confirmed, key=lambda c: (c is best, c.confirm_mean if c.confirm_mean is not None else -math.inf))
    if not rows:
        return None
    label = score_label(run.score_name)
    panels = [Panel(title="Score on fresh seeds", figure=_seed_scores(run, rows, colors, label))]
    compared = [c for c in rows if c.versus_best]
    if compared:
        title = f"Difference to {best.name if best else 'the best'}, paired by seed"
        panels.append(Panel(title=title, figure=_differences(rows, colors, label)))
    keys = [
        Key(label="one seed (same shape = same seed)", color=MUTED, mark="dot"),
        Key(label="mean and 95 % interval", color=INK, mark="bar"),
    ]
    if any(c.search_score is not None for c in rows):
        keys.append(Key(label="score in the search (one seed)", color=FAINT, mark="cross"))
    if run.answer.untrained:
        keys.append(Key(label=f"{UNTRAINED_WORDS}, mean of these seeds", color=UNTRAINED_COLOR, mark="dotted"))
    return Plot(panels=tuple(panels), keys=tuple(keys))


def densities(run: RunResults, colors: Colors) -> Plot | None:
    """Distances of positive and negative pairs, a panel per level and a row per model (after the paper's Figure 2).

    The paper shows distances that are not normalized, each model on its own views. Here all models see the same views
    and embeddings have length 1, so that the rows can be compared.
    """
    best = run.best_trial
    scored = [(t.name, t is best, t.final) for t in run.best_and_controls if t.final]
    scored += [(UNTRAINED, False, run.untrained)] if run.untrained and scored else []
    scored.sort(key=lambda row: (not row[1], -row[2].score))
    by_place = {
        (name, level_name): level
        for name, _, panel in scored
        for level_name, level in panel.levels.items()
        if ridges.has_histogram((level.positive_histogram, level.negative_histogram), level.histogram_edges)
    }
    rows = list(dict.fromkeys(name for name, _ in by_place))[::-1]
    if not rows:
        return None
    curves = {
        place: tuple(ridges.density(h, v.histogram_edges) for h in (v.positive_histogram, v.negative_histogram))
        for place, v in by_place.items()
    }
    used = ridges.used([curve for pair in curves.values() for curve in pair])
    bounds = (max(0.0, min(used) - 0.05), min(2.0, max(used) + 0.05))
    panels = []
    for name in dict.fromkeys(level_name for _, level_name in by_place):
        figure = new_figure(height=ROW_PIXELS * len(rows) * 3 // 2 + 60, left=94, right=10)
        ticks = []
        for row, contender in enumerate(rows):
            level = by_place.get((contender, name))
            separation = level.separation(run.score_name) if level else None
            ticks.append(ridges.row_label(contender, number(separation, 2), colors[contender]))
            if level:
                positive, negative = curves[contender, name]
                means = (level.positive_mean, level.negative_mean)
                ridges.ridge(figure, row, positive, negative, colors[contender], means)
        ridges.finish(figure, ticks, bounds, "distance of embeddings (0 to 2)")
        panels.append(Panel(title=f"Views at {name}", figure=figure))
    keys = (
        Key(label="colored: two views of one photograph (positive pairs)", color=colors[rows[-1]], mark="area"),
        Key(label="gray: different photographs (negative pairs)", color=FAINT, mark="area"),
    )
    return Plot(panels=tuple(panels), keys=keys)


def training(run: RunResults, colors: Colors) -> Plot | None:
    """Loss and information of the best and the controls over the steps."""
    trials = run.best_and_controls
    losses = [(t.name, t.loss_history) for t in trials if t.loss_history]
    information = [
        (t.name, [(r.step, r.information) for r in t.rungs if r.information is not None])
        for t in trials
        if any(r.information is not None for r in t.rungs)
    ]
    panels = []
    if losses:
        ceiling = _loss_ceiling(run)
        figure = _curves(losses, colors, f"{run.method_name} loss (nats)", keep=[ceiling] if ceiling else [])
        if ceiling:
            figure.add_hline(y=ceiling, line={"color": MUTED, "width": 1, "dash": "dash"})
            figure.add_annotation(
                x=0, xref="paper", xanchor="left", y=ceiling, yanchor="bottom", showarrow=False,
                text=f"nothing learned: {number(ceiling)}", font={"color": MUTED, "size": 11},
            )  # fmt: skip
        panels.append(Panel(title="Loss", figure=figure))
    if information:
        threshold = _threshold(run)
        figure = _curves(information, colors, "information (nats)", mode="lines+markers", keep=[0.0])
        if threshold:
            figure.add_hline(y=threshold, line={"color": MUTED, "width": 1, "dash": "dash"})
        panels.append(Panel(title="Information in the outputs", figure=figure))
    return Plot(panels=tuple(panels)) if panels else None


def _seed_scores(run: RunResults, rows: Sequence[ContenderRecord], colors: Colors, label: str) -> go.Figure:
    figure = _rows_figure(rows, colors)
    every: list[float] = []
    if run.answer and (before := run.answer.untrained):
        every.append(before.score)
        figure.add_vline(x=before.score, line={"color": UNTRAINED_COLOR, "width": 1.2, "dash": "dash"})
    for row, contender in enumerate(rows):
        color, scores, seeds = colors[contender.name], contender.confirm_scores, _seeds(run, contender)
        mean, bounds = contender.confirm_mean, contender.confirm_interval
        every += [*scores, *(bounds or ())]
        if bounds:
            figure.add_trace(_bar(bounds, row, color))
        if mean is not None:
            text_ = hover(contender.name, f"mean {number(mean)} {label}", interval(bounds))
            figure.add_trace(_point(mean, row, marker(color, "line-ns", 14, edge=color, edge_width=3), text_))
        look = marker(color, size=8) | {"symbol": [SEED_SYMBOLS[s % len(SEED_SYMBOLS)] for s in seeds]}
        texts = [
            hover(contender.name, f"seed {s + 1}: {number(x)} {label}") for s, x in zip(seeds, scores, strict=True)
        ]
        figure.add_trace(scatter(scores, [row + 0.2] * len(scores), look, texts, opacity=0.85))
        if contender.search_score is not None:
            every.append(contender.search_score)
            look = {"symbol": "x-thin", "size": 7, "line": {"color": FAINT, "width": 2}}
            text_ = hover(contender.name, f"in the search: {number(contender.search_score)} {label}")
            figure.add_trace(_point(contender.search_score, row - 0.22, look, text_))
    figure.update_xaxes(title=f"score ({label})", range=robust_range([], every, LEAST_SCORES), nticks=6)
    return figure


def _differences(rows: Sequence[ContenderRecord], colors: Colors, label: str) -> go.Figure:
    figure = _rows_figure(rows, colors)
    every: list[float] = [0.0]
    verdicts: list[tuple[float, int, str]] = []
    figure.add_vline(x=0, line={"color": MUTED, "width": 1, "dash": "dash"})
    for row, contender in enumerate(rows):
        versus, color = contender.versus_best, colors[contender.name]
        if versus is None:
            continue
        every += [versus.difference, *versus.interval]
        figure.add_trace(_bar(versus.interval, row, color))
        bounds = interval(versus.interval, sign=True)
        text_ = hover(contender.name, f"{signed(versus.difference)} {label}", bounds, versus.verdict)
        look = marker(color if versus.distinguishable else SURFACE, "circle", 11, edge=color, edge_width=2)
        figure.add_trace(_point(versus.difference, row, look, text_))
        verdicts.append((versus.difference, row, versus.verdict))
    low, high = robust_range([], every)
    for x, row, words in verdicts:
        # Towards the middle, so that no verdict leaves a narrow plot.
        side, shift = ("right", 8) if x > (low + high) / 2 else ("left", -8)
        figure.add_annotation(
            x=x, y=row, xanchor=side, xshift=shift, yshift=12, yanchor="bottom", text=words, showarrow=False,
            font={"size": 11, "color": MUTED},
        )  # fmt: skip
    figure.update_xaxes(title=f"score difference ({label})", range=(low, high), nticks=6)
    return figure


def _rows_figure(rows: Sequence[ContenderRecord], colors: Colors) -> go.Figure:
    figure = new_figure(height=ROW_PIXELS * len(rows) + 62, left=94, right=14)
    label_rows(figure, [ridges.row_label(c.name, "", colors[c.name]) for c in rows])
    return figure


def _bar(bounds: tuple[float, float], row: float, color: str) -> go.Scatter:
    return scatter(bounds, [row, row], mode="lines", line={"color": color, "width": 2.5})


def _point(x: float, y: float, look: dict[str, Any], hover_text: str) -> go.Scatter:
    return scatter([x], [y], look, [hover_text])


def _seeds(run: RunResults, contender: ContenderRecord) -> list[int]:
    """The seed of each score. Failed runs leave gaps, which only the records of the runs show."""
    by_score = {
        t.score: t.seed_index for t in run.confirmations if t.number == contender.number and t.score is not None
    }
    found = [by_score.get(score) for score in contender.confirm_scores]
    return [index if seed is None else seed for index, seed in enumerate(found)]


def _curves(
    series: Sequence[tuple[str, Sequence[tuple[int, float]]]],
    colors: Colors,
    title: str,
    *,
    keep: Sequence[float],
    mode: str = "lines",
) -> go.Figure:
    figure = new_figure(height=270, right=90)
    values = [y for _, points in series for _, y in points]
    bounds = robust_range([], [*values, *keep])
    labels = []
    for name, points in series[::-1]:
        color = colors[name]
        texts = [hover(name, f"step {step}: {number(y)}") for step, y in points]
        line = {"color": color, "width": 2}
        xs, ys = [step for step, _ in points], [y for _, y in points]
        figure.add_trace(scatter(xs, ys, hover=texts, mode=mode, line=line))
        labels.append((text(name), points[-1][1], color))
    label_margin(figure, labels, bounds)
    last = max(step for _, points in series for step, _ in points)
    figure.update_xaxes(title="optimiser steps", range=[0, last * 1.02], nticks=6, showgrid=False)
    figure.update_yaxes(title=title, range=bounds, nticks=6)
    return figure


def _loss_ceiling(run: RunResults) -> float | None:
    """The loss of outputs that say nothing, of the run's method; None where it has no such number or no study file."""
    from augscale.pretraining.methods import chance_loss

    if "pretrain" not in run.study:
        return None
    try:
        study = StudyConfig.model_validate(run.study)
    except ValueError:  # a study of another version
        return None
    return chance_loss(study)


def _threshold(run: RunResults) -> float | None:
    value = run.setting("probe", "min_information")
    return float(value) if isinstance(value, (int, float)) and value > 0 else None
