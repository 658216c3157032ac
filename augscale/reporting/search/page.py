"""The report of a search as one HTML page. All text from files passes `html.escape`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

from augscale.reporting.evaluation.page import run_sections
from augscale.reporting.search import answer_section as html_answer
from augscale.reporting.search import contender_figures, figures, space_figures
from augscale.reporting.search import tables as html_tables
from augscale.reporting.search.records import RunResults
from augscale.reporting.shared.page import nav, plot_section, shell
from augscale.reporting.shared.style import Colors, Plot
from augscale.reporting.shared.suspects import SUSPECTS_FILE
from augscale.reporting.validation.page import run_validation

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
        guide="Importance of the parameters beside each other (PED-ANOVA). It adds up to 100 % whether the score "
        "depends on any of them or not.",
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
    sections = "".join(
        plot_section(s.anchor, s.title, s.guide, s.plot(run, colors), drawings, missing=s.missing, narrow=s.narrow)
        for s in SECTIONS
    )
    links = [(s.anchor, s.link) for s in SECTIONS]
    evaluated, evaluation = run_sections(run.path / "evaluation" / "evaluation.json", drawings, best)
    links += evaluated
    validated, validation = run_validation(run.path / "validation" / "validation.json", drawings)
    links += validated
    links += [("suspects", "Odd images")] if html_tables.findings(run) else []
    links += [("sheets", "Contact sheets")] if contact_sheets else []
    links += [("trials", "All trials"), ("made-with", "Settings")]
    parts = (
        html_answer.answer(run),
        sections,
        evaluation,
        validation,
        _suspects(run),
        _sheets(contact_sheets),
        _trials(run),
        _made_with(run),
    )
    return shell(
        title=f"{run.study.get('name') or run.path.name}: augmentation scales",
        header=html_answer.header(run) + nav(links),
        main="\n".join(parts),
        data=drawings,
    )


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


def _suspects(run: RunResults) -> str:
    """What the check before training found, and the worst images."""
    findings = html_tables.findings(run)
    if not findings:
        return ""
    try:
        png = (run.path / SUSPECTS_FILE).read_bytes()
    except OSError:
        png = b""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}" if png.startswith(PNG_SIGNATURE) else None
    image = f'<div class="sheets"><img src="{source}" alt="Some of the odd images"></div>' if source else ""
    items = "".join(f"<li>{escape(text)}</li>" for text in findings)
    return (
        '<section id="suspects"><h2>Images worth a look</h2><p class="guide">Found before training, from the decoded '
        f"pixels and the names of the files. The images were used all the same.</p><ul>{items}</ul>{image}</section>"
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
        f"{html_tables.facts(run)}{html_tables.bad_files(run)}{html_tables.passed_over(run)}{html_tables.settings(run)}</section>"
    )
