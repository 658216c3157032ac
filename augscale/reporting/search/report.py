"""Writes report.html of a run folder, with contact sheets: the same photographs at strong, weak and the best scales."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import load_study
from augscale.data.cache import open_cache
from augscale.errors import AugscaleError, ConfigError
from augscale.records.answer import ContenderRecord
from augscale.reporting.search.page import render_page
from augscale.reporting.search.results import RunResults, read_run
from augscale.reporting.shared.contact_sheet import contact_sheet
from augscale.runs.files import write_text_atomic
from augscale.runs.folders import RunFolder
from augscale.scoring.panel import panel_split


def write_report(run_dir: Path, *, contact_sheets: Mapping[str, bytes] | None = None) -> Path:
    """Writes `report.html` from the files of a run folder; the search may still be running.

    Args:
        run_dir: the run folder.
        contact_sheets: PNG bytes by name of the scales, in the order of the page; None: drawn here.
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
    sheets = _contact_sheets(found) if contact_sheets is None else contact_sheets
    write_text_atomic(run.report_file, render_page(found, sheets))
    return run.report_file


IMAGES_SHOWN = 4


def _contact_sheets(run: RunResults) -> Mapping[str, bytes]:
    """PNG bytes by name of the scales; all show the same photographs.

    Empty before there is an answer, and if the cache of decoded images is missing, e.g. in a copy on another machine.
    """
    if run.answer and run.manifest.cache:
        with suppress(AugscaleError):
            return _draw(run, run.best)
    return {}


def _draw(run: RunResults, best: ContenderRecord | None) -> dict[str, bytes]:
    """One sheet each for strong, weak and the best scales; two if the best is strong or weak."""
    config = load_study(RunFolder(run.path).study_file)
    cache = open_cache(Path(run.manifest.cache))
    _, held_out = panel_split(cache, config)
    images = np.asarray(cache.images[np.sort(held_out[:IMAGES_SHOWN])])
    scales = {name: load_scales(name) for name in ("strong", "weak")}
    if best:
        scales[best.name] = AugmentationScales.model_validate(best.scales)
    sheets = {}
    for name, value in scales.items():
        buffer = io.BytesIO()
        contact_sheet(images, {name: value}, config.crops).save(buffer, format="PNG")
        sheets[name] = buffer.getvalue()
    return sheets
