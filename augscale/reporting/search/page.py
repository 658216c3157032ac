"""The report of a search as one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from augscale.data.suspects import SUSPECTS_FILE
from augscale.reporting.evaluation.page import run_sections
from augscale.reporting.search import contender_figures, figures, space_figures, tables
from augscale.reporting.search.answer_section import answer_section, header
from augscale.reporting.search.results import RunResults
from augscale.reporting.shared.page import plot_section, shell
from augscale.reporting.shared.style import Colors, Plot
from augscale.reporting.shared.templates import image_source, render
from augscale.reporting.validation.page import run_validation


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
    """Text shown if there is nothing to draw."""
    narrow: bool = False


SECTIONS = (
    Section(
        anchor="confirmation",
        link="Confirmation",
        title="Confirmation on fresh seeds",
        guide="Each row is one set of scales, trained again from other initial weights. Where the interval of a "
        "difference crosses 0, these runs cannot tell the two apart.",
        plot=contender_figures.confirmation,
        missing="No comparison on fresh seeds has been completed, so how much of a score is luck is not known.",
    ),
    Section(
        anchor="distances",
        link="Pair distances",
        title="Distances of positive and negative pairs",
        guide="The further the colored hump lies to the left of the gray one, the better a model tells photographs "
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
        guide="Yellow marks are combinations that scored high, dark blue ones low; a region of one color is more "
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
        run: the content of the run folder.
        contact_sheets: PNG bytes by name of the scales, in the order to show; other bytes than an image are left out.
    """
    best = run.best_name
    names = [c.name for c in run.answer.contenders] if run.answer else []
    colors = Colors(best, ([best] if best else []) + [t.name for t in run.controls] + names)
    drawings: dict[str, str] = {}
    plots = [
        plot_section(s.anchor, s.title, s.guide, s.plot(run, colors), drawings, missing=s.missing, narrow=s.narrow)
        for s in SECTIONS
    ]
    evaluation_links, evaluation = run_sections(run.path / "evaluation" / "evaluation.json", drawings, best)
    validation_links, validation = run_validation(run.path / "validation" / "validation.json", drawings)
    sheets = [(name, source) for name, png in contact_sheets.items() if (source := image_source(png))]
    links = [
        *((s.anchor, s.link) for s in SECTIONS),
        *evaluation_links,
        *validation_links,
        *([("suspects", "Odd images")] if run.manifest.data.findings else []),
        *([("sheets", "Contact sheets")] if sheets else []),
        ("trials", "All trials"),
        ("made-with", "Settings"),
    ]
    return shell(
        title=f"{run.study.get('name') or run.path.name}: augmentation scales",
        header=header(run, links),
        main="\n".join((answer_section(run), *plots, evaluation, validation, _rest(run, sheets))),
        data=drawings,
    )


def _rest(run: RunResults, sheets: Sequence[tuple[str, str]]) -> str:
    """HTML of odd images, contact sheets, all trials, and the settings."""
    try:
        suspects = (run.path / SUSPECTS_FILE).read_bytes()
    except OSError:
        suspects = b""
    return render(
        "search/rest.html",
        findings=run.manifest.data.findings,
        suspects=image_source(suspects),
        sheets=sheets,
        trial_heads=tables.trial_heads(run),
        trial_rows=tables.trial_rows(run),
        facts=tables.facts(run),
        bad_files=tables.bad_files(run),
        passed_over=tables.passed_over(run),
        settings=tables.settings(run),
        has_study=bool(run.study),
    )
