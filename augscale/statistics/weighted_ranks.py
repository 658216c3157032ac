"""Spearman's rho and Kendall's tau-b between many pairs of columns, in many resamples at once.

A resample is given by the number of times that each row is drawn; ranks are running sums of these weights. Rho is the
Pearson correlation of average ranks; tau-b divides by the pairs untied in each column (Kendall, Biometrika 1945). Both
are NaN where a column is constant in a resample.

Axes: B resamples, K score columns, D outcome columns, R versions of the outcomes, n rows (trials).
"""

from __future__ import annotations

import numpy as np

from augscale.statistics.arrays import Floats

_SMALLEST_LENGTH = 1e-9
"""A column with a smaller length or scale is constant."""


def spearman(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Rho of every resample: the weighted Pearson correlation of weighted average ranks.

    Args:
        weights: number of times that each row is drawn, (B, n).
        x: (K, n).
        y: (D, R, n); resample b takes version b % R.
    Returns:
        (B, K, D).
    """
    left, right = (np.stack([unit_ranks(column, weights) for column in columns]) for columns in (x[:, None], y))
    rho: Floats = np.matmul(left.transpose(1, 0, 2), right.transpose(1, 2, 0))
    return np.clip(rho, -1.0, 1.0)


def kendall(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Tau-b of every resample, as `spearman`. A row drawn twice is tied with itself in both columns."""
    left, right = np.triu_indices(x.shape[1], 1)
    sign_x = np.sign(x[:, left] - x[:, right])
    squared_x = sign_x**2
    found = np.empty((len(weights), len(x), len(y)))
    for b, w in enumerate(weights):
        pairs = w[left] * w[right]
        version = y[:, b % y.shape[1]]
        sign_y = np.sign(version[:, left] - version[:, right])
        scale = np.sqrt((squared_x @ pairs)[:, None] * (sign_y**2 @ pairs))
        found[b] = ((sign_x * pairs) @ sign_y.T) / np.where(scale > _SMALLEST_LENGTH, scale, np.nan)
    return np.clip(found, -1.0, 1.0)


def unit_ranks(column: Floats, weights: Floats) -> Floats:
    """Centered ranks times the root of the weights, as rows of length 1; NaN where all values are tied.

    Args:
        column: (R, n); resample b takes version b % R.
        weights: (B, n).
    Returns:
        (B, n).
    """
    centered = average_ranks(column, weights) - (weights.sum(axis=1, keepdims=True) + 1) / 2
    rows = centered * np.sqrt(weights)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = rows / np.where(length > _SMALLEST_LENGTH, length, np.nan)
    return unit


def average_ranks(values: Floats, weights: Floats) -> Floats:
    """Average rank of each row when row i occurs weights[b, i] times, (B, n); 1 is the lowest. Args as `unit_ranks`."""
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
    # counts[b, i] is the weight before place i, so a run of ties [f, l] has ranks counts[f] + 1 .. counts[l + 1].
    counts = np.zeros((len(weights), n + 1))
    np.cumsum(np.take_along_axis(weights, order[take], axis=1), axis=1, out=counts[:, 1:])
    ranks = np.take_along_axis(counts, first[take], axis=1) + np.take_along_axis(counts, last[take] + 1, axis=1)
    found = np.empty_like(weights)
    np.put_along_axis(found, order[take], (ranks + 1) / 2, axis=1)
    return found
