"""Statistics of all negative pairs of up to 100,000 embeddings: one pass in float32 blocks, in bounded memory.

`negatives.py` keeps float64 and exact ranks for the panel that a search scores; this pass is for panels that are too
large for that. Rows are normalised, moved around the origin and scaled in float64, and only then rounded: the error of
a squared distance is then some 1e-7 of the *spread* of the rows, also where a collapsing encoder leaves little of it.
Pairs that are closer than that allows are measured again, directly. Every tile of the upper triangle is reduced to
sums and counts while it is in the cache; a tile belongs to one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.diagnosis.bins import COARSE_BINS, FINE_BINS, Bins
from augscale.diagnosis.distances import NearestNegatives, nearest_negatives, unit_rows, upper_blocks
from augscale.errors import DataError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

TILE_ROWS = 512
"""A tile and its temporaries take 4 MB: measured faster than 256 and 1024 (docs/experiments.md)."""
RAW_BINS = 2 * FINE_BINS
"""Over twice the radius of the rows, which no distance exceeds."""
_CHUNK_ROWS = 4096
_CLOSE = 2e-3
"""Below this share of |a|^2 + |b|^2 a squared distance is measured directly; above, its relative error is < 1e-4."""
_EQUAL = 1e-12
"""Rows that spread less around their mean are equal but for float64's rounding."""
_GATHERED = 4096
"""Close pairs measured at a time."""


@dataclass(frozen=True, kw_only=True)
class DistanceSums:
    """One kind of distance over all negative pairs."""

    mean: float
    sd: float
    """Population standard deviation (divided by the count), accumulated in float64."""
    bins: Bins
    histogram: Integers
    """int64, shape (bins.count,)."""
    row_sums: Floats
    """float64, shape (N,): sum of (distance - mean) over the negatives of each row; adds up to 0."""
    row_squares: Floats
    """float64, shape (N,): sum of (distance - mean)^2 over the negatives of each row."""


@dataclass(frozen=True, kw_only=True)
class StreamedPairs:
    """What one pass over all negative pairs of N rows found. Rows are in the order given."""

    count: int
    row_counts: Integers
    """int64, shape (N,): how many negatives each row has; adds up to twice the count."""
    smallest: float
    largest: float
    """Of the L2-normalised distances."""
    unit: DistanceSums
    """Between L2-normalised rows, in [0, 2]."""
    raw: DistanceSums | None
    coarse: Bins | None
    row_histograms: npt.NDArray[np.int32] | None
    """int32, shape (N, coarse.count): of the L2-normalised distances of each row, for the bootstrap."""
    nearest: NearestNegatives | None
    """Between L2-normalised rows, by faiss."""


def stream_pairs(
    embeddings: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    raw: bool = True,
    row_histograms: bool = False,
    nearest: int = 0,
    tile_rows: int = TILE_ROWS,
    threads: int | None = None,
) -> StreamedPairs:
    """Streams over the distances between all rows of different groups.

    Distances agree with float64 to 1e-4 relatively, raw ones to that or 1e-7 of the longest row, whichever is more, as
    float32 rows have no finer lengths. Memory: a few float32 copies of the rows, 4 MB per thread and, with
    `row_histograms`, 1 KB per row; it does not grow with the number of pairs.

    Args:
        embeddings: finite floats, shape (N, D).
        groups: integers, shape (N,): rows of one group (views of one image, images of one patient) are no negatives of
            each other. None: every row is its own group.
        raw: also the distances of the rows as they are, not normalised.
        row_histograms: also one coarse histogram per row.
        nearest: how many nearest negatives of each row to list, with faiss; 0 for none.
        tile_rows: decides speed and memory, not the result beyond rounding.
        threads: None: as many as torch uses. torch is held to one thread while this runs.
    Raises:
        DataError: not a matrix, values that are not finite, or fewer than two groups.
    """
    points = np.asarray(embeddings)
    own = _checked(points, groups)
    order = np.argsort(own, kind="stable")
    stream = _Stream(points, own, order, raw=raw, row_histograms=row_histograms)
    workers = threads or torch.get_num_threads()
    tiles = iter(list(upper_blocks(len(points), tile_rows)))
    lock = threading.Lock()

    def work() -> _Work:
        own_work = stream.work(tile_rows)
        while True:
            with lock:
                tile = next(tiles, None)
            if tile is None:
                return own_work
            stream.add(*tile, own_work)

    with _single_threaded_torch(), ThreadPoolExecutor(workers) as pool:
        parts = [future.result() for future in [pool.submit(work) for _ in range(workers)]]
    listed = None
    if nearest:
        listed = nearest_negatives(unit_rows(points)[0], own, nearest)
    return stream.result(parts, listed)


def _checked(points: npt.NDArray[Any], groups: npt.ArrayLike | None) -> Integers:
    if points.ndim != 2 or 0 in points.shape:
        raise DataError(f"embeddings: shape {points.shape}; expected (rows, features), at least 1 each")
    bad = sum(
        int((~np.isfinite(points[begin : begin + _CHUNK_ROWS])).any(axis=1).sum())
        for begin in range(0, len(points), _CHUNK_ROWS)
    )
    if bad:
        raise DataError(f"embeddings: {bad} of {len(points)} are not finite; expected finite numbers")
    own = np.arange(len(points)) if groups is None else np.asarray(groups)
    if own.shape != (len(points),):
        raise DataError(f"groups: shape {own.shape}; expected one group per row, ({len(points)},)")
    numbers = np.unique(own, return_inverse=True)[1].astype(np.int64)
    if numbers.max() < 1:
        raise DataError(f"groups: all {len(points)} rows belong to one; expected at least 2 to have negative pairs")
    return numbers


@contextmanager
def _single_threaded_torch() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Rows:
    """Rows in the order of their groups, prepared for float32 products.

    Attributes:
        points: float32 (N, D), unit rows around the origin, the longest of length 1.
        squares: float32 (N,), their squared lengths.
        spread: float, what to multiply distances of `points` by to have those of the unit rows.
        norms: float32 (N,), lengths before normalisation, the longest 1.
        longest: float, what to multiply `norms` by.
        raw_radius: float, the longest distance of a raw row from their mean.
    """

    def __init__(self, given: npt.NDArray[Any], order: Integers) -> None:
        num_rows, dim = given.shape
        chunks = [slice(begin, begin + _CHUNK_ROWS) for begin in range(0, num_rows, _CHUNK_ROWS)]
        norms, unit_mean, raw_mean = np.empty(num_rows), np.zeros(dim), np.zeros(dim)
        largest = max(float(np.abs(given[part]).max()) for part in chunks) or 1.0
        for part in chunks:
            raw = given[order[part]].astype(np.float64) / largest
            unit, norms[part] = unit_rows(raw)
            unit_mean += unit.sum(axis=0) / num_rows
            raw_mean += raw.sum(axis=0) / num_rows
        points = np.empty((num_rows, dim), dtype=np.float32)
        spread = raw_radius = 0.0
        # Twice: lengths decide the scale before anything is rounded.
        for scale in (None, 1.0):
            for part in chunks:
                raw = given[order[part]].astype(np.float64) / largest
                moved = unit_rows(raw)[0] - unit_mean
                if scale is None:
                    spread = max(spread, float(np.linalg.norm(moved, axis=1).max()))
                    raw_radius = max(raw_radius, float(np.linalg.norm(raw - raw_mean, axis=1).max()))
                else:
                    points[part] = moved / spread if spread > _EQUAL else 0.0
        self.spread = spread if spread > _EQUAL else 0.0
        self.points = torch.from_numpy(points)
        squares = np.concatenate([np.square(points[part].astype(np.float64)).sum(axis=1) for part in chunks])
        self.squares = torch.from_numpy(squares.astype(np.float32))
        self.longest = (float(norms.max()) or 1.0) * largest
        self.norms = torch.from_numpy((norms / (norms.max() or 1.0)).astype(np.float32))
        self.raw_radius = raw_radius * largest

    def squared(self, a: slice, b: slice, into: Tensor) -> tuple[Tensor, float, float]:
        """Squared distances of `points`, float32, shape (A, B), at least 0; the smallest and the largest of them."""
        torch.addmm(self.squares[None, b], self.points[a], self.points[b].T, alpha=-2, out=into)
        into += self.squares[a, None]
        smallest, largest = (float(value) for value in torch.aminmax(into))
        if smallest < _CLOSE * float(self.squares[a].max() + self.squares[b].max()):
            self._measure_close(into, a, b)
            smallest, largest = (float(value) for value in torch.aminmax(into))
        return into, smallest, largest

    def _measure_close(self, product: Tensor, a: slice, b: slice) -> None:
        scale = self.squares[a, None] + self.squares[None, b]
        rows, columns = torch.nonzero(product < _CLOSE * scale, as_tuple=True)
        for begin in range(0, len(rows), _GATHERED):
            i, j = rows[begin : begin + _GATHERED], columns[begin : begin + _GATHERED]
            difference = self.points[a][i] - self.points[b][j]
            product[i, j] = torch.square(difference).sum(dim=1)
        product.clamp_(min=0)


class _KindSums:
    """What grows tile by tile for one kind of distance."""

    def __init__(self, num_rows: int, bins: Bins) -> None:
        self.bins = bins
        self.counts = torch.zeros(bins.count + 2, dtype=torch.int64)
        self.row_sums = torch.zeros(num_rows, dtype=torch.float64)
        self.row_squares = torch.zeros(num_rows, dtype=torch.float64)

    def add(self, distances: Tensor, a: slice, b: slice, shift: float, outside: Tensor | None, work: _Work) -> None:
        """Counts and sums a tile; overwrites it."""
        self.counts += torch.bincount(work.index(distances, self.bins, outside).view(-1), minlength=len(self.counts))
        distances.sub_(shift)
        if outside is not None:
            distances.masked_fill_(outside, 0.0)
        self._sum(self.row_sums, distances, a, b)
        self._sum(self.row_squares, distances.square_(), a, b)

    @staticmethod
    def _sum(sums: Tensor, values: Tensor, a: slice, b: slice) -> None:
        sums[a] += values.sum(dim=1)
        sums[b] += values.sum(dim=0)


class _Work:
    """What one thread has found, and its memory for one tile."""

    def __init__(self, num_rows: int, tile_rows: int, fine: Bins, raw: Bins | None) -> None:
        self.unit = _KindSums(num_rows, fine)
        self.raw = _KindSums(num_rows, raw) if raw is not None else None
        self.smallest, self.largest = float("inf"), 0.0
        self._floats = torch.empty(3, tile_rows**2)
        self._index = torch.empty(tile_rows**2, dtype=torch.int32)

    def floats(self, which: int, rows: int, columns: int) -> Tensor:
        return self._floats[which, : rows * columns].view(rows, columns)

    def index(self, distances: Tensor, bins: Bins, outside: Tensor | None) -> Tensor:
        """int32, the bin of each distance; `bins.count` for one beyond the last, and one more for no negative."""
        scaled = torch.mul(distances, 1 / bins.width, out=self.floats(2, *distances.shape))
        index = self._index[: distances.numel()].view(distances.shape).copy_(scaled)
        return index if outside is None else index.masked_fill_(outside, bins.count + 1)


class _Stream:
    """The pass; `add` may run in several threads at once."""

    def __init__(
        self, points: npt.NDArray[Any], groups: Integers, order: Integers, *, raw: bool, row_histograms: bool
    ) -> None:
        self.rows = _Rows(points, order)
        self.order, self.groups = order, groups[order]
        self.group_numbers = torch.from_numpy(self.groups)
        self.fine = Bins.covering(2 * self.rows.spread, FINE_BINS)
        self.raw_bins = Bins.over(2 * self.rows.raw_radius / self.rows.longest, RAW_BINS) if raw else None
        self.coarse = Bins.covering(2 * self.rows.spread, COARSE_BINS) if row_histograms else None
        self.histograms = (
            torch.zeros(len(points), self.coarse.count + 2, dtype=torch.int32) if self.coarse is not None else None
        )
        self.lock = threading.Lock()
        self.shift, self.raw_shift = self._typical()

    def work(self, tile_rows: int) -> _Work:
        return _Work(len(self.groups), min(tile_rows, len(self.groups)), self.fine, self.raw_bins)

    def _typical(self) -> tuple[float, float]:
        """A distance about which to sum, so that squares lose no digits; any number would be right."""
        pick = torch.linspace(0, len(self.groups) - 1, 64).long()
        points = self.rows.points[pick]
        squared = torch.square(points[:, None] - points[None]).sum(dim=2) * self.rows.spread**2
        mean = float(squared.sqrt().mean()) * 64 / 63
        return mean, float(self._raw(squared, self.rows.norms[pick, None], self.rows.norms[pick]).mean()) * 64 / 63

    def _raw(self, squared: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Distances before normalisation, as shares of the longest row; overwrites `squared`.

        |x - y|^2 = (|x| - |y|)^2 + |x| |y| (squared distance of directions).
        """
        squared.mul_(left).mul_(right)
        return squared.add_((left - right).square_()).sqrt_()

    def add(self, a: slice, b: slice, work: _Work) -> None:
        if self.groups[a.start] == self.groups[b.stop - 1]:
            return
        outside = None
        # Sorted: only tiles at the diagonal, or cut through one group, hold pairs that are no negatives.
        if self.groups[a.stop - 1] >= self.groups[b.start]:
            outside = self.group_numbers[a, None] >= self.group_numbers[None, b]
        shape = (a.stop - a.start, b.stop - b.start)
        squared, smallest, largest = self.rows.squared(a, b, work.floats(0, *shape))
        squared.mul_(self.rows.spread**2)
        distances = torch.sqrt(squared, out=work.floats(1, *shape))
        if outside is not None:
            smallest, largest = (float(value) for value in torch.aminmax(distances[~outside]))
        else:
            smallest, largest = (self.rows.spread * float(np.sqrt(value)) for value in (smallest, largest))
        work.smallest, work.largest = min(work.smallest, smallest), max(work.largest, largest)
        if self.histograms is not None and self.coarse is not None:
            self._count_rows(work.index(distances, self.coarse, outside), a, b, self.coarse.count + 2)
        work.unit.add(distances, a, b, self.shift, outside, work)
        if work.raw is not None:
            raw = self._raw(squared, self.rows.norms[a, None], self.rows.norms[None, b])
            work.raw.add(raw, a, b, self.raw_shift, outside, work)

    def _count_rows(self, index: Tensor, a: slice, b: slice, cells: int) -> None:
        assert self.histograms is not None
        for part, dimension in ((a, 0), (b, 1)):
            own = torch.arange(part.stop - part.start, dtype=torch.int32) * cells
            keys = index + own.unsqueeze(1 - dimension)
            counts = torch.bincount(keys.view(-1), minlength=len(own) * cells).view(-1, cells)
            with self.lock:
                self.histograms[part] += counts

    def result(self, parts: list[_Work], nearest: NearestNegatives | None) -> StreamedPairs:
        sizes = np.bincount(self.groups)
        row_counts = len(self.groups) - sizes[self.groups]
        back = np.empty_like(self.order)
        back[self.order] = np.arange(len(self.order))
        histograms = self.histograms
        raw = None
        if self.raw_bins is not None:
            raw = self._summary([part.raw for part in parts if part.raw], self.raw_shift, row_counts, self.rows.longest)
        return StreamedPairs(
            count=int(row_counts.sum()) // 2,
            row_counts=row_counts[back].astype(np.int64),
            smallest=min(part.smallest for part in parts),
            largest=max(part.largest for part in parts),
            unit=self._summary([part.unit for part in parts], self.shift, row_counts),
            raw=raw,
            coarse=self.coarse,
            row_histograms=None
            if histograms is None or self.coarse is None
            else _within(histograms[torch.from_numpy(back)].numpy(), self.coarse),
            nearest=nearest,
        )

    def _summary(self, parts: list[_KindSums], shift: float, row_counts: Integers, scale: float = 1.0) -> DistanceSums:
        count = row_counts.sum() / 2
        sums = np.sum([part.row_sums.numpy() for part in parts], axis=0)
        squares = np.sum([part.row_squares.numpy() for part in parts], axis=0)
        # Every pair is in the sums of two rows.
        offset = sums.sum() / 2 / count
        variance = squares.sum() / 2 / count - offset**2
        squares = squares - 2 * offset * sums + offset**2 * row_counts
        sums = sums - offset * row_counts
        back = np.argsort(self.order, kind="stable")
        bins = parts[0].bins
        counts = np.sum([part.counts.numpy() for part in parts], axis=0)
        return DistanceSums(
            mean=float(shift + offset) * scale,
            sd=float(np.sqrt(max(0.0, variance))) * scale,
            bins=Bins(width=bins.width * scale, count=bins.count),
            histogram=_within(counts, bins),
            row_sums=sums[back] * scale,
            row_squares=squares[back] * scale**2,
        )


def _within(counts: npt.NDArray[Any], bins: Bins) -> npt.NDArray[Any]:
    """Counts (..., bins.count + 2) with what rounding moved beyond the last bin put back, and no negatives left out."""
    within = counts[..., : bins.count]
    within[..., -1] += counts[..., bins.count]
    return within
