"""Figures of a diagnosis for a paper: PNG at 300 dpi in the widths of one and two columns, drawn by matplotlib."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from augscale.data.own_pictures import MARK
from augscale.records.diagnosis import CheckpointRecord, DiagnosisRecord, Histogram
from augscale.records.metrics import METRICS
from augscale.reporting.diagnosis.map_plots import group_look, spokes, square
from augscale.reporting.diagnosis.plots import (
    CheckpointColors,
    axis_bounds,
    curves,
    is_drawable,
    place_words,
    spectrum_points,
)
from augscale.reporting.diagnosis.wording import metric_text, value_text
from augscale.reporting.shared.style import FAINT, GRID, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ONE_COLUMN, TWO_COLUMNS = 85 / 25.4, 175 / 25.4
"""Widths in inches."""
DPI = 300
MOST_ABREAST = 6
"""Largest number of levels in one row; further levels go into a further block of rows."""
NAME_LENGTH = 16
MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P"}
LOOK: Any = {
    "font.size": 7,
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "axes.linewidth": 0.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a name is a `$`
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "legend.fontsize": 6,
    "legend.frameon": False,
}


def distance_grid(diagnosis: DiagnosisRecord, *, raw: bool) -> bytes | None:
    """Densities of positive and negative pairs, a row per checkpoint and a column per level.

    Args:
        diagnosis: from `displayed`.
        raw: True for features that are not normalized, with an axis per checkpoint, as in the paper's Figure 2; False
            for unit length, with a shared axis.
    Returns:
        A PNG, or None where there are no histograms.
    """
    rows = [(c, _histograms(diagnosis, c, raw=raw)) for c in diagnosis.checkpoints]
    rows = [(c, found) for c, found in rows if found]
    if not rows:
        return None
    levels = [level.name for level in diagnosis.levels if any(level.name in found for _, found in rows)]
    blocks = [levels[i : i + MOST_ABREAST] for i in range(0, len(levels), MOST_ABREAST)]
    columns = max(map(len, blocks))
    width = ONE_COLUMN if columns <= 2 else TWO_COLUMNS
    count = len(rows) * len(blocks)
    colors = CheckpointColors(diagnosis)
    wide = [h for c, found in rows if not c.is_collapsed for h in found.values()]
    shared = axis_bounds(wide or [h for _, found in rows for h in found.values()], most=None if raw else 2.0)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(count, columns, squeeze=False)
        for at, axes_row in enumerate(grid):
            block, (checkpoint, found) = divmod(at, len(rows))[0], rows[at % len(rows)]
            bounds = axis_bounds(list(found.values())) if raw else shared
            for column, axes in enumerate(axes_row):
                if column >= len(blocks[block]):
                    axes.set_axis_off()
                    continue
                level = blocks[block][column]
                _densities(axes, checkpoint, level, found.get(level), bounds, colors[checkpoint.name], raw=raw)
                if at % len(rows) == 0:
                    axes.set_title(_cut(level), pad=3)
                if not raw and at % len(rows) < len(rows) - 1:
                    axes.tick_params(labelbottom=False)
            axes_row[0].set_ylabel(_cut(checkpoint.name), color=colors[checkpoint.name], fontweight="bold")
        unit = "Euclidean distance of features as they are" if raw else "Euclidean distance at unit length"
        figure.supxlabel(f"{unit}; coloured: positive pairs, grey: negative pairs", fontsize=7)

    return _png(draw, width, 0.35 + count * (0.95 if width == TWO_COLUMNS else 1.0))


def view_map(diagnosis: DiagnosisRecord) -> bytes | None:
    """Views of some images, one colour and shape per image, a panel per checkpoint (the paper's Figure 2b)."""
    kind = next((k for k in ("views_tsne", "views_pca") if any(k in c.maps for c in diagnosis.checkpoints)), None)
    if kind is None:
        return None
    found = [(c, c.maps[kind]) for c in diagnosis.checkpoints if kind in c.maps]
    columns = len(found) if len(found) <= 4 else 3
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    lines = math.ceil(len(found) / columns)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes in grid[len(found) :]:
            axes.set_axis_off()
        for axes, (checkpoint, points) in zip(grid, found, strict=False):
            for start, end in spokes(points):
                axes.plot([start[0], end[0]], [start[1], end[1]], color=FAINT, linewidth=0.4, zorder=1)
            order = {image: index for index, image in enumerate(dict.fromkeys(points.images))}
            for image, index in order.items():
                color, symbol = group_look(index)
                xs, ys = zip(*(p for p, i in zip(points.xy, points.images, strict=True) if i == image), strict=True)
                look = {"marker": MARKERS[symbol], "s": 9, "color": color, "edgecolors": "white", "linewidths": 0.3}
                axes.scatter(xs, ys, zorder=2, **look)
            horizontal, vertical = square(points)
            axes.set(xlim=horizontal, ylim=vertical, xticks=[], yticks=[], aspect="equal")
            axes.set_title(_cut(checkpoint.name), pad=3)

    return _png(draw, width, lines * (width / columns + 0.12))


def spectrum(diagnosis: DiagnosisRecord) -> bytes | None:
    """Shares of the variance over principal directions, both axes logarithmic."""
    rows = [(c, points) for c in diagnosis.checkpoints if (points := spectrum_points(c))]
    if not rows:
        return None
    colors = CheckpointColors(diagnosis)
    styles = ("-", "--", "-.", ":")

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import NullLocator

        axes = figure.subplots()
        for index, (checkpoint, points) in enumerate(rows):
            rank = checkpoint.overall.get("rankme")
            words = f" (effective rank {value_text(rank.value)})" if rank and rank.value is not None else ""
            xs, ys = zip(*points, strict=True)
            look = {"color": colors[checkpoint.name], "linestyle": styles[index % 4], "linewidth": 1.2}
            # A collapsed network has one direction only, which is no line.
            axes.loglog(
                xs, ys, marker="o" if len(xs) == 1 else "", markersize=3, **look, label=_cut(checkpoint.name) + words
            )
        axes.grid(color=GRID, linewidth=0.4)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_locator(NullLocator())
        axes.set(xlabel="principal direction", ylabel="share of the variance")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower left", handlelength=2.4)

    return _png(draw, ONE_COLUMN, 2.5)


def _densities(
    axes: Axes,
    checkpoint: CheckpointRecord,
    level: str,
    histogram: Histogram | None,
    bounds: tuple[float, float],
    color: str,
    *,
    raw: bool,
) -> None:
    axes.set(xlim=bounds, yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    if histogram is None or not is_drawable(histogram, bounds):
        words = "not computed" if histogram is None else place_words(histogram, bounds)
        axes.text(0.5, 0.4, words, transform=axes.transAxes, ha="center", color=MUTED, fontsize=6)
        return
    positive, negative = curves(histogram)
    for (xs, ys), fill in ((negative, FAINT), (positive, color)):
        axes.fill_between(xs, ys, color=fill, alpha=0.55, linewidth=0)
        axes.plot(xs, ys, color=fill, linewidth=0.8)
    axes.set_ylim(0, 1.12 * max(*positive[1], *negative[1]))
    axes.locator_params(axis="x", nbins=4)
    metric = checkpoint.levels[level].metrics.get("dprime")
    if not raw and metric and metric.value is not None:
        words = f"{METRICS['dprime'].label} {metric_text(metric, places=2)[0]}"
        axes.text(0.02, 0.97, words, transform=axes.transAxes, va="top", fontsize=6)


def _histograms(diagnosis: DiagnosisRecord, checkpoint: CheckpointRecord, *, raw: bool) -> dict[str, Histogram]:
    found = {
        level.name: checkpoint.levels[level.name].raw if raw else checkpoint.levels[level.name].normalized
        for level in diagnosis.levels
        if level.name in checkpoint.levels
    }
    return {name: histogram for name, histogram in found.items() if histogram.is_usable}


def _cut(name: str) -> str:
    """Long names often begin alike and differ at the end."""
    half = NAME_LENGTH // 2
    return name if len(name) <= NAME_LENGTH else f"{name[:half]}…{name[-half:]}"


def _png(draw: Any, width: float, height: float) -> bytes:
    """A figure of a size in inches; matplotlib's global state stays as it is."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(LOOK), warnings.catch_warnings():
        # Ignores warnings about characters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": MARK})
    return buffer.getvalue()


def all_figures(diagnosis: DiagnosisRecord) -> dict[str, bytes]:
    """Every figure that can be drawn, by file name."""
    drawn: Sequence[tuple[str, bytes | None]] = (
        ("distances.png", distance_grid(diagnosis, raw=False)),
        ("distances_raw.png", distance_grid(diagnosis, raw=True)),
        ("map.png", view_map(diagnosis)),
        ("spectrum.png", spectrum(diagnosis)),
    )
    return {name: png for name, png in drawn if png is not None}
