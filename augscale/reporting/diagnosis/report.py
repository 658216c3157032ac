"""Writes diagnosis.html and the figures of a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from augscale.records.diagnosis import DiagnosisRecord
from augscale.reporting.diagnosis.display import displayed
from augscale.reporting.diagnosis.figures import all_figures
from augscale.reporting.diagnosis.page import render_diagnosis
from augscale.runs.files import write_bytes_atomic, write_text_atomic

PAGE = "diagnosis.html"


def write_diagnosis(out_dir: Path, diagnosis: DiagnosisRecord, thumbnails: Mapping[int, bytes]) -> list[Path]:
    """Writes the page and the PNG figures.

    Args:
        out_dir: an existing folder.
        diagnosis: the content of diagnosis.json.
        thumbnails: JPEG or PNG bytes by row of `images`; other kinds of files are not shown.
    Returns:
        The files, the page first. A figure for which there is nothing to draw is not written. A reader sees an old
        file or a new one, never a part.
    Raises:
        StudyError: a file cannot be written.
    """
    shown = displayed(diagnosis)
    page = out_dir / PAGE
    write_text_atomic(page, render_diagnosis(shown, thumbnails))
    written = [page]
    for name, png in all_figures(shown).items():
        write_bytes_atomic(out_dir / name, png)
        written.append(out_dir / name)
    return written
