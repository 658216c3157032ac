"""The report as one HTML page that needs nothing but itself: styles, script and plotly.js are inside.

A content security policy in the page forbids every request, so that opening it offline or on a machine with
confidential images is safe by construction. All text from files passes `html.escape`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from plotly.offline import get_plotlyjs

from augscale.reporting import contender_figures, figures, html_answer, html_tables, space_figures
from augscale.reporting.records import RunResults
from augscale.reporting.style import (
    BEST,
    DARK,
    FAILED,
    FAINT,
    GRID,
    INK,
    MUTED,
    SURFACE,
    UNTRAINED_COLOR,
    Colors,
    Key,
    Plot,
)

POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
PANEL_COLORS = ("#f4f5f8", "#1f242c")
"""Background of boxes, light and dark."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with one plot under it."""

    anchor: str
    link: str
    """A short title for the list of contents."""
    title: str
    guide: str
    plot: Callable[[RunResults, Colors], Plot | None]
    missing: str
    """Said instead of the plot when there is nothing to draw."""
    narrow: bool = False


SECTIONS = (
    Section(
        anchor="confirmation",
        link="Confirmation",
        title="Confirmation on fresh seeds",
        guide="Each row is one set of scales, trained again from other initial weights. Where the interval of a "
        "difference crosses 0, these runs cannot tell the two apart.",
        plot=contender_figures.confirmation,
        missing="No scales have been run again on fresh seeds, so how much of a score is luck is not known.",
    ),
    Section(
        anchor="distances",
        link="Pair distances",
        title="Distances of positive and negative pairs",
        guide="The further the coloured hump lies to the left of the grey one, the better a model tells photographs "
        "apart whatever the augmentation. All models see the same views. Triangles mark means, the number under a name "
        "is the score at that level, and heights are scaled row by row.",
        plot=contender_figures.densities,
        missing="Appears when the first trial is complete.",
    ),
    Section(
        anchor="history",
        link="Search history",
        title="Every trial of the search",
        guide="Each mark is one short training. Marks above a dotted line scored higher than that control, on one "
        "seed: part of that is luck, which the confirmation takes out.",
        plot=figures.history,
        missing="No trial has started.",
    ),
    Section(
        anchor="slices",
        link="Parameters",
        title="Score over each searched parameter",
        guide="A trend across a panel means that the parameter matters in this range; an even cloud means that it "
        "does not. Good scores at an edge suggest a wider range.",
        plot=space_figures.slices,
        missing="Appears when trials with searched parameters are complete.",
    ),
    Section(
        anchor="map",
        link="Crops and jitter",
        title="Crops and jitter together",
        guide="Yellow marks are combinations that scored high, dark blue ones low; a region of one colour is more "
        "telling than a single mark.",
        plot=space_figures.crop_jitter_map,
        missing="Appears when the first trial is complete.",
        narrow=True,
    ),
    Section(
        anchor="importance",
        link="Importance",
        title="Which parameter mattered",
        guide="How much of the score's variation between trials each parameter explains (PED-ANOVA); rough below "
        "some 30 trials.",
        plot=figures.importance,
        missing="Too few complete trials to tell the parameters' shares apart.",
        narrow=True,
    ),
    Section(
        anchor="rungs",
        link="Rungs",
        title="Scores on the way",
        guide="The score at each rung. Lines that cross late mean that pruning early throws away good trials.",
        plot=figures.rung_curves,
        missing="Appears when the first trial reaches a rung.",
    ),
    Section(
        anchor="training",
        link="Training",
        title="Did the models learn?",
        guide="A loss at its ceiling, or information near 0, means that nothing was learned. A lower loss does not "
        "mean better features: losses under different augmentations cannot be compared.",
        plot=contender_figures.training,
        missing="Appears when the best or a control has trained for some steps.",
    ),
)


def render_page(run: RunResults, contact_sheets: Mapping[str, bytes]) -> str:
    """The whole page.

    Args:
        run: what was read from the run folder.
        contact_sheets: PNG bytes by name of the scales, in the order to show; others than PNG are left out.
    """
    best = run.best_trial.name if run.best_trial else run.answer.best.name if run.answer and run.answer.best else None
    names = [c.name for c in run.answer.contenders] if run.answer else []
    colors = Colors(best, ([best] if best else []) + [t.name for t in run.controls] + names)
    drawings: dict[str, str] = {}
    sections = "".join(_section(section, run, colors, drawings) for section in SECTIONS)
    title = f"{run.study.get('name') or run.path.name}: augmentation scales"
    return _PAGE.format(
        policy=escape(POLICY),
        title=escape(title),
        style=_colors_css() + _asset("page.css"),
        header=html_answer.header(run),
        nav=_nav(bool(contact_sheets)),
        answer=html_answer.answer(run),
        sections=sections,
        sheets=_sheets(contact_sheets),
        trials=_trials(run),
        made_with=_made_with(run),
        dark=_script_json(json.dumps(DARK)),
        data="".join(
            f'<script type="application/json" id="{name}-data">{_script_json(data)}</script>\n'
            for name, data in drawings.items()
        ),
        plotly=get_plotlyjs() if drawings else "",
        script=_asset("page.js"),
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
<header>{header}{nav}</header>
<main>
{answer}
{sections}
{sheets}
{trials}
{made_with}
</main>
<footer>Written by augscale. This page is complete in itself and makes no network request.</footer>
<script type="application/json" id="dark-colors">{dark}</script>
{data}<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def _nav(has_sheets: bool) -> str:
    links = [(s.anchor, s.link) for s in SECTIONS]
    links += [("sheets", "Contact sheets")] if has_sheets else []
    links += [("trials", "All trials"), ("made-with", "Settings")]
    return "<nav>" + " ".join(f'<a href="#{a}">{escape(t)}</a>' for a, t in links) + "</nav>"


def _section(section: Section, run: RunResults, colors: Colors, drawings: dict[str, str]) -> str:
    """A heading, its reading guide and its plot; the plot's data are added to `drawings` by element id."""
    plot = section.plot(run, colors)
    head = f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>'
    if plot is None:
        return f'{head}<p class="guide">{escape(section.missing)}</p></section>'
    panels = []
    for index, panel in enumerate(plot.panels):
        name = f"{section.anchor}-{index}"
        drawings[name] = panel.figure.to_json()
        title = f"<h3>{escape(panel.title)}</h3>" if panel.title else ""
        save = f'<button type="button" class="save" data-plot="{name}" title="Save this figure as SVG">SVG</button>'
        label = escape(panel.title or section.title)
        height = int(panel.figure.layout.height)
        drawing = f'<div class="drawing" id="{name}" role="img" aria-label="{label}" style="height:{height}px"></div>'
        panels.append(f'<div><div class="head">{title}{save}</div>{drawing}</div>')
    css = f"panels of-{len(panels)}" + (" narrow" if section.narrow else "")
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in plot.notes)
    return (
        f'{head}<p class="guide">{escape(section.guide)}</p><figure>{_keys(plot.keys)}'
        f'<div class="{css}">{"".join(panels)}</div>{notes}'
        "<noscript><p>The figures need JavaScript.</p></noscript></figure></section>"
    )


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
}


def _keys(keys: tuple[Key, ...]) -> str:
    if not keys:
        return ""
    items = []
    for key in keys:
        # Named colours follow the page's light or dark scheme.
        color = f"var(--{_COLOR_NAMES[key.color]})" if key.color in _COLOR_NAMES else key.color
        drawing = _MARKS[key.mark].replace("{c}", color)
        items.append(f'<li><svg width="16" height="16" aria-hidden="true">{drawing}</svg>{escape(key.label)}</li>')
    return f'<ul class="keys">{"".join(items)}</ul>'


def _sheets(contact_sheets: Mapping[str, bytes]) -> str:
    images = []
    for name, png in contact_sheets.items():
        if png.startswith(PNG_SIGNATURE):
            source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
            title = escape(name)
            images.append(f'<img src="{source}" alt="Views of some photographs at {title}">')
    if not images:
        return ""
    return (
        '<section id="sheets"><h2>What the models saw</h2><p class="guide">The same photographs under each set of '
        "scales. Check that what matters in your images survives: a lesion that the crops cut away cannot be learned."
        f'</p><div class="sheets">{"".join(images)}</div></section>'
    )


def _trials(run: RunResults) -> str:
    if not run.trials:
        return ""
    return (
        '<section id="trials"><h2>All trials</h2><p class="guide">Click a column to sort. Scores of trials that did '
        "not reach full length are those of their last rung, and not comparable with the others.</p>"
        f"{html_tables.trials_table(run)}</section>"
    )


def _made_with(run: RunResults) -> str:
    return (
        '<section id="made-with"><h2>Settings and versions</h2>'
        f"{html_tables.facts(run)}{html_tables.bad_files(run)}{html_tables.settings(run)}</section>"
    )


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
