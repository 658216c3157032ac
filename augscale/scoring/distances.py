"""Euclidean distances between embeddings: of listed pairs, of all pairs in blocks, and to the nearest negatives.

Only this module searches with faiss. Every distance that enters a score is computed in float64 on centered rows.
Centering does not change distances, but |a|^2 + |b|^2 - 2ab loses far fewer digits if the rows lie around the origin;
the nearly equal rows of a collapsing network would lose them all. Pairs that are still too close for that formula are
computed as |a - b|.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augscale.errors import ConfigError, DataError
from augscale.system.matmul import matmul

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

BLOCK_ROWS = 512
"""Rows of a block of distances; a block and its temporaries stay within a few megabytes."""
_CLOSE = 1e-6
"""Squared distances below this share of |a|^2 + |b|^2 are measured directly; others have a relative error < 1e-8."""
_GATHER_VALUES = 2**21
"""float64 numbers gathered at a time."""
_SPARE_CANDIDATES = 4
"""Additional neighbors that faiss searches in float32, before float64 distances sort them."""


@dataclass(frozen=True, kw_only=True)
class NearestNegatives:
    """The k nearest rows of other groups for each of N rows, nearest first."""

    indices: Integers
    """int64, shape (N, k)."""
    distances: Floats
    """float64, shape (N, k), at least 0."""


def unit_rows(embeddings: npt.ArrayLike) -> tuple[Floats, Floats]:
    """L2-normalizes rows.

    Args:
        embeddings: finite, shape (..., D).
    Returns:
        float64 rows of length 1, shape (..., D), and their lengths before, shape (...). A row of zeros stays zero.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    largest = np.abs(rows).max(initial=0.0)
    # Scaled first, so that squares of very large or very small features neither overflow nor underflow.
    rows = rows / largest if largest > 0 else rows
    norms = np.linalg.norm(rows, axis=-1)
    return rows / np.where(norms > 0, norms, 1.0)[..., None], norms * largest


def centered(rows: Floats) -> Floats:
    """Rows, shape (..., D), minus their mean; equal rows become exactly zero."""
    flat = rows.reshape(-1, rows.shape[-1])
    moved = flat - flat[0]
    return (moved - moved.mean(axis=0)).reshape(rows.shape)


def pair_distances(embeddings: npt.ArrayLike, pairs: npt.ArrayLike) -> Floats:
    """Euclidean distance between the two embeddings of each pair, measured directly.

    Dis(P) of Cheng et al. 2025 when the rows are encoder outputs; not squared.

    Args:
        embeddings: finite, shape (N, D).
        pairs: int64, shape (P, 2), row indices.
    Returns:
        float64, shape (P,), at least 0; exactly 0 for equal rows.
    Raises:
        DataError: an index is outside [0, N).
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    listed = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    if listed.size and not (listed.min() >= 0 and listed.max() < len(rows)):
        raise DataError(f"pairs: an index in [{listed.min()}, {listed.max()}]; expected [0, {len(rows) - 1}]")
    distances = np.empty(len(listed))
    step = max(1, _GATHER_VALUES // max(1, rows.shape[1]))
    for begin in range(0, len(listed), step):
        left, right = listed[begin : begin + step].T
        distances[begin : begin + step] = np.linalg.norm(rows[left] - rows[right], axis=1)
    return distances


def squared_distances(a: Floats, b: Floats) -> Floats:
    """All squared distances between two sets of centered rows, by one matrix product.

    Args:
        a, b: float64, shapes (A, D) and (B, D), both moved by the same vector (`centered`).
    Returns:
        float64, shape (A, B), relative error below 1e-8; exactly 0 for equal rows.
    """
    scale = np.einsum("ad,ad->a", a, a)[:, None] + np.einsum("bd,bd->b", b, b)[None, :]
    squared = matmul(a, b.T)
    squared *= -2
    squared += scale
    scale *= _CLOSE
    rows, columns = np.nonzero(squared < scale)
    step = max(1, _GATHER_VALUES // a.shape[1])
    for begin in range(0, len(rows), step):
        i, j = rows[begin : begin + step], columns[begin : begin + step]
        difference = a[i] - b[j]
        squared[i, j] = np.einsum("pd,pd->p", difference, difference)
    return np.maximum(squared, 0, out=squared)


def raw_distances(squared: Floats, left: Floats, right: Floats) -> Floats:
    """Distances between the original rows, from the distances between their L2-normalized rows.

    |x - y|^2 = (|x| - |y|)^2 + |x| |y| (squared distance of directions).

    Args:
        squared: float64, squared distances of L2-normalized rows.
        left, right: float64, lengths |x| and |y|, broadcast against `squared`.
    """
    # Squares of very large lengths would overflow.
    scale = max(float(left.max(initial=0)), float(right.max(initial=0))) or 1.0
    left, right = left / scale, right / scale
    raw = squared * left
    raw *= right
    raw += np.square(left - right)
    np.sqrt(raw, out=raw)
    raw *= scale
    return raw


def distance_matrix(embeddings: npt.ArrayLike) -> Floats:
    """All Euclidean distances, computed block by block.

    Args:
        embeddings: finite, shape (N, D).
    Returns:
        float64, shape (N, N), symmetric, zero on the diagonal, relative error below 1e-8.
    """
    rows = centered(np.asarray(embeddings, dtype=np.float64))
    matrix = np.empty((len(rows), len(rows)))
    for a, b in upper_blocks(len(rows), BLOCK_ROWS):
        block = np.sqrt(squared_distances(rows[a], rows[b]))
        # A matrix product need not be symmetric to the last bit.
        block = np.triu(block) + np.triu(block).T if a == b else block
        matrix[a, b] = block
        matrix[b, a] = block.T
    return matrix


def upper_blocks(count: int, step: int) -> Iterator[tuple[slice, slice]]:
    """Pairs of slices that together cover the upper triangle of a (count, count) matrix once."""
    starts = range(0, count, step)
    for a in starts:
        for b in range(a, count, step):
            yield slice(a, min(a + step, count)), slice(b, min(b + step, count))


def nearest_negatives(embeddings: npt.ArrayLike, groups: npt.ArrayLike, k: int = 1) -> NearestNegatives:
    """The nearest rows of other groups: the hardest negatives.

    faiss finds candidates by exhaustive search in float32, and float64 distances sort them.

    Args:
        embeddings: finite, shape (N, D); L2-normalize them first to compare directions.
        groups: int64, shape (N,); rows of one group (views of one image, images of one patient) are not negatives of
            each other.
        k: number of negatives per row, at least 1.
    Raises:
        DataError: a row has fewer than k negatives.
        ConfigError: faiss is not installed.
    """
    rows = centered(np.asarray(embeddings, dtype=np.float64))
    group_ids = np.unique(np.asarray(groups), return_inverse=True)[1]
    largest_group = int(np.bincount(group_ids).max())
    if len(rows) - largest_group < k:
        raise DataError(
            f"{largest_group} of {len(rows)} embeddings belong to one group; "
            f"expected at least {k} embedding(s) of other groups"
        )
    faiss = _faiss()
    spread = np.linalg.norm(rows, axis=1).max()
    points = np.ascontiguousarray(rows / (spread or 1.0), dtype=np.float32)
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)
    wanted = min(len(rows), largest_group + k + _SPARE_CANDIDATES)
    kept = min(wanted - largest_group, k + _SPARE_CANDIDATES)
    indices = np.empty((len(rows), k), dtype=np.int64)
    distances = np.empty((len(rows), k))
    step = max(1, _GATHER_VALUES // max(wanted, kept * rows.shape[1]))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        found = index.search(points[part], wanted)[1]
        # Stable sort: rows of the query's own group move to the end; the others stay nearest first.
        order = np.argsort(group_ids[found] == group_ids[part, None], axis=1, kind="stable")[:, :kept]
        candidates = np.take_along_axis(found, order, axis=1)
        exact = np.linalg.norm(rows[candidates] - rows[part, None], axis=2)
        nearest = np.argsort(exact, axis=1, kind="stable")[:, :k]
        indices[part] = np.take_along_axis(candidates, nearest, axis=1)
        distances[part] = np.take_along_axis(exact, nearest, axis=1)
    return NearestNegatives(indices=indices, distances=distances)


def nearest_rows(rows: npt.ArrayLike, queries: npt.ArrayLike, k: int) -> Integers:
    """The k rows nearest to each query, nearest first, found exhaustively in float32.

    Args:
        rows: finite, shape (N, D).
        queries: finite, shape (Q, D); a query that is itself a row finds itself.
        k: in [1, N].
    Returns:
        int64, shape (Q, k).
    """
    points, wanted = (np.ascontiguousarray(values, dtype=np.float32) for values in (rows, queries))
    index = _faiss().IndexFlatL2(points.shape[1])
    index.add(points)
    return np.asarray(index.search(wanted, k)[1], dtype=np.int64)


def _faiss() -> Any:
    """The faiss module; it uses as many threads as torch."""
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            f"faiss cannot be imported ({error}); expected one of `pip install augscale[cpu]` "
            "and `pip install augscale[gpu]`"
        ) from None
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss
