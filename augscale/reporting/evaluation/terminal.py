"""The results of an evaluation on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from augscale import doc_pages
from augscale.records.evaluation import Cell, Comparison, EvaluationSummary
from augscale.reporting.shared.screen import MOST_NOTES, Note, Row, Screen, ScreenTable, more_words, print_screen
from augscale.reporting.shared.wording import NOTHING, interval, number

MOST_ROWS = 36
"""Rows of all tables together; further protocols are on the page only."""
_LEGEND = "Intervals over test images; verdicts compare with the highest AUROC of the test set."


def print_evaluation(summary: EvaluationSummary, out: Path, console: Console) -> None:
    """Prints the results in a panel on a terminal, as plain lines elsewhere."""
    print_screen(evaluation_screen(summary, out), console)


def evaluation_screen(summary: EvaluationSummary, out: Path) -> Screen:
    """Who is better, a table per protocol, what the verdicts do not cover, and the files."""
    tables = evaluation_tables(summary)
    notes = evaluation_notes(summary)
    more = more_words("protocol", len(summary.protocols) - len(tables)) + more_words("note", len(notes) - MOST_NOTES)
    return Screen(
        headline=headline(summary),
        tables=tables,
        notes=notes,
        files=((f"Page{more}", out / "evaluation.html"), ("Tables", out / "tables")),
    )


def headline(summary: EvaluationSummary) -> str:
    """The verdicts by AUROC in one sentence."""
    compared = _by_auroc(summary)
    if not summary.cells:
        return "Nothing was evaluated."
    if not compared:
        return f"Results of {' and '.join(summary.checkpoints)}; there is nothing to compare them with."
    wins = Counter(c.first if c.verdict == "better" else c.second for c in compared if c.distinguishable)
    of = "1 comparison" if len(compared) == 1 else f"{len(compared)} comparisons"
    if not wins:
        return f"No two checkpoints are distinguishable by AUROC ({of}, Holm-adjusted)."
    won = ", ".join(f"{name} in {count}" for name, count in wins.most_common())
    rest = "" if wins.total() == len(compared) else "; the others are not distinguishable"
    return f"Better by AUROC, of {of}: {won}{rest} (Holm-adjusted)."


def evaluation_tables(summary: EvaluationSummary) -> tuple[ScreenTable, ...]:
    """A table per protocol: a row per test set and checkpoint. The first is always shown."""
    tables: list[ScreenTable] = []
    rows = 0
    for protocol in summary.protocols:
        table = _table(summary, protocol)
        rows += len(table.rows)
        if tables and rows > MOST_ROWS:
            break
        tables.append(table)
    return (*tables[:-1], replace(tables[-1], legend=_LEGEND)) if tables else ()


def evaluation_notes(summary: EvaluationSummary) -> tuple[Note, ...]:
    """The source of chance that no verdict covers, and the notes of the evaluation."""
    covered = f"{summary.covered[:1].upper()}{summary.covered[1:]}".rstrip(".")
    first = (Note(text=covered, page=doc_pages.EVALUATION_LIMITS),) if _by_auroc(summary) and covered else ()
    return (*first, *(Note(text=note) for note in summary.notes))


def _table(summary: EvaluationSummary, protocol: str) -> ScreenTable:
    cells = summary.select(protocol)
    places = dict.fromkeys((cell.trained_on, cell.tested_on) for cell in cells)
    seeds = max((len(cell.seeds) for cell in cells), default=0)
    return ScreenTable(
        title=f"{protocol}, {seeds} seed{'s' * (seeds != 1)}",
        heads=("tested on (images)", "checkpoint", "AUROC, 95 %", "AUPR", "verdict"),
        rows=[row for place in places for row in _rows(summary, protocol, *place)],
        wraps=2,
    )


def _rows(summary: EvaluationSummary, protocol: str, trained_on: str, tested_on: str) -> Iterator[Row]:
    cells = [cell for cell in summary.row(protocol, trained_on, tested_on) if cell]
    known = [cell for cell in cells if cell.metrics["auroc"].mean is not None]
    leader = max(known, key=lambda cell: cell.metrics["auroc"].mean or 0.0, default=None)
    for index, cell in enumerate(cells):
        where = "" if index else f"{cell.where} ({cell.images})"
        verdict = "highest" if cell is leader and len(cells) > 1 else _versus(summary, leader, cell)
        values = _value(cell, "auroc"), number(cell.metrics["aupr"].mean)
        yield Row(cells=(where, cell.checkpoint, *values, verdict), style="bold" if cell is leader else "")


def _versus(summary: EvaluationSummary, leader: Cell | None, cell: Cell) -> str:
    for c in _by_auroc(summary):
        place = (c.protocol, c.trained_on, c.tested_on) == (cell.protocol, cell.trained_on, cell.tested_on)
        if leader and place and {c.first, c.second} == {leader.checkpoint, cell.checkpoint}:
            return f"worse by {number(abs(c.difference))}" if c.distinguishable else c.verdict
    return NOTHING


def _value(cell: Cell, metric: str) -> str:
    measured = cell.metrics[metric]
    if measured.mean is None:
        return f"{NOTHING} ({measured.reason})"
    bounds = interval(measured.test_images)
    return f"{number(measured.mean)} ({bounds})" if bounds else number(measured.mean)


def _by_auroc(summary: EvaluationSummary) -> list[Comparison]:
    return [c for c in summary.comparisons if c.metric == "auroc"]
