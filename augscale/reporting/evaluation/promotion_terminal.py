"""The result of a promotion on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console

from augscale import doc_pages
from augscale.promotion.promote import Contender, Promotion
from augscale.records.metrics import score_label
from augscale.reporting.evaluation.terminal import evaluation_notes, evaluation_tables, headline
from augscale.reporting.shared.screen import MOST_NOTES, Note, Row, Screen, ScreenTable, more_words, print_screen
from augscale.reporting.shared.wording import duration, number


def print_promotion(promotion: Promotion, console: Console) -> None:
    """Prints the results in a panel on a terminal, as plain lines elsewhere."""
    print_screen(promotion_screen(promotion), console)


def promotion_screen(promotion: Promotion) -> Screen:
    """What the labels say, or, without an evaluation, what fresh seeds say; the full runs; the files."""
    evaluation = promotion.evaluation
    confirmed = f"On fresh seeds at trial length: {promotion.confirmation}"
    summary = evaluation.summary if evaluation else None
    notes = evaluation_notes(summary) if summary else ()
    if summary:
        notes = (Note(text=confirmed, page=doc_pages.PROMOTION), *notes)
    pages = (("Results", evaluation.out / "evaluation.html"),) if evaluation else ()
    return Screen(
        headline=headline(summary) if summary else confirmed,
        tables=(*(evaluation_tables(summary) if summary else ()), _runs(promotion.contenders)),
        notes=notes,
        files=((f"Report{more_words('note', len(notes) - MOST_NOTES)}", promotion.report), *pages),
    )


def _runs(contenders: tuple[Contender, ...]) -> ScreenTable:
    label = score_label(contenders[0].result.last.score_name) if contenders else "score"
    return ScreenTable(
        title="Full pre-training",
        heads=("scales", "steps", "epochs", "loss", label, "time"),
        rows=[Row(cells=_cells(contender)) for contender in contenders],
        legend="Loss and score after the last step. Losses under different scales cannot be compared.",
    )


def _cells(contender: Contender) -> tuple[str, ...]:
    run = contender.result
    numbers = f"{run.steps:,}", f"{run.epochs:.4g}", number(run.loss), number(run.last.score)
    return contender.name, *numbers, duration(run.seconds)
