"""A validation as one offline page, and as sections of a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from augscale.errors import DataError
from augscale.reporting.shared.page import facts_table, nav, shell
from augscale.reporting.shared.wording import moment, score_label
from augscale.reporting.validation.section import validation_sections
from augscale.runs.files import read_json, write_text_atomic


def write_validation_page(path: Path, values: Mapping[str, Any]) -> Path:
    """Writes a page of its own.

    Args:
        values: what validation.json holds.
    Raises:
        DataError: not what `augscale validate` writes.
        StudyError: it cannot be written.
    """
    drawings: dict[str, str] = {}
    links, sections = validation_sections(values, drawings)
    overline = f"augscale validate · {values['study']} · finished {moment(values['finished'])}"
    title = f"Trust in the score {score_label(values['score_name'])}"
    page = shell(
        title=f"Validation: {values['study']}",
        header=f'<p class="overline">{escape(overline)}</p><h1>{escape(title)}</h1>'
        + nav([*links, ("validation-made-with", "Settings")]),
        main=sections + _settings(values),
        data=drawings,
    )
    write_text_atomic(path, page)
    return path


def run_validation(path: Path, drawings: dict[str, str]) -> tuple[list[tuple[str, str]], str]:
    """One link and the HTML of the validation of a run, nothing where there is none or it cannot be read."""
    values = read_json(path)
    if not isinstance(values, dict):
        return [], ""
    found: dict[str, str] = {}
    try:
        _, sections = validation_sections(values, found)
    except DataError:
        return [], ""
    drawings |= found
    return [("validation", "Validation")], sections


def _settings(values: Mapping[str, Any]) -> str:
    facts = values["facts"]
    datasets = ", ".join(
        f"{name} ({sum(found['counts']['test'].values())} test images)" for name, found in facts["datasets"].items()
    )
    rows = [
        ("Run", values["run"]),
        ("Step", f"{values['step']} of {values['steps']}"),
        ("Datasets", datasets),
        ("Protocols", ", ".join(facts["protocols"])),
        ("Labels used by the search", ", ".join(facts["labels_used_by_search"]) or "none"),
        ("Resamples", f"{facts['bootstrap']} of trials, {facts['resamples']} of test images, seed {facts['seed']}"),
        ("Device", facts["device"]),
        ("Versions", ", ".join(f"{name} {version}" for name, version in values["versions"].items())),
    ]
    return f'<section id="validation-made-with"><h2>Settings and versions</h2>{facts_table(rows)}</section>'
