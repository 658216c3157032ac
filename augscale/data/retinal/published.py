"""Reads RETFound's published splits (`train/val/test/CLASS/image`), and recognizes class folders."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path

from augscale.data.image_tables import normal_split
from augscale.data.retinal.downloads import PUBLISHED, Download, LabelledFile, files_below, images_of, shown
from augscale.data.retinal.registry import SPLITS, RetinalDataset
from augscale.errors import DataError

_SEARCHED_DEPTH = 3
_LEADING_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\.\s*\S")


def read_published(dataset: RetinalDataset, folder: Path) -> Download | None:
    """The images of split folders in a folder or up to two levels below it; None if there are none.

    Raises:
        DataError: split folders in several places, or class folders that do not belong to this dataset.
    """
    tops = _split_tops(folder)
    if not tops:
        return None
    if len(tops) > 1:
        raise DataError(
            f"{folder}: train and test folders in several places, {tops[0]} and {tops[1]}; give one of them"
        )
    found: dict[str, list[tuple[str, Path]]] = {}
    loose = 0
    for child in sorted(path for path in tops[0].iterdir() if path.is_dir()):
        split = normal_split(child.name)
        if split not in SPLITS:
            continue
        for path in images_of(files_below(child)):
            parts = path.relative_to(child).parts
            if len(parts) == 2:
                found.setdefault(parts[0], []).append((split, path))
            else:
                loose += 1
    notes = [f"{loose} images that do not lie in SPLIT/CLASS/ are left out"] if loose else []
    numbers = class_numbers(dataset, sorted(found), tops[0])
    images = [
        LabelledFile(path=path, label=numbers[name], split=split)
        for name, places in found.items()
        for split, path in places
    ]
    return Download(layout=PUBLISHED, images=sorted(images, key=lambda image: image.path), notes=notes)


def class_numbers(dataset: RetinalDataset, folders: Sequence[str], where: Path) -> dict[str, int]:
    """The class number of each class folder.

    A folder is recognized by the name of a class, by the folder name in RETFound's splits, for JSIEC by its leading
    number, and otherwise by an initial a, b, c, ... in class order, as in RETFound's splits.

    Raises:
        DataError: an unknown folder, a class without a folder, or two folders of one class.
    """
    numbers: dict[str, int] = {}
    for name in folders:
        number = class_number(dataset, name)
        if number is None:
            raise DataError(
                f"{where}: class folder {name!r} does not belong to {dataset.name}; "
                f"expected {', '.join(dataset.published_folders)}"
            )
        if number in numbers.values():
            raise DataError(f"{where}: several folders for class {dataset.classes[number]!r}, {name!r} is one of them")
        numbers[name] = number
    missing = [name for i, name in enumerate(dataset.published_folders) if i not in numbers.values()]
    if missing:
        raise DataError(f"{where}: {len(missing)} class folders of {dataset.name} are missing ({shown(missing)})")
    return numbers


def class_number(dataset: RetinalDataset, folder: str) -> int | None:
    """The class number of a folder name, or None."""
    name = folder.strip().casefold()
    for known in (dataset.published_folders, dataset.classes):
        names = [each.casefold() for each in known]
        if name in names:
            return names.index(name)
    if dataset.name == "JSIEC":
        number = leading_number(folder)
        opening = [leading_number(each) for each in dataset.classes]
        return opening.index(number) if number in opening else None
    for i, known_name in enumerate(dataset.published_folders):
        if name[:1] == string.ascii_lowercase[i] and _alike(name, known_name.casefold()):
            return i
    return None


def leading_number(name: str) -> str | None:
    """ "10.0" of "10.0.Possible glaucoma"; None without one."""
    match = _LEADING_NUMBER.match(name)
    return match[1] if match else None


def _alike(name: str, known: str) -> bool:
    """True if two folder names have the same first three letters, e.g. "dsevere_dr" and "dseveredr"."""
    letters = ["".join(filter(str.isalpha, text)) for text in (name, known)]
    return letters[0][:3] == letters[1][:3]


def _has_splits(folder: Path) -> bool:
    """True for train and test folders with images in class folders below them (not, say, lists of folds)."""
    splits = {normal_split(child.name): child for child in folder.iterdir() if child.is_dir()}
    return {"train", "test"} <= splits.keys() and any(
        path.parent.parent == splits[split]
        for split in ("train", "test")
        for path in images_of(files_below(splits[split]))
    )


def _split_tops(folder: Path) -> list[Path]:
    """Folders that hold split folders with classes: the given one, or others at most a few levels below it."""
    level = [folder]
    for _ in range(_SEARCHED_DEPTH):
        tops = [path for path in level if _has_splits(path)]
        if tops:
            return tops
        level = sorted(
            child
            for path in level
            for child in path.iterdir()
            if child.is_dir() and not child.name.startswith((".", "__MACOSX"))
        )
    return []
