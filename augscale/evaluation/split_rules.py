"""Completes the splits of a dataset that has none, or only some of train, val and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from augscale.data.image_records import ImageRecord
from augscale.data.retinal.registry import SPLITS
from augscale.data.splits import stratified_split
from augscale.errors import DataError
from augscale.statistics.arrays import Integers

MADE_SPLIT = {"train": 60, "val": 16, "test": 24}
"""Shares of a split made here."""


def complete_splits(
    name: str, records: Sequence[ImageRecord], labels: Integers, groups: Integers, seed: int
) -> tuple[list[str], list[str], list[int]]:
    """Gives every image a split. Splits made here never divide a patient.

    - No splits, or all in train: 60/16/24, stratified as well as patients allow.
    - train and test: val is split off train, 16 of 76.
    - train and val: val becomes the test set, because choosing and testing on the same images gives results that are
      too good; a new val is split off train.
    - Images without split, where others have one, are left out, because they may be copies of test images.

    Returns:
        The split of each image kept, notes, and which of the records are kept.
    Raises:
        DataError: an unknown split, no training images, or too few to divide.
    """
    given = Counter(record.split for record in records if record.split is not None)
    unknown = [split for split in given if split not in SPLITS]
    if unknown:
        raise DataError(f"{name}: split {unknown[0]!r}; expected {', '.join(SPLITS)}")
    if set(given) <= {"train"} and (not given or given["train"] == len(records)):
        everything = list(range(len(records)))
        made = _made(name, records, labels, groups, everything, MADE_SPLIT, seed)
        why = "all images are in train" if given else "no splits given"
        unit = "patient" if any(record.patient_id for record in records) else "image"
        return made, [f"{why}: split at random by {unit}, {_shares(made)}, seed {seed}"], everything
    kept = [i for i, record in enumerate(records) if record.split is not None]
    notes = []
    if len(kept) < len(records):
        notes.append(f"{len(records) - len(kept)} labelled images without a split left out, because others have one")
    splits = [records[i].split or "" for i in kept]
    if given["train"] == 0:
        raise DataError(
            f"{name}: no image is in train ({_shares(splits)}); expected train and test, or no splits to have them made"
        )
    if given["test"] == 0:
        if given["val"] == 0:
            raise DataError(
                f"{name}: {len(records) - len(kept)} of {len(records)} images have no split, the rest is train"
            )
        notes.append("no test split given: the val images are the test set, and val is split off train")
        splits = ["test" if split == "val" else split for split in splits]
    if "val" not in splits:
        places = [place for place, split in enumerate(splits) if split == "train"]
        shares = {split: MADE_SPLIT[split] for split in ("train", "val")}
        made = _made(name, records, labels, groups, [kept[place] for place in places], shares, seed)
        for place, split in zip(places, made, strict=True):
            splits[place] = split
        if given["test"]:
            notes.append("no val split given: val is split off train")
        notes[-1] += f", {_shares(splits)}, seed {seed}"
    return splits, notes, kept


def _made(
    name: str,
    records: Sequence[ImageRecord],
    labels: Integers,
    groups: Integers,
    rows: list[int],
    shares: dict[str, int],
    seed: int,
) -> list[str]:
    """A seeded split of some rows that does not depend on the name of the folder."""
    names = [records[row].image_id.removeprefix(records[row].source) for row in rows]
    made = stratified_split(labels[rows], groups[rows], names, counts=shares, seed=seed)
    for split in shares:
        if split not in made:
            sizes = Counter(groups[rows].tolist()).values()
            most = f", the largest patient has {max(sizes)}" if max(sizes) > 1 else ""
            raise DataError(
                f"{name}: {len(rows)} images in {len(np.unique(labels[rows]))} classes are too few to be split into "
                f"{', '.join(shares)} with every class in train{most}; give more images or a split"
            )
    return made


def _shares(splits: Sequence[str]) -> str:
    return "/".join(str(splits.count(split)) for split in SPLITS) + " train/val/test"
