"""How many images are nearly the same as another: for the check before training, in bounded time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augscale.data.thumbnails import thumbnails_standardised

MIN_CORRELATION = 0.998
"""Of two thumbnails, as in `augscale.diagnosis.near_duplicates`."""
MOST_QUERIES = 2048
_CHUNK = 256

Indices = npt.NDArray[np.int64]


def near_twins(images: npt.NDArray[np.uint8], rows: Indices) -> tuple[Indices, Indices]:
    """Looks for the most similar other image of each, or of 2048 evenly spread ones where there are more.

    Args:
        images: uint8, shape (N, S, S, 3).
        rows: int64, shape (M,), the images to compare with each other.
    Returns:
        Two of int64, shape (Q,): the rows that were looked at, and of each the most similar other row, or -1 where its
        thumbnail correlates with none by 0.998 or more.
    """
    chosen = np.unique(np.linspace(0, max(0, len(rows) - 1), min(len(rows), MOST_QUERIES)).astype(np.int64))
    twins = np.full(len(chosen), -1, dtype=np.int64)
    if len(rows) < 2:
        return rows[chosen], twins
    thumbs = thumbnails_standardised(images if len(rows) == len(images) else images[rows])
    for begin in range(0, len(chosen), _CHUNK):
        queries = chosen[begin : begin + _CHUNK]
        alike = thumbs[queries] @ thumbs.T
        alike[np.arange(len(queries)), queries] = -1
        best = alike.argmax(axis=1)
        is_twin = alike[np.arange(len(queries)), best] >= MIN_CORRELATION
        twins[begin : begin + len(queries)] = np.where(is_twin, rows[best], -1)
    return rows[chosen], twins
