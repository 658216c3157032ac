"""Small standardised copies of images, to find those that are nearly the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

THUMB_SIDE = 32
"""Pixels; fine enough for the vessel tree, coarse enough for compression not to matter."""
_CHUNK_IMAGES = 1024


def thumbnails_standardised(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Grey thumbnails as rows of mean 0 and length 1, so that a product of two is their Pearson correlation.

    Args:
        images: uint8, shape (N, S, S, 3).
    Returns:
        float32, shape (N, 1024); zeros for an image of one colour.
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
