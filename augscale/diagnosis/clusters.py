"""Cluster metrics in which every image is a cluster of its views.

Functions take embeddings (n, V, D), V views of each of n images. As in the libraries that they match, images of one
patient are different clusters; only retrieval leaves out a patient's other images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError
from augscale.scoring.distances import (
    BLOCK_ROWS,
    centered,
    nearest_negatives,
    squared_distances,
    unit_rows,
    upper_blocks,
)
from augscale.scoring.embedding_checks import finite_embeddings, group_numbers
from augscale.system.matmul import matmul

Floats = npt.NDArray[np.float64]

LIDAR_RIDGE = 1e-4
"""delta: added to the diagonal of the within-image scatter, as a share of its mean diagonal."""
LIDAR_EPSILON = 1e-7
UNIFORMITY_T = 2.0
_TINY = 1e-12
"""Spreads and distances below this are rounding errors."""


def alignment_values(embeddings: npt.ArrayLike) -> Floats:
    """Mean squared distance of each image's pairs of views, L2-normalized.

    The mean over images is the alignment loss of Wang & Isola, ICML 2020, section 4.1, with alpha = 2.

    Args:
        embeddings: finite, shape (n, V, D), V at least 2.
    Returns:
        float64, shape (n,), each in [0, 4]. Best 0, but a collapsed encoder has 0 too, so read it beside uniformity.
    """
    unit, _ = unit_rows(_checked(embeddings, views=2))
    # The mean over pairs of |x - y|^2 is twice the sample variance.
    num_views = unit.shape[1]
    moved = unit - unit[:, :1]
    moved = moved - moved.mean(axis=1, keepdims=True)
    return np.asarray(2 * np.square(moved).sum(axis=(1, 2)) / (num_views - 1))


def alignment(embeddings: npt.ArrayLike) -> float:
    """Mean of `alignment_values`."""
    return float(alignment_values(embeddings).mean())


def uniformity(distances: npt.ArrayLike, t: float = UNIFORMITY_T) -> float:
    """log of the mean of exp(-t distance^2) over pairs of different images (Wang & Isola, ICML 2020, section 4.1).

    Args:
        distances: distances of L2-normalized embeddings, any shape, at least one.
    Returns:
        In [-4 t, 0]; lower is better: spread over the sphere; 0: all embeddings equal. About -2 t for an even spread in
        many dimensions.
    """
    return float(np.log(np.mean(np.exp(-t * np.square(np.asarray(distances, dtype=np.float64))))))


def silhouette_values(embeddings: npt.ArrayLike, *, normalize: bool = True) -> Floats:
    """Silhouette of each view with images as clusters (Rousseeuw 1987; `sklearn.metrics.silhouette_samples`).

    (b - a) / max(a, b): a the mean Euclidean distance to the other views of the image, b to the views of the nearest
    other image. Computed block by block; memory grows with n^2 V.

    Args:
        embeddings: finite, shape (n, V, D), n and V at least 2.
        normalize: L2-normalize first. Both are reported: the paper does not say which it used.
    Returns:
        float64, shape (n, V), each in [-1, 1]; best 1, 0: as near to another image, worst -1; 0 if a = b = 0.
    """
    points = _checked(embeddings, images=2, views=2)
    rows = unit_rows(points)[0] if normalize else points / (np.abs(points).max() or 1.0)
    num_images, num_views, dim = rows.shape
    rows = centered(rows).reshape(-1, dim)
    own, other = np.zeros((num_images, num_views)), np.full((num_images, num_views), np.inf)
    for a, b in upper_blocks(num_images, max(1, BLOCK_ROWS // num_views)):
        left, right = (slice(part.start * num_views, part.stop * num_views) for part in (a, b))
        block = np.sqrt(squared_distances(rows[left], rows[right]))
        block = block.reshape(a.stop - a.start, num_views, b.stop - b.start, num_views)
        _fold(block.sum(axis=3), own, other, a, b)
        if a != b:
            _fold(block.sum(axis=1).transpose(1, 2, 0), own, other, b, a)
    own /= num_views - 1
    other /= num_views
    larger = np.maximum(own, other)
    return np.asarray((other - own) / np.where(larger > 0, larger, 1.0))


def _fold(sums: Floats, own: Floats, other: Floats, a: slice, b: slice) -> None:
    """Updates `own` and `other` with sums of distances (images a, views, images b) from views of a to images of b."""
    if a == b:
        diagonal = np.arange(a.stop - a.start)
        own[a] = sums[diagonal, :, diagonal]
        sums = sums.copy()
        sums[diagonal, :, diagonal] = np.inf
    np.minimum(other[a], sums.min(axis=2), out=other[a])


def davies_bouldin_values(embeddings: npt.ArrayLike, *, normalize: bool = True) -> Floats | None:
    """Largest (spread + other's spread) / distance of centers over all other images, for each image.

    The mean over images is the index of Davies & Bouldin 1979 (`sklearn.metrics.davies_bouldin_score`).

    Args:
        embeddings: finite, shape (n, V, D), n at least 2.
    Returns:
        float64, shape (n,), at least 0; best 0. None if two images have the same center, or no view differs from its
        image's center.
    """
    points = _checked(embeddings, images=2)
    rows = centered(unit_rows(points)[0] if normalize else points / (np.abs(points).max() or 1.0))
    centers = rows.mean(axis=1)
    spreads = np.linalg.norm(rows - centers[:, None], axis=2).mean(axis=1)
    if spreads.max() < _TINY:
        return None
    worst = np.zeros(len(centers))
    centers = centered(centers)
    for begin in range(0, len(centers), BLOCK_ROWS):
        part = slice(begin, begin + BLOCK_ROWS)
        distances = np.sqrt(squared_distances(centers[part], centers))
        own = np.arange(len(distances))
        distances[own, begin + own] = np.inf
        if distances.min() < _TINY:
            return None
        worst[part] = ((spreads[part, None] + spreads[None]) / distances).max(axis=1)
    return worst


def davies_bouldin(embeddings: npt.ArrayLike, *, normalize: bool = True) -> float | None:
    """Mean of `davies_bouldin_values`; None if they are None."""
    values = davies_bouldin_values(embeddings, normalize=normalize)
    return None if values is None else float(values.mean())


def calinski_harabasz(
    embeddings: npt.ArrayLike, *, normalize: bool = True, weights: npt.ArrayLike | None = None
) -> Floats | None:
    """Scatter between images over scatter within, each per degree of freedom (Calinski & Harabasz 1974).

    Equals `sklearn.metrics.calinski_harabasz_score` with images as clusters, which returns 1 where this is None.

    Args:
        embeddings: finite, shape (n, V, D), n and V at least 2.
        weights: number of times that each image counts, shape (B, n); None: once.
    Returns:
        float64, shape (B,) or (): at least 0; higher is better; an F statistic: about 1 if images do not differ.
        None if the views of each image are equal.
    """
    points = _checked(embeddings, images=2, views=2)
    rows = centered(unit_rows(points)[0] if normalize else points / (np.abs(points).max() or 1.0))
    num_images, num_views, _ = rows.shape
    centers = rows.mean(axis=1)
    within = np.square(rows - centers[:, None]).sum(axis=(1, 2))
    if within.max() < _TINY**2:
        return None
    times = np.ones((1, num_images)) if weights is None else np.asarray(weights, dtype=np.float64)
    counts = times.sum(axis=1)
    between = matmul(times, np.square(centers).sum(axis=1)[:, None])[:, 0]
    between -= np.square(matmul(times, centers)).sum(axis=1) / counts
    inside = matmul(times, within[:, None])[:, 0]
    # A resample may hold only images whose views agree.
    inside = np.maximum(inside, _TINY**2)
    scores = (num_views * between / (counts - 1)) / (inside / (counts * (num_views - 1)))
    return np.asarray(scores[0]) if weights is None else scores


def positive_distances(rows: Floats) -> Floats:
    """Euclidean distances between the views of each image, shape (n, V, V); inf on the diagonal."""
    num_images, num_views, _ = rows.shape
    distances = np.empty((num_images, num_views, num_views))
    for view in range(num_views):
        distances[:, view] = np.linalg.norm(rows - rows[:, view, None], axis=2)
    distances[:, np.arange(num_views), np.arange(num_views)] = np.inf
    return distances


def retrieval_values(
    embeddings: npt.ArrayLike, groups: npt.ArrayLike | None = None, recalls: tuple[int, ...] = (1, 5)
) -> dict[str, Floats]:
    """Recall at each k, retrieval error and margin of each view, by one exhaustive search.

    Recall at k as in Musgrave et al., ECCV 2020, section 2: 1 if another view of the image is among the k nearest other
    views, else 0. Other images of the same patient are left out, because finding them is no mistake. A tie with a
    negative counts as not found. Retrieval error and margin as in `separation`: the share of the view's positives that
    are no nearer than the nearest negative, and the distance to that negative minus the mean distance to the positives.

    Args:
        embeddings: finite, shape (n, V, D), V at least 2; L2-normalized here.
        groups: shape (n,): patients; None: every image is its own.
        recalls: each k, at least 1; if a view has fewer negatives than k, its recall is 1.
    Returns:
        By name (`recall_at_1`, ..., `retrieval_error`, `margin`) float64, shape (n, V). Recall is at best 1, at worst
        0; 0 if all embeddings are equal.
    """
    points = _checked(embeddings, images=2, views=2)
    num_images, num_views, dim = points.shape
    group_ids = group_numbers(groups, num_images)
    unit, _ = unit_rows(points)
    available = (num_images - int(np.bincount(group_ids).max())) * num_views
    listed = min(max(recalls), available)
    found = nearest_negatives(unit.reshape(-1, dim), np.repeat(group_ids, num_views), listed).distances
    negatives = np.full((num_images, num_views, max(recalls)), np.inf)
    negatives[:, :, :listed] = found.reshape(num_images, num_views, -1)
    every = positive_distances(unit)
    nearest_positive, positives = every.min(axis=2), np.where(np.isfinite(every), every, 0.0)
    values = {f"recall_at_{k}": (nearest_positive < negatives[:, :, k - 1]).astype(np.float64) for k in recalls}
    values["retrieval_error"] = (np.isfinite(every) & (negatives[:, :, :1] <= every)).sum(axis=2) / (num_views - 1)
    values["margin"] = negatives[:, :, 0] - positives.sum(axis=2) / (num_views - 1)
    return values


def lidar(embeddings: npt.ArrayLike, *, weights: npt.ArrayLike | None = None) -> float | None:
    """LiDAR: effective rank of discriminant directions (Thilak et al., ICLR 2024, arXiv 2312.04000, section 3).

    exp of the entropy of the normalized eigenvalues of Sw^(-1/2) Sb Sw^(-1/2), where Sb is the scatter of the images'
    mean embeddings, and Sw that of views around them plus a ridge. Unlike in the paper, the ridge of 1e-4 is a share of
    the mean diagonal of Sw, so that the scale of the features does not matter.

    Args:
        embeddings: finite, shape (n, V, D), not normalized, n and V at least 2.
        weights: number of times that each image counts, shape (n,); None: once.
    Returns:
        In [1, min(n - 1, D)]; higher is better; 1: a single direction tells images apart. Comparable between models
        on the same images and views only. None if the views of each image, or all images, are equal.
    """
    points = _checked(embeddings, images=2, views=2)
    times = np.ones(len(points)) if weights is None else np.asarray(weights, dtype=np.float64)
    points, times = points[times > 0], times[times > 0]
    rows = centered(points / (np.abs(points).max() or 1.0))
    num_views, dim = rows.shape[1:]
    centers = rows.mean(axis=1)
    within = (rows - centers[:, None]) * np.sqrt(times / times.sum() / num_views)[:, None, None]
    within = within.reshape(-1, dim)
    means = (centers - times @ centers / times.sum()) * np.sqrt(times / times.sum())[:, None]
    scatter = matmul(within.T, within)
    diagonal = np.trace(scatter) / dim
    if diagonal < _TINY**2 or np.square(means).sum() < _TINY**2:
        return None
    scatter[np.arange(dim), np.arange(dim)] += LIDAR_RIDGE * diagonal
    # The eigenvalues of Sw^(-1/2) Sb Sw^(-1/2) are those of the smaller Gram matrix of whitened means.
    whitened = np.linalg.solve(np.linalg.cholesky(scatter), means.T)
    gram = (
        matmul(whitened, np.ascontiguousarray(whitened.T))
        if dim < len(means)
        else matmul(np.ascontiguousarray(whitened.T), whitened)
    )
    # The paper adds epsilon to all D of them.
    values = np.zeros(dim)
    values[: len(gram)] = np.maximum(np.linalg.eigvalsh(gram), 0.0)
    shares = values / values.sum() + LIDAR_EPSILON
    rank = np.exp(-np.sum(shares * np.log(shares)))
    return float(np.clip(rank, 1.0, max(1, min(len(points) - 1, dim))))


def _checked(embeddings: npt.ArrayLike, *, images: int = 1, views: int = 1) -> Floats:
    points = finite_embeddings(np.asarray(embeddings, dtype=np.float64), ("images", "views", "features"))
    if len(points) < images or points.shape[1] < views:
        raise DataError(
            f"embeddings: {len(points)} image(s) with {points.shape[1]} view(s); "
            f"expected at least {images} with {views} each"
        )
    return points
