"""A measured value with its interval, or the reason why there is none; and resampling of per-image values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.scoring.distances import matmul
from augscale.statistics.bootstrap import percentile_interval, resample_weights

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MIN_GROUPS = 3
"""Fewer patients have no interval: resampling two says nothing."""
SPECTRUM_REPLICATES = 50
"""At most, of metrics that need eigenvalues for every resample; they are the first of the others' resamples."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One metric of one checkpoint."""

    value: float | None
    """Finite, or None if it cannot be computed."""
    interval: tuple[float, float] | None = None
    """95 % percentile interval over resampled patients."""
    reason: str | None = None
    """Why there is no value, one line."""
    replicates: Floats = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    """float64, shape (B',), B' at most B: the value in each resample; nan where a resample has none. Replicate b holds
    the same patients for every checkpoint on one panel and seed."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the replicates."""
        return {
            "value": self.value,
            "interval": list(self.interval) if self.interval else None,
            "reason": self.reason,
        }


def missing(reason: str) -> Measured:
    return Measured(value=None, reason=reason)


def measured(value: float, replicates: Floats | None = None) -> Measured:
    """A value and the percentile interval of its replicates, if there are any."""
    if replicates is None or not len(replicates):
        return Measured(value=float(value))
    finite = replicates[np.isfinite(replicates)]
    return Measured(
        value=float(value),
        interval=percentile_interval(finite) if len(finite) else None,
        replicates=np.asarray(replicates, dtype=np.float64),
    )


def moved_to(value: float, found: Sequence[float | None]) -> Measured:
    """A value with replicates moved so that their mean is the value.

    A resample holds only 63 % of the images, some twice: its rank is lower than the whole panel's, always. The spread
    of the replicates is what they can tell.
    """
    replicates = np.array([np.nan if number is None else number for number in found], dtype=np.float64)
    finite = np.isfinite(replicates)
    return measured(value, replicates + (value - replicates[finite].mean()) if finite.any() else None)


def paired_difference(a: Measured, b: Measured) -> tuple[float, float] | None:
    """95 % percentile interval of a - b, resampling both at once; None if either has no replicates.

    Args:
        a, b: one metric of two checkpoints, measured on the same images, patients and seed.
    """
    shared = min(len(a.replicates), len(b.replicates))
    differences = a.replicates[:shared] - b.replicates[:shared]
    finite = differences[np.isfinite(differences)]
    return percentile_interval(finite) if len(finite) else None


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """How often each image counts in each resample of patients."""

    weights: Floats
    """float64 whole numbers, shape (B, n); B is 0 without a bootstrap."""

    @classmethod
    def of(cls, groups: Integers, bootstrap: int, seed: int) -> Resamples:
        """Of images with group numbers 0, ..., G - 1, shape (n,)."""
        num_groups = int(groups.max()) + 1
        if bootstrap < 1 or num_groups < MIN_GROUPS:
            return cls(weights=np.empty((0, len(groups))))
        return cls(weights=resample_weights(num_groups, bootstrap, seed)[:, groups])

    def __len__(self) -> int:
        return len(self.weights)

    def of_rows(self, rows: Integers) -> Resamples:
        """The same resamples of some of the images."""
        return Resamples(weights=self.weights[:, rows])

    def sums(self, values: Floats) -> Floats:
        """Weighted sum over the images of values (n,) or (n, K): shape (B,) or (B, K)."""
        columns = np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float64)
        return matmul(self.weights, columns).reshape(len(self.weights), *values.shape[1:])

    def mean(self, values: Floats) -> Measured:
        """The mean of one value per image; exact.

        Values of images that depend on the other images (neighbours, nearest clusters) are resampled as they are.
        """
        if not len(self):
            return measured(float(values.mean()))
        counts = self.weights.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return measured(float(values.mean()), self.sums(values) / counts)

    @property
    def few(self) -> Floats:
        """The first `SPECTRUM_REPLICATES` of the weights."""
        return self.weights[:SPECTRUM_REPLICATES]

    def recomputed(self, value: float, function: Callable[[Floats], float | None]) -> Measured:
        """A function of the weights (n,), called for the first resamples; see `moved_to`."""
        return moved_to(value, [function(weights) for weights in self.few])
