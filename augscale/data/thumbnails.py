"""Small standardized copies of images, and a bounded-time search with them for nearly identical images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

THUMB_SIDE = 32
"""Pixels; fine enough for the vessel tree, coarse enough for compression not to matter."""
_CHUNK_IMAGES = 1024
MIN_CORRELATION = 0.998
"""Least Pearson correlation of the thumbnails of near-duplicates. On real photographs, copies have .9998 and more, and
different eyes behind haze up to .9978 (docs/experiments.md, 2026-11-24)."""
MOST_QUERIES = 2048
_CHUNK_QUERIES = 256

Indices = npt.NDArray[np.int64]


def thumbnails_standardised(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Grey thumbnails as rows of mean 0 and length 1, so that a product of two is their Pearson correlation.

    Args:
        images: uint8, shape (N, S, S, 3).
    Returns:
        float32, shape (N, 1024); zeros for an image of one color.
    """
    thumbs = np.empty((len(images), THUMB_SIDE * THUMB_SIDE), dtype=np.float32)
    for begin in range(0, len(images), _CHUNK_IMAGES):
        for row in range(begin, min(begin + _CHUNK_IMAGES, len(images))):
            grey = Image.fromarray(np.asarray(images[row])).convert("L")
            thumbs[row] = np.asarray(grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)).ravel()
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(thumbs, axis=1, keepdims=True)
    thumbs /= np.where(norms > 0, norms, 1)
    return thumbs


def near_twins(images: npt.NDArray[np.uint8], rows: Indices) -> tuple[Indices, Indices]:
    """Finds the most similar other image for each image, or for 2048 evenly spaced ones if there are more.

    Args:
        images: uint8, shape (N, S, S, 3).
        rows: int64, shape (M,), the images to compare with each other.
    Returns:
        Two arrays, int64, shape (Q,): the rows that were compared, and for each the most similar other row, or -1 if
        its thumbnail correlates with none by 0.998 or more.
    """
    chosen = np.unique(np.linspace(0, max(0, len(rows) - 1), min(len(rows), MOST_QUERIES)).astype(np.int64))
    twins = np.full(len(chosen), -1, dtype=np.int64)
    if len(rows) < 2:
        return rows[chosen], twins
    thumbs = thumbnails_standardised(images if len(rows) == len(images) else images[rows])
    for begin in range(0, len(chosen), _CHUNK_QUERIES):
        queries = chosen[begin : begin + _CHUNK_QUERIES]
        alike = thumbs[queries] @ thumbs.T
        alike[np.arange(len(queries)), queries] = -1
        best = alike.argmax(axis=1)
        is_twin = alike[np.arange(len(queries)), best] >= MIN_CORRELATION
        twins[begin : begin + len(queries)] = np.where(is_twin, rows[best], -1)
    return rows[chosen], twins
