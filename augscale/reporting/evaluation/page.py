"""An evaluation as one offline page, and as sections of a run's report."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from augscale.errors import DataError
from augscale.records.evaluation import EvaluationSummary
from augscale.reporting.evaluation.section import evaluation_sections
from augscale.reporting.evaluation.terminal import headline
from augscale.reporting.shared.page import nav, shell
from augscale.reporting.shared.templates import render
from augscale.reporting.shared.wording import moment
from augscale.runs.files import write_text_atomic


def write_evaluation_page(path: Path, summary: EvaluationSummary) -> Path:
    """Writes a page of its own.

    Raises:
        StudyError: it cannot be written.
    """
    drawings: dict[str, str] = {}
    links, sections = evaluation_sections(summary, drawings, titled=False)
    finished = moment(summary.facts.get("finished", ""))
    page = shell(
        title="Downstream evaluation",
        header=render(
            "evaluation/header.html", finished=finished, headline=headline(summary), links=Markup(nav(links))
        ),
        main=sections,
        data=drawings,
    )
    write_text_atomic(path, page)
    return path


def run_sections(path: Path, drawings: dict[str, str], best: str | None) -> tuple[list[tuple[str, str]], Markup]:
    """Links and HTML of the evaluation of a run; empty where the file is missing or cannot be read.

    Args:
        path: evaluation.json.
        drawings: plots are added to it.
        best: the checkpoint to draw in the color of the best.
    """
    try:
        return evaluation_sections(EvaluationSummary.read(path), drawings, best=best)
    except DataError:
        return [], Markup()
