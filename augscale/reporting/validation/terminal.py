"""A validation on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from augscale import doc_pages
from augscale.records.validation import STUDY_KEY, NetworkRow, ValidationRecord
from augscale.reporting.shared.screen import MOST_NOTES, Note, Row, Screen, ScreenTable, more_words, print_screen
from augscale.reporting.shared.wording import NOTHING, interval, number, signed

FIRST_LEVELS = ("study", "ladder", "clean", "training")
"""Levels of the metrics that are shown first; metrics of single panel levels are on the page only, collapsed."""
MOST_TRIALS = 8
"""Trials shown; the page lists all."""


def print_validation(values: ValidationRecord, out: Path, console: Console) -> None:
    """Prints the verdict in a panel on a terminal, as plain lines elsewhere."""
    print_screen(validation_screen(values, out), console)


def validation_screen(values: ValidationRecord, out: Path) -> Screen:
    """The verdict, every metric against the outcome of the headline, the networks, notes, files."""
    limits = Note(text="Correlations hold for the trials of one study", page=doc_pages.VALIDATION_LIMITS)
    # The first sentence states what choosing by the score costs, with all intervals; the page has it.
    first, *others = values.sentences or ("",)
    long = (*others, *([first] if first else []), *values.notes)
    shown = (*_cost(values), limits, *(Note(text=text) for text in long))
    page = f"Page{more_words('note', len(shown) - MOST_NOTES)}"
    return Screen(
        headline=values.headline,
        tables=(_metrics(values), _networks(values)),
        notes=shown,
        files=((page, out / "validation.html"), ("Data", out / "validation.json")),
    )


def _cost(values: ValidationRecord) -> tuple[Note, ...]:
    """What choosing by the score costs, by the outcome of the headline."""
    for row in values.regrets:
        v = row.values
        if row.outcome == values.primary and v.regret is not None:
            picked, best = f"{v.pick} ({number(v.pick_outcome)})", f"{v.best} ({number(v.best_outcome)})"
            return (Note(text=f"The score picks {picked}, labels would pick {best}: regret {number(v.regret)}"),)
    return ()


def _metrics(values: ValidationRecord) -> ScreenTable:
    rows = []
    for metric in values.metrics:
        if metric.level in FIRST_LEVELS:
            cell = values.correlation(metric.key, values.primary)
            rho, tau = (NOTHING if value is None else signed(value, 2) for value in (cell.spearman, cell.kendall))
            bounds = interval(cell.spearman_interval, sign=True, digits=2) or "no interval"
            name = f"{metric.label}{' (sign reversed)' if metric.turned else ''}"
            rows.append(Row(cells=(name, rho, bounds, tau), style="bold" if metric.key == STUDY_KEY else ""))
    return ScreenTable(
        title=f"Ranks of trials against {values.primary_outcome.label}",
        heads=("metric", "Spearman", "95 %", "Kendall"),
        rows=rows,
    )


def _networks(values: ValidationRecord) -> ScreenTable:
    """The best trials by labels, and every reference among them."""
    measured = sorted(
        (row for row in values.rows if values.primary in row.outcomes), key=lambda row: -row.outcomes[values.primary]
    )
    trials = [row for row in measured if row.kind == "trial"]
    shown = [row for row in measured if row.kind != "trial" or row in trials[:MOST_TRIALS]]
    left_out = len(trials) - MOST_TRIALS
    return ScreenTable(
        title="Networks, highest first" + (f", without {left_out} more trials" if left_out > 0 else ""),
        heads=("", "score", values.primary_outcome.label),
        rows=[Row(cells=_cells(values, row), style="" if row.used else "dim") for row in shown],
    )


def _cells(values: ValidationRecord, row: NetworkRow) -> tuple[str, ...]:
    bounds = interval(row.outcome_intervals[values.primary])
    outcome = number(row.outcomes[values.primary]) + (f" ({bounds})" if bounds else "")
    return row.name, number(row.scores.get(STUDY_KEY)), outcome
