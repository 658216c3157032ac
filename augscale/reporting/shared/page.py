"""The shell of a page that needs nothing but itself: styles, script and plotly.js are inside.

A content security policy in the page forbids every request, so that opening it offline or on a machine with
confidential images is safe by construction. Texts that come from files must have passed `html.escape`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

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
    Key,
    Plot,
)

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
        header, main: HTML, escaped.
        data: JSON by the id of the element that shows it, as filled by `plot_section`.
        extra: names without suffix of further css and js files beside this module, each put before the page's own
            script and after its own styles.
    """
    return _PAGE.format(
        policy=escape(POLICY),
        title=escape(title),
        style=_colors_css() + _asset("page.css") + "".join(_asset(f"{name}.css") for name in extra),
        header=header,
        main=main,
        dark=_script_json(json.dumps(DARK)),
        data="".join(
            f'<script type="application/json" id="{name}-data">{_script_json(text)}</script>\n'
            for name, text in data.items()
        ),
        plotly=get_plotlyjs() if data else "",
        script="".join(_asset(f"{name}.js") for name in extra) + _asset("page.js"),
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>{header}</header>
<main>
{main}
</main>
<footer>Written by augscale. This page is complete in itself and makes no network request.</footer>
<script type="application/json" id="dark-colors">{dark}</script>
{data}<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def nav(links: Sequence[tuple[str, str]]) -> str:
    """The list of contents, from anchors and short titles."""
    return "<nav>" + " ".join(f'<a href="#{a}">{escape(t)}</a>' for a, t in links) + "</nav>"


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
    """A heading, its reading guide and its plot.

    Args:
        anchor: id of the section.
        title, guide: plain text.
        plot: None where there is nothing to draw.
        drawings: the plot's JSON is added here by element id.
        missing: said instead of the plot.
        narrow: keeps a plot with few marks from growing as wide as the page.
    """
    head = f'<section id="{anchor}"><h2>{escape(title)}</h2>'
    if plot is None:
        return f'{head}<p class="guide">{escape(missing)}</p></section>'
    return f'{head}<p class="guide">{escape(guide)}</p>{figure(anchor, title, plot, drawings, narrow=narrow)}</section>'


def figure(name: str, title: str, plot: Plot, drawings: dict[str, str], *, narrow: bool = False) -> str:
    """The panels of a plot with its keys and notes; each panel's JSON is added to `drawings` by element id."""
    panels = []
    for index, panel in enumerate(plot.panels):
        element = f"{name}-{index}"
        drawings[element] = panel.figure.to_json()
        heading = f"<h3>{escape(panel.title)}</h3>" if panel.title else ""
        save = f'<button type="button" class="save" data-plot="{element}" title="Save this figure as SVG">SVG</button>'
        label = escape(panel.title or title)
        height = int(panel.figure.layout.height)
        style = f"height:{height}px"
        drawing = f'<div class="drawing" id="{element}" role="img" aria-label="{label}" style="{style}"></div>'
        panels.append(f'<div><div class="head">{heading}{save}</div>{drawing}</div>')
    css = f"panels of-{len(panels)}" + (" narrow" if narrow else "")
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in plot.notes)
    return (
        f'<figure>{_keys(plot.keys)}<div class="{css}">{"".join(panels)}</div>{notes}'
        "<noscript><p>The figures need JavaScript.</p></noscript></figure>"
    )


def facts_table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns of plain text: what, and its value."""
    lines = "".join(f'<tr><th scope="row">{escape(a)}</th><td>{escape(b)}</td></tr>' for a, b in rows)
    return f'<div class="scroll"><table class="facts"><tbody>{lines}</tbody></table></div>'


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
    """A colour of the palette as a variable that follows the page's light or dark scheme."""
    return f"var(--{_COLOR_NAMES[color]})" if color in _COLOR_NAMES else color


def _keys(keys: tuple[Key, ...]) -> str:
    if not keys:
        return ""
    items = []
    for key in keys:
        drawing = _MARKS[key.mark].replace("{c}", css_color(key.color))
        items.append(f'<li><svg width="16" height="16" aria-hidden="true">{drawing}</svg>{escape(key.label)}</li>')
    return f'<ul class="keys">{"".join(items)}</ul>'


def _colors_css() -> str:
    light = {name: color for color, name in _COLOR_NAMES.items()} | {"panel": PANEL_COLORS[0]}
    dark = {name: DARK[color] for color, name in _COLOR_NAMES.items()} | {"panel": PANEL_COLORS[1]}

    def rule(colors: Mapping[str, str]) -> str:
        return ":root{" + "".join(f"--{name}:{color};" for name, color in colors.items()) + "}"

    return f"{rule(light)}\n@media screen and (prefers-color-scheme: dark){{{rule(dark)}}}\n"


def _script_json(text: str) -> str:
    """JSON that cannot close its script element: `<` only occurs inside strings, where it may be an escape."""
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
