"""The look of every figure: palette, template, axis ranges that outliers do not stretch, labels that do not overlap.

The colors are safe for color-blind readers (the tests simulate this), and every series is also named on the plot. Each
color has a partner for dark pages. The page replaces colors as text, so figures use the colors of this module only.
"""

from __future__ import annotations

import html
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from augscale.reporting.shared.wording import UNTRAINED

INK = "#1d2129"
MUTED = "#5c6470"
FAINT = "#a9b0bb"
GRID = "#e4e7ec"
SURFACE = "#fefefe"
BEST = "#c44e00"
FAILED = "#b3261e"
CONTROLS = {"strong": "#0067a3", "weak": "#008264", "weak+med": "#b04a83", "none": "#454c5a"}
OTHERS = ("#4a2fa8", "#8f7d2a", "#7a4b2a")
UNTRAINED_COLOR = "#3f6d7d"

DARK = {
    INK: "#e7eaef",
    MUTED: "#a3abb8",
    FAINT: "#626b79",
    GRID: "#2b313b",
    SURFACE: "#16191f",
    BEST: "#ff8a4c",
    FAILED: "#ff8b80",
    CONTROLS["strong"]: "#58aef0",
    CONTROLS["weak"]: "#35c79c",
    CONTROLS["weak+med"]: "#f0a0d0",
    CONTROLS["none"]: "#8a93a3",
    OTHERS[0]: "#8f7ff0",
    OTHERS[1]: "#ecd06a",
    OTHERS[2]: "#c99a76",
    UNTRAINED_COLOR: "#8fc1d1",
}
"""The dark partner of each color."""

SYMBOLS = {"strong": "diamond", "weak": "square", "weak+med": "triangle-up", "none": "triangle-down"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
FONT_SIZE = 12
LINE_PIXELS = 15
"""Height of a line of label text."""
LABEL_LENGTH = 11
LEAST_SCORES = 0.02
"""Smallest extent of a score axis."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot; several of them stand side by side where the page is wide enough."""

    title: str
    figure: go.Figure


@dataclass(frozen=True, kw_only=True)
class Key:
    """An entry of the legend, which the page writes in HTML so that it wraps on narrow screens."""

    label: str
    color: str
    mark: str
    """dot, ring, cross, line, dotted, bar, diamond or square."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """The figure under one heading of the report."""

    panels: tuple[Panel, ...]
    keys: tuple[Key, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """Notes on this plot, e.g. on points outside its range."""


def new_figure(*, height: int, left: int = 60, right: int = 16, bottom: int = 46, top: int = 12) -> go.Figure:
    """An empty figure in the report's style; margins in pixels."""
    axis = {
        "gridcolor": GRID,
        "linecolor": FAINT,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": FAINT,
        "ticklen": 4,
        "title": {"standoff": 8, "font": {"color": MUTED, "size": FONT_SIZE}},
        "tickfont": {"color": MUTED},
        "automargin": False,
    }
    layout = {
        "font": {"family": FONT, "size": FONT_SIZE, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": SURFACE,
            "bordercolor": FAINT,
            "font": {"color": INK, "family": FONT},
            "align": "left",
        },
        "xaxis": axis,
        "yaxis": axis,
        "annotationdefaults": {"font": {"family": FONT, "size": FONT_SIZE}},
    }
    margin = {"l": left, "r": right, "t": top, "b": bottom}
    return go.Figure(layout={"template": {"layout": layout}, "height": height, "margin": margin})


def plot_height(figure: go.Figure) -> int:
    """Pixels between the top and bottom axes."""
    margin = figure.layout.margin
    return int(figure.layout.height - margin.t - margin.b)


class Colors:
    """One color and symbol per name, the same in every figure: the best, known controls, then the others in order."""

    def __init__(self, best: str | None, names: Iterable[str]) -> None:
        self._colors: dict[str, str] = {}
        others = iter(OTHERS)
        for name in dict.fromkeys(names):
            self._colors[name] = BEST if name == best else CONTROLS.get(name) or next(others, MUTED)
        self._best = best

    def __getitem__(self, name: str) -> str:
        return self._colors.get(name, UNTRAINED_COLOR if name == UNTRAINED else MUTED)

    def symbol(self, name: str) -> str:
        return "star" if name == self._best else SYMBOLS.get(name, "hexagon")

    def size(self, name: str) -> int:
        return 15 if name == self._best else 10


def text(value: str, length: int = LABEL_LENGTH) -> str:
    """A user's name as plotly text: `<` is escaped, a card is named by its stem, long names are cut."""
    value = Path(value).stem if value.endswith(".toml") else value
    short = value if len(value) <= length else value[: length - 1] + "…"
    return html.escape(short, quote=False)


def robust_range(values: Sequence[float], keep: Iterable[float] = (), least: float = 0.0) -> tuple[float, float]:
    """The range of an axis that shows all values except far outliers.

    Args:
        values: the data; a value further than three interquartile ranges from the quartiles is an outlier.
        keep: values that must be inside, such as controls.
        least: smallest extent, so that meaningless differences do not look large.
    Returns:
        Low and high with a margin; (0, 1) for no values.
    """
    kept = list(keep)
    inside = list(values)
    if len(inside) >= 6:
        first, _, third = statistics.quantiles(inside, n=4)
        reach = 3 * (third - first)
        inside = [v for v in inside if first - reach <= v <= third + reach]
    if not inside + kept:
        return 0.0, 1.0
    low, high = min(inside + kept), max(inside + kept)
    air = max(0.07 * (high - low), (least - (high - low)) / 2) or 0.05 * abs(high) or 0.5
    return low - air, high + air


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves labels as little as possible (least squares) so that adjacent ones are at least `gap` apart.

    Args:
        positions: best positions of the labels, in any order.
        gap: smallest distance between two labels, in the same unit.
        low, high: labels stay inside if there is room for all.
    Returns:
        New positions in the order given.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    # With i gaps subtracted from the i-th position, "at least a gap apart" means "not falling", and pooling adjacent
    # violators solves it.
    blocks: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        block = (positions[index] - rank * gap, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, count = blocks.pop()
            block = ((mean * count + block[0] * block[1]) / (count + block[1]), count + block[1])
        blocks.append(block)
    last = high - (len(order) - 1) * gap
    flat = [min(max(mean, low), max(low, last)) for mean, count in blocks for _ in range(count)]
    result = [0.0] * len(positions)
    for rank, index in enumerate(order):
        result[index] = flat[rank] + rank * gap
    return result


def label_margin(figure: go.Figure, labels: Sequence[tuple[str, float, str]], bounds: tuple[float, float]) -> None:
    """Writes names in the right margin at their heights, moved apart where they would overlap.

    Args:
        figure: its y axis must run over `bounds`.
        labels: text, y and color of each.
        bounds: low and high of the y axis.
    """
    low, high = bounds
    gap = (high - low) * LINE_PIXELS / plot_height(figure)
    heights = spread([min(max(y, low), high) for _, y, _ in labels], gap, low, high)
    for (label, _, color), y in zip(labels, heights, strict=True):
        figure.add_annotation(
            x=1, xref="paper", xanchor="left", xshift=5, y=y, text=label, showarrow=False, font={"color": color}
        )


def label_rows(figure: go.Figure, labels: Sequence[str]) -> None:
    """Gives rows at the heights 0, 1, ... their labels in place of ticks."""
    figure.update_yaxes(
        range=[-0.55, len(labels) - 0.45],
        tickvals=list(range(len(labels))),
        ticktext=list(labels),
        showgrid=False,
        ticks="",
        showline=False,
    )


def hover(name: str, *lines: str) -> str:
    """Hover text: the name in bold, then the lines that are not empty."""
    return "<br>".join([f"<b>{html.escape(name, quote=False)}</b>", *(line for line in lines if line)])


def scatter(
    x: Iterable[Any],
    y: Iterable[Any],
    look: dict[str, Any] | None = None,
    hover: Iterable[str] | None = None,
    *,
    mode: str = "markers",
    **more: Any,
) -> go.Scatter:
    """Marks or lines.

    Args:
        x, y: positions; None interrupts a line.
        look: of the marks.
        hover: a text for each mark; None: no hover text.
        mode: `mode` of `go.Scatter`.
        more: further properties of `go.Scatter`.
    """
    texts = {"hoverinfo": "skip"} if hover is None else {"text": list(hover), "hoverinfo": "text"}
    return go.Scatter(x=list(x), y=list(y), mode=mode, marker=look, **texts, **more)


def marker(
    color: str, symbol: str = "circle", size: float = 8, *, edge: str = SURFACE, edge_width: float = 1
) -> dict[str, Any]:
    """A filled mark with a thin edge, so that overlapping marks stay visible."""
    return {"color": color, "symbol": symbol, "size": size, "line": {"color": edge, "width": edge_width}}
