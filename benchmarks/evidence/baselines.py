"""What any pre-training has to beat: the pixels themselves and their colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

Floats32 = npt.NDArray[np.float32]

HISTOGRAM_BINS = 16


def pixel_features(images: npt.NDArray[np.uint8], side: int) -> Floats32:
    """The image at a small size, shape (N, 3 side^2), values in [0, 1], averaged over areas (bilinear, antialiased)."""
    planes = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    small = functional.interpolate(planes, size=(side, side), mode="bilinear", antialias=True)
    return small.flatten(1).numpy()


def colour_features(images: npt.NDArray[np.uint8]) -> Floats32:
    """Histogram of 16 bins, mean and standard deviation of each channel: nothing of where anything is.

    Args:
        images: uint8, shape (N, S, S, 3).
    Returns:
        float32, shape (N, 54), shares and values in [0, 1].
    """
    values = images.reshape(len(images), -1, 3)
    cells = (values // (256 // HISTOGRAM_BINS)).astype(np.int64) + HISTOGRAM_BINS * np.arange(3)
    counts = np.stack([np.bincount(one.ravel(), minlength=3 * HISTOGRAM_BINS) for one in cells])
    scaled = values.astype(np.float32) / 255
    parts = [counts / values.shape[1], scaled.mean(axis=1), scaled.std(axis=1)]
    return np.concatenate(parts, axis=1).astype(np.float32)
