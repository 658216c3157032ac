"""All metrics of one checkpoint: `measure_views` for the views of one level, `measure_images` for the clean images.

Metrics by key of `glossary.GLOSSARY`. What cannot be computed has no value and a reason; nothing is NaN. Intervals
resample patients, and the same patients in replicate b for every checkpoint and level, so that differences are paired
(`measured.paired_difference`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.diagnosis.glossary import IMAGE_METRICS, LEVEL_METRICS
from augscale.diagnosis.image_metrics import label_metrics, spectrum_metrics
from augscale.diagnosis.labels import Labelled
from augscale.diagnosis.level_metrics import Level
from augscale.errors import DataError
from augscale.scoring.bins import SHOWN_BINS, SHOWN_RANGE
from augscale.statistics.measured import Measured, Resamples

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NUM_SHARES = 256
"""Eigenvalue shares that are kept."""


@dataclass(frozen=True, kw_only=True)
class LevelMeasures:
    """One checkpoint on the views of one level."""

    num_images: int
    num_views: int
    metrics: dict[str, Measured]
    """By each key of `glossary.LEVEL_METRICS`."""
    positive_histogram: tuple[int, ...]
    negative_histogram: tuple[int, ...]
    """Pairs per bin of L2-normalised distances, 64 equal bins over [0, 2]; zeros without such pairs."""
    histogram_edges: tuple[float, ...]
    raw_positive_histogram: tuple[int, ...]
    raw_negative_histogram: tuple[int, ...]
    """Pairs per bin of distances of embeddings as they are, 64 equal bins from 0 to the largest distance or a little
    beyond."""
    raw_histogram_edges: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the replicates."""
        histograms = [name for name in vars(self) if "histogram" in name]
        return {
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            **{name: list(getattr(self, name)) for name in histograms},
        }


@dataclass(frozen=True, kw_only=True)
class ImageMeasures:
    """One checkpoint on the clean images."""

    num_images: int
    num_labelled: int
    metrics: dict[str, Measured]
    """By each key of `glossary.IMAGE_METRICS`."""
    spectrum: tuple[float, ...]
    """Eigenvalues of the covariance as shares of their sum, descending, at most 256; empty if all are equal."""
    chance_accuracy: float | None
    """Share of the largest class among the labelled images: what guessing it would reach. AUROC's chance is 0.5."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the replicates."""
        return {
            "overall": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "spectrum": list(self.spectrum),
            "chance_accuracy": self.chance_accuracy,
        }


def measure_views(
    embeddings: npt.ArrayLike, groups: npt.ArrayLike | None = None, *, bootstrap: int = 0, seed: int = 0
) -> LevelMeasures:
    """Every metric of one level.

    Up to 4096 views every value is exact, d' and pair AUROC are those of `separation`, by which a search scores.
    Larger panels are streamed (`pair_samples`): distances are then float32, and AUROC, KS, Wasserstein and uniformity
    come from 8192 bins (`pair_metrics.Counts` states the errors). Intervals of these, and of overlap, are always from
    256 bins, moved by what that does to the value.

    Args:
        embeddings: floats, shape (n, V, D).
        groups: shape (n,): patients; None: every image is its own.
        bootstrap: resamples of patients; 0 for no intervals. At most 50 are used for LiDAR.
        seed: of the resamples.
    Raises:
        DataError: wrong shape, or values that are not finite.
        ConfigError: faiss is not installed.
    """
    points, own = _checked(embeddings, groups, 3)
    order = np.argsort(own, kind="stable")
    level = Level(points[order], own[order], bootstrap, seed)
    metrics = level.metrics()
    positive, negative, raw_positive, raw_negative, raw_edges = level.histograms()
    return LevelMeasures(
        num_images=len(points),
        num_views=points.shape[1],
        metrics={name: metrics[name] for name in LEVEL_METRICS},
        positive_histogram=_plain(positive),
        negative_histogram=_plain(negative),
        histogram_edges=tuple(np.linspace(0.0, SHOWN_RANGE, SHOWN_BINS + 1).tolist()),
        raw_positive_histogram=_plain(raw_positive),
        raw_negative_histogram=_plain(raw_negative),
        raw_histogram_edges=tuple(raw_edges.tolist()),
    )


def _plain(counts: Integers) -> tuple[int, ...]:
    return tuple(int(count) for count in counts)


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
        labels: n of them, anything that `str` tells apart, None for unknown; None: there are no labels.
        bootstrap: resamples of patients; 0 for no intervals. At most 50 are used for what needs eigenvalues.
        seed: of the resamples; the same as for `measure_views` gives the same patients.
    Raises:
        DataError: wrong shape, or values that are not finite.
        ConfigError: faiss is not installed.
    """
    points, own = _checked(clean, groups, 2)
    if labels is not None and len(labels) != len(points):
        raise DataError(f"labels: {len(labels)}; expected one per image, {len(points)}, None where unknown")
    resamples = Resamples.of(own, bootstrap, seed)
    found, shares = spectrum_metrics(points, resamples)
    known = Labelled.of(labels if labels is not None else [None] * len(points))
    found |= label_metrics(points, own, known, resamples)
    return ImageMeasures(
        num_images=len(points),
        num_labelled=len(known.rows),
        metrics={name: found[name] for name in IMAGE_METRICS},
        spectrum=() if shares is None else tuple(shares[:NUM_SHARES].tolist()),
        chance_accuracy=float(known.sizes.max() / known.sizes.sum()) if len(known.rows) else None,
    )


def _checked(embeddings: npt.ArrayLike, groups: npt.ArrayLike | None, dimensions: int) -> tuple[Floats, Integers]:
    """float64 embeddings, and group numbers 0, ..., G - 1."""
    points = np.asarray(embeddings)
    axes = ("images", "views", "features") if dimensions == 3 else ("images", "features")
    if points.ndim != dimensions or 0 in points.shape or not np.issubdtype(points.dtype, np.floating):
        raise DataError(
            f"embeddings: {points.dtype} of shape {points.shape}; expected floats of shape ({', '.join(axes)}), "
            "at least 1 each"
        )
    points = points.astype(np.float64)
    bad = int((~np.isfinite(points)).any(axis=-1).sum())
    if bad:
        raise DataError(f"embeddings: {bad} of {points[..., 0].size} are not finite; expected finite numbers")
    own = np.arange(len(points)) if groups is None else np.asarray(groups)
    if own.shape != (len(points),):
        raise DataError(f"groups: shape {own.shape}; expected one group per image, ({len(points)},)")
    return points, np.unique(own, return_inverse=True)[1].astype(np.int64)
