"""Writes report.html of a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from augscale.errors import ConfigError
from augscale.reporting.search.page import render_page
from augscale.reporting.search.results import read_run
from augscale.runs.files import write_text_atomic
from augscale.runs.folders import RunFolder

CONTACT_SHEET = "contact_sheet.png"


def write_report(run_dir: Path, *, contact_sheets: Mapping[str, bytes] | None = None) -> Path:
    """Writes `report.html` from what lies in a run folder; the search may still be running.

    Args:
        run_dir: the run folder.
        contact_sheets: PNG bytes by name of the scales, in the order to show; None takes the folder's
            contact_sheet.png where there is one.
    Returns:
        The path of the page; a reader sees the old page or the new one, never a part.
    Raises:
        ConfigError: not a folder.
        StudyError: the page cannot be written.
    """
    run = RunFolder(run_dir)
    if not run.path.is_dir():
        raise ConfigError(f"{run.path}: not a folder; expected the run folder of a search")
    sheets = _stored_sheet(run.path) if contact_sheets is None else contact_sheets
    write_text_atomic(run.report_file, render_page(read_run(run.path), sheets))
    return run.report_file


def _stored_sheet(folder: Path) -> dict[str, bytes]:
    try:
        return {"strong, weak and best": (folder / CONTACT_SHEET).read_bytes()}
    except OSError:
        return {}
