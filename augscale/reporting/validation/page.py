"""A validation as one offline page, and as sections of a run's report."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from augscale.errors import DataError
from augscale.records.metrics import score_label
from augscale.records.validation import ValidationRecord
from augscale.reporting.shared.page import facts_table, nav, shell
from augscale.reporting.shared.templates import render
from augscale.reporting.shared.wording import moment
from augscale.reporting.validation.section import validation_sections
from augscale.runs.files import write_text_atomic


def write_validation_page(path: Path, values: ValidationRecord) -> Path:
    """Writes a page of its own.

    Raises:
        StudyError: it cannot be written.
    """
    drawings: dict[str, str] = {}
    links, sections = validation_sections(values, drawings, titled=False)
    page = shell(
        title=f"Validation: {values.study}",
        header=render(
            "validation/header.html",
            study=values.study,
            headline=values.headline,
            finished=moment(values.finished),
            score=score_label(values.score_name),
            links=Markup(nav([*links, ("validation-made-with", "Settings")])),
        ),
        main=render("validation/main.html", sections=sections, settings=Markup(facts_table(_settings(values)))),
        data=drawings,
    )
    write_text_atomic(path, page)
    return path


def run_validation(path: Path, drawings: dict[str, str]) -> tuple[list[tuple[str, str]], Markup]:
    """One link and the HTML of the validation of a run; empty where the file is missing or cannot be read."""
    try:
        values = ValidationRecord.read(path)
    except DataError:
        return [], Markup()
    _, sections = validation_sections(values, drawings)
    return [("validation", "Validation")], sections


def _settings(values: ValidationRecord) -> list[tuple[str, str]]:
    facts = values.facts
    return [
        ("Run", values.run),
        ("Step", f"{values.step} of {values.steps}"),
        ("Datasets", ", ".join(f"{name} ({facts.test_images(name)} test images)" for name in facts.datasets)),
        ("Protocols", ", ".join(facts.protocols)),
        ("Labels used by the search", ", ".join(facts.labels_used_by_search) or "none"),
        ("Resamples", f"{facts.bootstrap} of trials, {facts.resamples} of test images, seed {facts.seed}"),
        ("Device", facts.device),
        ("Versions", ", ".join(f"{name} {version}" for name, version in values.versions.items())),
    ]
