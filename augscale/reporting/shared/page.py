"""The frame of a self-contained HTML page, with styles, scripts and plotly.js inside.

A content security policy in the page forbids every request, so the page can be opened offline and on a machine with
confidential images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from augscale.reporting.shared.style import (
    BEST,
    CONTROLS,
    DARK,
    FAILED,
    FAINT,
    GRID,
    INK,
    MUTED,
    OTHERS,
    SURFACE,
    UNTRAINED_COLOR,
    Plot,
)
from augscale.reporting.shared.templates import parts, render

POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
PANEL_COLORS = ("#f4f5f8", "#1f242c")
"""Background of boxes, light and dark."""


def shell(*, title: str, header: str, main: str, data: Mapping[str, str], extra: Sequence[str] = ()) -> str:
    """The whole page.

    Args:
        title: plain text.
        header, main: HTML.
        data: JSON by the id of the element that shows it, as filled by `plot_section`.
        extra: names, without suffix, of further css and js files in this module's folder; they come after the page's
            own styles and before its own script.
    """
    styles, scripts = ("page", *extra), (*extra, "page")
    page = render(
        "shared/page.html",
        policy=POLICY,
        title=title,
        style=Markup(_colors_css() + "".join(_asset(f"{name}.css") for name in styles)),
        header=Markup(header),
        main=Markup(main),
        dark=_script_json(json.dumps(DARK)),
        data={name: _script_json(text) for name, text in data.items()},
        plotly=Markup(get_plotlyjs() if data else ""),
        script=Markup("".join(_asset(f"{name}.js") for name in scripts)),
    )
    return str(page)


def nav(links: Sequence[tuple[str, str]]) -> str:
    """HTML of the list of contents, from anchors and short titles."""
    return str(parts().nav(links))


def facts_table(rows: Sequence[tuple[str, str]]) -> str:
    """HTML of a table of names and values, both plain text."""
    return str(parts().facts_table(rows))


def plot_section(
    anchor: str,
    title: str,
    guide: str,
    plot: Plot | None,
    drawings: dict[str, str],
    *,
    missing: str,
    narrow: bool = False,
) -> str:
    """HTML of a section: heading, reading guide and plot.

    Args:
        anchor: id of the section.
        title, guide: plain text.
        plot: None where there is nothing to draw.
        drawings: the plot's JSON is added here by element id.
        missing: text in place of a plot that is None.
        narrow: keeps a plot with few marks from growing as wide as the page.
    """
    if plot is None:
        return str(parts().plot_section(anchor, title, missing, ""))
    drawing = Markup(figure(anchor, title, plot, drawings, narrow=narrow))
    return str(parts().plot_section(anchor, title, guide, drawing))


def figure(name: str, title: str, plot: Plot, drawings: dict[str, str], *, narrow: bool = False) -> str:
    """HTML of a plot's panels with its keys and notes; each panel's JSON is added to `drawings` by element id."""
    panels = []
    for index, panel in enumerate(plot.panels):
        element = f"{name}-{index}"
        drawings[element] = panel.figure.to_json()
        height = int(panel.figure.layout.height)
        panels.append({"id": element, "title": panel.title, "label": panel.title or title, "height": height})
    keys = [(Markup(_MARKS[key.mark].replace("{c}", css_color(key.color))), key.label) for key in plot.keys]
    return str(parts().figure(panels, keys, plot.notes, narrow))


_MARKS = {
    "dot": '<circle cx="8" cy="8" r="4.5" fill="{c}"/>',
    "ring": '<circle cx="8" cy="8" r="4" fill="none" stroke="{c}" stroke-width="1.8"/>',
    "diamond": '<path d="M8 3 13 8 8 13 3 8Z" fill="none" stroke="{c}" stroke-width="1.6"/>',
    "square": '<path d="M4 4H12V12H4ZM4 4 12 12M12 4 4 12" fill="none" stroke="{c}" stroke-width="1.4"/>',
    "cross": '<path d="M4 4 12 12M12 4 4 12" stroke="{c}" stroke-width="2"/>',
    "line": '<path d="M0 8H16" stroke="{c}" stroke-width="2"/>',
    "dotted": '<path d="M0 8H16" stroke="{c}" stroke-width="2" stroke-dasharray="2 3"/>',
    "bar": '<path d="M0 8H16M8 3V13" stroke="{c}" stroke-width="2"/>',
    "area": '<path d="M0 14C5 14 5 3 8 3S11 14 16 14Z" fill="{c}" opacity=".65"/>',
}
_COLOR_NAMES = {
    INK: "ink",
    MUTED: "muted",
    FAINT: "faint",
    GRID: "grid",
    SURFACE: "surface",
    BEST: "best",
    FAILED: "failed",
    UNTRAINED_COLOR: "untrained",
} | {color: f"series{index}" for index, color in enumerate((*CONTROLS.values(), *OTHERS))}


def css_color(color: str) -> str:
    """A color of the palette as a variable that follows the page's light or dark scheme."""
    return f"var(--{_COLOR_NAMES[color]})" if color in _COLOR_NAMES else color


def _colors_css() -> str:
    light = {name: color for color, name in _COLOR_NAMES.items()} | {"panel": PANEL_COLORS[0]}
    dark = {name: DARK[color] for color, name in _COLOR_NAMES.items()} | {"panel": PANEL_COLORS[1]}

    def rule(colors: Mapping[str, str]) -> str:
        return ":root{" + "".join(f"--{name}:{color};" for name, color in colors.items()) + "}"

    return f"{rule(light)}\n@media screen and (prefers-color-scheme: dark){{{rule(dark)}}}\n"


def _script_json(text: str) -> Markup:
    """JSON that cannot close its script element: `<` occurs in strings only, where it may be written as an escape."""
    return Markup(text.replace("<", "\\u003c"))


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
