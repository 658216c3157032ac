"""Intrinsic dimension: the number of dimensions of the surface on which embeddings lie."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augscale.scoring.distances import nearest_negatives

Floats = npt.NDArray[np.float64]

DISCARDED = 0.1
"""Share of the largest ratios that is left out, as in the paper of TwoNN."""
MIN_ROWS = 5


def log_ratios(embeddings: npt.ArrayLike) -> Floats:
    """log(r2 / r1) of each row, where r1 and r2 are its distances to the first and second neighbor.

    Args:
        embeddings: finite, shape (N, D), N at least 3.
    Returns:
        float64, shape (N,), at least 0. nan for a row that equals another one, for which the ratio is undefined.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    first, second = nearest_negatives(rows, np.arange(len(rows)), 2).distances.T
    known = first > 0
    ratios = np.full(len(rows), np.nan)
    ratios[known] = np.log(second[known] / first[known])
    return ratios


def dimension_of(ratios: Floats, weights: Floats | None = None) -> float | None:
    """Slope of -log(1 - F) on log(r2 / r1) through the origin, F the empirical distribution, without the largest 10 %.

    Args:
        ratios: from `log_ratios`; nan are left out.
        weights: number of times that each ratio counts, same shape; None: once.
    Returns:
        At least 0, or None with fewer than 3 ratios above 0.
    """
    times = np.ones(len(ratios)) if weights is None else weights
    used = np.isfinite(ratios) & (times > 0)
    values, times = ratios[used], times[used]
    order = np.argsort(values, kind="stable")
    values, times = values[order], times[order]
    share = np.cumsum(times) / times.sum()
    # Rounding: sums of binary fractions do not reach 1 - DISCARDED exactly.
    kept = share <= 1 - DISCARDED + 1e-12
    x, y, times = values[kept], -np.log1p(-share[kept]), times[kept]
    if np.count_nonzero(x > 0) < 3:
        return None
    return float((times * x) @ y / ((times * x) @ x))


def intrinsic_dimension(embeddings: npt.ArrayLike) -> float | None:
    """TwoNN (Facco et al., Scientific Reports 2017, 7:12140), with its fit and its 10 % discard.

    Uses each row's two nearest neighbors only, so it measures the dimension at the smallest scale. It is too low in
    high dimensions with few rows (a ball of 20 dimensions needs some thousand).

    Args:
        embeddings: finite, shape (N, D).
    Returns:
        At least 0; no direction is better. Does not change with scale or rotation. None with fewer than 5 rows, or
        if (nearly) all rows have a duplicate.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    return dimension_of(log_ratios(rows)) if len(rows) >= MIN_ROWS else None
