"""Figures of the study as small SVGs; the same CSVs give the same bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from augscale.runs.files import write_text_atomic
from benchmarks.evidence.correlations import DEFAULT, MAIN_PROTOCOL, Spread
from benchmarks.evidence.label_figures import draw_labels, label_legend
from benchmarks.evidence.plan import CONTROLS
from benchmarks.evidence.question import PROTOCOLS, SINGLE_COMPARISONS, paired, seed_mean
from benchmarks.evidence.records import MEAN, Score

COLOURS = {"none": "#7f7f7f", "weak": "#1f77b4", "strong": "#d62728", "weak+med": "#2ca02c"}
_OTHER = "#c7c7c7"
RC: dict[Any, Any] = {
    "svg.hashsalt": "augscale",
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def write_figures(spread: Spread, folder: Path) -> list[Path]:
    """Writes all figures; those without data are left out."""
    drawings = {
        "score-against-accuracy": score_against_accuracy,
        "own-views-against-panel": own_against_panel,
        "correlations": correlation_map,
        "question": question,
        "one-at-a-time": one_at_a_time,
        "labels-needed": labels_needed,
    }
    paths = []
    with mpl.rc_context(RC):
        for name, draw in drawings.items():
            figure = draw(spread)
            if figure is None:
                continue
            write_text_atomic(folder / f"{name}.svg", svg(figure))
            paths.append(folder / f"{name}.svg")
    return paths


def svg(figure: Figure) -> str:
    """The figure as text that is the same for the same data."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return buffer.getvalue()


def score_against_accuracy(spread: Spread) -> Figure | None:
    """The default score of every run against its accuracy, a panel for each dataset, with what needs no training."""
    if not spread.runs:
        return None
    datasets = spread.datasets
    figure, axes = grid(len(datasets), 3, 2.3, 2.0)
    values = spread.evidence.score(spread.runs, DEFAULT)
    for axis, dataset in zip(axes, datasets, strict=True):
        outcome = spread.evidence.auroc(spread.runs, dataset, MAIN_PROTOCOL)
        _points(axis, spread, values, outcome)
        for kind, style in (("pixels16", ":"), ("untrained", "--")):
            level = spread.evidence.auroc(spread.evidence.baselines(kind), dataset, MAIN_PROTOCOL)
            if len(level):
                axis.axhline(float(level.mean()), color="black", linewidth=0.7, linestyle=style)
        found = spread.of_score(DEFAULT, dataset).value
        axis.set_title(f"{dataset}, ρ {found:+.2f}" if found is not None else dataset)
        axis.set_xlabel(DEFAULT.label)
        axis.set_ylabel(f"AUROC ({MAIN_PROTOCOL})")
    _legend(figure, "dotted: 16 x 16 pixels, dashed: untrained")
    return figure


def own_against_panel(spread: Spread) -> Figure | None:
    """The same metric on own views and on the panel against the mean accuracy."""
    if not spread.runs:
        return None
    figure, axes = grid(2, 2, 2.8, 2.3)
    outcome = spread.evidence.auroc(spread.runs, MEAN, MAIN_PROTOCOL)
    for axis, (level, title) in zip(axes, (("own", "own views"), ("ladder", "fixed panel")), strict=True):
        score = Score(metric="dprime", level=level)
        _points(axis, spread, spread.evidence.score(spread.runs, score), outcome)
        found = spread.of_score(score, MEAN).value
        axis.set_title(f"d' on {title}" + (f", ρ {found:+.2f}" if found is not None else ""))
        axis.set_xlabel("d'")
        axis.set_ylabel(f"AUROC, {MEAN}")
    _legend(figure, "")
    return figure


def correlation_map(spread: Spread) -> Figure | None:
    """Spearman's correlation of every score with every dataset."""
    quick = Spread(evidence=spread.evidence, runs=spread.runs, bootstrap=0)
    values = np.array(
        [[quick.of_score(score, dataset).value for dataset in spread.datasets] for score in spread.scores],
        dtype=np.float64,
    )
    if not np.isfinite(values).any():
        return None
    figure = Figure(figsize=(1.6 + 0.75 * values.shape[1], 0.6 + 0.2 * values.shape[0]))
    axis = figure.add_subplot()
    axis.imshow(values, cmap="RdBu", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 else "black"
            axis.text(column, row, f"{value:+.2f}", ha="center", va="center", fontsize=6, color=colour)
    axis.set_xticks(range(values.shape[1]), spread.datasets, rotation=30, ha="right")
    axis.set_yticks(range(values.shape[0]), [score.label for score in spread.scores])
    axis.set_title(f"Spearman's ρ with AUROC ({MAIN_PROTOCOL})")
    return figure


def question(spread: Spread) -> Figure | None:
    """Means over seeds of the controls, by protocol and dataset."""
    evidence = spread.evidence
    if not evidence.of_part("question"):
        return None
    datasets = (*evidence.datasets, MEAN)
    figure, axes = grid(len(datasets), 4, 2.0, 2.0)
    for axis, dataset in zip(axes, datasets, strict=True):
        for place, protocol in enumerate(PROTOCOLS):
            for number, name in enumerate(("untrained", *CONTROLS)):
                found = seed_mean(evidence, name, dataset, protocol)
                if found is None:
                    continue
                x = place + 0.15 * (number - 2)
                axis.plot(x, found.mean, "o", markersize=3, color=COLOURS.get(name, "black"))
                if found.interval is not None:
                    axis.plot([x, x], found.interval, linewidth=1, color=COLOURS.get(name, "black"))
        axis.set_xticks(range(len(PROTOCOLS)), PROTOCOLS, fontsize=6)
        axis.set_title(dataset)
    _legend(figure, "black: untrained")
    return figure


def one_at_a_time(spread: Spread) -> Figure | None:
    """Differences seed by seed of scales that differ in one thing."""
    evidence = spread.evidence
    rows = [(f"{what} ({b})", a, b) for what, a, b in SINGLE_COMPARISONS]
    datasets = (*evidence.datasets, MEAN)
    found = [[paired(evidence, a, b, dataset, MAIN_PROTOCOL) for dataset in datasets] for _, a, b in rows]
    if not any(cell is not None for row in found for cell in row):
        return None
    figure, axes = grid(len(datasets), len(datasets), 1.5, 2.4)
    for column, (axis, dataset) in enumerate(zip(axes, datasets, strict=True)):
        axis.axvline(0, color="black", linewidth=0.6)
        for place, row in enumerate(found):
            cell = row[column]
            if cell is None:
                continue
            axis.plot(cell.mean, place, "o", markersize=3, color="#1f77b4")
            if cell.interval is not None:
                axis.plot(cell.interval, [place, place], linewidth=1, color="#1f77b4")
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_yticks(range(len(rows)), [label for label, _, _ in rows] if column == 0 else [""] * len(rows))
        axis.set_title(dataset, fontsize=7)
    return figure


def labels_needed(spread: Spread) -> Figure | None:
    """Rank correlation of scores from few labels, beside the default score."""
    datasets = [name for name in spread.evidence.datasets if any(key[1] == name for key in spread.evidence.labels)]
    if not datasets:
        return None
    figure, axes = grid(len(datasets), len(datasets), 1.9, 1.9)
    draw_labels(spread, axes, datasets)
    axes[0].set_ylabel("rank correlation, other seed")
    label_legend(figure)
    return figure


def _points(axis: Any, spread: Spread, x: np.ndarray, y: np.ndarray) -> None:
    colours = [COLOURS.get(run.name, _OTHER) for run in spread.runs]
    order = np.argsort([run.name in COLOURS for run in spread.runs], kind="stable")
    axis.scatter(x[order], y[order], s=12, c=[colours[place] for place in order], linewidths=0)


def grid(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Any]]:
    """A figure with `count` axes in rows of `columns`, each `width` by `height` inches."""
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    return figure, axes


def _legend(figure: Figure, note: str) -> None:

    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=4, color=colour, label=name)
        for name, colour in COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, title=note or None)
