"""Writes diagnosis.html and the figures of a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from augscale.reporting.diagnosis.figures import all_figures
from augscale.reporting.diagnosis.page import render_diagnosis
from augscale.reporting.diagnosis.records import parse_diagnosis
from augscale.runs.files import write_bytes_atomic, write_text_atomic

PAGE = "diagnosis.html"


def write_diagnosis(out_dir: Path, diagnosis: Mapping[str, Any], thumbnails: Mapping[int, bytes]) -> list[Path]:
    """Writes the page and the PNG figures; diagnosis.json itself is the caller's.

    Args:
        out_dir: an existing folder.
        diagnosis: the content of diagnosis.json.
        thumbnails: JPEG or PNG bytes by row of `images`; others are left out.
    Returns:
        The files, the page first. A figure for which there is nothing to draw is not written. A reader sees an old
        file or a new one, never a part.
    Raises:
        StudyError: a file cannot be written.
    """
    parsed = parse_diagnosis(diagnosis)
    page = out_dir / PAGE
    write_text_atomic(page, render_diagnosis(parsed, thumbnails))
    written = [page]
    for name, png in all_figures(parsed).items():
        write_bytes_atomic(out_dir / name, png)
        written.append(out_dir / name)
    return written
