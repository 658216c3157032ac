"""The diagnosis as one HTML page. All text from files passes `html.escape`, or becomes text in the page's script."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape

from augscale.reporting.diagnosis import plots as diagnosis_plots
from augscale.reporting.diagnosis import tables as diagnosis_tables
from augscale.reporting.diagnosis.plots import MAPS, CheckpointColors
from augscale.reporting.diagnosis.records import CheckpointResult, Confusion, Diagnosis
from augscale.reporting.diagnosis.wording import (
    SCOPE,
    VERDICT_WORDS,
    checkpoint_numbers,
    checkpoint_sentence,
    headline,
    value_text,
)
from augscale.reporting.shared.page import css_color, figure, nav, plot_section, shell
from augscale.reporting.shared.style import Plot
from augscale.reporting.shared.wording import moment

MOST_CONFUSIONS = 24
"""Shown per checkpoint; diagnosis.json has all."""
SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


def render_diagnosis(diagnosis: Diagnosis, thumbnails: Mapping[int, bytes]) -> str:
    """The whole page.

    Args:
        diagnosis: what was found.
        thumbnails: JPEG or PNG bytes by row of the panel's images; others are left out.
    """
    colors = CheckpointColors(diagnosis)
    drawings: dict[str, str] = {}
    parts = (
        _answer(diagnosis),
        _health(diagnosis, colors),
        _distances(diagnosis, colors, drawings),
        _metrics(diagnosis, colors, drawings),
        plot_section(
            "spectrum",
            "Spectrum of the embeddings",
            "How the variance of clean images is shared out over principal directions. A line that falls steeply "
            "means that few directions are in use; RankMe counts them.",
            diagnosis_plots.spectra(diagnosis, colors),
            drawings,
            missing="No spectrum was computed.",
            narrow=True,
        ),
        _maps(diagnosis, drawings),
        _confusions(diagnosis),
        f'<section id="duplicates"><h2>Near-duplicates</h2>{diagnosis_tables.near_duplicates(diagnosis)}</section>',
        f'<section id="loaded"><h2>What was loaded</h2>{diagnosis_tables.loaded(diagnosis)}</section>',
        f'<section id="made-with"><h2>Settings and versions</h2>{diagnosis_tables.settings(diagnosis)}</section>',
    )
    links = [
        ("health", "Health"), ("distances", "Distances"), ("metrics", "Metrics"), ("spectrum", "Spectrum"),
        ("maps", "Maps"), ("confusions", "Confusions"), ("duplicates", "Near-duplicates"), ("loaded", "Loaded"),
        ("made-with", "Settings"),
    ]  # fmt: skip
    return shell(
        title=f"Diagnosis: {', '.join(c.name for c in diagnosis.checkpoints)}"[:120],
        header=_header(diagnosis) + nav(links),
        main="\n".join(parts),
        data=drawings | _images(diagnosis, thumbnails),
        extra=("diagnosis",),
    )


def _header(diagnosis: Diagnosis) -> str:
    facts = diagnosis.facts
    count = len(diagnosis.checkpoints)
    parts = ["augscale diagnose", f"{count} checkpoint{'' if count == 1 else 's'}"]
    if facts.get("num_images"):
        parts.append(f"{facts['num_images']} images, {facts.get('num_views', 'several')} views of each")
    parts += [f"finished {moment(facts['finished'])}"] if "finished" in facts else []
    return f'<p class="overline">{escape(" · ".join(parts))}</p><h1>{escape(headline(diagnosis))}.</h1>'


def _answer(diagnosis: Diagnosis) -> str:
    items = []
    for checkpoint in diagnosis.checkpoints:
        sentence = escape(checkpoint_sentence(diagnosis, checkpoint))
        numbers = escape(checkpoint_numbers(diagnosis, checkpoint))
        items.append(
            f'<li class="{_css(checkpoint)}"><strong class="whole">{sentence}.</strong><span>{numbers}</span></li>'
        )
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*diagnosis.notes, *SCOPE))
    return (
        f'<section id="answer"><ul class="verdicts">{"".join(items)}</ul>{diagnosis_tables.comparisons(diagnosis)}'
        f'<div class="caveats"><h2>Notes, and what this does not show</h2><ul>{notes}</ul></div></section>'
    )


def _health(diagnosis: Diagnosis, colors: CheckpointColors) -> str:
    cards = []
    for checkpoint in diagnosis.checkpoints:
        facts = checkpoint.facts
        words = " · ".join(str(facts[key]) for key in ("kind", "arch", "trained_with") if key in facts)
        evidence = _list("Evidence", checkpoint.evidence)
        advice = _list("What to try next", checkpoint.advice)
        swatch = f'<i class="swatch" style="background:{css_color(colors[checkpoint.name])}"></i>'
        verdict = escape(VERDICT_WORDS.get(checkpoint.verdict, checkpoint.verdict))
        cards.append(
            f'<div class="card {_css(checkpoint)}"><h3>{swatch}{escape(checkpoint.name)}</h3>'
            f'<p class="overline">{escape(words)}</p><span class="badge {_css(checkpoint)}">{verdict}</span>'
            f"{evidence}{advice}</div>"
        )
    return (
        '<section id="health"><h2>Health</h2><p class="guide">Whether a network says anything about an image at all, '
        f'before asking how well.</p><div class="cards">{"".join(cards)}</div></section>'
    )


def _distances(diagnosis: Diagnosis, colors: CheckpointColors, drawings: dict[str, str]) -> str:
    """Two figures: at unit length, and as the paper's Figure 2 plots them."""
    shown = {
        "At unit length": (
            "The further the coloured hump lies to the left of the grey one, the better a network tells photographs "
            "apart whatever the augmentation. All see the same views; embeddings have length 1, so rows can be "
            "compared. Triangles mark means, the number under a name is d′ at that level.",
            diagnosis_plots.distances(diagnosis, colors),
        ),
        "Raw, as in the paper's Figure 2": (
            "Distances of the features as they are. Each network has its own axis: the length of features differs "
            "between networks, so raw distances must not be compared across panels.",
            diagnosis_plots.raw_distances(diagnosis, colors),
        ),
    }
    return (
        '<section id="distances"><h2>Distances of positive and negative pairs</h2>'
        f"{_plot_tabs('distances', shown, drawings, missing='No distances were computed.')}</section>"
    )


def _metrics(diagnosis: Diagnosis, colors: CheckpointColors, drawings: dict[str, str]) -> str:
    plot = diagnosis_plots.over_levels(diagnosis, colors)
    overview = figure("levels", "Metrics over the levels", plot, drawings) if plot else ""
    tables = {}
    ladder = diagnosis.ladder_levels
    if len(ladder) > 1:
        found = [c.ladder for c in diagnosis.checkpoints]
        tables["Mean of the ladder" if len(ladder) < len(diagnosis.levels) else "Mean of all levels"] = found
    for name, _ in diagnosis.levels:
        tables[name] = [c.levels[name].metrics if name in c.levels else {} for c in diagnosis.checkpoints]
    panels = [(t, diagnosis_tables.metrics_table(diagnosis, colors, found, paper=True)) for t, found in tables.items()]
    overall = diagnosis_tables.metrics_table(diagnosis, colors, [c.overall for c in diagnosis.checkpoints])
    return (
        '<section id="metrics"><h2>Metrics</h2><p class="guide">Values with 95 % intervals over patients. Whether two '
        f"checkpoints differ is said at the top of the page: intervals that overlap do not settle it.</p>{overview}"
        f"{_tabs('level', panels)}"
        '<p class="note">Bold: best value where a direction is known, collapsed checkpoints left out.</p>'
        f"<h3>Clean images, without augmentation</h3>{overall}{diagnosis_tables.glossary(diagnosis)}</section>"
    )


def _maps(diagnosis: Diagnosis, drawings: dict[str, str]) -> str:
    guide = {
        "views": "Views of one image share a colour and shape and are tied to their middle. Tight, separate groups "
        "are what pre-training is after; groups that mix are images that the network confuses.",
        "images": "Every image of the panel once, without augmentation, coloured by label where there is one. A label "
        "forms regions only if it is among the strongest differences between images.",
    }
    look = " Point at a mark, or tap it, to see its image."
    shown = {
        title: (guide[kind.split("_")[0]] + look, plot)
        for kind, title in MAPS.items()
        if (plot := diagnosis_plots.maps(diagnosis, kind))
    }
    tabs = _plot_tabs("maps", shown, drawings, missing="No maps were computed.")
    return f'<section id="maps"><h2>Maps</h2>{tabs}</section>'


def _confusions(diagnosis: Diagnosis) -> str:
    guide = (
        '<p class="guide">Images of different patients that lie closer together than a view lies to another view of '
        "its own image. Look at what they share: the same camera or border, a near-duplicate, a patient under two "
        "names, or a disease that should lie together.</p>"
    )
    panels = []
    for checkpoint in diagnosis.checkpoints:
        pairs = [_pair(diagnosis, found) for found in checkpoint.confusions[:MOST_CONFUSIONS]]
        more = len(checkpoint.confusions) - len(pairs)
        note = f'<p class="note">and {more} more, listed in diagnosis.json</p>' if more > 0 else ""
        body = f'<div class="pairs">{"".join(pairs)}</div>{note}' if pairs else '<p class="guide">None were found.</p>'
        panels.append((checkpoint.name, body))
    return f'<section id="confusions"><h2>Confusions</h2>{guide}{_tabs("confusions-of", panels)}</section>'


def _pair(diagnosis: Diagnosis, found: Confusion) -> str:
    both = "".join(_one(diagnosis, row) for row in (found.a, found.b))
    lines = [f"{value_text(found.distance)} apart"]
    lines += [f"own views {value_text(found.own_distance)}"] if found.own_distance is not None else []
    lines += [f"other views {value_text(found.other_distance)}"] if found.other_distance is not None else []
    at = f" at {found.level}" if found.level else ""
    return f'<div class="pair"><div class="both">{both}</div><p>{escape(", ".join(lines) + at)}</p></div>'


def _one(diagnosis: Diagnosis, row: int) -> str:
    if not 0 <= row < len(diagnosis.images):
        return f'<div class="one">image {row}</div>'
    image = diagnosis.images[row]
    details = [f"label {image.label}"] if image.label is not None else []
    details += [f"patient {image.patient}"] if image.patient else []
    small = "".join(f"<small>{escape(detail)}</small>" for detail in details)
    return f'<div class="one"><img data-image="{row}" alt="">{escape(image.image_id)}{small}</div>'


def _plot_tabs(
    name: str, shown: Mapping[str, tuple[str, Plot | None]], drawings: dict[str, str], *, missing: str
) -> str:
    panels = [
        (title, f'<p class="guide">{escape(guide)}</p>{figure(f"{name}-{index}", title, plot, drawings)}')
        for index, (title, (guide, plot)) in enumerate(shown.items())
        if plot
    ]
    return _tabs(f"{name}-tab", panels) if panels else f'<p class="guide">{escape(missing)}</p>'


def _tabs(name: str, panels: Sequence[tuple[str, str]]) -> str:
    """Panels of which the script shows one; without script all stand below each other."""
    if len(panels) == 1:
        return panels[0][1]
    buttons = "".join(
        f'<button type="button" role="tab" id="{name}-{index}-button" aria-controls="{name}-{index}">{escape(title)}'
        "</button>"
        for index, (title, _) in enumerate(panels)
    )
    bodies = "".join(
        f'<div role="tabpanel" id="{name}-{index}" aria-labelledby="{name}-{index}-button">{body}</div>'
        for index, (_, body) in enumerate(panels)
    )
    return f'<div class="tabs" role="tablist">{buttons}</div>{bodies}'


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<h4>{title}</h4><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _css(checkpoint: CheckpointResult) -> str:
    """A class for the verdict; what a file says never becomes markup."""
    return checkpoint.verdict if checkpoint.verdict in ("healthy", "suspicious", "collapsed") else "unknown"


def _images(diagnosis: Diagnosis, thumbnails: Mapping[int, bytes]) -> dict[str, str]:
    """What the script shows on a map's points and in the gallery; each thumbnail once."""
    images = [{"id": i.image_id, "label": i.label, "patient": i.patient} for i in diagnosis.images]
    sources = {
        row: f"data:{kind};base64,{base64.b64encode(content).decode()}"
        for row, content in sorted(thumbnails.items())
        for signature, kind in SIGNATURES.items()
        if content.startswith(signature)
    }
    return {"images": json.dumps(images), "thumbnails": json.dumps(sources)}
