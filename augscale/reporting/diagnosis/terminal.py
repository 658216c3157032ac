"""A diagnosis for the terminal, and as plain text for logs and pipes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from augscale import doc_pages
from augscale.records.diagnosis import DiagnosisRecord
from augscale.reporting.diagnosis.display import displayed
from augscale.reporting.diagnosis.overview import Overview, OverviewRow, overview
from augscale.reporting.diagnosis.wording import headline, where_words
from augscale.reporting.shared.screen import MOST_NOTES, Note, Row, Screen, ScreenTable, more_words, print_screen

STYLES = {"healthy": "green", "suspicious": "yellow", "collapsed": "red"}


def print_diagnosis(diagnosis: DiagnosisRecord, out_dir: Path | None, console: Console) -> None:
    """Prints a diagnosis in a panel on a terminal, as plain lines elsewhere.

    Args:
        diagnosis: the content of diagnosis.json.
        out_dir: where its files are; None where none were written.
        console: where to print.
    """
    print_screen(diagnosis_screen(diagnosis, out_dir), console)


def diagnosis_screen(diagnosis: DiagnosisRecord, out_dir: Path | None) -> Screen:
    """Headline, a row per checkpoint, what is wrong with those that are not healthy, notes, files."""
    shown = displayed(diagnosis)
    notes = (*_findings(shown), *(Note(text=note) for note in shown.notes))
    page = "Page" + more_words("note", len(notes) - MOST_NOTES)
    files = () if out_dir is None else ((page, out_dir / "diagnosis.html"), ("Data", out_dir / "diagnosis.json"))
    return Screen(
        headline=f"{headline(shown)}.",
        tables=(_table(shown, overview(shown)),) if shown.checkpoints else (),
        notes=notes,
        files=files,
    )


def _table(shown: DiagnosisRecord, found: Overview) -> ScreenTable:
    main, *others = found.labels
    heads = ("", *(("size",) if found.by_size else ()), "health", f"{main}, 95 %", *others, *found.numbers)
    return ScreenTable(
        heads=heads,
        rows=[Row(cells=_cells(row, found.by_size)) for row in found.rows],
        legend=f"Values {where_words(shown)}, effective rank of the clean images; intervals over patients. "
        f"{found.legend}",
    )


def _cells(row: OverviewRow, by_size: bool) -> tuple[str | Text, ...]:
    (main, bounds), *others = row.values
    verdict = Text(row.verdict, style=STYLES.get(row.checkpoint.health.verdict, ""))
    values = (f"{main} ({bounds})" if bounds else main, *(value for value, _ in others))
    return row.name, *((row.size,) if by_size else ()), verdict, *values, *row.marks


def _findings(shown: DiagnosisRecord) -> Iterator[Note]:
    """The gravest sign and the first advice for each checkpoint that is not healthy; the page lists all."""
    for checkpoint in shown.checkpoints:
        health = checkpoint.health
        if health.verdict in ("", "healthy") or checkpoint.kind == "untrained" or not health.evidence:
            continue
        advice = f"; {health.advice[0]}" if health.advice else ""
        yield Note(text=f"{checkpoint.name}: {health.evidence[0]}{advice}", page=doc_pages.HEALTH)
