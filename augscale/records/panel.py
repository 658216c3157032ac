"""Scores on the probe panel, as `trial.json` and `untrained.json` hold them."""

from __future__ import annotations

from pydantic import Field

from augscale.records.base import FileRecord, Record
from augscale.records.fields import Interval, Number


class HealthRecord(Record):
    """Health verdict on a run, with evidence; see `scoring.health.Health`."""

    verdict: str
    evidence: tuple[str, ...] = ()
    violation: Number = None
    """Optuna's constraint: above 0 for a collapsed run."""


class LevelRecord(Record):
    """Pair distances at one level of the panel; see `scoring.separation.Separation` for the fields."""

    dprime: Number = None
    pair_auroc: Number = None
    positive_mean: Number = None
    positive_sd: Number = None
    negative_mean: Number = None
    negative_sd: Number = None
    raw_positive_mean: Number = None
    raw_negative_mean: Number = None
    retrieval_error: Number = None
    margin: Number = None
    overlap: Number = None
    positive_histogram: tuple[int, ...] = ()
    negative_histogram: tuple[int, ...] = ()
    degenerate: bool | None = None
    dprime_interval: Interval = None
    pair_auroc_interval: Interval = None
    histogram_edges: tuple[float, ...] = ()
    """Rising edges of the histograms' bins, one more than bins."""

    def separation(self, score_name: str) -> float | None:
        """The separation shown beside a score: pair AUROC if that is the score, else d'."""
        return self.pair_auroc if score_name == "pair_auroc" else self.dprime


class PanelRecord(Record):
    """The score of one backbone on the fixed panel; see `scoring.score.PanelScore` for the fields."""

    score: float
    score_name: str = "dprime"
    interval: Interval = None
    levels: dict[str, LevelRecord] = Field(default_factory=dict)
    effective_rank: Number = None
    feature_sd: Number = None
    information: Number = None
    health: HealthRecord | None = None
    bootstrap_scores: tuple[float, ...] = ()
    num_images: int | None = None
    num_views: int | None = None


class UntrainedRecord(FileRecord, PanelRecord):
    """`untrained.json`: scores of networks before training, first of the network that every trial starts from."""

    writer = "augscale search"

    confirm: tuple[PanelRecord, ...] = ()
    """Scores of the networks that the confirmation runs start from, by number of the fresh seed."""
