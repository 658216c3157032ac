"""Writes report.html of a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from augscale.errors import ConfigError
from augscale.reporting.search.page import render_page
from augscale.reporting.search.results import read_run
from augscale.reporting.search.sheets import contact_sheets as drawn_sheets
from augscale.runs.files import write_text_atomic
from augscale.runs.folders import RunFolder


def write_report(run_dir: Path, *, contact_sheets: Mapping[str, bytes] | None = None) -> Path:
    """Writes `report.html` from the files of a run folder; the search may still be running.

    Args:
        run_dir: the run folder.
        contact_sheets: PNG bytes by name of the scales, in the order to show; None draws them.
    Returns:
        The path of the page; a reader sees the old page or the new one, never a part.
    Raises:
        ConfigError: not a folder.
        StudyError: the page cannot be written.
    """
    run = RunFolder(run_dir)
    if not run.path.is_dir():
        raise ConfigError(f"{run.path}: not a folder; expected the run folder of a search")
    found = read_run(run.path)
    sheets = drawn_sheets(found) if contact_sheets is None else contact_sheets
    write_text_atomic(run.report_file, render_page(found, sheets))
    return run.report_file
