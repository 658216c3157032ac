"""Metrics that compare the distances of positive pairs with those of negative pairs.

Each function takes plain arrays of distances; `Counts` computes the same metrics from histograms, for many resamples at
once. d' is `separation.dprime`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError
from augscale.scoring.bins import Bins

Floats = npt.NDArray[np.float64]


def gap(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Mean negative minus mean positive distance: Dis(P-) - Dis(P+), the objective of Cheng et al., MIDL 2025.

    Args:
        positive, negative: finite distances, any shape, at least one each.
    Returns:
        Unbounded, in [-2, 2] for L2-normalized embeddings. Higher is better; 0: pairs do not differ.
    """
    near, far = _samples(positive, negative)
    return float(far.mean() - near.mean())


def ratio(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float | None:
    """Mean negative over mean positive distance.

    Args: see `gap`.
    Returns:
        At least 0; higher is better, 1: pairs do not differ. Does not change when all distances are multiplied.
        None if all positive distances are 0.
    """
    near, far = _samples(positive, negative)
    return float(far.mean() / near.mean()) if near.mean() > 0 else None


def pair_auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Chance that a random negative pair is farther apart than a random positive one, ties half.

    Mann & Whitney 1947; equals `sklearn.metrics.roc_auc_score` with the distance as the score of being negative.

    Args: see `gap`.
    Returns:
        In [0, 1]; best 1, chance 0.5 (also if all distances are equal), worst 0.
    """
    near, far = _samples(positive, negative)
    near = np.sort(near)
    below = np.searchsorted(near, far, side="left") + np.searchsorted(near, far, side="right")
    return float(below.mean() / 2 / len(near))


def overlap(
    positive: npt.ArrayLike, negative: npt.ArrayLike, bins: int = 64, limits: tuple[float, float] = (0.0, 2.0)
) -> float:
    """Common area of the two normalized histograms (overlap coefficient, Weitzman 1970).

    Args:
        positive, negative: see `gap`.
        bins: equal bins over `limits`; values outside are counted in the first or last bin. Fewer bins give more
            overlap.
    Returns:
        In [0, 1]; best 0: disjoint; worst 1: the same histogram.
    """
    near, far = (np.clip(sample, *limits) for sample in _samples(positive, negative))
    shares = [np.histogram(sample, bins, limits)[0] / len(sample) for sample in (near, far)]
    return float(np.minimum(*shares).sum())


def ks(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Largest difference of the two cumulative distributions (Kolmogorov-Smirnov; `scipy.stats.ks_2samp`).

    Args: see `gap`.
    Returns:
        In [0, 1]; best 1: some distance separates all pairs; worst 0: equal distributions. It has no sign: it is also 1
        if all positives are farther.
    """
    near, far = _samples(positive, negative)
    near, far = np.sort(near), np.sort(far)
    # The difference is extreme at a value of either sample; both sides of a step are covered by `right` alone,
    # because left of a step is right of the value before it.
    differences = [
        np.searchsorted(near, values, side="right") / len(near) - np.searchsorted(far, values, side="right") / len(far)
        for values in (near, far)
    ]
    return float(max(np.abs(part).max() for part in differences))


def wasserstein(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Area between the two cumulative distributions (`scipy.stats.wasserstein_distance`).

    Args: see `gap`.
    Returns:
        At least 0, at most 2 for L2-normalized embeddings; higher is better; 0: equal distributions. It has no sign and
        equals |gap| unless the distributions cross.
    """
    from scipy import stats  # half a second to import, and no search asks for this metric

    return float(stats.wasserstein_distance(*_samples(positive, negative)))


def _samples(positive: npt.ArrayLike, negative: npt.ArrayLike) -> tuple[Floats, Floats]:
    samples = []
    for name, values in (("positive", positive), ("negative", negative)):
        sample = np.asarray(values, dtype=np.float64).ravel()
        if not len(sample):
            raise DataError(f"{name}: no distances; expected at least one")
        bad = int((~np.isfinite(sample)).sum())
        if bad:
            raise DataError(f"{name}: {bad} of {len(sample)} distances are not finite; expected finite numbers")
        samples.append(sample)
    return samples[0], samples[1]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Two samples of distances counted in the same bins; one row per resample.

    Binning changes the metrics: AUROC by at most half the chance that both kinds fall into one bin, KS by at most the
    larger share in one bin, Wasserstein by at most the width of a bin.
    """

    positive: npt.NDArray[Any]
    """Counts, at least 0, shape (..., bins)."""
    negative: npt.NDArray[Any]
    bins: Bins

    @property
    def _shares(self) -> tuple[Floats, Floats]:
        near, far = (counts / counts.sum(axis=-1, keepdims=True) for counts in (self.positive, self.negative))
        return near, far

    def pair_auroc(self) -> Floats:
        # Counts are whole numbers: a perfect separation is exactly 1.
        below = np.cumsum(self.positive, axis=-1) - self.positive / 2
        combinations = self.positive.sum(axis=-1) * self.negative.sum(axis=-1, dtype=np.float64)
        return np.asarray((self.negative * below).sum(axis=-1) / combinations)

    def overlap(self) -> Floats:
        near, far = (self.bins.shown(shares) for shares in self._shares)
        return np.asarray(np.minimum(near, far).sum(axis=-1))

    def ks(self) -> Floats:
        return np.asarray(np.abs(self._difference()).max(axis=-1))

    def wasserstein(self) -> Floats:
        return np.asarray(np.abs(self._difference()).sum(axis=-1) * self.bins.width)

    def uniformity(self, t: float = 2.0) -> Floats:
        """log of the mean of exp(-t distance^2) over the negative pairs, distances at the centers of their bins."""
        _, far = self._shares
        return np.asarray(np.log(far @ np.exp(-t * np.square(self.bins.centers))))

    def _difference(self) -> Floats:
        near, far = (np.cumsum(counts, axis=-1) for counts in (self.positive, self.negative))
        return np.asarray(near / near[..., -1:] - far / far[..., -1:])
