"""Distances of positive and negative pairs of a panel, with resamples: exact for small panels, streamed for large ones.

Up to `EXACT_ROWS` views, all distances are held at once in float64, and statistics of negative pairs are resampled pair
by pair: a pair of patients drawn w and v times counts w v times. For more views, `pair_stream` reduces the distances to
sums and histograms per view, and w v is replaced by w + v - 1 (the first term of the projection of Hajek 1968). The
neglected terms are of order 1/G, compared with standard errors of order 1/sqrt(G), for G patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.scoring.bins import COARSE_BINS, FINE_BINS, Bins
from augscale.scoring.distances import distance_matrix, pair_distances, raw_distances, unit_rows
from augscale.scoring.pair_stream import stream_pairs
from augscale.statistics.panel_bootstrap import Resamples, group_starts, pair_sums
from augscale.system.matmul import matmul

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

EXACT_ROWS = 4096
"""Most views (images x views per image) of a small panel: 16.8 M distances, 134 MB."""
EXACT_IMAGES = 1024
"""Most images of a small panel: resampling histograms pair by pair takes time n^2 x replicates x bins."""


def positive_pairs(num_images: int, num_views: int) -> Integers:
    """Row indices of both views of each positive pair, image by image, in embeddings (n, V, D) flattened to (n V, D).

    Returns:
        int64, shape (n V (V - 1) / 2, 2).
    """
    views = np.stack(np.triu_indices(num_views, 1), axis=1)
    return (np.arange(num_images)[:, None, None] * num_views + views).reshape(-1, 2)


@dataclass(frozen=True, kw_only=True)
class Positives:
    """Distances of the views of each image: float64, shape (n, V (V - 1) / 2)."""

    unit: Floats
    """Distances of L2-normalized embeddings."""
    raw: Floats
    """Distances of embeddings that are not normalized."""

    @classmethod
    def of(cls, points: npt.NDArray[np.floating]) -> Positives:
        """Distances in embeddings (n, V, D), V at least 2."""
        num_images, num_views, dim = points.shape
        pairs = positive_pairs(num_images, num_views)
        # Scaled first: squares of very large features overflow, and those of very small ones underflow.
        scale = float(np.abs(points).max()) or 1.0
        rows = (np.asarray(points, dtype=np.float64) / scale).reshape(-1, dim)
        return cls(
            unit=pair_distances(unit_rows(points)[0].reshape(-1, dim), pairs).reshape(num_images, -1),
            raw=pair_distances(rows, pairs).reshape(num_images, -1) * scale,
        )


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """Distances between views of images of different groups, of L2-normalized embeddings unless called raw."""

    sample: Floats | None
    """All distances of a small panel, shape (P,)."""
    mean: float
    variance: float
    raw_mean: float
    fine: Bins
    histogram: Integers
    raw_bins: Bins
    raw_histogram: Integers
    means: Floats
    """float64, shape (B,): the mean in each resample."""
    variances: Floats
    raw_means: Floats
    coarse: Bins
    histograms: Floats
    """float64, at least 0, shape (B, coarse.count): the histogram of each resample."""

    @classmethod
    def of(cls, points: Floats, groups: Integers, resamples: Resamples) -> Negatives:
        """Distances in embeddings (n, V, D), images in rising order of their group numbers, two groups at least."""
        num_images, num_views, _ = points.shape
        if num_images * num_views <= EXACT_ROWS and num_images <= EXACT_IMAGES:
            return _exact(points, groups, resamples)
        return _streamed(points, groups, resamples)


def _exact(points: Floats, groups: Integers, resamples: Resamples) -> Negatives:
    num_images, num_views, dim = points.shape
    unit, norms = unit_rows(points)
    distances = distance_matrix(unit.reshape(-1, dim))
    lengths = norms.reshape(-1)
    raw = raw_distances(np.square(distances), lengths[:, None], lengths[None])
    group_ids = np.repeat(groups, num_views)
    negative = group_ids[:, None] < group_ids[None]
    sample, raw_sample = distances[negative], raw[negative]
    mean, raw_mean = float(sample.mean()), float(raw_sample.mean())
    # The largest of all distances: the bins must also hold the positive pairs.
    fine, coarse = (Bins.covering(float(distances.max()), count) for count in (FINE_BINS, COARSE_BINS))
    raw_bins = Bins.over(float(raw.max()), FINE_BINS)
    means, squares, raw_means = np.empty(0), np.empty(0), np.empty(0)
    histograms = np.empty((0, coarse.count))
    if len(resamples):
        starts = group_starts(groups)
        weights = resamples.weights[:, starts]
        pairs = groups[:, None] < groups[None]

        def resampled(values: Floats) -> Floats:
            by_image = values.reshape(num_images, num_views, num_images, num_views).sum(axis=(1, 3))
            return pair_sums(weights, np.where(pairs, by_image, 0.0), starts)

        counts = pair_sums(weights, pairs.astype(np.float64) * num_views**2, starts)
        moved = distances - mean
        means, squares = resampled(moved) / counts, resampled(np.square(moved)) / counts
        raw_means = raw_mean + resampled(raw - raw_mean) / counts
        histograms = _pair_histograms(coarse.index(distances), group_ids, weights, coarse.count)
    return Negatives(
        sample=sample,
        mean=mean,
        variance=float(sample.var()),
        raw_mean=raw_mean,
        fine=fine,
        histogram=fine.histogram(sample),
        raw_bins=raw_bins,
        raw_histogram=raw_bins.histogram(raw_sample),
        means=mean + means,
        variances=np.maximum(squares - np.square(means), 0.0),
        raw_means=raw_means,
        coarse=coarse,
        histograms=histograms,
    )


def _pair_histograms(index: npt.NDArray[np.int32], groups: Integers, weights: Floats, num_bins: int) -> Floats:
    """Histogram of the negative pairs in each resample: the sum over pairs of groups of w w' times their histogram."""
    starts = group_starts(groups)
    num_groups = len(starts)
    total = np.zeros((len(weights), num_bins))
    stops = np.append(starts[1:], len(groups))
    for number in range(num_groups - 1):
        # Groups are in order, so the partners of this group are the columns after its own.
        rows = index[starts[number] : stops[number], stops[number] :]
        partners = groups[stops[number] :] - number - 1
        cells = (partners * num_bins)[None] + rows
        left = num_groups - 1 - number
        counts = np.bincount(cells.ravel(), minlength=left * num_bins).astype(np.float64)
        total += weights[:, number, None] * matmul(
            np.ascontiguousarray(weights[:, number + 1 :]), counts.reshape(left, num_bins)
        )
    return total


def _streamed(points: Floats, groups: Integers, resamples: Resamples) -> Negatives:
    num_images, num_views, dim = points.shape
    found = stream_pairs(points.reshape(-1, dim), np.repeat(groups, num_views), row_histograms=len(resamples) > 0)
    raw = found.raw
    assert raw is not None
    coarse = found.coarse or Bins.covering(found.largest, COARSE_BINS)
    means, squares, raw_means = np.empty(0), np.empty(0), np.empty(0)
    histograms = np.empty((0, coarse.count))
    if len(resamples) and found.row_histograms is not None:

        def projected(per_row: npt.NDArray[Any]) -> Floats:
            by_image = per_row.reshape(num_images, num_views, *per_row.shape[1:]).sum(axis=1)
            return resamples.sums(by_image) - by_image.sum(axis=0) / 2

        # If patients differ much in their number of images, the projected count of a resample can be 0 or less.
        counts = projected(found.row_counts)
        counts = np.where(counts > 0, counts, np.nan)
        means, squares = projected(found.unit.row_sums) / counts, projected(found.unit.row_squares) / counts
        raw_means = raw.mean + projected(raw.row_sums) / counts
        # The projection can make the count of a nearly empty bin negative.
        histograms = np.maximum(projected(found.row_histograms), 0.0)
        histograms[np.isnan(counts)] = np.nan
    return Negatives(
        sample=None,
        mean=found.unit.mean,
        variance=found.unit.sd**2,
        raw_mean=raw.mean,
        fine=found.unit.bins,
        histogram=found.unit.histogram,
        raw_bins=raw.bins,
        raw_histogram=raw.histogram,
        means=found.unit.mean + means,
        variances=np.maximum(squares - np.square(means), 0.0),
        raw_means=raw_means,
        coarse=coarse,
        histograms=histograms,
    )
