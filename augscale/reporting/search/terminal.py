"""The answer of a search for the terminal, and as plain text for logs and pipes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from augscale.records.answer import AnswerRecord
from augscale.records.metrics import SCORES, score_label
from augscale.reporting.search.caveats import short_caveats
from augscale.reporting.search.contenders import contender_rows, heads, verdict_legend
from augscale.reporting.search.next_steps import next_commands, next_words
from augscale.reporting.shared.screen import Row, Screen, ScreenTable, print_screen

STYLES = {"best": "bold green", "level": "", "clear": "dim", "": "dim"}


_SEARCH_ONLY = ' "Search only": another seed, not comparable with the others.'


def print_answer(answer: AnswerRecord, run_dir: Path, console: Console) -> None:
    """Prints the answer in a panel on a terminal, as plain lines elsewhere."""
    print_screen(answer_screen(answer, run_dir), console)


def answer_screen(answer: AnswerRecord, run_dir: Path | None = None, library: str | None = None) -> Screen:
    """Headline, contenders, short caveats, the next commands and the report.

    Args:
        answer: of the search.
        run_dir: the run folder; None names no report.
        library: target of the export that is proposed; None takes the library at hand.
    """
    if answer.best_contender is None:
        return Screen(headline=answer.headline)
    score = SCORES.get(answer.score_name)
    best = f", {score.best}" if score else ""
    table = ScreenTable(
        heads=heads(answer),
        rows=[Row(cells=row.cells, style=STYLES[row.kind]) for row in contender_rows(answer)],
        legend=f"Crops in % of the image. Score: {score_label(answer.score_name)}{best}; 95 % intervals. "
        f"{verdict_legend(answer)}{_SEARCH_ONLY if _mixed(answer) else ''}",
    )
    return Screen(
        headline=answer.headline,
        tables=(table,),
        notes=short_caveats(answer),
        commands=next_commands(answer, run_dir, library),
        commands_note=next_words(answer),
        files=(("Report, with all caveats and figures", run_dir / "report.html"),) if run_dir is not None else (),
    )


def _mixed(answer: AnswerRecord) -> bool:
    """True if scores of the search stand beside those of fresh seeds."""
    confirmed = [bool(contender.confirm_scores) for contender in answer.contenders]
    return any(confirmed) and (not all(confirmed) or answer.null is not None)
