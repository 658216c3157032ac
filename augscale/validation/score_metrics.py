"""Label-free metrics of one network on the views of the study's panel.

Metrics for which lower is better are negated, so that higher is always better: a correlation above 0 means that
networks which the metric ranks higher have the higher AUROC.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from augscale.diagnosis.measure import measure_images, measure_views
from augscale.networks.backbones import Backbone
from augscale.records.metrics import METRICS, VALIDATION_METRICS
from augscale.records.validation import STUDY_KEY, MetricColumn
from augscale.scoring.embeddings import embed
from augscale.scoring.pair_samples import positive_pairs
from augscale.scoring.panel import ProbePanel
from augscale.scoring.separation import dprime

LEVEL_METRICS = (
    "dprime", "raw_dprime", "gap", "pair_auroc", "margin", "retrieval_error", "alignment", "uniformity", "lidar",
)  # fmt: skip
"""Metrics of each level of the panel; also averaged over the ladder."""
CLEAN_METRICS = ("rankme", "alpha_req", "feature_sd")
"""Metrics of the panel's images without augmentation."""
TRAINING_METRICS = ("information", "loss")
STUDY_SCORE = "score"
"""The score that the search ranks by, at the rung."""
LADDER = "ladder"
_BLOCK_ROWS = 512
_INFO = METRICS | VALIDATION_METRICS


def score_metrics(level_names: tuple[str, ...]) -> tuple[MetricColumn, ...]:
    """Every metric: the study's score, then those of the ladder, of clean images, of training, and of each level."""
    found = [("study", STUDY_SCORE)]
    found += [(LADDER, metric) for metric in LEVEL_METRICS]
    found += [("clean", metric) for metric in CLEAN_METRICS]
    found += [("training", metric) for metric in TRAINING_METRICS]
    found += [(level, metric) for level in level_names for metric in LEVEL_METRICS]
    return tuple(_metric(level, metric) for level, metric in found)


def measure_network(
    backbone: Backbone,
    panel: ProbePanel,
    *,
    device: str,
    score: float | None,
    information: float | None = None,
    loss: float | None = None,
) -> dict[str, float | None]:
    """All metrics of one network by key, higher is better; None where one is not defined.

    Args:
        backbone: the network; its mode is kept.
        panel: of the study.
        device: see `embed`.
        score: the study's score at the rung.
        information, loss: values at the rung; None for networks that were not trained.
    Raises:
        DivergedError: an embedding is not finite.
    """
    shape = panel.views.shape[:3]
    views = embed(backbone, panel.views.flatten(0, 2), device=device).reshape(*shape, -1)
    clean = embed(backbone, panel.clean, device=device)
    levels: dict[str, dict[str, float | None]] = {}
    for name, points in zip(panel.level_names, views, strict=True):
        measures = measure_views(points, panel.groups).metrics
        levels[name] = {
            metric: measures[metric].value if metric in measures else raw_dprime(points, panel.groups)
            for metric in LEVEL_METRICS
        }
    images = measure_images(clean, panel.groups).metrics
    found: dict[str, float | None] = {STUDY_KEY: score}
    found |= {f"{LADDER}/{metric}": _mean([level[metric] for level in levels.values()]) for metric in LEVEL_METRICS}
    found |= {f"clean/{metric}": images[metric].value for metric in CLEAN_METRICS}
    found |= {"training/information": information, "training/loss": loss}
    found |= {f"{name}/{metric}": level[metric] for name, level in levels.items() for metric in LEVEL_METRICS}
    return {key: _oriented(key, value) for key, value in found.items()}


def raw_dprime(views: npt.ArrayLike, groups: npt.ArrayLike) -> float:
    """d' of Euclidean distances between embeddings that are not normalized.

    Args:
        views: float, shape (n, V, D), V >= 2.
        groups: int, shape (n,): patient of each image; only images of different patients are negatives; at least two.
    """
    points, own = np.asarray(views, np.float64), np.asarray(groups)
    num_images, num_views, dim = points.shape
    rows, patient = points.reshape(-1, dim), np.repeat(own, num_views)
    pairs = positive_pairs(num_images, num_views)
    positive = np.linalg.norm(rows[pairs[:, 0]] - rows[pairs[:, 1]], axis=1)
    count, total, squares = 0, 0.0, 0.0
    for begin in range(0, len(rows), _BLOCK_ROWS):
        block = slice(begin, begin + _BLOCK_ROWS)
        negative = cdist(rows[block], rows)[patient[block, None] != patient]
        count, total, squares = count + len(negative), total + negative.sum(), squares + np.square(negative).sum()
    mean = total / count
    spread = max(squares / count - mean**2, 0.0)
    return float(dprime(mean - positive.mean(), float(positive.var()), spread))


def _metric(level: str, metric: str) -> MetricColumn:
    info = _INFO[metric]
    return MetricColumn(
        key=f"{level}/{metric}",
        metric=metric,
        level=level,
        label=info.label,
        meaning=info.meaning,
        turned=info.direction == "lower",
    )


def _oriented(key: str, value: float | None) -> float | None:
    """The value with the sign that makes higher better; None if it is missing or not finite."""
    metric = key.rpartition("/")[2]
    if value is None or not math.isfinite(value):
        return None
    if metric == "alpha_req":
        return -abs(value - 1.0)
    return -value if _INFO[metric].direction == "lower" else float(value)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
