"""A diagnosis for the terminal, and as plain text for logs and pipes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from augscale.records.diagnosis import CheckpointRecord, DiagnosisRecord, Metric
from augscale.reporting.diagnosis.display import displayed
from augscale.reporting.diagnosis.wording import (
    MAIN,
    checkpoint_sentence,
    comparison_words,
    difference_text,
    headline,
    is_over_ladder,
    metric_text,
    verdict_words,
    where_words,
    with_interval,
)
from augscale.reporting.shared.wording import NOTHING, plain

COLUMNS = ("pair_auroc", "dprime", "silhouette", "recall_at_1", "rankme")
"""Metrics shown: means over the ladder or, for a metric without levels, the value on clean images."""
STYLES = {"healthy": "green", "suspicious": "yellow", "collapsed": "red"}
FILES = {
    "diagnosis.html": "See why",
    "distances.png": "For a paper",
    "diagnosis.json": "All numbers",
}


def print_diagnosis(diagnosis: DiagnosisRecord, out_dir: Path | None, console: Console) -> None:
    """Prints a diagnosis as a table on a terminal, as plain lines elsewhere.

    Args:
        diagnosis: the content of diagnosis.json.
        out_dir: where its files are; None where none were written.
        console: a terminal gets a table, anything else plain lines.
    """
    if console.is_terminal:
        console.print()
        console.print(diagnosis_lines(diagnosis, out_dir), highlight=False)
    else:
        console.print(plain_diagnosis(diagnosis, out_dir), highlight=False, markup=False, soft_wrap=True)


def diagnosis_lines(diagnosis: DiagnosisRecord, out_dir: Path | None) -> RenderableType:
    """Rich text: headline, a table of the checkpoints, evidence and advice, notes, files."""
    shown = displayed(diagnosis)
    parts: list[RenderableType] = [Text(headline(shown), style="bold"), Text(""), _table(shown)]
    parts.append(
        Text(f"95 % intervals over patients; values {where_words(shown)}, RankMe of the clean images", style="dim")
    )
    for checkpoint in shown.checkpoints:
        parts += [Text(""), Text(checkpoint_sentence(shown, checkpoint))]
        parts += [_bullet("-", line, "dim") for line in checkpoint.health.evidence]
        parts += [_bullet(">", line, "") for line in checkpoint.health.advice]
    if shown.notes:
        parts += [Text(""), *(_bullet("-", note, "dim") for note in shown.notes)]
    if out_dir is not None:
        width = max(map(len, FILES.values())) + 2
        parts.append(Text(""))
        parts += [
            Text.assemble(f"{f'{what}:':<{width}}", (str(out_dir / name), "bold")) for name, what in FILES.items()
        ]
    return Group(*parts)


def plain_diagnosis(diagnosis: DiagnosisRecord, out_dir: Path | None = None) -> str:
    """Plain lines without styles, boxes, wrapping or typographic signs, one checkpoint per line."""
    shown = displayed(diagnosis)
    lines = [headline(shown)]
    for checkpoint in shown.checkpoints:
        numbers = [
            with_interval(shown.meaning(key).label, metric)
            for key in COLUMNS
            if (metric := _metric(checkpoint, key)).value is not None
        ]
        lines.append(f"{checkpoint.name}: {', '.join([verdict_words(checkpoint), *numbers])}")
    for checkpoint in shown.checkpoints:
        lines += [f"evidence: {checkpoint.name}: {line}" for line in checkpoint.health.evidence]
        lines += [f"advice: {checkpoint.name}: {line}" for line in checkpoint.health.advice]
    for found in shown.comparisons:
        if found.metric == MAIN and is_over_ladder(found):
            words = comparison_words(shown, found)
            than = "from" if words == "not distinguishable" else "than"
            label = shown.meaning(found.metric).label
            lines.append(f"comparison: {found.a} {words} {than} {found.b}: {label} {difference_text(found)}")
    lines += [f"note: {note}" for note in shown.notes]
    if out_dir is not None:
        lines += [f"{what.lower()}: {out_dir / name}" for name, what in FILES.items()]
    return plain("\n".join(lines))


def _table(shown: DiagnosisRecord) -> Table:
    """Values above, their intervals below, so that the table fits 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("health", no_wrap=True)
    for key in COLUMNS:
        table.add_column(shown.meaning(key).label, no_wrap=True)
    for checkpoint in shown.checkpoints:
        cells = [Text(_two_lines(_metric(checkpoint, key))) for key in COLUMNS]
        verdict = Text(verdict_words(checkpoint), style=STYLES.get(checkpoint.health.verdict, ""))
        table.add_row(Text(checkpoint.name), verdict, *cells)
    return table


def _metric(checkpoint: CheckpointRecord, key: str) -> Metric:
    return checkpoint.ladder.get(key) or checkpoint.overall.get(key) or Metric()


def _two_lines(metric: Metric) -> str:
    places = 2 if metric.value is not None and abs(metric.value) < 10 else None
    value, bounds = metric_text(metric, places=places)
    return f"{value}\n{bounds.replace(' to ', NOTHING)}" if bounds else value


def _bullet(sign: str, line: str, style: str) -> Table:
    bullet = Table.grid(padding=(0, 1, 0, 0))
    bullet.add_row(Text(sign), Text(line), style=style)
    return bullet
