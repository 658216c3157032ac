"""Patients, held-out images and seeded splits: images of one patient are never separated.

`stratified_split` keeps class shares. With groups of one image the numbers per split are exact, and those per class
exact up to rounding. With larger groups the assignment is greedy, the largest groups and the rarest classes first, each
group to the split that lacks its classes most (the idea of iterative stratification: Sechidis, Tsoumakas & Vlahavas,
ECML PKDD 2011).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from augscale.data.image_records import ImageRecord
from augscale.errors import DataError

Indices = npt.NDArray[np.int64]

MAX_HELD_OUT_SHARE = 0.5
REST = "train"
"""The split that takes the remaining images, and at least one of every class if groups allow it."""


def patient_groups(records: Sequence[ImageRecord]) -> Indices:
    """Numbers the patients: images of one patient, and exact duplicates, get the same number.

    Patient ids are compared within one source only. An image without a patient id is its own patient.

    Returns:
        int64, shape (N,), numbers 0, 1, ... in the order in which patients first appear.
    """
    parent = list(range(len(records)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[tuple[str, ...], int] = {}
    for row, record in enumerate(records):
        keys: list[tuple[str, ...]] = []
        if record.patient_id is not None:
            keys.append(("patient", record.source, record.patient_id))
        if record.content is not None:
            keys.append(("content", record.content))
        for key in keys:
            here, there = root(row), root(first.setdefault(key, row))
            parent[max(here, there)] = min(here, there)
    roots = np.array([root(row) for row in range(len(records))], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def hold_out(records: Sequence[ImageRecord], num_images: int, seed: int) -> tuple[Indices, Indices]:
    """Chooses whole patients whose images pre-training does not see, from all sources in proportion.

    Depends on the seed and on the images (content if known, else id), not on the order of the records.

    Args:
        records: the images.
        num_images: number to hold out, at most half of them. If whole patients do not fit exactly, the result is a
            little smaller, never larger.
        seed: any integer.
    Returns:
        Rows to train on and rows held out, each int64; together they contain every row once. Their order does not
        depend on that of `records`.
    Raises:
        DataError: more than half is asked for, or less than half of `num_images` fits in whole patients.
    """
    limit = int(len(records) * MAX_HELD_OUT_SHARE)
    if not 1 <= num_images <= limit:
        raise DataError(
            f"{num_images} images are to be held out of {len(records)}; expected 1 to {limit}: lower probe.images "
            f"(--set probe.images={max(1, len(records) // 3)}) or give more images"
        )
    names = [record.content or record.image_id for record in records]
    groups = _members(records, names)
    held_out = _whole_patients(groups, names, num_images, seed)
    if 2 * len(held_out) < num_images:
        sizes = sorted(len(rows) for _, rows in groups.values())
        raise DataError(
            f"only {len(held_out)} of {num_images} images can be held out without splitting a patient: "
            f"{len(groups)} patients have {sizes[0]} to {sizes[-1]} images each; change probe.images"
        )
    is_out = np.zeros(len(records), dtype=bool)
    is_out[held_out] = True
    by_name = np.array(sorted(range(len(records)), key=lambda row: (names[row], records[row].image_id)), dtype=np.int64)
    return by_name[~is_out[by_name]], by_name[is_out[by_name]]


def _whole_patients(
    groups: dict[int, tuple[str, list[int]]], names: Sequence[str], num_images: int, seed: int
) -> list[int]:
    """Rows of patients in seeded order: first those that fit into their source's share, then any that still fit."""
    totals: dict[str, int] = {}
    for source, rows in groups.values():
        totals[source] = totals.get(source, 0) + len(rows)
    sources = sorted(totals)
    room = dict(zip(sources, proportional_shares([totals[source] for source in sources], num_images), strict=True))
    order = sorted(groups, key=lambda number: seeded_rank(seed, names[groups[number][1][0]]))
    held_out: list[int] = []
    passed_over = []
    for number in order:
        source, rows = groups[number]
        if len(rows) <= room[source]:
            room[source] -= len(rows)
            held_out.extend(rows)
        else:
            passed_over.append(rows)
    for rows in passed_over:
        if len(rows) <= num_images - len(held_out):
            held_out.extend(rows)
    return held_out


def choose_subset(records: Sequence[ImageRecord], num_images: int, seed: int) -> list[ImageRecord]:
    """A seeded subset of whole patients (the last one may be cut), in the order of `records`.

    Depends on the ids below each source, so renaming its folder gives the same subset.
    """
    if num_images >= len(records):
        return list(records)
    names = [record.image_id.removeprefix(record.source) for record in records]
    groups = _members(records, names)
    order = sorted(groups, key=lambda number: seeded_rank(seed, names[groups[number][1][0]]))
    rows = [row for number in order for row in groups[number][1]]
    return [records[row] for row in sorted(rows[:num_images])]


def _members(records: Sequence[ImageRecord], names: Sequence[str]) -> dict[int, tuple[str, list[int]]]:
    """Each patient's source and rows, the rows sorted by name."""
    numbers = patient_groups(records)
    members: dict[int, tuple[str, list[int]]] = {}
    for row in sorted(range(len(records)), key=lambda row: (names[row], records[row].image_id)):
        members.setdefault(int(numbers[row]), (records[row].source, []))[1].append(row)
    return members


def proportional_shares(sizes: Sequence[int], total: int, *, caps: Sequence[int] | None = None) -> list[int]:
    """Divides a total in proportion to sizes, by largest remainder.

    Args:
        sizes: at least one above 0.
        total: sum of the shares.
        caps: upper limits when rounding up; if all are reached, the shares add up to less.
    """
    exact = [size * total / sum(sizes) for size in sizes]
    shares = [int(value) for value in exact]
    rest = sorted(range(len(sizes)), key=lambda i: (shares[i] - exact[i], -sizes[i], i))
    open_ = [i for i in rest if caps is None or shares[i] < caps[i]]
    for i in open_[: total - sum(shares)]:
        shares[i] += 1
    return shares


def seeded_rank(seed: int, name: str) -> bytes:
    """Sort key for a random order of names that depends on the seed and the names only."""
    return hashlib.blake2b(f"{seed}\x1f{name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()


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
        labels: class number of each image, at least 0, length N.
        groups: group of each image, any integers; a group is never divided.
        names: one for each image, all different.
        counts: images wanted in each split, among them `REST`; proportions if they do not add up to N.
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
    """The split with room for these images whose squared shortfall, relative to its target, they reduce most."""
    room = targets.sum(axis=1) - assigned.sum(axis=1)
    change = (contents * (2 * (assigned - targets) + contents) / np.maximum(targets, 0.5)).sum(axis=1)
    fits = room >= contents.sum()
    if not fits.any():
        return int(np.argmax(room))
    return int(np.argmin(np.where(fits, change, np.inf)))
