"""The diagnosis as one HTML page, and its figures as files.

Templates escape texts from files; the page's script only writes them as text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from augscale.records.diagnosis import CheckpointRecord, Confusion, DiagnosisRecord
from augscale.reporting.diagnosis import plots, tables
from augscale.reporting.diagnosis.display import displayed
from augscale.reporting.diagnosis.figures import all_figures
from augscale.reporting.diagnosis.map_plots import MAPS, map_plot
from augscale.reporting.diagnosis.overview import overview
from augscale.reporting.diagnosis.plots import CheckpointColors
from augscale.reporting.diagnosis.wording import (
    SCOPE,
    headline,
    value_text,
    verdict_words,
)
from augscale.reporting.shared.page import css_color, facts_table, figure, nav, plot_section, shell
from augscale.reporting.shared.style import Plot
from augscale.reporting.shared.templates import image_source, render
from augscale.reporting.shared.wording import moment
from augscale.runs.files import write_bytes_atomic, write_text_atomic

MOST_CONFUSIONS = 24
"""Largest number of confusions shown per checkpoint; diagnosis.json lists all."""
LINKS = [
    ("health", "Health"), ("distances", "Distances"), ("metrics", "Metrics"), ("spectrum", "Spectrum"),
    ("maps", "Maps"), ("confusions", "Confusions"), ("duplicates", "Near-duplicates"), ("loaded", "Loaded"),
    ("made-with", "Settings"),
]  # fmt: skip
_UNIT_GUIDE = (
    "The further the colored hump lies to the left of the gray one, the better a network tells photographs apart "
    "whatever the augmentation. All see the same views; embeddings have length 1, so rows can be compared. Triangles "
    "mark means, the number under a name is d' at that level."
)
_RAW_GUIDE = (
    "Distances of the features as they are. Each network has its own axis: the length of features differs between "
    "networks, so raw distances must not be compared across panels."
)
_SPECTRUM_GUIDE = (
    "How the variance of clean images is shared out over principal directions. A line that falls steeply means that "
    "few directions are in use; the effective rank counts them."
)
_MAP_GUIDES = {
    "views": "Views of one image share a color and shape and are tied to their mean. Tight, separate groups "
    "are the aim of pre-training; groups that mix are images that the network confuses.",
    "images": "Every image of the panel once, without augmentation, colored by label where there is one. A label "
    "forms regions only if it is among the strongest differences between images.",
}
_POINT_GUIDE = " Point at a mark, or tap it, to see its image."


class _Panel(NamedTuple):
    title: str
    body: Markup


class _Checkpoint(NamedTuple):
    name: str
    css: str
    color: str
    origin: str
    verdict: str
    evidence: tuple[str, ...]
    advice: tuple[str, ...]


class _Image(NamedTuple):
    row: int
    name: str
    details: list[str]


class _Pair(NamedTuple):
    images: list[_Image]
    words: str


def write_diagnosis(
    out_dir: Path, diagnosis: DiagnosisRecord, thumbnails: Mapping[int, bytes], *, figures: bool = True
) -> list[Path]:
    """Writes the page and the PNG figures.

    Args:
        out_dir: an existing folder.
        diagnosis: the content of diagnosis.json.
        thumbnails: JPEG or PNG bytes by row of `images`; other kinds of files are not shown.
        figures: False writes the page only.
    Returns:
        The files, the page first. A figure for which there is nothing to draw is not written. A reader sees an old
        file or a new one, never a part.
    Raises:
        StudyError: a file cannot be written.
    """
    shown = displayed(diagnosis)
    page = out_dir / "diagnosis.html"
    write_text_atomic(page, render_diagnosis(shown, thumbnails))
    written = [page]
    for name, png in all_figures(shown).items() if figures else ():
        write_bytes_atomic(out_dir / name, png)
        written.append(out_dir / name)
    return written


def render_diagnosis(diagnosis: DiagnosisRecord, thumbnails: Mapping[int, bytes]) -> str:
    """The whole page.

    Args:
        diagnosis: from `displayed`.
        thumbnails: JPEG or PNG bytes by row of the panel's images; other kinds of files are not shown.
    """
    colors = CheckpointColors(diagnosis)
    drawings: dict[str, str] = {}
    bad = tables.bad_files(diagnosis)
    main = render(
        "diagnosis/page.html",
        checkpoints=[_checkpoint(diagnosis, checkpoint, colors) for checkpoint in diagnosis.checkpoints],
        overview=overview(diagnosis),
        comparisons=tables.comparison_rows(diagnosis),
        notes=(*diagnosis.notes, *SCOPE),
        distances=_distances(diagnosis, colors, drawings),
        over_levels=_over_levels(diagnosis, colors, drawings),
        level_metrics=_level_metrics(diagnosis, colors),
        image_metrics=tables.metrics_table(diagnosis, colors, [c.overall for c in diagnosis.checkpoints]),
        has_glossary=bool(diagnosis.glossary),
        glossary=tables.glossary(diagnosis),
        spectrum=_spectrum(diagnosis, colors, drawings),
        maps=_maps(diagnosis, drawings),
        confusions=[_Panel(c.name, _confusions(diagnosis, c)) for c in diagnosis.checkpoints],
        near_duplicates=tables.near_duplicate_rows(diagnosis),
        load_reports=tables.load_reports(diagnosis),
        settings=tables.settings(diagnosis),
        bad_files=bad,
        bad_files_table=Markup(facts_table(bad[: tables.MOST_ROWS_SHOWN])),
        most_rows=tables.MOST_ROWS_SHOWN,
        most_keys=tables.MOST_KEYS_SHOWN,
    )
    return shell(
        title=f"Diagnosis: {', '.join(c.name for c in diagnosis.checkpoints)}"[:120],
        header=_header(diagnosis) + Markup(nav(LINKS)),
        main=main,
        data=drawings | _images(diagnosis, thumbnails),
        extra=("diagnosis",),
    )


def _header(diagnosis: DiagnosisRecord) -> Markup:
    count = len(diagnosis.checkpoints)
    parts = ["augscale diagnose", f"{count} checkpoint{'' if count == 1 else 's'}"]
    if diagnosis.num_images:
        parts.append(f"{diagnosis.num_images} images, {diagnosis.num_views or 'several'} views of each")
    if diagnosis.finished:
        parts.append(f"finished {moment(diagnosis.finished)}")
    return Markup('<p class="overline">{}</p><h1>{}.</h1>').format(" · ".join(parts), headline(diagnosis))


def _checkpoint(diagnosis: DiagnosisRecord, checkpoint: CheckpointRecord, colors: CheckpointColors) -> _Checkpoint:
    health = checkpoint.health
    origin = (checkpoint.kind, checkpoint.arch, checkpoint.trained_with)
    return _Checkpoint(
        name=checkpoint.name,
        css=health.verdict if health.verdict in ("healthy", "suspicious", "collapsed") else "unknown",
        color=css_color(colors[checkpoint.name]),
        origin=" · ".join(words for words in origin if words),
        verdict=verdict_words(checkpoint),
        evidence=health.evidence,
        advice=health.advice,
    )


def _distances(diagnosis: DiagnosisRecord, colors: CheckpointColors, drawings: dict[str, str]) -> list[_Panel]:
    """Two figures: at unit length, and as the paper's Figure 2 plots them."""
    shown = {
        "At unit length": (_UNIT_GUIDE, plots.distances(diagnosis, colors)),
        "Raw, as in the paper's Figure 2": (_RAW_GUIDE, plots.raw_distances(diagnosis, colors)),
    }
    return _plot_panels("distances", shown, drawings)


def _over_levels(diagnosis: DiagnosisRecord, colors: CheckpointColors, drawings: dict[str, str]) -> Markup:
    plot = plots.over_levels(diagnosis, colors)
    return Markup(figure("levels", "Metrics over the levels", plot, drawings) if plot else "")


def _level_metrics(diagnosis: DiagnosisRecord, colors: CheckpointColors) -> list[_Panel]:
    ladder, checkpoints = diagnosis.ladder_levels, diagnosis.checkpoints
    found = {}
    if len(ladder) > 1:
        title = "Mean of the ladder" if len(ladder) < len(diagnosis.levels) else "Mean of all levels"
        found[title] = [c.ladder for c in checkpoints]
    for level in diagnosis.levels:
        found[level.name] = [c.levels[level.name].metrics if level.name in c.levels else {} for c in checkpoints]
    return [
        _Panel(title, tables.metrics_table(diagnosis, colors, metrics, paper=True)) for title, metrics in found.items()
    ]


def _spectrum(diagnosis: DiagnosisRecord, colors: CheckpointColors, drawings: dict[str, str]) -> Markup:
    section = plot_section(
        "spectrum",
        "Spectrum of the embeddings",
        _SPECTRUM_GUIDE,
        plots.spectra(diagnosis, colors),
        drawings,
        missing="No spectrum was computed.",
        narrow=True,
    )
    return Markup(section)


def _maps(diagnosis: DiagnosisRecord, drawings: dict[str, str]) -> list[_Panel]:
    shown = {
        title: (_MAP_GUIDES[kind.split("_")[0]] + _POINT_GUIDE, plot)
        for kind, title in MAPS.items()
        if (plot := map_plot(diagnosis, kind))
    }
    return _plot_panels("maps", shown, drawings)


def _plot_panels(name: str, shown: Mapping[str, tuple[str, Plot | None]], drawings: dict[str, str]) -> list[_Panel]:
    """Panels with a reading guide and a plot each."""
    panels = []
    for index, (title, (guide, plot)) in enumerate(shown.items()):
        if plot:
            drawn = Markup(figure(f"{name}-{index}", title, plot, drawings))
            panels.append(_Panel(title, Markup('<p class="guide">{}</p>').format(guide) + drawn))
    return panels


def _confusions(diagnosis: DiagnosisRecord, checkpoint: CheckpointRecord) -> Markup:
    shown = checkpoint.confusions[:MOST_CONFUSIONS]
    return render(
        "diagnosis/confusions.html",
        pairs=[_pair(diagnosis, found) for found in shown],
        left_out=len(checkpoint.confusions) - len(shown),
    )


def _pair(diagnosis: DiagnosisRecord, found: Confusion) -> _Pair:
    words = f"{value_text(found.distance)} apart"
    if found.own_distance is not None:
        words += f", own views {value_text(found.own_distance)}"
    if found.level:
        words += f" at {found.level}"
    return _Pair([_image(diagnosis, row) for row in (found.a, found.b)], words)


def _image(diagnosis: DiagnosisRecord, row: int) -> _Image:
    if not 0 <= row < len(diagnosis.images):
        return _Image(row, f"image {row}", [])
    image = diagnosis.images[row]
    details = [f"label {image.label}"] if image.label is not None else []
    details += [f"patient {image.patient}"] if image.patient is not None else []
    return _Image(row, image.image_id, details)


def _images(diagnosis: DiagnosisRecord, thumbnails: Mapping[int, bytes]) -> dict[str, str]:
    """Names and thumbnails that the script shows on a map's points and in the gallery; each thumbnail once."""
    images = [
        {"id": i.image_id, "label": i.label, "patient": "" if i.patient is None else str(i.patient)}
        for i in diagnosis.images
    ]
    sources = {row: source for row, content in sorted(thumbnails.items()) if (source := image_source(content))}
    return {"images": json.dumps(images), "thumbnails": json.dumps(sources)}
