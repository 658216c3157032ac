"""Checks of a table of trials, and what is common to the rows of one group.

Axes: n rows (trials), G groups, R draws of the test images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def value_rows(values: npt.ArrayLike, name: str) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise DataError(f"{name}: shape {found.shape}; expected one value per trial")
    if not np.isfinite(found).all():
        raise DataError(f"{name}: {int((~np.isfinite(found)).sum())} of {len(found)} values are not finite")
    return found


def outcome_versions(values: npt.ArrayLike | None, n: int) -> Floats | None:
    if values is None:
        return None
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != n or not len(found):
        raise DataError(f"outcome_draws: shape {found.shape}; expected (draws, {n})")
    if not np.isfinite(found).all():
        raise DataError(f"outcome_draws: {int((~np.isfinite(found)).sum())} values are not finite")
    return found


def group_numbers(groups: npt.ArrayLike | None, n: int) -> tuple[Integers, int]:
    """Group of each row as 0 .. G-1 in order of first appearance, and G."""
    if groups is None:
        return np.arange(n), n
    given = np.asarray(groups)
    if given.shape != (n,):
        raise DataError(f"groups: shape {given.shape}; expected ({n},)")
    _, first, inverse = np.unique(given, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[inverse].astype(np.int64), len(first)


def group_means(values: Floats, group_of: Integers) -> Floats:
    """Means over the rows of each group along the last axis."""
    member = np.zeros((values.shape[-1], int(group_of.max(initial=-1)) + 1))
    member[np.arange(len(group_of)), group_of] = 1.0
    return (values @ member) / member.sum(axis=0)


def group_names(names: Sequence[str] | None, group_of: Integers, num_groups: int) -> list[str]:
    if names is None:
        return [str(index) for index in range(num_groups)]
    if len(names) != len(group_of):
        raise DataError(f"names: {len(names)} names for {len(group_of)} trials; expected one each")
    found: dict[int, str] = {}
    for name, group in zip(names, group_of.tolist(), strict=True):
        if found.setdefault(group, name) != name:
            raise DataError(f"names: {found[group]!r} and {name!r} are in one group; expected one name per group")
    return [found[index] for index in range(num_groups)]
