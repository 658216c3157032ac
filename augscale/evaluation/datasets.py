"""Labelled images for evaluation: class numbers, splits and patients of the listed images, and the decoded pixels."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from augscale.config import DataConfig, GreyRangeSetting
from augscale.data.cache import ImageCache, build_cache
from augscale.data.cache_keys import CACHE_VERSION, levels_digest
from augscale.data.facts import file_lines
from augscale.data.image_records import MISSING, ImageRecord, first_reasons
from augscale.data.images import DECODER_VERSION
from augscale.data.labels import classes_line, clean_labels
from augscale.data.retinal.registry import SPLITS
from augscale.data.sanity import check_images
from augscale.data.source_ranges import GreyLevels
from augscale.data.sources import SourceScan, scan_data
from augscale.data.splits import patient_groups
from augscale.errors import ConfigError, DataError
from augscale.evaluation.class_order import class_order
from augscale.evaluation.dataset_origins import Origin, find_origin, names_to_open
from augscale.evaluation.interface import Progress
from augscale.evaluation.odd_classes import check_classes
from augscale.evaluation.split_rules import complete_splits
from augscale.settings import nearest, parse_settings
from augscale.statistics.arrays import Integers


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImages:
    """One dataset, decoded: every listed image has a row, exact duplicates too.

    Attributes:
        name: of the dataset.
        classes: index = class number; class 0 is the normal one where the names say which is normal.
        images: uint8, shape (M, S, S, 3), the cache's pixels, memory-mapped; other images may be among them.
        rows: int64, shape (N,), row of `images` for each listed image (duplicates share one).
        image_ids: N different ids, sorted.
        labels: int64, shape (N,), class numbers.
        split: N times "train", "val" or "test".
        groups: int64, shape (N,): patients; exact duplicates share one, an image without patient id has its own.
        fingerprint: hash of ids, contents, labels, splits, patients, classes and decode settings. It does not depend on
            the place of the files.
        contents: N hashes of the files' bytes; empty where they are not known.
        label_space: meaning of the classes, if the registry states it; equal label spaces share all classes.
        notes: images left out, splits made and classes missing, a line each.
    """

    name: str
    classes: tuple[str, ...]
    images: np.memmap[Any, np.dtype[np.uint8]]
    rows: Integers
    image_ids: tuple[str, ...]
    labels: Integers
    split: tuple[str, ...]
    groups: Integers
    fingerprint: str
    contents: tuple[str, ...] = ()
    label_space: str | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.images.shape[1])

    def part(self, split: str) -> Integers:
        """Indices (int64, ascending) of the listed images of one split."""
        return np.flatnonzero(np.array(self.split) == split).astype(np.int64)

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per split and class."""
        found = Counter(zip(self.split, self.labels.tolist(), strict=True))
        return {split: {name: found[split, i] for i, name in enumerate(self.classes)} for split in SPLITS}

    def introduction(self) -> list[str]:
        """Lines to print before anything is computed: classes and splits with their images, then the notes."""
        counts = self.counts()
        classes = [(name, sum(counts[split][name] for split in SPLITS)) for name in self.classes]
        first = classes_line(self.name, classes, [(split, sum(counts[split].values())) for split in SPLITS])
        return [first, *(f"{self.name}: {note}" for note in self.notes)]

    def restricted(self, classes: Sequence[str]) -> LabelledImages:
        """Only the images of these classes, renumbered in the order given; splits stay as they are.

        Raises:
            DataError: an unknown class, fewer than two, or a split that training or testing needs becomes empty.
        """
        for name in classes:
            if name not in self.classes:
                raise DataError(
                    f"{self.name}: no class {name!r}{nearest(name, list(self.classes))}; "
                    f"classes: {', '.join(self.classes)}"
                )
        if tuple(classes) == self.classes:
            return self
        numbers = np.full(len(self.classes), -1, dtype=np.int64)
        for number, name in enumerate(classes):
            numbers[self.classes.index(name)] = number
        keep = np.flatnonzero(numbers[self.labels] >= 0)
        left_out = [name for name in self.classes if name not in classes]
        restricted = replace(
            self,
            classes=tuple(classes),
            rows=self.rows[keep],
            image_ids=tuple(self.image_ids[i] for i in keep),
            labels=numbers[self.labels[keep]],
            split=tuple(self.split[i] for i in keep),
            groups=self.groups[keep],
            contents=tuple(self.contents[i] for i in keep) if self.contents else (),
            fingerprint=_digest([self.fingerprint, *classes]),
            label_space=None,
            notes=(f"{len(self) - len(keep)} images of {', '.join(left_out)} left out",) if left_out else (),
        )
        return replace(restricted, notes=(*restricted.notes, *_class_notes(restricted)))


def open_dataset(
    name_or_path: str | Path,
    *,
    size: int,
    data_root: Path | None = None,
    crop_to_field: bool = False,
    cache_root: Path | None = None,
    allow_bad: bool = False,
    split_seed: int = 0,
    classes: Sequence[str] | None = None,
    unlabelled: Collection[str] = (),
    synthetic_patients: int = 300,
    grey_range: GreyRangeSetting = "auto",
    exclude: Sequence[str] = (),
    patient_pattern: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> LabelledImages:
    """Opens a labelled dataset and decodes its images, or finds them decoded.

    Args:
        name_or_path: a prepared dataset by name (any case), a folder (class folders, with or without train/val/test
            above them, or with labels.csv), a table, or "synthetic". A `Path`, and a text with a slash or with a dot
            in front, is always a path.
        size: side of the decoded images in pixels.
        data_root: folder of prepared datasets; None takes `default_data_root()`.
        crop_to_field: cut fundus photographs to their field of view first.
        cache_root: folder of the caches of decoded images; None takes the default.
        allow_bad: leave out listed images that are missing, and go on when more than 5 % cannot be decoded.
        split_seed: of splits that have to be made, see `complete_splits`.
        classes: class names in index order; None takes the registry's, or that of `class_order`.
        unlabelled: labels that mean no label, e.g. ["-1"]; such images are left out.
        synthetic_patients: how many patients the built-in photographs have.
        grey_range: as `data.range`; "auto" finds one over the whole dataset, for all its splits.
        exclude: patterns of files that are not used, as `data.exclude`.
        patient_pattern: takes patient ids from file names, as `data.patient_pattern`.
        on_progress: called with (images done, images in all) while files are read and decoded.
    Raises:
        DataError: no such dataset, no labels, a negative label that `unlabelled` does not name, one class only,
            missing images, or splits that cannot be used.
        ConfigError: `classes` does not fit the labels, or a setting such as `patient_pattern` is not valid.
    """
    origin = find_origin(name_or_path, data_root)
    values = {
        "sources": (origin.source,),
        "cache_size": size,
        "crop_to_field": crop_to_field,
        "synthetic_patients": synthetic_patients,
        "range": grey_range,
        "exclude": tuple(exclude),
        "patient_pattern": patient_pattern,
    }
    config = parse_settings(DataConfig, values, origin.name)
    scan = scan_data(config)
    notes = [*origin.notes, *_missing(origin.name, scan, allow_bad), *scan.notes, *scan.label_notes]
    listed, label_notes = _with_clean_labels(origin, scan, unlabelled, classes or origin.classes)
    notes += label_notes
    cache = build_cache(config, cache_root=cache_root, allow_bad=allow_bad, on_progress=on_progress, scan=scan)
    sanity = check_images(cache, allow_bad=True)
    records, left_out = _usable(listed, cache)
    notes += left_out
    if not records:
        raise DataError(f"{origin.name}: no labelled image can be used: {first_reasons(cache.bad)}")
    order = class_order([record.label or "" for record in records], classes or origin.classes)
    numbers = np.array([order.index(record.label or "") for record in records], dtype=np.int64)
    _need_two_classes(origin.name, order, numbers)
    odd_classes = check_classes(origin.name, records, cache, sanity, allow_bad=allow_bad)
    if not allow_bad:
        sanity.require_photographs()
    notes += [*cache.levels.lines(), *file_lines(cache, sanity), *odd_classes]
    return _with_splits(origin, records, order, numbers, cache, config, split_seed, notes)


def _with_splits(
    origin: Origin,
    records: Sequence[ImageRecord],
    classes: tuple[str, ...],
    labels: Integers,
    cache: ImageCache,
    config: DataConfig,
    split_seed: int,
    notes: Sequence[str],
) -> LabelledImages:
    groups = patient_groups(records)
    splits, split_notes, kept = complete_splits(origin.name, records, labels, groups, split_seed)
    chosen = [records[i] for i in kept]
    labelled = LabelledImages(
        name=origin.name,
        classes=classes,
        images=cache.images,
        rows=_rows(chosen, cache),
        image_ids=tuple(record.image_id for record in chosen),
        labels=labels[kept],
        split=tuple(splits),
        groups=groups[kept],
        fingerprint=_fingerprint(classes, chosen, labels[kept], splits, groups[kept], config, cache.levels),
        contents=tuple(record.content or "" for record in chosen),
        label_space=origin.label_space if classes == origin.classes else None,
    )
    found = (*notes, *split_notes, *_leaks(chosen, labelled), *_class_notes(labelled))
    return replace(labelled, notes=found)


def open_datasets(
    datasets: str | Path | Sequence[str | Path],
    open_one: Callable[..., LabelledImages],
    *,
    data_root: Path | None,
    on_progress: Progress | None,
    say: Callable[[str], None] | None,
) -> tuple[list[LabelledImages], list[str]]:
    """Opens several datasets.

    Args:
        datasets: see `evaluate`.
        open_one: `open_dataset` with its settings; called with (name, on_progress=...).
        data_root: where "all" looks for prepared datasets.
        on_progress: called with (what, images done, images in all).
        say: called with the introduction of each dataset, line by line.
    Returns:
        The datasets, and notes on them.
    Raises:
        ConfigError: two datasets have one name.
        DataError: see `open_dataset`.
    """
    wanted, notes = names_to_open(datasets, data_root)
    opened: list[LabelledImages] = []
    for name in wanted:
        decoding = None if on_progress is None else partial(on_progress, f"decoding {name}")
        dataset = open_one(name, on_progress=decoding)
        if any(dataset.name == other.name for other in opened):
            raise ConfigError(f"--datasets: two are called {dataset.name}; expected different names")
        opened.append(dataset)
        introduction = dataset.introduction()
        notes += introduction[1:]
        if say is not None:
            for line in introduction:
                say(line)
    return opened, notes


def _missing(name: str, scan: SourceScan, allow_bad: bool) -> list[str]:
    """Refuses a table that names files that do not exist, because results on the rest are not those of the split."""
    missing = [entry for entry in scan.bad if entry.reason.startswith(MISSING)]
    if missing and not allow_bad:
        cause = missing[0].reason.removeprefix(MISSING).removeprefix("; ")
        raise DataError(
            f"{name}: {len(missing)} of its files do not exist, e.g. {missing[0].path}{cause and f' ({cause})'}; "
            "repair the table or the download, or leave them out with --allow-bad"
        )
    return [f"{len(scan.bad)} files left out ({first_reasons(scan.bad)})"] if scan.bad else []


def _with_clean_labels(
    origin: Origin, scan: SourceScan, unlabelled: Collection[str], classes: Sequence[str] | None
) -> tuple[list[ImageRecord], list[str]]:
    """The records with one spelling for each class, and notes on joined and left-out labels."""
    clean = clean_labels(origin.name, [r.label for r in scan.records], unlabelled=unlabelled, classes=classes)
    if not any(label is not None for label in clean.labels):
        why = "".join(f"; {note}" for note in (*scan.notes, *scan.label_notes, *clean.notes))
        raise DataError(
            f"{origin.name}: none of its {len(scan.records)} images has a label; "
            f"expected two or more class folders, or a table with columns file,label{why}"
        )
    records = [replace(record, label=label) for record, label in zip(scan.records, clean.labels, strict=True)]
    return records, list(clean.notes)


def _usable(listed: Sequence[ImageRecord], cache: ImageCache) -> tuple[list[ImageRecord], list[str]]:
    """Labelled images with pixels and their contents, sorted by id, and notes on those left out."""
    contents = {record.image_id: record.content for record in cache.records}
    contents |= {copy: contents[kept] for copy, kept in cache.duplicates.items()}
    decoded = [replace(r, content=contents[r.image_id]) for r in listed if r.image_id in contents]
    labelled = sorted((record for record in decoded if record.label is not None), key=lambda record: record.image_id)
    notes = []
    if len(decoded) < len(listed):
        notes.append(f"{len(listed) - len(decoded)} images cannot be decoded: left out ({first_reasons(cache.bad)})")
    if len(labelled) < len(decoded):
        notes.append(f"{len(decoded) - len(labelled)} images without a label left out")
    return labelled, notes


def _rows(records: Sequence[ImageRecord], cache: ImageCache) -> Integers:
    rows = {record.image_id: row for row, record in enumerate(cache.records)}
    return np.array([rows[cache.duplicates.get(r.image_id, r.image_id)] for r in records], dtype=np.int64)


def _need_two_classes(name: str, classes: Sequence[str], labels: Integers) -> None:
    present = np.unique(labels)
    if len(present) < 2:
        only = classes[int(present[0])]
        raise DataError(
            f"{name}: all {len(labels)} labelled images are of class {only!r}; expected at least two classes"
        )


def _leaks(records: Sequence[ImageRecord], labelled: LabelledImages) -> list[str]:
    """Notes on patients in several splits and on copies with different labels; the images stay."""
    splits: dict[int, set[str]] = {}
    labels: dict[str | None, set[int]] = {}
    for record, group, split, label in zip(
        records, labelled.groups.tolist(), labelled.split, labelled.labels.tolist(), strict=True
    ):
        splits.setdefault(group, set()).add(split)
        labels.setdefault(record.content, set()).add(label)
    notes = []
    across = sum(len(found) > 1 for found in splits.values())
    if across:
        notes.append(f"{across} patients or exact copies lie in several splits: results are too good")
    torn = sum(len(found) > 1 for found in labels.values())
    if torn:
        notes.append(f"{torn} images have exact copies with another label")
    return notes


def _class_notes(labelled: LabelledImages) -> list[str]:
    """Notes on classes that cannot be learned or measured, a line each.

    Raises:
        DataError: nothing to train or test on, or one class only to learn.
    """
    counts = labelled.counts()
    train, test = counts["train"], counts["test"]
    for split in SPLITS:
        if not any(counts[split].values()):
            raise DataError(f"{labelled.name}: no image is in {split} (classes {', '.join(labelled.classes)})")
    learnable = [name for name, count in train.items() if count]
    if len(learnable) < 2:
        raise DataError(f"{labelled.name}: all training images are of class {learnable[0]!r}; expected two classes")
    notes = []
    for name in labelled.classes:
        total = sum(counts[split][name] for split in SPLITS)
        if total == 0:
            notes.append(f"class {name!r} has no image")
        elif train[name] == 0:
            notes.append(f"class {name!r} has no image in train: none of its {total} images can be recognized")
        elif test[name] == 0:
            only = "one image, in train" if total == 1 else "no image in test"
            notes.append(f"class {name!r} has {only}: averages over classes leave it out")
    return notes


def _fingerprint(
    classes: Sequence[str],
    records: Sequence[ImageRecord],
    labels: Integers,
    splits: Sequence[str],
    groups: Integers,
    config: DataConfig,
    levels: GreyLevels,
) -> str:
    numbers = np.unique(groups, return_inverse=True)[1].tolist()
    settings = [CACHE_VERSION, DECODER_VERSION, config.cache_size, config.crop_to_field, *levels_digest(levels)]
    images = [(record.image_id, record.content) for record in records]
    return _digest([settings, list(classes), *zip(images, labels.tolist(), splits, numbers, strict=True)])


def _digest(values: Iterable[object]) -> str:
    return hashlib.blake2b(json.dumps(list(values)).encode(), digest_size=16).hexdigest()
