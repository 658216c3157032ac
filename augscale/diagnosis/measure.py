"""All metrics of one checkpoint: `measure_views` for the views of one level, `measure_images` for the clean images.

Metrics are named by the keys of `records.metrics.METRICS`. A metric that cannot be computed has no value and a reason;
nothing is NaN. Intervals resample patients. Replicate b holds the same patients for every checkpoint and level, so
differences between checkpoints are paired (`statistics.panel_bootstrap.paired_difference`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from augscale.diagnosis.image_metrics import label_metrics, spectrum_metrics
from augscale.diagnosis.labels import Labelled
from augscale.diagnosis.level_metrics import LevelPairs
from augscale.errors import DataError
from augscale.records.base import Record
from augscale.records.diagnosis import LevelRecord
from augscale.records.metrics import IMAGE_METRICS, LEVEL_METRICS
from augscale.scoring.embedding_checks import finite_embeddings, group_numbers
from augscale.statistics.panel_bootstrap import Measured, Resamples

NUM_SHARES = 256
"""Number of eigenvalue shares that are kept."""


class LevelMeasures(LevelRecord):
    """One checkpoint on the views of one level, with replicates."""

    num_images: int = Field(exclude=True)
    num_views: int = Field(exclude=True)
    metrics: Mapping[str, Measured]


class ImageMeasures(Record):
    """One checkpoint on the clean images."""

    num_images: int
    num_labelled: int
    metrics: Mapping[str, Measured]
    """Every metric of `metrics.IMAGE_METRICS`."""
    spectrum: tuple[float, ...]
    """Eigenvalues of the covariance as shares of their sum, descending, at most 256; empty if all are equal."""
    chance_accuracy: float | None
    """Share of the largest class among the labelled images: the accuracy of always guessing that class."""


def measure_views(
    embeddings: npt.ArrayLike, groups: npt.ArrayLike | None = None, *, bootstrap: int = 0, seed: int = 0
) -> LevelMeasures:
    """Every metric of one level.

    Up to 4096 views every value is exact, and d' and pair AUROC equal those of `separation`, which a search uses.
    Larger panels are streamed (`pair_samples`): distances are then float32, and AUROC, KS, Wasserstein and uniformity
    come from 8192 bins (`pair_metrics.Counts` states the errors). The intervals of these four and of overlap always
    come from 256 bins; the replicates are shifted by the error that the bins cause in the value.

    Args:
        embeddings: floats, shape (n, V, D).
        groups: shape (n,): patients; None: every image is its own.
        bootstrap: resamples of patients; 0 for no intervals. At most 50 are used for LiDAR.
        seed: seed of the resamples.
    Raises:
        DataError: wrong shape, or values that are not finite.
        ConfigError: faiss is not installed.
    """
    points = finite_embeddings(embeddings, ("images", "views", "features"))
    group_ids = group_numbers(groups, len(points))
    order = np.argsort(group_ids, kind="stable")
    level = LevelPairs(points[order].astype(np.float64), group_ids[order], bootstrap, seed)
    metrics = level.metrics()
    unit, raw = level.unit_histogram(), level.raw_histogram()
    return LevelMeasures(
        num_images=len(points),
        num_views=points.shape[1],
        metrics={name: metrics[name] for name in LEVEL_METRICS},
        positive_histogram=unit.positive,
        negative_histogram=unit.negative,
        histogram_edges=unit.edges,
        raw_positive_histogram=raw.positive,
        raw_negative_histogram=raw.negative,
        raw_histogram_edges=raw.edges,
    )


def measure_images(
    clean: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    labels: Sequence[Any] | npt.NDArray[np.object_] | None = None,
    *,
    bootstrap: int = 0,
    seed: int = 0,
) -> ImageMeasures:
    """Every metric of the images without augmentation.

    Args:
        clean: floats, shape (n, D).
        groups: shape (n,): patients; None: every image is its own.
        labels: n labels, told apart by `str`, None for unknown ones; None: there are no labels.
        bootstrap: resamples of patients; 0 for no intervals. At most 50 are used for metrics that need eigenvalues.
        seed: seed of the resamples; the same seed gives the same patients as in `measure_views`.
    Raises:
        DataError: wrong shape, or values that are not finite.
        ConfigError: faiss is not installed.
    """
    points = finite_embeddings(clean, ("images", "features")).astype(np.float64)
    group_ids = group_numbers(groups, len(points))
    if labels is not None and len(labels) != len(points):
        raise DataError(f"labels: {len(labels)}; expected one per image, {len(points)}, None where unknown")
    resamples = Resamples.of(group_ids, bootstrap, seed)
    found, shares = spectrum_metrics(points, resamples)
    known = Labelled.of(labels if labels is not None else [None] * len(points))
    found |= label_metrics(points, group_ids, known, resamples)
    return ImageMeasures(
        num_images=len(points),
        num_labelled=len(known.rows),
        metrics={name: found[name] for name in IMAGE_METRICS},
        spectrum=() if shares is None else tuple(shares[:NUM_SHARES].tolist()),
        chance_accuracy=float(known.sizes.max() / known.sizes.sum()) if len(known.rows) else None,
    )
