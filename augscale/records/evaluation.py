"""Records of an evaluation: `evaluation.json`, and the JSON file beside each run's predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import field_validator

from augscale.records.base import FileRecord, Record

FORMAT = 1

Interval = tuple[float, float]


class TrainedAndTested(Record):
    """A result for one training set and one test set."""

    trained_on: str
    tested_on: str

    @property
    def internal(self) -> bool:
        return self.trained_on == self.tested_on

    @property
    def where(self) -> str:
        """The dataset, or "A to B"."""
        return self.tested_on if self.internal else f"{self.trained_on} to {self.tested_on}"


class PredictionFile(TrainedAndTested, FileRecord):
    """The JSON file of one finished run; the scores are in the CSV file beside it."""

    writer: ClassVar[str] = "augscale evaluate"

    format: int = FORMAT
    protocol: str
    checkpoint: str
    seed: int
    classes: tuple[str, ...]
    """Class names by class number."""
    images: int
    patients: bool
    """True if the CSV file has a column of patients."""
    selection: Mapping[str, Any]
    """Choices made on validation images, with their validation score."""
    seconds: float
    fingerprint: str
    """Hash of the weights, the data and the settings."""
    csv_sha256: str


class ReliabilityBin(Record):
    """Images whose highest score lies in (low, high]; the first bin includes its lower edge."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Mean highest score; None for an empty bin."""
    accuracy: float | None


class SignificanceTest(Record):
    """One test of a difference of two checkpoints."""

    name: str
    """`combined`, `paired_bootstrap`, `delong` or `paired_t`."""
    p_value: float | None = None
    interval: Interval | None = None
    """95 % interval of the difference."""
    covers: tuple[str, ...]
    """The sources of chance that the test accounts for."""
    reason: str = ""
    """Reason for a missing p-value."""


class MetricSummary(Record):
    """One metric of one cell."""

    mean: float | None
    """Mean over the seeds for which the metric is defined."""
    per_seed: tuple[float | None, ...]
    seeds_t: Interval | None = None
    """95 % Student-t interval of the mean over head seeds; None with fewer than two."""
    seeds_normal: Interval | None = None
    """The same interval from the normal quantile, as the MIDL version of the paper prints it; too narrow."""
    test_images: Interval | None = None
    """95 % interval of the mean over seeds, by a stratified bootstrap over test images (patients if known)."""
    reason: str = ""
    """Reason for a missing value."""


class ClassSummary(Record):
    """One class against the rest, means over seeds; curves at the summary's `grid`, rounded to four digits."""

    name: str
    support: int
    """Test images of the class."""
    auroc: float | None
    aupr: float | None
    recall: float | None
    true_positive_rate: tuple[float, ...] = ()
    """True positive rates at the false positive rates of the grid; empty for external cells and absent classes."""
    precision: tuple[float, ...] = ()
    """Precision at the recalls of the grid."""


class Cell(TrainedAndTested):
    """One checkpoint under one protocol, trained on one dataset and tested on one, over seeds."""

    protocol: str
    checkpoint: str
    classes: tuple[str, ...]
    images: int
    patients: int | None
    """None if patients are not known; images then count as independent."""
    seeds: tuple[int, ...]
    metrics: Mapping[str, MetricSummary]
    per_class: tuple[ClassSummary, ...]
    reliability: tuple[ReliabilityBin, ...]
    """Calibration bins over the predictions of all seeds together."""
    selection: tuple[Mapping[str, Any], ...]
    """Choices that each seed made on validation images."""
    seconds: float
    notes: tuple[str, ...] = ()


class Comparison(TrainedAndTested):
    """Two checkpoints under one protocol on one test set, one metric: first minus second."""

    protocol: str
    metric: str
    first: str
    second: str
    seeds: tuple[int, ...]
    """Seeds that both have."""
    difference: float
    interval: Interval | None
    """95 % interval of the combined test, not adjusted."""
    p_value: float | None
    adjusted_p: float | None = None
    """Holm-adjusted within the family: this protocol and metric, all pairs of checkpoints, all internal (or all
    external) test sets."""
    verdict: str = "not distinguishable"
    """`better`, `worse` (first against second; adjusted p below 0.05) or `not distinguishable`."""
    covers: tuple[str, ...]
    """The sources of chance that p and the interval account for; pre-training seeds are never among them."""
    tests: tuple[SignificanceTest, ...]
    """The combined test, which decides the verdict, and the others, unadjusted."""
    reason: str = ""

    @property
    def distinguishable(self) -> bool:
        return self.verdict != "not distinguishable"


class Side(Record):
    """The comparison of two checkpoints by one protocol."""

    protocol: str
    difference: float
    """First minus second."""
    adjusted_p: float | None
    distinguishable: bool


class Disagreement(TrainedAndTested):
    """Protocols that order two checkpoints differently on one test set."""

    metric: str
    first: str
    second: str
    for_first: tuple[Side, ...]
    for_second: tuple[Side, ...]

    @property
    def clear(self) -> bool:
        """True if both orders are distinguishable, so that chance alone does not explain the contradiction."""
        return any(s.distinguishable for s in self.for_first) and any(s.distinguishable for s in self.for_second)


class EvaluationSummary(FileRecord):
    """`evaluation.json`: everything that the tables and the report show."""

    writer: ClassVar[str] = "augscale evaluate"

    checkpoints: tuple[str, ...]
    protocols: tuple[str, ...]
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    disagreements: tuple[Disagreement, ...]
    """Clear ones first."""
    grid: tuple[float, ...]
    """Abscissae of the curves: false positive rates, or recalls."""
    resamples: int
    covered: str
    """Sentence that names the source of chance that no comparison covers."""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = {}
    """Versions, data fingerprints and settings; plain JSON values."""
    format: int = FORMAT

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: int) -> int:
        if value != FORMAT:
            raise ValueError(f"{value} is not known; expected {FORMAT}")
        return value

    @property
    def datasets(self) -> tuple[str, ...]:
        """Internal test sets, in order of appearance."""
        return tuple(dict.fromkeys(c.tested_on for c in self.cells if c.internal))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """External (trained on, tested on), by training set and then test set, each in order of appearance."""
        names = list(dict.fromkeys(name for c in self.cells for name in (c.trained_on, c.tested_on)))
        found = {(c.trained_on, c.tested_on) for c in self.cells if not c.internal}
        return tuple((a, b) for a in names for b in names if (a, b) in found)

    def cell(self, protocol: str, checkpoint: str, trained_on: str, tested_on: str) -> Cell | None:
        """The cell of a combination; None if it was not evaluated."""
        wanted = (protocol, checkpoint, trained_on, tested_on)
        return next((c for c in self.cells if (c.protocol, c.checkpoint, c.trained_on, c.tested_on) == wanted), None)

    def row(self, protocol: str, trained_on: str, tested_on: str) -> list[Cell | None]:
        """The cells of all checkpoints, in their order."""
        return [self.cell(protocol, checkpoint, trained_on, tested_on) for checkpoint in self.checkpoints]

    def select(self, protocol: str, *, internal: bool | None = None) -> list[Cell]:
        """Cells of one protocol: all, or only internal or external ones."""
        return [c for c in self.cells if c.protocol == protocol and internal in (None, c.internal)]
