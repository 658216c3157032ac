"""Seeded splits into train, val and test: class shares kept, groups (patients) whole, wanted numbers met.

With groups of one image the numbers per split are exact, and those per class exact up to rounding. With larger groups
the assignment is greedy, the largest groups and the rarest classes first, each group to the split that lacks its
classes most (the idea of iterative stratification: Sechidis, Tsoumakas & Vlahavas, ECML PKDD 2011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from augscale.data.splits import proportional_shares, seeded_rank

REST = "train"
"""The split that takes what the others leave, and at least one image of every class where groups allow."""


def stratified_split(
    labels: Sequence[int] | npt.NDArray[np.int64],
    groups: Sequence[int] | npt.NDArray[np.int64],
    names: Sequence[str],
    *,
    counts: Mapping[str, int],
    seed: int,
) -> list[str]:
    """Assigns every image to a split; depends on the seed and the names, not on the order of the images.

    Args:
        labels: class number of each image, 0 or more, length N.
        groups: group of each image, any integers; a group is never divided.
        names: what each image is called; different for different images.
        counts: images wanted in each split, among them `REST`; where they do not add up to N they are taken as
            proportions.
        seed: any integer.
    Returns:
        The split of each image, length N.
    """
    if len(labels) == 0:
        return []
    classes, numbers = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)
    splits = [*sorted(name for name in counts if name != REST), REST]
    targets = _targets(np.bincount(numbers, minlength=len(classes)), [counts[name] for name in splits])
    members: dict[int, list[int]] = {}
    for row, group in enumerate(np.asarray(groups).tolist()):
        members.setdefault(group, []).append(row)
    class_sizes = targets.sum(axis=0)
    order = sorted(
        members.values(),
        key=lambda rows: (
            -len(rows),
            min(class_sizes[numbers[row]] for row in rows),
            seeded_rank(seed, min(names[row] for row in rows)),
        ),
    )
    assigned = np.zeros_like(targets)
    result = [REST] * len(names)
    for rows in order:
        contents = np.bincount(numbers[rows], minlength=len(classes))
        chosen = _neediest(contents, assigned, targets)
        assigned[chosen] += contents
        for row in rows:
            result[row] = splits[chosen]
    return result


def _targets(class_sizes: npt.NDArray[np.int64], wanted: list[int]) -> npt.NDArray[np.int64]:
    """Images of each class in each split, shape (splits, classes); the last split leaves no class empty."""
    totals = proportional_shares(wanted, int(class_sizes.sum()))
    left = class_sizes.copy()
    targets = np.zeros((len(wanted), len(class_sizes)), dtype=np.int64)
    for row, total in enumerate(totals[:-1]):
        targets[row] = proportional_shares(left.tolist(), total, caps=(left - 1).tolist())
        left -= targets[row]
    targets[-1] = left
    return targets


def _neediest(contents: npt.NDArray[np.int64], assigned: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]) -> int:
    """The split with room whose squared shortfall, relative to what it should get, shrinks most by these images."""
    room = targets.sum(axis=1) - assigned.sum(axis=1)
    change = (contents * (2 * (assigned - targets) + contents) / np.maximum(targets, 0.5)).sum(axis=1)
    fits = room >= contents.sum()
    if not fits.any():
        return int(np.argmax(room))
    return int(np.argmin(np.where(fits, change, np.inf)))
