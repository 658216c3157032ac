"""Spearman's rho and Kendall's tau-b of many resamples of one table at once.

A resample is how often each row is drawn, so nothing is copied: ranks are running sums of those weights. Rho is the
Pearson correlation of average ranks; tau-b divides by the pairs untied in each column (Kendall, Biometrika 1945).

Axes: B resamples, n rows, R versions of the second column.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_PAIR_CELLS = 20_000_000
"""Kendall compares all pairs of rows; so many comparisons are in memory at a time."""


def spearman(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Rho of every replicate: the weighted Pearson correlation of weighted average ranks.

    Args:
        weights: how often each row is drawn, (B, n).
        x: (n,).
        y: (R, n), replicate b takes row b % R.
    Returns:
        (B,), NaN where a column is constant.
    """
    centre = (weights.sum(axis=1, keepdims=True) + 1) / 2
    rank_x = average_ranks(x[None], weights) - centre
    rank_y = average_ranks(y, weights) - centre
    square_x = np.einsum("bi,bi,bi->b", weights, rank_x, rank_x)
    square_y = np.einsum("bi,bi,bi->b", weights, rank_y, rank_y)
    return _ratio(np.einsum("bi,bi,bi->b", weights, rank_x, rank_y), square_x, square_y)


def average_ranks(values: Floats, weights: Floats) -> Floats:
    """Average rank of each row when row i occurs weights[b, i] times, (B, n); 1 is the lowest."""
    take = np.arange(len(weights)) % len(values)
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    n = values.shape[1]
    starts = np.ones(values.shape, dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(starts, np.arange(n), 0), axis=1)
    ends = np.ones(values.shape, dtype=bool)
    ends[:, :-1] = starts[:, 1:]
    last = np.minimum.accumulate(np.where(ends, np.arange(n), n)[:, ::-1], axis=1)[:, ::-1]
    # counts[b, i] is how much weight lies before place i, so a run of ties [f, l] has ranks counts[f]+1 .. counts[l+1].
    counts = np.zeros((len(weights), n + 1))
    np.cumsum(np.take_along_axis(weights, order[take], axis=1), axis=1, out=counts[:, 1:])
    ranks = np.take_along_axis(counts, first[take], axis=1) + np.take_along_axis(counts, last[take] + 1, axis=1)
    found = np.empty_like(weights)
    np.put_along_axis(found, order[take], (ranks + 1) / 2, axis=1)
    return found


def kendall(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Tau-b of every replicate; the arguments of `spearman`. A row drawn twice is tied with itself in both columns."""
    n = len(x)
    sign_x = np.sign(x[:, None] - x)
    found = np.empty(len(weights))
    block = max(1, _PAIR_CELLS // (n * n))
    if len(y) == 1:
        # (B, n) @ (n, n) instead of a sign matrix per replicate.
        sign_y = np.sign(y[0][:, None] - y[0])
        sums = [np.einsum("bi,bi->b", weights @ signs, weights) for signs in (sign_x * sign_y, sign_x**2, sign_y**2)]
        return _ratio(*sums)
    for begin in range(0, len(weights), block):
        w = weights[begin : begin + block]
        rows = y[np.arange(begin, begin + len(w)) % len(y)]
        sign_y = np.sign(rows[:, :, None] - rows[:, None, :])
        agree = np.einsum("bi,bij,bj->b", w, sign_x * sign_y, w, optimize=True)
        untied_x = np.einsum("bi,bi->b", w @ sign_x**2, w)
        untied_y = np.einsum("bi,bij,bj->b", w, sign_y**2, w, optimize=True)
        found[begin : begin + len(w)] = _ratio(agree, untied_x, untied_y)
    return found


def _ratio(covariance: Floats, square_x: Floats, square_y: Floats) -> Floats:
    scale = np.sqrt(square_x * square_y)
    return np.clip(np.divide(covariance, scale, out=np.full_like(scale, np.nan), where=scale > 1e-9), -1.0, 1.0)
