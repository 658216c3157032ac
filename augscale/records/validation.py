"""Records of a validation: `validation.json`, and the label-free metrics that are kept for each network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from augscale.records.base import FileRecord, Record
from augscale.records.evaluation import Interval
from augscale.runs.folders import now, versions

STUDY_KEY = "study/score"
"""Key of the score by which the study ranks its trials."""


class KeptMetrics(FileRecord):
    """Cached label-free metrics of one network, and everything that they depend on."""

    writer: ClassVar[str] = "augscale validate"

    basis: Mapping[str, Any]
    """Fingerprints and settings; the file is outdated if they have changed."""
    values: Mapping[str, float | None]
    interval: Interval | None
    """95 % interval of the study's score."""


class NetworkRow(Record):
    """A trial, or a reference that trials have to beat."""

    name: str
    kind: str
    """"trial" or "reference"."""
    number: int | None = None
    state: str = ""
    """Optuna's state of a trial."""
    control: bool = False
    used: bool = False
    """True if the row counts in correlations and regrets."""
    reason: str = ""
    """Reason for leaving a trial out."""
    scales: str = ""
    """Description of a trial's scales."""
    scores: Mapping[str, float | None] = {}
    """Label-free metrics by key of `score_metrics`; higher is better."""
    score_interval: Interval | None = None
    """95 % interval of the study's score, over the images of the panel (or the validation images)."""
    outcomes: Mapping[str, float] = {}
    """Values by key of `OutcomeName`."""
    outcome_intervals: Mapping[str, Interval | None] = {}
    """95 % intervals over test images."""


class MetricColumn(Record):
    """A label-free metric at one level, or the study's score."""

    key: str
    """`level/metric`."""
    metric: str
    level: str
    """A level of the panel, "ladder", "clean", "training" or "study"."""
    label: str
    meaning: str
    turned: bool
    """True if the sign was changed so that higher is better."""


class OutcomeColumn(Record):
    """A metric of a protocol on one dataset, or on all of them."""

    key: str
    dataset: str
    """"mean" for the mean over datasets."""
    protocol: str
    metric: str
    label: str
    test_images: int
    reliability: float | None
    """See `outcomes.reliability`."""
    above: Mapping[str, int]
    """Number of used trials with a higher value than each reference."""


class CorrelationCell(Record):
    """One metric against one outcome, over the trials used."""

    score: str
    outcome: str
    n: int
    spearman: float | None
    spearman_interval: Interval | None
    kendall: float | None
    kendall_interval: Interval | None
    p_value: float | None = None
    """Permutation p-value for this cell alone."""
    regret: float | None
    """Outcome of the best trial by labels minus that of the trial this metric ranks first."""
    note: str


class Alternative(Record):
    """An alternative choice: a control, or a trial at random."""

    name: str
    outcome: float
    regret: float
    """Outcome of the best trial by labels minus this outcome."""
    regret_interval: Interval | None
    gain: float
    """Outcome of the score's pick minus this outcome; above 0 if choosing by the score is better."""
    gain_interval: Interval | None


class Regret(Record):
    """Loss of choosing by the score against choosing by labels; outcomes in their own unit, higher is better."""

    best: str | None = None
    best_outcome: float | None = None
    """Highest outcome of a choice; too high on average, as the maximum of several noisy values."""
    best_corrected: float | None = None
    """`best_outcome` minus the optimism estimated from the image draws; None without draws."""
    best_crossfitted: float | None = None
    """Outcome of the best choice on one half of the images, judged on the other half; None without halves."""
    pick: str | None = None
    """The choice with the highest score."""
    pick_outcome: float | None = None
    regret: float | None = None
    """`best_outcome` - `pick_outcome`, at least 0."""
    regret_corrected: float | None = None
    regret_crossfitted: float | None = None
    """Below 0 if choosing by labels of half the images was worse than the score's pick."""
    interval: Interval | None = None
    """95 % interval of `regret`."""
    alternatives: tuple[Alternative, ...] = ()
    """The controls in the order given, then "random"."""
    num_choices: int
    note: str


class RegretRow(Record):
    """Regret of the study's score in one outcome."""

    outcome: str
    values: Regret


class Chance(Record):
    """Correlations that the whole table would show by chance, without any relation."""

    cells: int = 0
    """Cells that have a value."""
    observed: int = 0
    """Cells with p below 0.05, in either direction."""
    expected: float = 0.0
    """Mean of this number under permutation."""
    most: int = 0
    """95th percentile of this number under permutation; a larger number is more than chance."""
    largest: float | None = None
    """Largest absolute rho of the table."""
    largest_by_chance: float | None = None
    """95th percentile of the largest absolute rho under permutation; a cell beyond it stands out from all others."""
    p_value: float | None = None
    """p-value of the largest absolute rho, corrected for all cells."""


class ValidationFacts(Record):
    """Data and settings of a validation."""

    datasets: Mapping[str, Any]
    """`classes` and `counts` (images by split and class) by name of the dataset."""
    protocols: tuple[str, ...]
    bootstrap: int
    """Resamples of trials."""
    seed: int
    panel_images: int | None = None
    labels_used_by_search: tuple[str, ...] = ()
    device: str
    resamples: int
    """Resamples of the test images."""

    def test_images(self, dataset: str) -> int:
        return sum(self.datasets[dataset]["counts"]["test"].values())


class ValidationRecord(FileRecord):
    """`validation.json`: agreement of the ranks of a study's trials by its score and by labels."""

    writer: ClassVar[str] = "augscale validate"

    run: str
    versions: Mapping[str, str] = Field(default_factory=versions)
    study: str
    score_name: str
    primary: str
    """Key of the outcome in the headline; it depends on the arguments, not on results."""
    step: int
    steps: int
    headline: str
    sentences: tuple[str, ...]
    """Regret, references, reliability and the number of comparisons, in words."""
    rows: tuple[NetworkRow, ...]
    metrics: tuple[MetricColumn, ...]
    outcomes: tuple[OutcomeColumn, ...]
    correlations: tuple[CorrelationCell, ...]
    regrets: tuple[RegretRow, ...]
    chance: Chance
    notes: tuple[str, ...]
    facts: ValidationFacts
    finished: str = Field(default_factory=now)

    def correlation(self, score: str, outcome: str) -> CorrelationCell:
        """The cell of a metric's and an outcome's key.

        Raises:
            KeyError: there is none.
        """
        for cell in self.correlations:
            if (cell.score, cell.outcome) == (score, outcome):
                return cell
        raise KeyError(f"{score!r}, {outcome!r}")

    @property
    def primary_outcome(self) -> OutcomeColumn:
        return next(outcome for outcome in self.outcomes if outcome.key == self.primary)
