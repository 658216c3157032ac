"""One pass over all negative pairs in float64: moments, histogram and exact ranks, block by block in bounded memory.

A panel of n images with V views has about (nV)^2 / 2 negative pairs, far more than positive ones. Each block of their
distances is reduced to sums as soon as it is computed, so memory does not grow with the number of pairs; only the
bootstrap keeps values per pair of images. Axes: v, w views; i, j images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augscale.scoring.bins import SHOWN
from augscale.scoring.distances import (
    BLOCK_ROWS,
    centered,
    raw_distances,
    squared_distances,
    unit_rows,
    upper_blocks,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_RANK_BINS = 2**16


@dataclass(frozen=True, kw_only=True)
class ImagePairSums:
    """Sums over the views of each pair of images, shape (n, n); zero unless group of row < group of column."""

    shifted: Floats
    """Sum of (distance - shift)."""
    shifted_squares: Floats
    """Sum of (distance - shift)^2."""
    above: Floats
    """Sum over the pair's distances of the share of positive pairs that are nearer (ties count half)."""
    shift: float


@dataclass(frozen=True, kw_only=True)
class NegativePairs:
    """Statistics of all negative pairs. Distances are of L2-normalized rows unless called raw."""

    count: int
    mean: float
    variance: float
    """Population variance (divided by the count)."""
    raw_mean: float
    histogram: Integers
    """int64, shape (64,): pairs per bin of width 2/64, the last bin closed."""
    above: float
    """AUROC: share of (positive, negative) combinations in which the negative is farther; ties count half."""
    above_positive: Floats
    """Share of negative pairs that are farther than each positive pair, in the shape given; ties count half."""
    image_pairs: ImagePairSums | None


class PositiveRanks:
    """Exact ranks of many distances among few: a lookup table of bins, and a binary search in occupied bins only.

    Args:
        positives: distances to rank among, any shape, at least 0.
    """

    def __init__(self, positives: Floats) -> None:
        self.ordered = np.sort(positives, axis=None)
        largest = self.ordered[-1]
        self._scale = _RANK_BINS / largest if largest > 1e-9 else 0.0
        bins = np.arange(_RANK_BINS + 2)
        occupied = self._bin(self.ordered)
        # Every distance in a lower bin is smaller, so all distances in a bin without positives have the same rank.
        self._below = np.searchsorted(occupied, bins, side="left").astype(np.int32)
        self._crowded = np.searchsorted(occupied, bins, side="right") > self._below

    def _bin(self, distances: Floats) -> npt.NDArray[np.int32]:
        return np.minimum(distances * self._scale, _RANK_BINS + 1).astype(np.int32)

    def __call__(self, distances: Floats) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The number of smaller positives, and of positives that are not larger, for each distance of any shape."""
        bins = self._bin(distances)
        smaller = self._below[bins]
        unsure = self._crowded[bins]
        values = distances[unsure]
        smaller[unsure] = np.searchsorted(self.ordered, values, side="left")
        not_larger = np.searchsorted(self.ordered, values, side="right")
        if np.array_equal(not_larger, smaller[unsure]):
            return smaller, smaller
        upper = smaller.copy()
        upper[unsure] = not_larger
        return smaller, upper


def negative_pairs(
    embeddings: npt.ArrayLike,
    groups: npt.ArrayLike,
    positives: npt.ArrayLike,
    *,
    keep_image_pairs: bool = False,
    block_rows: int = BLOCK_ROWS,
) -> NegativePairs:
    """Statistics of the distances between views of images of different groups.

    Args:
        embeddings: finite, shape (n, V, D), images in rising order of their group.
        groups: int64, shape (n,), rising; two groups at least.
        positives: float64, distances of the positive pairs (L2-normalized), any shape; negatives are ranked among them.
        keep_image_pairs: also return sums per pair of images: 3 matrices (n, n), for the bootstrap.
        block_rows: rows (images x views) of a block; affects memory, not the result.
    """
    unit, norms = unit_rows(np.asarray(embeddings).swapaxes(0, 1))
    group_ids = np.asarray(groups, dtype=np.int64)
    thresholds = np.asarray(positives, dtype=np.float64)
    stream = _Stream(centered(unit), norms, group_ids, PositiveRanks(thresholds), keep_image_pairs)
    for a, b in upper_blocks(len(group_ids), max(1, block_rows // len(unit))):
        if group_ids[a.start] < group_ids[b.stop - 1]:
            stream.add(a, b)
    return stream.result(thresholds)


class _Stream:
    """Sums that grow block by block; rows are view-major, so that sums over views run along outer axes."""

    def __init__(self, unit: Floats, norms: Floats, groups: Integers, ranks: PositiveRanks, keep: bool) -> None:
        self.unit, self.norms, self.groups, self.ranks = unit, norms, groups, ranks
        num_images = len(groups)
        self.shift: float | None = None
        self.count, self.sums = 0, np.zeros(4)
        self.histogram = np.zeros(SHOWN.count, dtype=np.int64)
        self.rank_counts = np.zeros((2, len(ranks.ordered) + 1), dtype=np.int64)
        self.image_pairs = np.zeros((3, num_images, num_images)) if keep else None

    def add(self, a: slice, b: slice) -> None:
        """Adds the negative pairs between two blocks of images, where a is equal to or before b."""
        views, images_a, images_b = len(self.unit), a.stop - a.start, b.stop - b.start
        negative = self.groups[a, None] < self.groups[None, b]
        shape = (views, images_a, views, images_b)
        squared = squared_distances(_rows(self.unit[:, a]), _rows(self.unit[:, b])).reshape(shape)
        distances = np.sqrt(squared)
        smaller, not_larger = self.ranks(distances)
        index = ... if negative.all() else np.broadcast_to(negative[None, :, None, :], shape)
        self.histogram += SHOWN.histogram(distances[index])
        for side, ranks in enumerate((smaller, not_larger)):
            self.rank_counts[side] += np.bincount(ranks[index].ravel(), minlength=self.rank_counts.shape[1])
        if self.shift is None:
            self.shift = float(distances.mean(axis=(0, 2))[negative].mean())
        distances -= self.shift
        above = smaller if smaller is not_larger else (smaller + not_larger) / 2
        raw = raw_distances(squared, self.norms[:, a, None, None], self.norms[None, None, :, b])
        sums = [
            np.where(negative, values.sum(axis=(0, 2)), 0.0) for values in (distances, np.square(distances), above, raw)
        ]
        self.count += int(negative.sum()) * views * views
        self.sums += [block.sum() for block in sums]
        if self.image_pairs is not None:
            self.image_pairs[:, a, b] = sums[:3]

    def result(self, positives: Floats) -> NegativePairs:
        """Totals over all blocks; `above_positive` follows the order of `positives`."""
        shift = self.shift or 0.0
        mean, mean_square, above, raw_mean = self.sums / self.count
        num_positives = len(self.ranks.ordered)
        # A negative with r positives below it is farther than exactly the r smallest positives.
        farther = self.count - np.cumsum(self.rank_counts, axis=1)[:, :-1]
        above_positive = np.empty(positives.size)
        above_positive[np.argsort(positives, axis=None, kind="stable")] = farther.mean(axis=0) / self.count
        kept = None
        if self.image_pairs is not None:
            shifted, squares, ranks = self.image_pairs
            kept = ImagePairSums(shifted=shifted, shifted_squares=squares, above=ranks / num_positives, shift=shift)
        return NegativePairs(
            count=self.count,
            mean=shift + mean,
            variance=max(0.0, mean_square - mean * mean),
            raw_mean=raw_mean,
            histogram=self.histogram,
            above=above / num_positives,
            above_positive=above_positive.reshape(positives.shape),
            image_pairs=kept,
        )


def _rows(block: Floats) -> Floats:
    return np.ascontiguousarray(block).reshape(-1, block.shape[-1])
