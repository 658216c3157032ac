"""What a validation found, as plain values; `to_dict` is the content of validation.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from augscale.runs.folders import now, versions

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class NetworkRow:
    """A trial, or something that trials have to beat."""

    name: str
    kind: str
    """"trial" or "reference"."""
    number: int | None
    state: str
    """Optuna's word for trials; "" for references."""
    control: bool
    used: bool
    """Whether correlations and regrets count it."""
    reason: str
    """Why not."""
    scales: str
    """In words; "" for references."""
    scores: Mapping[str, float | None]
    """By key of `score_metrics`, higher is better."""
    score_interval: Interval | None
    """Of the study's score, over the panel's (or validation) images."""
    outcomes: Mapping[str, float]
    """By key of `OutcomeName`."""
    outcome_intervals: Mapping[str, Interval | None]
    """95 %, over test images."""


@dataclass(frozen=True, kw_only=True)
class MetricColumn:
    """A label-free metric, or the study's score."""

    key: str
    metric: str
    level: str
    label: str
    meaning: str
    turned: bool


@dataclass(frozen=True, kw_only=True)
class OutcomeColumn:
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
    """By reference, how many used trials have a higher value."""


@dataclass(frozen=True, kw_only=True)
class CorrelationCell:
    """One metric against one outcome, over the trials used."""

    score: str
    outcome: str
    n: int
    spearman: float | None
    spearman_interval: Interval | None
    kendall: float | None
    kendall_interval: Interval | None
    p_value: float | None
    """By permutation, for this cell alone."""
    regret: float | None
    """Outcome of the best trial by labels minus that of the trial this metric ranks first."""
    note: str


@dataclass(frozen=True, kw_only=True)
class RegretRow:
    """What choosing by the study's score costs in one outcome; see `ranking.Regret`."""

    outcome: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Whether a study's score ranks its trials as labels do."""

    out: Path
    run_dir: Path
    study: str
    score_name: str
    primary: str
    """Key of the outcome that the headline is about; it follows from the arguments, not from results."""
    step: int
    steps: int
    headline: str
    sentences: Sequence[str]
    """What else the numbers say: regret, references, many comparisons."""
    rows: Sequence[NetworkRow]
    metrics: Sequence[MetricColumn]
    outcomes: Sequence[OutcomeColumn]
    correlations: Sequence[CorrelationCell]
    regrets: Sequence[RegretRow]
    chance: Mapping[str, Any]
    notes: Sequence[str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    finished: str = field(default_factory=now)

    @property
    def json(self) -> Path:
        return self.out / "validation.json"

    @property
    def page(self) -> Path:
        return self.out / "validation.html"

    def correlation(self, score: str, outcome: str) -> CorrelationCell:
        """The cell of a metric's and an outcome's key.

        Raises:
            KeyError: there is none.
        """
        for cell in self.correlations:
            if (cell.score, cell.outcome) == (score, outcome):
                return cell
        raise KeyError(f"{score!r}, {outcome!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        left_out = ("out", "run_dir")
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        return {"run": str(self.run_dir), "versions": versions(), **values}
