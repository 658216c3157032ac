"""Bootstrap over the patients of a panel: all measurements on a panel share the same resamples.

The weights of replicate b depend on (seed, b) and the number of patients only, so two models measured on one panel see
the same images in replicate b, and the replicates of their difference show the uncertainty of a *paired* comparison.
Whole patients are drawn (Field & Welsh, J. R. Stat. Soc. B 2007, cluster bootstrap), because photographs of one patient
are not independent. A patient drawn twice is no negative of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from augscale.records.diagnosis import Metric
from augscale.seeding import counter_uniforms, derive_seed
from augscale.system.matmul import matmul

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MIN_GROUPS = 3
"""Fewest patients for an interval: resamples of two patients carry no information."""
SPECTRUM_REPLICATES = 50
"""Number of resamples, always the first ones, for metrics that need new eigenvalues for each of them."""


def resample_weights(num_groups: int, replicates: int, seed: int) -> Floats:
    """Number of times that each group is drawn in each replicate.

    A resample that holds a single group has no negative pairs and is drawn again, which happens in panels of a few
    patients only.

    Args:
        num_groups: G, at least 2.
        replicates: B.
        seed: any integer.
    Returns:
        float64 whole numbers, shape (B, G), rows sum to G. Row b does not depend on B.
    """
    weights = np.zeros((replicates, num_groups))
    todo = np.arange(replicates)
    attempt = 0
    while len(todo):
        uniforms = counter_uniforms(derive_seed(seed, "bootstrap", attempt), todo, num_groups)
        drawn = (uniforms * num_groups).astype(np.int64)
        cells = (np.arange(len(todo))[:, None] * num_groups + drawn).ravel()
        weights[todo] = np.bincount(cells, minlength=len(todo) * num_groups).reshape(-1, num_groups)
        todo = todo[weights[todo].max(axis=1) == num_groups]
        attempt += 1
    return weights


def group_starts(groups: Integers) -> Integers:
    """Index of the first element of each group in rising group numbers, shape (G,)."""
    return np.flatnonzero(np.diff(groups, prepend=groups[0] - 1)).astype(np.int64)


def linear_sums(weights: Floats, per_image: Floats, starts: Integers) -> Floats:
    """Weighted sum of a value per image in each replicate, shape (B,)."""
    return matmul(weights, np.add.reduceat(per_image, starts)[:, None])[:, 0]


def pair_sums(weights: Floats, per_image_pair: Floats, starts: Integers) -> Floats:
    """Sum over pairs of images of weight x weight x value, w' M w, in each replicate, shape (B,)."""
    by_group = np.add.reduceat(np.add.reduceat(per_image_pair, starts, axis=0), starts, axis=1)
    return np.einsum("bg,bg->b", matmul(weights, by_group), weights)


def percentile_interval(replicates: Floats) -> tuple[float, float]:
    """The 95 % percentile interval."""
    low, high = np.percentile(replicates, (2.5, 97.5))
    return float(low), float(high)


class Measured(Metric):
    """A metric with its value in every resample."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    replicates: Floats = Field(default_factory=lambda: np.empty(0), repr=False, exclude=True)
    """float64, shape (B',), B' at most B: the value in each resample; nan where a resample has none. Replicate b holds
    the same patients for every checkpoint on one panel and seed."""

    def __eq__(self, other: object) -> bool:
        """Compares everything except the replicates."""
        return isinstance(other, Measured) and self.model_dump() == other.model_dump()


def missing(reason: str) -> Measured:
    """A metric that cannot be computed; `reason` is one line."""
    return Measured(reason=reason)


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


def measured_around(value: float, found: Sequence[float | None]) -> Measured:
    """A value with replicates shifted so that their mean is the value.

    A resample holds only 63 % of the images, some of them twice, so its effective rank is always below that of the
    whole panel, and only the spread of the replicates is informative.
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
    """Number of times that each image counts in each resample of patients."""

    weights: Floats
    """float64 whole numbers, shape (B, n); B is 0 without a bootstrap."""

    @classmethod
    def of(cls, groups: Integers, bootstrap: int, seed: int) -> Resamples:
        """Resamples of images with group numbers 0, ..., G - 1, shape (n,)."""
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
        """The mean of one value per image.

        A value that depends on other images (nearest neighbor, nearest cluster) is not recomputed in a resample.
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
        """A function of the weights (n,), called for the first resamples; see `measured_around`."""
        return measured_around(value, [function(weights) for weights in self.few])
