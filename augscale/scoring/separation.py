"""Separation of positive and negative pairs: d', AUROC and related scores.

Positive pairs are two views of one image, negative pairs views of images of two patients, as in Dis(P+) and Dis(P-)
of Cheng et al., MIDL 2025 (Euclidean, in the encoder's latent space). Unlike in the paper, embeddings are
L2-normalized and the gap is divided by the spread, because raw distances grow with the norm of the features and
cannot be compared between models. Raw means are reported too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError
from augscale.scoring.bins import SHOWN
from augscale.scoring.distances import nearest_negatives, unit_rows
from augscale.scoring.embedding_checks import finite_embeddings, group_numbers
from augscale.scoring.negatives import NegativePairs, negative_pairs
from augscale.scoring.pair_samples import Positives
from augscale.statistics.panel_bootstrap import (
    group_starts,
    linear_sums,
    pair_sums,
    percentile_interval,
    resample_weights,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MIN_IMAGES = 3
"""Two images have a single negative pair, whose spread is undefined."""
SD_FLOOR = 1e-6
"""Smallest spread of distances that d' divides by: the resolution of float32 embeddings of length 1."""


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Distances of positive and of negative pairs, and scores computed from them; higher scores are better.

    Distances are Euclidean between L2-normalized embeddings, in [0, 2], unless called raw.
    """

    num_images: int
    num_views: int
    dprime: float
    """(negative_mean - positive_mean) / sqrt((negative variance + positive variance) / 2). 0: pairs do not differ;
    below 0: positives are farther. Always finite; 0 if all embeddings are equal."""
    pair_auroc: float
    """Chance that a random negative pair is farther apart than a random positive one, ties half. Best 1, chance 0.5;
    0.5 if all embeddings are equal."""
    positive_mean: float
    positive_sd: float
    negative_mean: float
    negative_sd: float
    raw_positive_mean: float
    """Dis(P+) as the paper plots it, not normalized; not comparable between models."""
    raw_negative_mean: float
    """Dis(P-) as the paper plots it, not normalized; not comparable between models."""
    retrieval_error: float
    """Share of ordered positive pairs (view, other view of its image) in which some negative is at most as far from
    the view as the positive. Best 0, worst 1."""
    margin: float
    """Mean over the same pairs of (distance to the nearest negative - distance to the positive)."""
    overlap: float
    """Common area of the two normalized histograms. Best 0, worst 1."""
    positive_histogram: tuple[int, ...]
    negative_histogram: tuple[int, ...]
    """Pairs per bin, 64 equal bins over [0, 2]."""
    degenerate: bool
    """True if the spread of the distances is below the resolution of float32 embeddings: a collapsed encoder."""
    dprime_interval: tuple[float, float] | None = None
    pair_auroc_interval: tuple[float, float] | None = None
    """95 % percentile intervals over resampled patients, or None without a bootstrap."""
    dprime_replicates: Floats = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    pair_auroc_replicates: Floats = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    """float64, shape (B,). Replicate b uses the same weights of images for all embeddings."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the replicates."""
        left_out = ("num_images", "num_views", "dprime_replicates", "pair_auroc_replicates")
        values = {name: value for name, value in vars(self).items() if name not in left_out}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return plain | {"histogram_edges": SHOWN.edges.tolist()}


def separation(
    embeddings: npt.ArrayLike, groups: npt.ArrayLike | None = None, *, bootstrap: int = 0, seed: int = 0
) -> Separation:
    """Compares the distances of positive and of negative pairs.

    The result does not change when all features are multiplied by a positive number or rotated, nor with the order of
    images or views. All pairs count; none are sampled.

    Args:
        embeddings: float, shape (n, V, D): V views of each of n images; n >= 3, V >= 2.
        groups: int64, shape (n,): images of the same group (patient) are never negatives of each other.
            None: every image is its own group.
        bootstrap: resamples of groups for the intervals; 0 for none. Memory then grows with n^2.
        seed: seed of the resamples.
    Raises:
        DataError: wrong shape, too few images, views or groups, or values that are not finite.
        ConfigError: faiss is not installed.
    """
    points, group_ids = _checked(embeddings, groups)
    order = np.argsort(group_ids, kind="stable")
    points, group_ids = points[order], group_ids[order]
    num_images, num_views, _ = points.shape
    pairs = Positives.of(points)
    positives = pairs.unit
    negatives = negative_pairs(points, group_ids, positives, keep_image_pairs=bootstrap > 0)
    retrieval_error, margin = _hard_negatives(unit_rows(points)[0], group_ids, positives)
    point = _Point.of(positives, negatives)
    replicates: dict[str, Any] = {}
    if bootstrap:
        replicates = _replicates(positives, negatives, group_ids, num_views, point, bootstrap, seed)
    positive_histogram = SHOWN.histogram(positives)
    shares = [counts / counts.sum() for counts in (positive_histogram, negatives.histogram)]
    return Separation(
        num_images=num_images,
        num_views=num_views,
        dprime=point.dprime,
        pair_auroc=point.auroc,
        positive_mean=float(positives.mean()),
        positive_sd=float(positives.std()),
        negative_mean=float(negatives.mean),
        negative_sd=float(np.sqrt(negatives.variance)),
        raw_positive_mean=float(pairs.raw.mean()),
        raw_negative_mean=float(negatives.raw_mean),
        retrieval_error=retrieval_error,
        margin=margin,
        overlap=float(np.minimum(*shares).sum()),
        positive_histogram=tuple(positive_histogram.tolist()),
        negative_histogram=tuple(negatives.histogram.tolist()),
        degenerate=point.degenerate,
        **replicates,
    )


def dprime(gap: npt.ArrayLike, positive_variance: npt.ArrayLike, negative_variance: npt.ArrayLike) -> Floats:
    """Standardized gap, element-wise: gap / sqrt((positive variance + negative variance) / 2).

    The spread is at least 1e-6, and the result is 0 if spread and gap are below that: if all embeddings are equal, 0/0
    becomes 0.
    """
    gaps = np.asarray(gap, dtype=np.float64)
    spread = np.sqrt(np.maximum(np.add(positive_variance, negative_variance) / 2, 0.0))
    nothing = (spread < SD_FLOOR) & (np.abs(gaps) < SD_FLOOR)
    return np.where(nothing, 0.0, gaps / np.maximum(spread, SD_FLOOR))


def is_rounding(spread: float) -> bool:
    """True if differences of this size between L2-normalized float32 embeddings are rounding errors."""
    return spread < SD_FLOOR


def is_nothing(gap: float, positive_variance: float, negative_variance: float) -> bool:
    """True if all distances, of positive and of negative pairs, are equal up to rounding."""
    return is_rounding(float(np.sqrt((positive_variance + negative_variance) / 2))) and is_rounding(abs(gap))


@dataclass(frozen=True, kw_only=True)
class _Point:
    """Both scores of the panel itself."""

    dprime: float
    auroc: float
    degenerate: bool

    @classmethod
    def of(cls, positives: Floats, negatives: NegativePairs) -> _Point:
        gap, variances = negatives.mean - positives.mean(), (float(positives.var()), negatives.variance)
        return cls(
            dprime=float(dprime(gap, *variances)),
            # Ranks of distances that differ by rounding only would be random.
            auroc=0.5 if is_nothing(gap, *variances) else float(negatives.above),
            degenerate=is_rounding(float(np.sqrt(sum(variances) / 2))),
        )


def _checked(embeddings: npt.ArrayLike, groups: npt.ArrayLike | None) -> tuple[npt.NDArray[Any], Integers]:
    points = finite_embeddings(embeddings, ("images", "views", "features"))
    num_images, num_views, _ = points.shape
    if num_images < MIN_IMAGES:
        raise DataError(f"embeddings: {num_images} image(s); expected at least {MIN_IMAGES} to compare pairs")
    if num_views < 2:
        raise DataError(f"embeddings: {num_views} view(s) per image; expected at least 2 to have positive pairs")
    return points, group_numbers(groups, num_images, several=True)


def _hard_negatives(unit: Floats, groups: Integers, positives: Floats) -> tuple[float, float]:
    """Retrieval error and margin, see `Separation`."""
    num_images, num_views, dim = unit.shape
    nearest = nearest_negatives(unit.reshape(-1, dim), np.repeat(groups, num_views))
    to_negative = nearest.distances.reshape(num_images, num_views)
    # Both directions of each pair: either view may be the query.
    left, right = np.triu_indices(num_views, 1)
    wrong = [(to_negative[:, side] <= positives).mean() for side in (left, right)]
    return float(np.mean(wrong)), float(to_negative.mean() - positives.mean())


def _replicates(
    positives: Floats,
    negatives: NegativePairs,
    groups: Integers,
    num_views: int,
    point: _Point,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Both scores of every resample, from sums per image and per pair of images.

    d' is exact. The AUROC depends on triples of images; its replicates resample the positive pairs against all negative
    ones, then the negative pairs against all positive ones, and add the two changes, which neglects a term of order
    1/n.
    """
    starts = group_starts(groups)
    weights = resample_weights(len(starts), bootstrap, seed)
    pairs = negatives.image_pairs
    assert pairs is not None
    sizes = np.diff(starts, append=len(groups)).astype(np.float64)
    drawn = weights * sizes
    num_positive = drawn.sum(axis=1) * positives.shape[1]
    num_negative = (drawn.sum(axis=1) ** 2 - np.square(drawn).sum(axis=1)) / 2 * num_views**2

    shift = positives.mean()
    mean, square, above = (
        linear_sums(weights, values.sum(axis=1), starts) / num_positive
        for values in (positives - shift, np.square(positives - shift), negatives.above_positive)
    )
    negative_mean, negative_square, negative_above = (
        pair_sums(weights, values, starts) / num_negative
        for values in (pairs.shifted, pairs.shifted_squares, pairs.above)
    )
    gaps = (pairs.shift + negative_mean) - (shift + mean)
    dprimes = dprime(gaps, square - mean**2, negative_square - negative_mean**2)
    aurocs = np.clip(above + negative_above - negatives.above, 0.0, 1.0)
    if point.degenerate and point.auroc == 0.5:
        aurocs = np.full(bootstrap, 0.5)
    return {
        "dprime_interval": percentile_interval(dprimes),
        "pair_auroc_interval": percentile_interval(aurocs),
        "dprime_replicates": dprimes,
        "pair_auroc_replicates": aurocs,
    }
