"""Two searches side by side on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from augscale import doc_pages
from augscale.records.metrics import score_label
from augscale.reporting.search.contenders import contender_rows
from augscale.reporting.shared.screen import Note, Row, Screen, ScreenTable, print_screen
from augscale.reporting.shared.wording import NOTHING, UNTRAINED, duration, number
from augscale.searching.compare_runs import ComparedRun, ControlScores, RunComparison

MOST_SETTINGS = 20
"""Differing settings shown; `--json` has all."""
_VALUE_LENGTH = 26


def print_comparison(found: RunComparison, console: Console) -> None:
    """Prints whether scores can be compared, the answers, the controls, and the settings that differ."""
    print_screen(comparison_screen(found), console)


def comparison_screen(found: RunComparison) -> Screen:
    """Headline, three tables with a column per search, and the answers in words."""
    study = "The same study" if found.same_study else "Two studies"
    if found.comparable:
        words = f"{study} on the same panel: scores can be compared."
    else:
        words = f"{study}: scores cannot be compared, because {'; '.join(found.obstacles)}."
    return Screen(
        headline=words,
        tables=(_answers(found), _scores(found), *([_settings(found)] if found.settings else [])),
        notes=(
            *(Note(text=f"{letter}: {_headline(run)}") for letter, run in zip("AB", found.runs, strict=True)),
            Note(text="Differences of scores between searches have no interval here", page=doc_pages.INTERVALS),
        ),
        files=tuple((letter, run.path) for letter, run in zip("AB", found.runs, strict=True)),
    )


def _headline(run: ComparedRun) -> str:
    return run.answer.headline if run.answer else "the search has not ended."


def _answers(found: RunComparison) -> ScreenTable:
    columns = [dict(_facts(run)) for run in found.runs]
    rows = [Row(cells=(name, *(column.get(name, NOTHING) for column in columns))) for name in columns[0]]
    return ScreenTable(title="Answers", heads=("", "A", "B"), rows=rows)


def _facts(run: ComparedRun) -> Iterator[tuple[str, str]]:
    answer = run.answer
    best = next(iter(contender_rows(answer)), None) if answer and answer.best_contender else None
    cells = (NOTHING,) * 6
    if best:
        local = NOTHING if best.local_area is None else best.local_area  # the other run may have drawn local crops
        cells = best.name, best.global_area, local, best.jitter, best.score, best.verdict
    yield from zip(("highest", "global crops, %", "local crops, %", "jitter", "score", "verdict"), cells, strict=True)
    yield "score is", score_label(str(run.settings.get("probe.score")))
    yield "trials", str(sum(answer.counts.values())) if answer else NOTHING
    yield "time", duration(answer.seconds.get("total")) if answer else NOTHING


def _scores(found: RunComparison) -> ScreenTable:
    names = dict.fromkeys(name for run in found.runs for name in run.controls)
    rows = [_score_row(name, [run.controls.get(name) for run in found.runs]) for name in names]
    rows.append(_score_row(UNTRAINED, [run.untrained for run in found.runs]))
    heads = ("", "A search", "A fresh seeds", "B search", "B fresh seeds")
    return ScreenTable(title="Scores of the controls", heads=heads, rows=rows)


def _score_row(name: str, scores: Sequence[ControlScores | None]) -> Row:
    values = [value for one in scores for value in ((one.search, one.fresh) if one else (None, None))]
    return Row(cells=(name, *map(number, values)))


def _settings(found: RunComparison) -> ScreenTable:
    rows = [Row(cells=(key, *map(_short, values))) for key, *values in found.settings[:MOST_SETTINGS]]
    more = len(found.settings) - MOST_SETTINGS
    return ScreenTable(
        title="Settings that differ",
        heads=("", "A", "B"),
        rows=rows,
        legend=f"and {more} more: --json lists all" if more > 0 else "",
    )


def _short(value: Any) -> str:
    if value is None:
        return NOTHING
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= _VALUE_LENGTH else f"{text[: _VALUE_LENGTH - 1]}…"
