"""Photographs of different patients that a model holds to be more alike than two views of either one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augscale.scoring.distances import centered, matmul, squared_distances, unit_rows, upper_blocks

Floats = npt.NDArray[np.float64]

BLOCK_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Two images, a < b, of different patients; distances are means over views, L2-normalised, in [0, 2]."""

    a: int
    b: int
    distance: float
    """Between views of a and views of b."""
    own_distance: float
    """Between two views of one image, the smaller of the two images'."""

    @property
    def ratio(self) -> float:
        """Below 1: a confusion; 0: the two images are one point."""
        return self.distance / self.own_distance


@dataclass(frozen=True, kw_only=True)
class Confusions:
    """The pairs, and how frequent they are."""

    pairs: tuple[Confusion, ...]
    """Smallest ratio first, at most as many as asked for."""
    num_pairs: int
    """All that were found."""
    num_images: int
    """Images that are part of at least one."""


def find_confusions(
    embeddings: npt.ArrayLike, groups: npt.ArrayLike | None = None, *, most: int = 24, per_image: int = 2
) -> Confusions:
    """Finds pairs of images of different patients whose views lie closer together than the views of either.

    A pair counts when the mean distance between a view of a and a view of b is below the mean distance between two
    views of a, and below that of b. With both images drawn from the same views' distribution, two copies of one
    photograph come out equal on average, so what counts here is confused, not merely similar.

    Args:
        embeddings: float, shape (n, V, D), or (L, n, V, D) for several levels of views, whose distances are averaged;
            V at least 2.
        groups: int64, shape (n,): patients; None: every image is its own.
        most: pairs returned.
        per_image: an image appears in at most so many of the returned pairs, so that one odd image does not fill the
            list.
    """
    points = np.asarray(embeddings)
    points = points[None] if points.ndim == 3 else points
    num_images = points.shape[1]
    own_group = np.arange(num_images) if groups is None else np.asarray(groups)
    between, own = _mean_distances(points)
    limit = np.minimum(own[:, None], own[None, :])
    confused = (between < limit) & (own_group[:, None] != own_group[None, :])
    rows, columns = np.nonzero(np.triu(confused, 1))
    order = np.argsort(between[rows, columns] / limit[rows, columns], kind="stable")
    pairs: list[Confusion] = []
    seen = np.zeros(num_images, dtype=np.int64)
    for a, b in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if len(pairs) == most:
            break
        if max(seen[a], seen[b]) < per_image:
            seen[[a, b]] += 1
            pairs.append(Confusion(a=a, b=b, distance=float(between[a, b]), own_distance=float(limit[a, b])))
    return Confusions(pairs=tuple(pairs), num_pairs=len(rows), num_images=len({*rows.tolist(), *columns.tolist()}))


def _mean_distances(levels: npt.NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Mean distance between the views of each pair of images, shape (n, n), and within each image, shape (n,)."""
    num_images, num_views = levels.shape[1:3]
    between, own = np.zeros((num_images, num_images)), np.zeros(num_images)
    for points in levels:
        unit = centered(unit_rows(points)[0])
        for a, b in upper_blocks(num_images, max(1, BLOCK_IMAGES // num_views)):
            block = _view_means(unit[a], unit[b])
            between[a, b] += block
            if a != b:
                between[b, a] += block.T
        own += between_views(unit)
    return between / len(levels), own / len(levels)


def _view_means(a: Floats, b: Floats) -> Floats:
    squared = squared_distances(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]))
    return np.sqrt(squared).reshape(len(a), a.shape[1], len(b), b.shape[1]).mean(axis=(1, 3))


def between_views(unit: Floats) -> Floats:
    """Mean distance between two different views of each image, shape (n,)."""
    left, right = np.triu_indices(unit.shape[1], 1)
    return np.asarray(np.linalg.norm(unit[:, left] - unit[:, right], axis=-1).mean(axis=1))


def correlations(vectors: npt.NDArray[np.floating], pairs: Sequence[Confusion]) -> list[float]:
    """Products of standardised thumbnails (`near_duplicates`): near 1 means that the two are one photograph."""
    return [float(matmul(vectors[p.a].astype(float)[None], vectors[p.b].astype(float)[:, None])[0, 0]) for p in pairs]
