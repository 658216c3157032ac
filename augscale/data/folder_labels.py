"""Splits and labels from folder names (`train`/`val`/`test`, classes), and notes on why they are not used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from augscale.data.image_tables import Row, normal_split
from augscale.data.labels import is_no_class, label_text

_SPLITS = ("train", "val", "test")
_NAMES_SHOWN = 3
_MOSTLY = 0.75
"""If a larger share of the images lies in class folders, a note names the others."""


@dataclass(frozen=True, kw_only=True)
class FolderRows:
    """Splits and labels from folders.

    Attributes:
        rows: split and label of each file.
        notes: reasons why split folders are not read.
        label_notes: reasons why class folders are not read, and folders that are not classes; for use of labels.
    """

    rows: list[Row]
    notes: tuple[str, ...] = ()
    label_notes: tuple[str, ...] = ()


def folder_rows(files: Sequence[PurePosixPath]) -> FolderRows:
    """Split and label of each file by its folders, if *every* file lies in such folders; else empty rows.

    A plain folder with some images in subfolders is therefore not mistaken for a labelled one.

    Args:
        files: paths below the source.
    """
    folders = [inside.parts[:-1] for inside in files]
    if note := _beside_splits(files):
        return FolderRows(rows=[Row() for _ in files], notes=(note,))
    splits: list[str | None] = [None] * len(files)
    if folders and all(_in_split(parts) for parts in folders):
        splits = [normal_split(parts[0]) for parts in folders]
        folders = [parts[1:] for parts in folders]
    labelled = all(len(parts) == 1 for parts in folders) and len({*folders}) >= 2
    labels = [_label(parts[0]) if labelled else None for parts in folders]
    note = _without_label(folders) if labelled else _outside_class_folders(files, folders)
    rows = [Row(label=label, split=split) for label, split in zip(labels, splits, strict=True)]
    return FolderRows(rows=rows, label_notes=(note,) if note else ())


def contradiction_note(files: Sequence[PurePosixPath], rows: Sequence[Row]) -> str | None:
    """A note if a table contradicts folders that are named like its classes or splits; else None.

    Args:
        files: paths below the table.
        rows: their rows in the table.
    """
    folders = folder_rows(files).rows
    for name in ("label", "split"):
        pairs = [
            (file, str(getattr(folder, name)), str(getattr(row, name)))
            for file, folder, row in zip(files, folders, rows, strict=True)
            if None not in (getattr(folder, name), getattr(row, name))
        ]
        differing = [(file, written) for file, here, written in pairs if here.casefold() != written.casefold()]
        shared = {here.casefold() for _, here, _ in pairs} & {written.casefold() for _, _, written in pairs}
        if differing and shared:
            file, written = differing[0]
            return (
                f"{len(differing)} of {len(pairs)} images lie in the folder of another {name} than the table says, "
                f"e.g. {file}: {written!r}; the table counts"
            )
    return None


def _in_split(parts: Sequence[str]) -> bool:
    return bool(parts) and normal_split(parts[0]) in _SPLITS


def _label(folder: str) -> str | None:
    return None if is_no_class(folder) else label_text(folder)


def _without_label(folders: Sequence[tuple[str, ...]]) -> str | None:
    found = Counter(parts[0] for parts in folders if is_no_class(parts[0]))
    shown = ", ".join(f"{name!r} ({count})" for name, count in sorted(found.items()))
    return f"class folder {shown}: taken as no label" if found else None


def _beside_splits(files: Sequence[PurePosixPath]) -> str | None:
    """A note on images beside split folders; they keep folders from being read as splits and as classes."""
    inside = [file for file in files if _in_split(file.parts[:-1])]
    splits = sorted({file.parts[0] for file in inside})
    names = {normal_split(split) for split in splits}
    if len(inside) == len(files) or len(names) < 2 or "train" not in names:
        return None
    return (
        f"{_entries([file for file in files if not _in_split(file.parts[:-1])])} beside {', '.join(splits)}: neither "
        "splits nor classes are read from folders; move it away, or into one of them"
    )


def _outside_class_folders(files: Sequence[PurePosixPath], folders: Sequence[tuple[str, ...]]) -> str | None:
    """A note on files outside class folders if most of the others lie in such folders, else None."""
    proper = [parts[0] for parts in folders if len(parts) == 1]
    others = [file for file, parts in zip(files, folders, strict=True) if len(parts) != 1]
    if not others or len(proper) <= _MOSTLY * len(files) or len({*proper}) < 2:
        return None
    return (
        f"{len(others)} of {len(files)} images do not lie in a class folder as the others do, e.g. {others[0]}: no "
        "label is read from folders; move them away, or into class folders"
    )


def _entries(files: Sequence[PurePosixPath]) -> str:
    """The names at the top level with their numbers of images: `extra/ (3 images)`."""
    found = Counter(file.parts[0] + ("/" if len(file.parts) > 1 else "") for file in files)
    shown = [
        f"{name} ({count} image{'s' * (count > 1)})" if name.endswith("/") else name for name, count in found.items()
    ]
    more = len(shown) - _NAMES_SHOWN
    return ", ".join(shown[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
