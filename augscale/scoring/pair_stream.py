"""Statistics of all negative pairs of up to 100,000 embeddings: one pass in float32 blocks, in bounded memory.

`negatives.py` has float64 and exact ranks, for the panel that a search scores; this pass is for much larger panels.
Every tile of the upper triangle is reduced to sums and counts while it is in the cache, by one thread. `pair_rows`
states the error of float32.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.scoring.bins import COARSE_BINS, FINE_BINS, Bins
from augscale.scoring.distances import upper_blocks
from augscale.scoring.embedding_checks import finite_embeddings, group_numbers
from augscale.scoring.pair_rows import PreparedRows

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

TILE_ROWS = 512
"""Rows of a tile, which takes 3 MB with its temporaries. 384 to 768 rows were equally fast within a few percent."""
_FINE_PER_COARSE = FINE_BINS // COARSE_BINS
_SAMPLED_ROWS = 64


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
    """Statistics of all negative pairs of N rows, which are in the order given."""

    count: int
    row_counts: Integers
    """int64, shape (N,): number of negatives of each row; the sum is twice the count."""
    smallest: float
    largest: float
    """The extremes of the L2-normalized distances."""
    unit: DistanceSums
    """Distances between L2-normalized rows, in [0, 2]."""
    raw: DistanceSums | None
    coarse: Bins | None
    row_histograms: npt.NDArray[np.int32] | None
    """int32, shape (N, coarse.count): histogram of each row's L2-normalized distances, for the bootstrap."""


def stream_pairs(
    embeddings: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    raw: bool = True,
    row_histograms: bool = False,
    tile_rows: int = TILE_ROWS,
    threads: int | None = None,
) -> StreamedPairs:
    """Computes the statistics of the distances between all rows of different groups.

    Distances agree with float64 to a relative error of 1e-4 or to 1e-7 of the spread of the rows, whichever is larger.
    Memory is one float32 copy of the rows, 3 MB per thread and, with `row_histograms`, 1 KB per row; it does not grow
    with the number of pairs.

    Args:
        embeddings: finite floats, shape (N, D).
        groups: integers, shape (N,): rows of one group (views of one image, images of one patient) are no negatives of
            each other. None: every row is its own group.
        raw: also distances of the rows without normalization.
        row_histograms: also one coarse histogram per row.
        tile_rows: affects speed and memory, and the result by rounding only.
        threads: None: as many as torch uses. torch itself is limited to one thread during the call.
    Raises:
        DataError: not a matrix, values that are not finite, or fewer than two groups.
    """
    points = finite_embeddings(embeddings, ("rows", "features"))
    group_ids = group_numbers(groups, len(points), rows="rows", several=True)
    order = np.argsort(group_ids, kind="stable")
    stream = _Stream(points, group_ids, order, raw=raw, row_histograms=row_histograms)
    workers = threads or torch.get_num_threads()
    tiles = deque(upper_blocks(len(points), tile_rows))

    def work() -> _Work:
        own_work = stream.work(tile_rows)
        while True:
            try:
                tile = tiles.popleft()
            except IndexError:
                return own_work
            stream.add(*tile, own_work)

    with _single_threaded_torch(), ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work) for _ in range(workers)]
        try:
            parts = [future.result() for future in futures]
        except BaseException:
            # On an interruption the pool waits for its threads: no tiles left, they end.
            tiles.clear()
            raise
    return stream.result(parts)


@contextmanager
def _single_threaded_torch() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _KindSums:
    """Sums over tiles for one kind of distance, in units of bins."""

    def __init__(self, num_rows: int, num_bins: int, shift: float) -> None:
        self.num_bins, self.shift = num_bins, shift
        self.counts = torch.zeros(num_bins + 2, dtype=torch.int64)
        self.row_sums = torch.zeros(num_rows, dtype=torch.float64)
        self.row_squares = torch.zeros(num_rows, dtype=torch.float64)

    def add(self, distances: Tensor, a: slice, b: slice, outside: Tensor | None, index: Tensor) -> None:
        """Counts and sums a tile; overwrites `distances` and `index`."""
        _to_bins(distances, outside, self.num_bins, index)
        self.counts += torch.bincount(index.view(-1), minlength=len(self.counts))
        distances.sub_(self.shift)
        if outside is not None:
            distances.masked_fill_(outside, 0.0)
        self._sum(self.row_sums, distances, a, b)
        self._sum(self.row_squares, distances.square_(), a, b)

    @staticmethod
    def _sum(sums: Tensor, values: Tensor, a: slice, b: slice) -> None:
        sums[a] += values.sum(dim=1)
        sums[b] += values.sum(dim=0)


class _Work:
    """The sums of one thread, and its memory for one tile."""

    def __init__(self, unit: _KindSums, raw: _KindSums | None, tile_rows: int) -> None:
        self.unit, self.raw = unit, raw
        self.smallest, self.largest = float("inf"), 0.0
        self._floats = torch.empty(2, tile_rows**2)
        self._index = torch.empty(tile_rows**2, dtype=torch.int32)

    def memory(self, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
        """Two float tensors and one of indices for a tile of any shape, contiguous."""
        flat = (self._floats[0], self._floats[1], self._index)
        first, second, index = (part[: rows * columns].view(rows, columns) for part in flat)
        return first, second, index


def _to_bins(distances: Tensor, outside: Tensor | None, num_bins: int, index: Tensor) -> None:
    """Writes bins into `index`: `num_bins` for values rounded beyond the last bin, one more for pairs of one group."""
    index.copy_(distances)
    if outside is not None:
        index.masked_fill_(outside, num_bins + 1)


class _Stream:
    """The pass; `add` may run in several threads at once."""

    def __init__(
        self, points: npt.NDArray[Any], groups: Integers, order: Integers, *, raw: bool, row_histograms: bool
    ) -> None:
        self.rows = PreparedRows(points, order)
        self.order, self.groups = order, groups[order]
        self.group_numbers = torch.from_numpy(self.groups)
        self.with_raw = raw
        self.shifts = self.rows.sample(_SAMPLED_ROWS)
        self.coarse = self.histograms = None
        if row_histograms:
            fine = self.rows.unit_bins
            self.coarse = Bins(width=fine.width * _FINE_PER_COARSE, count=-(-fine.count // _FINE_PER_COARSE))
            self.histograms = torch.zeros(len(points), self.coarse.count + 2, dtype=torch.int32)
        self.lock = threading.Lock()

    def work(self, tile_rows: int) -> _Work:
        num_rows, (unit, raw) = len(self.groups), self.shifts
        return _Work(
            _KindSums(num_rows, self.rows.unit_bins.count, unit),
            _KindSums(num_rows, self.rows.raw_bins.count, raw) if self.with_raw else None,
            min(tile_rows, num_rows),
        )

    def add(self, a: slice, b: slice, work: _Work) -> None:
        """Adds the negative pairs of one tile of the upper triangle to the sums of one thread."""
        if self.groups[a.start] == self.groups[b.stop - 1]:
            return
        outside = None
        # Rows are sorted by group: only tiles on the diagonal, or within one group, hold pairs that are no negatives.
        if self.groups[a.stop - 1] >= self.groups[b.start]:
            outside = self.group_numbers[a, None] >= self.group_numbers[None, b]
        squared, distances, index = work.memory(a.stop - a.start, b.stop - b.start)
        smallest, largest = self.rows.squared(a, b, squared)
        torch.sqrt(squared, out=distances)
        if outside is not None:
            smallest = float(squared.masked_fill(outside, float("inf")).min())
            largest = float(squared.masked_fill(outside, 0.0).max())
        work.smallest, work.largest = min(work.smallest, smallest), max(work.largest, largest)
        if self.histograms is not None and self.coarse is not None:
            _to_bins(distances * (1 / _FINE_PER_COARSE), outside, self.coarse.count, index)
            self._count_rows(index, a, b, self.coarse.count + 2)
        work.unit.add(distances, a, b, outside, index)
        if work.raw is not None:
            work.raw.add(self.rows.raw(squared, a, b), a, b, outside, index)

    def _count_rows(self, index: Tensor, a: slice, b: slice, cells: int) -> None:
        assert self.histograms is not None
        for part, dimension in ((a, 0), (b, 1)):
            offsets = torch.arange(part.stop - part.start, dtype=torch.int32) * cells
            keys = index + offsets.unsqueeze(1 - dimension)
            counts = torch.bincount(keys.view(-1), minlength=len(offsets) * cells).view(-1, cells)
            with self.lock:
                self.histograms[part] += counts

    def result(self, parts: list[_Work]) -> StreamedPairs:
        """Totals over the tiles of all threads; rows are in the order given."""
        sizes = np.bincount(self.groups)
        row_counts = len(self.groups) - sizes[self.groups]
        back = np.empty_like(self.order)
        back[self.order] = np.arange(len(self.order))
        histograms = self.histograms
        raw = None
        if self.with_raw:
            raw = self._summary([part.raw for part in parts if part.raw], self.rows.raw_bins, row_counts)
        return StreamedPairs(
            count=int(row_counts.sum()) // 2,
            row_counts=row_counts[back].astype(np.int64),
            smallest=min(part.smallest for part in parts) ** 0.5 * self.rows.unit_bins.width,
            largest=max(part.largest for part in parts) ** 0.5 * self.rows.unit_bins.width,
            unit=self._summary([part.unit for part in parts], self.rows.unit_bins, row_counts),
            raw=raw,
            coarse=self.coarse,
            row_histograms=None
            if histograms is None or self.coarse is None
            else _within(histograms[torch.from_numpy(back)].numpy(), self.coarse),
        )

    def _summary(self, parts: list[_KindSums], bins: Bins, row_counts: Integers) -> DistanceSums:
        count = row_counts.sum() / 2
        sums = np.sum([part.row_sums.numpy() for part in parts], axis=0)
        squares = np.sum([part.row_squares.numpy() for part in parts], axis=0)
        # Every pair is in the sums of two rows.
        offset = sums.sum() / 2 / count
        variance = squares.sum() / 2 / count - offset**2
        squares = squares - 2 * offset * sums + offset**2 * row_counts
        sums = sums - offset * row_counts
        back = np.argsort(self.order, kind="stable")
        counts = np.sum([part.counts.numpy() for part in parts], axis=0)
        return DistanceSums(
            mean=float(parts[0].shift + offset) * bins.width,
            sd=float(np.sqrt(max(0.0, variance))) * bins.width,
            bins=bins,
            histogram=_within(counts, bins),
            row_sums=sums[back] * bins.width,
            row_squares=squares[back] * bins.width**2,
        )


def _within(counts: npt.NDArray[Any], bins: Bins) -> npt.NDArray[Any]:
    """Counts, shape (..., bins.count), without pairs of one group; counts beyond the last bin are added to it."""
    within = counts[..., : bins.count]
    within[..., -1] += counts[..., bins.count]
    return within
