"""Embeddings prepared for float32 tiles of distances: normalized, centered, and in units of histogram bins.

Rows are centered and scaled in float64 before they are rounded, so the error of a squared distance is about 1e-7 of the
*spread* of the rows, even for a collapsing encoder, whose spread is small. Pairs too close for that error are measured
again, directly. Distances are in units of bins, so the integer part of a distance is its bin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.scoring.bins import FINE_BINS, Bins
from augscale.scoring.embedding_checks import CHUNK_ROWS

Integers = npt.NDArray[np.int64]

RAW_BINS = 2 * FINE_BINS
"""Number of bins over twice the radius of the rows, which no distance exceeds."""
_CLOSE = 2e-3
"""Squared distances below this share of |a|^2 + |b|^2 are measured directly; others have a relative error < 1e-4."""
_EQUAL = 1e-12
"""Rows with a smaller spread around their mean (raw: relative to their length) are equal up to float64 rounding."""
_GATHERED = 4096
"""Number of close pairs measured at a time."""


class PreparedRows:
    """Rows in a given order.

    Args:
        given: finite floats, shape (N, D).
        order: int64, shape (N,): index of the given row at each position.
    Attributes:
        unit_bins: bins of L2-normalized distances; they reach beyond the largest.
        raw_bins: bins of raw distances; they reach beyond the largest.
    """

    def __init__(self, given: npt.NDArray[Any], order: Integers) -> None:
        num_rows, dim = given.shape
        chunks = [slice(begin, begin + CHUNK_ROWS) for begin in range(0, num_rows, CHUNK_ROWS)]
        # Scaled first, so that squares of very large or very small features neither overflow nor underflow.
        largest = max(float(np.abs(given[part]).max()) for part in chunks) or 1.0
        norms, unit_mean, raw_mean = np.empty(num_rows), np.zeros(dim), np.zeros(dim)
        for part in chunks:
            raw = np.divide(given[order[part]], largest, dtype=np.float64)
            norms[part] = np.sqrt(np.einsum("nd,nd->n", raw, raw))
            raw_mean += raw.sum(axis=0) / num_rows
            unit_mean += _inverse(norms[part]) @ raw / num_rows
        points, lengths, raw_radius = np.empty((num_rows, dim), dtype=np.float32), np.empty(num_rows), 0.0
        for part in chunks:
            raw = np.divide(given[order[part]], largest, dtype=np.float64)
            unit = raw * _inverse(norms[part])[:, None]
            unit -= unit_mean
            lengths[part] = np.sqrt(np.einsum("nd,nd->n", unit, unit))
            points[part] = unit
            raw -= raw_mean
            raw_radius = max(raw_radius, float(np.einsum("nd,nd->n", raw, raw).max()) ** 0.5)
        spread = float(lengths.max())
        if spread < _EQUAL:
            spread, points[:] = 0.0, 0.0
        self.unit_bins = Bins.covering(2 * spread, FINE_BINS)
        points *= 1 / self.unit_bins.width
        self._points = torch.from_numpy(points)
        squares = np.concatenate([np.square(points[part], dtype=np.float64).sum(axis=1) for part in chunks])
        self._squares = torch.from_numpy(squares.astype(np.float32))
        self._prepare_raw(norms, raw_radius, largest)

    def _prepare_raw(self, norms: npt.NDArray[np.float64], radius: float, largest: float) -> None:
        longest = float(norms.max()) or 1.0
        bins = Bins.over(2 * max(radius, _EQUAL * longest), RAW_BINS)
        self.raw_bins = Bins(width=bins.width * largest, count=RAW_BINS)
        lengths = norms / bins.width
        self._lengths = torch.from_numpy(lengths.astype(np.float32))
        self._products = torch.from_numpy((lengths * self.unit_bins.width**2).astype(np.float32))
        # Only differences of lengths are used; subtracting the mean keeps the digits of nearly equal lengths.
        self._moved = torch.from_numpy((lengths - lengths.mean()).astype(np.float32))

    def sample(self, count: int) -> tuple[float, float]:
        """Typical distances in bins, normalized and raw, to subtract before summing, so that no digits are lost."""
        pick = torch.linspace(0, len(self._points) - 1, count).long()
        squared = torch.square(self._points[pick, None] - self._points[None, pick]).sum(dim=2)
        others = count / (count - 1)
        unit = float(squared.sqrt().mean()) * others
        return unit, float(self.raw(squared, pick, pick).mean()) * others

    def squared(self, a: slice, b: slice, into: Tensor) -> tuple[float, float]:
        """Squared normalized distances in bins, float32, shape (A, B), at least 0; arbitrary on the diagonal.

        Returns:
            The smallest and the largest.
        """
        torch.addmm(self._squares[None, b], self._points[a], self._points[b].T, alpha=-2, out=into)
        into += self._squares[a, None]
        if a == b:
            # So that the diagonal is not measured again.
            into.fill_diagonal_(float(self._squares[a].max()))
        smallest, largest = _range(into)
        if smallest < _CLOSE * float(self._squares[a].max() + self._squares[b].max()):
            self._measure_close(into, a, b)
            smallest, largest = _range(into)
        return smallest, largest

    def _measure_close(self, product: Tensor, a: slice, b: slice) -> None:
        scale = self._squares[a, None] + self._squares[None, b]
        rows, columns = torch.nonzero(product < _CLOSE * scale, as_tuple=True)
        for begin in range(0, len(rows), _GATHERED):
            i, j = rows[begin : begin + _GATHERED], columns[begin : begin + _GATHERED]
            difference = self._points[a][i] - self._points[b][j]
            product[i, j] = torch.square(difference).sum(dim=1)
        product.clamp_(min=0)

    def raw(self, squared: Tensor, a: slice | Tensor, b: slice | Tensor) -> Tensor:
        """Raw distances in raw bins from the squared normalized ones, which it overwrites; see `raw_distances`."""
        squared.mul_(self._products[a, None]).mul_(self._lengths[b][None])
        return squared.add_((self._moved[a, None] - self._moved[b][None]).square_()).sqrt_()


def _inverse(norms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 / norms; 1 for a row of zeros, which stays zero."""
    return np.asarray(1 / np.where(norms > 0, norms, 1.0))


def _range(values: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(values)
    return float(low), float(high)
