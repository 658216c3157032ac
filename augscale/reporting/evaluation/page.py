"""An evaluation as one offline page, and as sections of a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from augscale.errors import DataError
from augscale.reporting.evaluation.section import evaluation_sections, section_html
from augscale.reporting.shared.page import nav, shell
from augscale.reporting.shared.wording import moment
from augscale.runs.files import read_json, write_text_atomic


def write_evaluation_page(path: Path, values: Mapping[str, Any]) -> Path:
    """Writes a page of its own.

    Args:
        values: what evaluation.json holds.
    Raises:
        StudyError: it cannot be written.
    """
    drawings: dict[str, str] = {}
    sections = evaluation_sections(values)
    finished = moment(values.get("facts", {}).get("finished", ""))
    header = f'<p class="overline">augscale evaluate · {escape(finished)}</p><h1>Downstream evaluation</h1>'
    page = shell(
        title="Downstream evaluation",
        header=header + nav([(s.anchor, s.link) for s in sections]),
        main="\n".join(section_html(section, drawings) for section in sections),
        data=drawings,
    )
    write_text_atomic(path, page)
    return path


def run_sections(path: Path, drawings: dict[str, str], best: str | None) -> tuple[list[tuple[str, str]], str]:
    """Links and HTML of the evaluation of a run, nothing where there is none or it cannot be read.

    Args:
        path: evaluation.json.
        drawings: plots are added to it.
        best: the checkpoint to draw in the colour of the best.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        return [], ""
    try:
        sections = evaluation_sections(values, best=best)
    except DataError:
        return [], ""
    return [(s.anchor, s.link) for s in sections], "\n".join(section_html(s, drawings) for s in sections)
