"""Histogram bins of distances: equal bins from 0 up, which subdivide the 64 bins over [0, 2] shown in reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SHOWN_BINS = 64
SHOWN_RANGE = 2.0
"""Largest distance between L2-normalized embeddings, which opposite ones have."""
FINE_BINS = 8192
COARSE_BINS = 256
"""Number of bins of the histograms that are resampled."""
_MOST_HALVINGS = 40


@dataclass(frozen=True, kw_only=True)
class Bins:
    """`count` bins of equal width; bin i is [i width, (i + 1) width), and the last also counts all larger values."""

    width: float
    count: int

    @classmethod
    def covering(cls, largest: float, count: int) -> Bins:
        """Bins over [0, largest] for distances in [0, 2].

        The width of the 64 shown bins is a whole multiple of this width, which is halved as long as `count` bins still
        reach `largest`. So the nearly equal distances of a collapsing encoder fall into different bins.
        """
        reach = min(max(largest, SHOWN_RANGE * 2.0**-_MOST_HALVINGS), SHOWN_RANGE)
        halvings = int(np.floor(np.log2(SHOWN_RANGE / reach)))
        width = SHOWN_RANGE / count / 2**halvings
        return cls(width=width, count=min(count, int(np.ceil(reach / width)) + 1))

    @classmethod
    def over(cls, largest: float, count: int) -> Bins:
        """`count` bins over [0, largest] for distances of any size; their width is 1 if `largest` is 0."""
        return cls(width=largest / count if largest > 0 else 1.0, count=count)

    @property
    def edges(self) -> Floats:
        """float64, shape (count + 1,)."""
        return np.asarray(np.arange(self.count + 1) * self.width, dtype=np.float64)

    @property
    def centers(self) -> Floats:
        return np.asarray((np.arange(self.count) + 0.5) * self.width, dtype=np.float64)

    def index(self, distances: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """int32, the bin of each distance, same shape."""
        return np.minimum(np.asarray(distances) * (1 / self.width), self.count - 1).astype(np.int32)

    def histogram(self, distances: npt.ArrayLike) -> Integers:
        """int64, shape (count,)."""
        return np.bincount(self.index(distances).ravel(), minlength=self.count).astype(np.int64)

    def shown(self, histogram: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Counts per bin, shape (..., count), added up to the 64 shown bins over [0, 2]."""
        per_bin = round(SHOWN_RANGE / SHOWN_BINS / self.width)
        starts = np.arange(0, self.count, per_bin)
        coarse = np.add.reduceat(histogram, starts, axis=-1)
        padding = [(0, 0)] * (histogram.ndim - 1) + [(0, SHOWN_BINS - len(starts))]
        return np.pad(coarse, padding)

    def trimmed(self, *histograms: Integers, bins: int = SHOWN_BINS) -> tuple[Floats, list[Integers]]:
        """`bins` equal bins from 0 to the first edge beyond all counted distances.

        Returns:
            float64 edges, shape (bins + 1,), and int64 counts, shape (bins,), of each histogram.
        """
        occupied = np.flatnonzero(np.sum(histograms, axis=0))
        last = int(occupied[-1]) + 1 if len(occupied) else 1
        per_bin = -(-last // bins)
        padded = [np.pad(counts, (0, max(0, per_bin * bins - len(counts))))[: per_bin * bins] for counts in histograms]
        edges = np.arange(bins + 1) * (per_bin * self.width)
        return np.asarray(edges, dtype=np.float64), [counts.reshape(bins, per_bin).sum(axis=1) for counts in padded]


SHOWN = Bins(width=SHOWN_RANGE / SHOWN_BINS, count=SHOWN_BINS)
"""The bins of the histograms in reports."""
