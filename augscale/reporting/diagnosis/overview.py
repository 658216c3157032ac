"""The checkpoints of a diagnosis at a glance: health, separation, and marks of pairwise comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from augscale.records.diagnosis import CheckpointRecord, DiagnosisRecord, Metric
from augscale.reporting.diagnosis.wording import MAIN, comparison, comparison_words, metric_text, verdict_words
from augscale.reporting.shared.wording import BETTER, LEVEL, NOTHING, WORSE

MEASURED = (MAIN, "dprime", "rankme")
"""Metrics shown: means over the ladder or, for a metric without levels, the value on clean images."""
MOST_MARKS = 8
"""Largest number of checkpoints that are marked against each other."""
_MARKS = {"better": BETTER, "worse": WORSE, "not distinguishable": LEVEL}


@dataclass(frozen=True, kw_only=True)
class OverviewRow:
    """One checkpoint."""

    checkpoint: CheckpointRecord
    name: str
    """The name of the checkpoint; if there are marks, its number (the head of its column of marks) stands before it."""
    size: str
    """Pixels; empty if all checkpoints were examined at one size."""
    verdict: str
    values: tuple[tuple[str, str], ...]
    """Value and interval of each metric of `MEASURED`."""
    marks: tuple[str, ...]
    """Comparisons with every checkpoint by the main metric, in the order of the rows."""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """All checkpoints, in the order given, references last."""

    labels: tuple[str, ...]
    """Names of the metrics."""
    rows: tuple[OverviewRow, ...]
    by_size: bool
    numbers: tuple[str, ...]
    """Heads of the columns of marks: numbers of checkpoints; empty without marks."""

    @property
    def legend(self) -> str:
        """How to read the marks."""
        if not self.numbers:
            return ""
        return (
            f"{BETTER} separates pairs better than the checkpoint of that number, {WORSE} worse, "
            f"{LEVEL} not distinguishable (by {self.labels[0]})."
        )


def overview(diagnosis: DiagnosisRecord) -> Overview:
    """The rows of the table that opens the terminal's screen and the page.

    Args:
        diagnosis: from `displayed`.
    """
    checkpoints = diagnosis.checkpoints
    marks = [_marks(diagnosis, checkpoint, checkpoints) for checkpoint in checkpoints]
    marked = len(checkpoints) <= MOST_MARKS and any(mark in (BETTER, WORSE, LEVEL) for row in marks for mark in row)
    by_size = len({checkpoint.view_size for checkpoint in checkpoints}) > 1
    rows = tuple(
        OverviewRow(
            checkpoint=checkpoint,
            name=f"{number} {checkpoint.name}" if marked else checkpoint.name,
            size=f"{checkpoint.view_size} px" if by_size and checkpoint.view_size else "",
            verdict=verdict_words(checkpoint),
            values=tuple(metric_text(found_metric(checkpoint, key)) for key in MEASURED),
            marks=found if marked else (),
        )
        for number, (checkpoint, found) in enumerate(zip(checkpoints, marks, strict=True), 1)
    )
    return Overview(
        labels=tuple(diagnosis.meaning(key).label for key in MEASURED),
        rows=rows,
        by_size=by_size,
        numbers=tuple(str(number) for number in range(1, len(checkpoints) + 1)) if marked else (),
    )


def found_metric(checkpoint: CheckpointRecord, key: str) -> Metric:
    return checkpoint.ladder.get(key) or checkpoint.overall.get(key) or Metric()


def _marks(
    diagnosis: DiagnosisRecord, checkpoint: CheckpointRecord, others: Sequence[CheckpointRecord]
) -> tuple[str, ...]:
    return tuple("" if other is checkpoint else _mark(diagnosis, checkpoint, other) for other in others)


def _mark(diagnosis: DiagnosisRecord, checkpoint: CheckpointRecord, other: CheckpointRecord) -> str:
    """The comparison of two checkpoints; a dash if one has collapsed or they were not compared."""
    found = comparison(diagnosis, checkpoint.name, other.name)
    if found is None or checkpoint.is_collapsed or other.is_collapsed:
        return NOTHING
    return _MARKS.get(comparison_words(diagnosis, found), NOTHING)
