"""Photographs of different patients that a network places closer together than two views of either one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augscale.records.diagnosis import Confusion
from augscale.scoring.distances import centered, squared_distances, unit_rows, upper_blocks
from augscale.system.matmul import matmul

Floats = npt.NDArray[np.float64]

BLOCK_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Confusions:
    """The clearest confusions, and the number of all."""

    pairs: tuple[Confusion, ...] = ()
    """At most the number asked for; the smallest distance relative to the images' own distances comes first."""
    num_pairs: int
    """Number of all confusions."""
    num_images: int
    """Images that are part of at least one confusion."""


def find_confusions(
    embeddings: npt.ArrayLike, groups: npt.ArrayLike | None = None, *, most: int = 24, per_image: int = 2
) -> Confusions:
    """Finds pairs of images of different patients whose views lie closer together than the views of either.

    A pair counts if the mean distance between a view of a and a view of b is below the mean distance between two views
    of a, and below that of two views of b. Two copies of one photograph give equal distances on average, because their
    views have the same distribution; so a pair that counts is confused, not merely similar.

    Args:
        embeddings: float, shape (n, V, D), or (L, n, V, D) for several levels of views, whose distances are averaged;
            V at least 2.
        groups: int64, shape (n,): patients; None: every image is its own.
        most: largest number of pairs returned.
        per_image: largest number of returned pairs with the same image, so that one odd image does not fill the list.
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


def correlations(thumbnails: npt.NDArray[np.floating], pairs: Sequence[Confusion]) -> list[float]:
    """Correlation of the two photographs of each pair; near 1 means that they are one photograph.

    Args:
        thumbnails: standardised, one row per image, see `thumbnails_standardised`.
        pairs: rows of `thumbnails`.
    """
    rows = thumbnails.astype(np.float64)
    return [float(matmul(rows[[pair.a]], rows[[pair.b]].T)[0, 0]) for pair in pairs]


def _mean_distances(levels: npt.NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Mean distance between the views of each pair of images, shape (n, n), and within each image, shape (n,)."""
    num_images, num_views = levels.shape[1:3]
    left, right = np.triu_indices(num_views, 1)
    between, own = np.zeros((num_images, num_images)), np.zeros(num_images)
    for points in levels:
        unit = centered(unit_rows(points)[0])
        for a, b in upper_blocks(num_images, max(1, BLOCK_IMAGES // num_views)):
            block = _view_means(unit[a], unit[b])
            between[a, b] += block
            if a != b:
                between[b, a] += block.T
        own += np.linalg.norm(unit[:, left] - unit[:, right], axis=-1).mean(axis=1)
    return between / len(levels), own / len(levels)


def _view_means(a: Floats, b: Floats) -> Floats:
    squared = squared_distances(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]))
    return np.sqrt(squared).reshape(len(a), a.shape[1], len(b), b.shape[1]).mean(axis=(1, 3))
