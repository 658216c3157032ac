"""Checks of embeddings and patient numbers that callers pass as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError

CHUNK_ROWS = 4096
"""Number of rows checked or prepared at a time."""


def finite_embeddings(embeddings: npt.ArrayLike, axes: tuple[str, ...]) -> npt.NDArray[Any]:
    """The embeddings as an array.

    Args:
        embeddings: finite floats.
        axes: names of the axes that they must have, features last.
    Raises:
        DataError: another number of axes, an empty axis, no floats, or values that are not finite.
    """
    points = np.asarray(embeddings)
    if points.ndim != len(axes) or 0 in points.shape or not np.issubdtype(points.dtype, np.floating):
        raise DataError(
            f"embeddings: {points.dtype} of shape {points.shape}; expected floats of shape ({', '.join(axes)}), "
            "at least 1 each"
        )
    bad = sum(
        int((~np.isfinite(points[begin : begin + CHUNK_ROWS])).any(axis=-1).sum())
        for begin in range(0, len(points), CHUNK_ROWS)
    )
    if bad:
        raise DataError(f"embeddings: {bad} of {points[..., 0].size} are not finite; expected finite numbers")
    return points


def group_numbers(
    groups: npt.ArrayLike | None, count: int, *, rows: str = "images", several: bool = False
) -> npt.NDArray[np.int64]:
    """Patients as numbers 0, ..., G - 1.

    Args:
        groups: any values, shape (count,); None: every row is its own group.
        count: number of rows.
        rows: name of the rows in error messages.
        several: require at least two groups.
    Returns:
        int64, shape (count,).
    Raises:
        DataError: another shape, or one group where several are needed.
    """
    group_ids = np.arange(count) if groups is None else np.asarray(groups)
    if group_ids.shape != (count,):
        raise DataError(f"groups: shape {group_ids.shape}; expected one group per {rows.removesuffix('s')}, ({count},)")
    numbers = np.unique(group_ids, return_inverse=True)[1].astype(np.int64)
    if several and numbers.max() < 1:
        raise DataError(f"groups: all {count} {rows} belong to one; expected at least 2 to have negative pairs")
    return numbers
