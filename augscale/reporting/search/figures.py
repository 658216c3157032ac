"""Figures of the search itself: the history of trials, rung curves, and the importance of parameters.

Each function returns a `Plot`, or None where there is nothing to draw yet.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from augscale.records.metrics import score_label
from augscale.records.trial import COLLAPSED, TrialRecord
from augscale.reporting.search.results import RunResults
from augscale.reporting.shared.style import (
    BEST,
    FAILED,
    FAINT,
    LEAST_SCORES,
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
from augscale.reporting.shared.wording import STATE_NAMES, UNTRAINED, number, parameter_label, short_scales

Range = tuple[float, float]


def history(run: RunResults, colors: Colors) -> Plot | None:
    """Score of each trial over its number, with the best so far and the controls as lines."""
    if not run.trials:
        return None
    label = score_label(run.score_name)
    marked = [t for t in _contenders(run) if t.score is not None]
    healthy = [t for t in run.trials if t.state != "FAIL" and t.shown_state != COLLAPSED]
    untrained = [run.untrained.score] if run.untrained else []
    keep = untrained + scores(t for t in marked if t.is_usable)
    bounds = robust_range(_last_scores(healthy), keep, LEAST_SCORES)
    figure = new_figure(height=360, right=122)
    figure.update_xaxes(title="trial", range=[-0.8, run.trials[-1].number + 0.8], showgrid=False, tickformat="d")
    figure.update_yaxes(title=f"score ({label})", range=bounds)
    _best_so_far(figure, run)
    labels = []
    for trial in marked:
        color = colors[trial.name]
        labels.append((f"{text(trial.name)} {number(trial.score, 2)}", trial.score or 0.0, color))
        if trial.control is not None:
            figure.add_hline(y=trial.score, line={"color": color, "width": 1.2, "dash": "dot"})
    labels += _untrained_line(figure, run)
    label_margin(figure, labels, bounds)
    special = {t.number for t in marked}
    for state, look in _STATE_LOOKS.items():
        points = [t for t in run.trials if t.shown_state == state and t.number not in special]
        figure.add_trace(_trial_points(points, look, bounds, label))
    for trial in marked:
        look = marker(colors[trial.name], colors.symbol(trial.name), colors.size(trial.name))
        figure.add_trace(_trial_points([trial], look, bounds, label))
    return Plot(
        panels=(Panel(title="", figure=figure),),
        keys=_history_keys(run),
        notes=left_out(_last_scores(t for t in run.trials if t.state != "FAIL"), bounds, "trials", at_edge=True),
    )


def rung_curves(run: RunResults, colors: Colors) -> Plot | None:
    """Score of every trial at each rung; pruned trials end early."""
    drawn = [t for t in run.trials if any(r.score is not None for r in t.rungs)]
    if not drawn:
        return None
    marked = [t for t in run.best_and_controls if t in drawn]
    values = [r.score for t in drawn for r in t.rungs if r.score is not None]
    healthy = [r.score for t in drawn if t.shown_state != COLLAPSED for r in t.rungs if r.score is not None]
    keep = [r.score for t in marked for r in t.rungs if r.score is not None]
    bounds = robust_range(healthy, keep + ([run.untrained.score] if run.untrained else []), LEAST_SCORES)
    figure = new_figure(height=340, right=110)
    last = max(r.step for t in drawn for r in t.rungs)
    figure.update_xaxes(title="optimiser steps", range=[0, last * 1.03], tickvals=_rung_steps(drawn), showgrid=False)
    figure.update_yaxes(title=f"score ({score_label(run.score_name)})", range=bounds)
    others = [t for t in drawn if t not in marked]
    complete, stopped = ([t for t in others if (t.state == "PRUNED") == pruned] for pruned in (False, True))
    figure.add_trace(_lines(stopped, line={"color": FAINT, "width": 1, "dash": "dot"}, opacity=0.7))
    figure.add_trace(_lines(complete, line={"color": MUTED, "width": 1}, opacity=0.5))
    ends = [(t, next(r for r in t.rungs[::-1] if r.score is not None)) for t in stopped]
    texts = [hover(t.name, f"pruned at step {r.step}: {number(r.score)}", short_scales(t.scales)) for t, r in ends]
    look = {"symbol": "x-thin", "size": 6, "line": {"color": MUTED, "width": 1.3}}
    figure.add_trace(scatter([r.step for _, r in ends], [r.score for _, r in ends], look, texts))
    labels = []
    for trial in marked[::-1]:
        color = colors[trial.name]
        width = 3 if color == BEST else 2
        figure.add_trace(_lines([trial], line={"color": color, "width": width}, mode="lines+markers"))
        labels.append((text(trial.name), trial.last_score or 0.0, color))
    labels += _untrained_line(figure, run)
    label_margin(figure, labels, bounds)
    keys = (
        Key(label="a complete trial", color=MUTED, mark="line"),
        Key(label="a pruned trial, × where it stopped", color=FAINT, mark="dotted"),
    )
    return Plot(
        panels=(Panel(title="", figure=figure),),
        keys=keys[: 1 + bool(stopped)],
        notes=left_out(values, bounds, "scores"),
    )


def importance(run: RunResults, colors: Colors) -> Plot | None:
    """Importance of each searched parameter, with the largest importance that shuffled scores give."""
    shares = sorted((run.answer.importance if run.answer else {}).items(), key=lambda item: item[1])
    if not shares:
        return None
    figure = new_figure(height=52 * len(shares) + 56, left=12, right=48)
    # Labels stand above their bars: beside them they would take half of a phone's width.
    figure.add_trace(
        go.Bar(
            x=[share for _, share in shares],
            y=list(range(len(shares))),
            orientation="h",
            width=0.34,
            marker={"color": MUTED},
            text=[f"{share:.0%}" for _, share in shares],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="skip",
        )
    )
    for row, (name, _) in enumerate(shares):
        place = {"x": 0, "y": row + 0.2, "xanchor": "left", "yanchor": "bottom", "xshift": -3}
        figure.add_annotation(text=parameter_label(name)[0], showarrow=False, **place)
    top = max(share for _, share in shares)
    notes = []
    if (by_chance := run.answer.importance_by_chance if run.answer else None) is not None:
        figure.add_vline(by_chance, line={"color": FAINT, "width": 1.5, "dash": "dot"})
        verdict = "is beyond it" if top > by_chance else "is not, so this may be chance"
        notes.append(
            f"Dotted: with the same scores shuffled among the trials, the largest is below {by_chance:.0%} in 95 of "
            f"100 cases; the largest here {verdict}."
        )
    right = max(top, by_chance or 0.0)
    figure.update_xaxes(title="relative importance", range=[0, right * 1.05 or 1], tickformat=".0%")
    figure.update_yaxes(visible=False, range=[-0.4, len(shares) - 0.3])
    return Plot(panels=(Panel(title="", figure=figure),), notes=tuple(notes))


_STATE_LOOKS: dict[str, dict[str, Any]] = {
    "PRUNED": {"symbol": "circle-open", "size": 7, "color": FAINT, "line": {"width": 1.4}},
    "RUNNING": {"symbol": "diamond-open", "size": 8, "color": MUTED, "line": {"width": 1.4}},
    COLLAPSED: {"symbol": "square-x-open", "size": 8, "color": FAILED, "line": {"width": 1.2}},
    "FAIL": {"symbol": "x-thin", "size": 7, "line": {"color": FAILED, "width": 2}},
    "COMPLETE": marker(MUTED),
}


def _history_keys(run: RunResults) -> tuple[Key, ...]:
    keys = [
        Key(label="complete", color=MUTED, mark="dot"),
        Key(label="pruned (score where it stopped)", color=FAINT, mark="ring"),
        Key(label="running", color=MUTED, mark="diamond"),
        Key(label="collapsed", color=FAILED, mark="square"),
        Key(label="failed (at the bottom)", color=FAILED, mark="cross"),
    ]
    states = ("COMPLETE", "PRUNED", "RUNNING", COLLAPSED, "FAIL")
    present = [key for key, state in zip(keys, states, strict=True) if run.count(state)]
    best = [Key(label="highest score so far", color=BEST, mark="line")] if run.best_trial else []
    controls = [Key(label="controls", color=MUTED, mark="dotted")] if run.controls else []
    return tuple(present + best + controls)


def _best_so_far(figure: go.Figure, run: RunResults) -> None:
    usable = [t for t in run.trials if t.is_usable]
    if not usable:
        return
    steps: list[tuple[int, float]] = []
    for trial in usable:
        steps.append((trial.number, max([trial.score or 0.0] + [score for _, score in steps])))
    steps.append((run.trials[-1].number, steps[-1][1]))
    line = {"color": BEST, "width": 1.5, "shape": "hv"}
    figure.add_trace(scatter([x for x, _ in steps], [y for _, y in steps], mode="lines", line=line))


def _untrained_line(figure: go.Figure, run: RunResults) -> list[tuple[str, float, str]]:
    """A line at the score of the network before training, and its label for the margin."""
    if run.untrained is None:
        return []
    figure.add_hline(y=run.untrained.score, line={"color": UNTRAINED_COLOR, "width": 1.2, "dash": "dash"})
    return [(f"{UNTRAINED} {number(run.untrained.score, 2)}", run.untrained.score, UNTRAINED_COLOR)]


def _trial_points(trials: Sequence[TrialRecord], look: dict[str, Any], bounds: Range, label: str) -> go.Scatter:
    """Trials over their number; trials outside the range and trials without a score are at its edge."""
    edge = 0.015 * (bounds[1] - bounds[0])
    low, high = bounds[0] + edge, bounds[1] - edge
    scores = [None if t.state == "FAIL" else t.last_score for t in trials]
    symbols = [
        look["symbol"] if s is None or bounds[0] <= s <= bounds[1] else f"triangle-{'up' if s > high else 'down'}"
        for s in scores
    ]
    heights = [low if s is None else min(max(s, low), high) for s in scores]
    texts = [trial_hover(t, label) for t in trials]
    return scatter([t.number for t in trials], heights, look | {"symbol": symbols}, texts, cliponaxis=False)


def trial_hover(trial: TrialRecord, label: str) -> str:
    last = trial.last_score
    at = "" if trial.score is not None or not trial.rungs else f" at step {trial.rungs[-1].step}"
    name = trial.name if trial.control is None else f"{trial.name} (trial {trial.number})"
    state = STATE_NAMES[trial.shown_state]
    reason = html.escape(trial.reason[:80], quote=False) if trial.reason else ""
    return hover(name, f"{label} {number(last)}{at}, {state}", short_scales(trial.scales), reason)


def _lines(trials: Sequence[TrialRecord], *, mode: str = "lines", **look: Any) -> go.Scatter:
    """Rung curves of several trials in one trace, separated by gaps."""
    xs: list[int | None] = []
    ys: list[float | None] = []
    texts: list[str] = []
    for trial in trials:
        for rung in trial.rungs:
            xs.append(rung.step)
            ys.append(rung.score)
            texts.append(hover(trial.name, f"step {rung.step}: {number(rung.score)}", short_scales(trial.scales)))
        xs.append(None)
        ys.append(None)
        texts.append("")
    return scatter(xs, ys, hover=texts, mode=mode, connectgaps=False, **look)


def _rung_steps(trials: Sequence[TrialRecord]) -> list[int]:
    """Steps of the rungs, except those whose ticks would overlap."""
    steps = sorted({r.step for t in trials for r in t.rungs})
    kept = [0]
    for step in steps[::-1]:
        if all(abs(step - other) >= 0.11 * steps[-1] for other in kept):
            kept.append(step)
    return sorted(kept)


def _contenders(run: RunResults) -> list[TrialRecord]:
    """The best, the controls, and the other trials that were confirmed."""
    confirmed = {c.number for c in run.answer.contenders if c.confirm_scores} if run.answer else set()
    named = list(run.best_and_controls)
    return named + [t for t in run.trials if t.number in confirmed and t not in named]


def _last_scores(trials: Iterable[TrialRecord]) -> list[float]:
    return [t.last_score for t in trials if t.last_score is not None]


def scores(trials: Iterable[TrialRecord]) -> list[float]:
    return [t.score for t in trials if t.score is not None]


def left_out(values: Sequence[float], bounds: Range, what: str, *, at_edge: bool = False) -> tuple[str, ...]:
    """A note on the values that an axis leaves out; none where it shows all."""
    count = sum(not bounds[0] <= v <= bounds[1] for v in values)
    if not count:
        return ()
    shown_at = ", drawn as triangles at the edge" if at_edge else ""
    extent = f"all lie from {number(min(values))} to {number(max(values))}"
    return (f"Outside the range shown: {count} of {len(values)} {what}{shown_at}; {extent}.",)
