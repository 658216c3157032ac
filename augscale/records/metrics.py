"""The registry of metrics and scores, read from `metrics.toml`: labels, units, ranges, meanings and sources.

Every page, table, terminal and file takes its words from here, so each metric has one name. Keys (`dprime`) stand in
files, settings and options; labels (d') stand in what people read.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field

from augscale.records.base import Record

POSITIVE_METRICS = ("positive_mean", "raw_positive_mean", "alignment")
NEGATIVE_METRICS = ("negative_mean", "raw_negative_mean", "uniformity")
PAIR_METRICS = ("gap", "ratio", "dprime", "pair_auroc", "overlap", "ks", "wasserstein")
CLUSTER_METRICS = ("silhouette", "raw_silhouette", "davies_bouldin", "calinski_harabasz", "lidar")
RETRIEVAL_METRICS = ("recall_at_1", "recall_at_5", "margin", "retrieval_error")
LEVEL_METRICS = POSITIVE_METRICS + NEGATIVE_METRICS + PAIR_METRICS + CLUSTER_METRICS + RETRIEVAL_METRICS
"""Metrics of the views of one level."""
SPECTRUM_METRICS = ("rankme", "alpha_req", "stable_rank", "participation_ratio", "intrinsic_dimension", "feature_sd")
LABEL_METRICS = ("knn_accuracy", "knn_auroc", "class_silhouette")
IMAGE_METRICS = SPECTRUM_METRICS + LABEL_METRICS
"""Metrics of the images without augmentation."""


class MetricInfo(Record):
    """One metric. `key`, `name`, `unit` and `source` are not written to files."""

    key: str = Field(default="", exclude=True)
    label: str = ""
    """Stands in tables, figures and sentences."""
    direction: Literal["higher", "lower", "none"] = "none"
    """Better values; "none" if neither direction is better, or if it depends on another metric."""
    range: str = ""
    meaning: str = ""
    """One sentence."""
    group: str = ""
    """A key of `GROUP_TITLES`."""
    name: str = Field(default="", exclude=True)
    """The metric in words, where the label is a symbol or a person's name."""
    unit: str = Field(default="", exclude=True)
    """Empty for a plain number."""
    source: str = Field(default="", exclude=True)
    """Publication or method that defines the metric."""

    @property
    def explanation(self) -> str:
        """Meaning, range and better direction in sentences."""
        words = DIRECTION_WORDS[self.direction]
        scale = f"Range {self.range}; {words}." if self.range else f"{words.capitalize()}."
        return " ".join(part for part in (self.meaning, scale) if part)


class ScoreInfo(Record):
    """A score that a search can maximize, by its value of `probe.score`."""

    key: str
    label: str
    best: str
    """Best value, or better direction, in words."""
    meaning: str
    """One sentence."""
    phrase: str
    """Verb phrase of the headline ("does not ... better"); {} stands for the labelled datasets."""
    says: str
    """What the score says, or did with labels, for the caveats; {} stands for the labelled datasets."""


DIRECTION_WORDS = {"higher": "higher is better", "lower": "lower is better", "none": "neither direction is better"}

_FILE = Path(__file__).with_name("metrics.toml")
_REGISTRY = tomllib.loads(_FILE.read_text(encoding="utf-8"))


def _metrics(section: str) -> dict[str, MetricInfo]:
    return {key: MetricInfo(key=key, **values) for key, values in _REGISTRY[section].items()}


GROUP_TITLES: dict[str, str] = _REGISTRY["groups"]
"""Title of each group of metrics of a diagnosis, in the order of tables."""
METRICS = _metrics("diagnosis")
"""Every metric of a diagnosis by its key, in the order of tables."""
VALIDATION_METRICS = _metrics("validation")
"""What a validation correlates with accuracy besides `METRICS`; for a key in both, it takes the entry here."""
EVALUATION_METRICS = _metrics("evaluation")
"""Every metric of a classifier on test images by its key, in the order of tables."""
SCORES = {key: ScoreInfo(key=key, **values) for key, values in _REGISTRY["scores"].items()}
"""Every score that a search can maximize."""


def score_label(score: str) -> str:
    """The label of a value of `probe.score`; an unknown one, e.g. of a later version's file, is its own label."""
    return SCORES[score].label if score in SCORES else score
