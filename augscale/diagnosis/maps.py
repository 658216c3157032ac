"""Embeddings in the plane: principal components, and t-SNE (van der Maaten and Hinton, 2008)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from augscale.records.diagnosis import PointMap

MOST_TSNE_POINTS = 1500
"""Upper limit of points of t-SNE; more take too long for a report."""
MOST_VIEW_IMAGES = 24
"""Number of photographs whose views are mapped; more than about twenty colors cannot be told apart."""
TSNE_COMPONENTS = 50
"""Principal components that t-SNE uses, as recommended by scikit-learn for wide data."""
PERPLEXITY = 30.0
"""Roughly the number of neighbors of a point in t-SNE; the usual default."""
LEAST_TSNE_POINTS = 5
CONSTANT = 1e-6
"""Standard deviations below this share of the largest coordinate are rounding errors."""


def point_maps(
    clean: npt.NDArray[np.float32], views: npt.NDArray[np.float32] | None, level: str, *, seed: int
) -> dict[str, PointMap]:
    """Both kinds of map of the photographs, and of the views of some photographs (the paper's Figure 2(b)).

    Args:
        clean: shape (n, D): the photographs; the first 1,500 are mapped.
        views: shape (n, V, D): their views at `level`; None maps no views.
        level: name of the views' level.
        seed: seed of t-SNE.
    Returns:
        Maps by "images_tsne", "views_tsne", "images_pca" and "views_pca".
    """
    rows = np.arange(min(len(clean), MOST_TSNE_POINTS))
    place: dict[str, Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]] = {
        "tsne": partial(tsne_map, seed=seed),
        "pca": pca_map,
    }
    maps = {}
    for kind, draw in place.items():
        maps[f"images_{kind}"] = _point_map(draw(clean[rows]), rows, None)
        if views is not None:
            shown = views[:MOST_VIEW_IMAGES]
            images = np.repeat(np.arange(len(shown)), shown.shape[1])
            maps[f"views_{kind}"] = _point_map(draw(shown.reshape(len(images), -1)), images, level)
    return maps


def _point_map(xy: npt.NDArray[np.float32], images: npt.NDArray[np.int64], level: str | None) -> PointMap:
    return PointMap(xy=np.round(xy, 4).tolist(), image=images.tolist(), level=level)


def pca_map(embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """The first two principal components.

    Matches `sklearn.decomposition.PCA(2)` up to the sign of each axis, which is fixed here: the coordinate of the
    largest magnitude is positive, so that the same data always give the same picture.

    Args:
        embeddings: (N, D), finite; N and D at least 1.
    Returns:
        (N, 2), centered, in the unit of the embeddings. An axis that has no variance or does not exist is 0, so that
        constant embeddings, and a single one, give zeros.
    """
    return _components(embeddings, 2).astype(np.float32)


def tsne_map(embeddings: npt.NDArray[np.floating], *, seed: int) -> npt.NDArray[np.float32]:
    """t-SNE of the first 50 principal components, initialized with the first two (scikit-learn's Barnes-Hut).

    t-SNE preserves neighborhoods; distances between far groups and the sizes of groups mean nothing. The perplexity is
    30, or a third of N with fewer than 90 points. The time grows slightly faster than N: some 3 seconds for 250 points
    and 30 for 1,500 on one slow core.

    Args:
        embeddings: (N, D), finite; N at most 1,500.
        seed: seed of scikit-learn; the same seed, data and library version give the same map.
    Returns:
        (N, 2), unitless. Constant embeddings give zeros; fewer than five different points give `pca_map`, since there
        are no neighborhoods to preserve.
    Raises:
        ValueError: more than 1,500 points.
    """
    count = len(embeddings)
    if count > MOST_TSNE_POINTS:
        raise ValueError(f"{count} points for t-SNE; at most {MOST_TSNE_POINTS} are accepted, so choose among them")
    components = _components(embeddings, TSNE_COMPONENTS)
    scale = components[:, 0].std()
    if count < LEAST_TSNE_POINTS or scale == 0 or _num_different(components / scale) < LEAST_TSNE_POINTS:
        return components[:, :2].astype(np.float32)
    from sklearn.manifold import TSNE

    # scikit-learn scales its own start to a standard deviation of 1e-4; the same is done here for ours, whose signs
    # do not depend on the solver.
    start = components[:, :2] / scale * 1e-4
    perplexity = min(PERPLEXITY, max(1.0, (count - 1) / 3))
    model = TSNE(
        n_components=2, perplexity=perplexity, init=start.astype(np.float32), learning_rate="auto", random_state=seed
    )
    return np.asarray(model.fit_transform((components / scale).astype(np.float32)), dtype=np.float32)


def _num_different(components: npt.NDArray[np.float64]) -> int:
    return len(np.unique(components.round(6), axis=0))


def _components(embeddings: npt.NDArray[np.floating], most: int) -> npt.NDArray[np.float64]:
    """(N, max(2, k)): the first k = min(most, N, D) principal components, padded with zeros."""
    values = np.asarray(embeddings, dtype=np.float64)
    largest = float(np.abs(values).max())
    centered = values - values.mean(axis=0)
    kept = min(most, *values.shape)
    result = np.zeros((len(values), max(2, kept)))
    if largest == 0 or float(centered.std(axis=0).max()) <= CONSTANT * largest:
        return result
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    # Directions that hold only rounding errors would depend on the machine.
    singular[singular <= CONSTANT * singular[0]] = 0.0
    scores = left[:, :kept] * singular[:kept]
    furthest = np.abs(scores).argmax(axis=0)
    result[:, :kept] = scores * np.where(scores[furthest, np.arange(kept)] < 0, -1.0, 1.0)
    return result
