"""Which images belong together, and which are held out: a patient is never on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from augscale.data.manifest import ImageRecord
from augscale.errors import DataError

Indices = npt.NDArray[np.int64]

MAX_HELD_OUT_SHARE = 0.5


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
    """Chooses images that pre-training does not see, whole patients at a time, from all sources in proportion.

    Depends on the seed and on what the images are (content where known, else id), not on the order of the records.

    Args:
        records: the images.
        num_images: how many to hold out, at most half of them. Where whole patients do not fit exactly, the
            result is a little smaller, never larger.
        seed: any integer.
    Returns:
        Rows to train on and rows held out, each int64 and in an order that does not depend on that of `records`;
        together every row once.
    Raises:
        DataError: more than half asked for, or patients with so many images that less than half of the wish fits.
    """
    limit = int(len(records) * MAX_HELD_OUT_SHARE)
    if not 1 <= num_images <= limit:
        raise DataError(
            f"{num_images} images are to be held out of {len(records)}; expected 1 to {limit}: "
            "lower probe.images or give more images"
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
    """Rows of patients in seeded order, as long as they fit: first into each source's share, then into what is left."""
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
    """A seeded subset, whole patients as far as the number allows, in the order of `records`.

    Depends on the ids below each source, so another name of the folder gives the same subset.
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
    """Splits a total in proportion to sizes, by largest remainder.

    Args:
        sizes: at least one above 0.
        total: what the shares add up to.
        caps: the most that rounding up may give each; where all are reached the shares add up to less.
    """
    exact = [size * total / sum(sizes) for size in sizes]
    shares = [int(value) for value in exact]
    rest = sorted(range(len(sizes)), key=lambda i: (shares[i] - exact[i], -sizes[i], i))
    open_ = [i for i in rest if caps is None or shares[i] < caps[i]]
    for i in open_[: total - sum(shares)]:
        shares[i] += 1
    return shares


def seeded_rank(seed: int, name: str) -> bytes:
    """Sorts names into an order that depends on the seed and the names alone."""
    return hashlib.blake2b(f"{seed}\x1f{name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
