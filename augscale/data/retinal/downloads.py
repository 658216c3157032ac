"""Access to an unpacked download: its files, its images by name, and the tables that label them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from augscale.data.file_types import IMAGE_SUFFIXES
from augscale.data.folders import walk_files
from augscale.data.retinal.registry import RetinalDataset
from augscale.data.table_files import read_lines
from augscale.errors import DataError
from augscale.settings import nearest

PUBLISHED = "RETFound's train/val/test folders"
NATIVE = "the owners' layout"

_PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".001")
_NAMES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """One image of a download; `label` is the class number, `split` the published one."""

    path: Path
    label: int
    split: str | None = None
    patient_id: str | None = None
    eye: str | None = None


@dataclass(frozen=True, kw_only=True)
class Download:
    """Labelled images of a download.

    Attributes:
        layout: `PUBLISHED` or `NATIVE`.
        images: sorted by path.
        notes: lines about images left out and other doubts.
    """

    layout: str
    images: list[LabelledFile]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """The files of an unpacked download, sorted, without hidden ones and those of macOS archives."""

    dataset: RetinalDataset
    folder: Path
    files: list[Path]

    @classmethod
    def open(cls, dataset: RetinalDataset, source: Path | str) -> Unpacked:
        """Lists the files of a download.

        Raises:
            DataError: not a folder, still packed, or a folder that cannot be listed.
        """
        folder = Path(source).expanduser()
        if folder.is_file() and folder.suffix.lower() in _PACKED:
            raise DataError(f"{folder} is packed; unpack it first and give the folder")
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; expected the unpacked download")
        return cls(dataset=dataset, folder=folder.absolute(), files=files_below(folder.absolute()))

    @property
    def images(self) -> list[Path]:
        return images_of(self.files)

    def named(self, *words: str, suffix: str) -> list[Path]:
        """Files whose names hold all words, in any case."""
        return [
            path
            for path in self.files
            if path.suffix.lower() == suffix and all(word in path.stem.casefold() for word in words)
        ]

    def the_only(self, tables: Sequence[Path], what: str) -> Path:
        """The single element of a list of tables.

        Raises:
            DataError: none or several; `what` names them.
        """
        if len(tables) != 1:
            raise self.not_recognized(f"{len(tables)} {what}")
        return tables[0]

    def not_recognized(self, what: str) -> DataError:
        """The error for a folder that does not hold what a layout needs; names an archive that is still packed."""
        packed = [path.name for path in self.files if path.suffix.lower() in _PACKED]
        hint = f"; {packed[0]} is still packed: unpack it first" if packed else ""
        return DataError(
            f"{self.folder}: {what}; expected for {self.dataset.name}: {self.dataset.native}, or "
            f"train/val/test/CLASS folders{hint}"
        )


class ImageIndex:
    """Images by name without extension, in any case: sources of one dataset disagree on .png, .jpg and .JPG."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._by_stem: dict[str, list[Path]] = {}
        for path in paths:
            self._by_stem.setdefault(path.stem.casefold(), []).append(path)

    def __len__(self) -> int:
        return sum(map(len, self._by_stem.values()))

    def find(self, name: str) -> Path | None:
        """The image of that name, with or without extension.

        Raises:
            DataError: several images have it.
        """
        suffix = Path(name).suffix.lower()
        stem = Path(name).stem if suffix in IMAGE_SUFFIXES else name
        found = self._by_stem.get(stem.casefold(), [])
        if len(found) > 1:
            raise DataError(f"{name} is there more than once: {found[0]} and {found[1]}; expected one copy")
        return found[0] if found else None

    def find_all(self, names: Sequence[str], table: Path) -> list[Path]:
        """The images that a table names.

        Raises:
            DataError: one of them is missing.
        """
        found = [self.find(name) for name in names]
        missing = [name for name, path in zip(names, found, strict=True) if path is None]
        if missing:
            raise DataError(
                f"{table}: {len(missing)} of {len(names)} images that it names are missing ({shown(missing)}); "
                "is the download complete and unpacked?"
            )
        return [path for path in found if path is not None]


def files_below(folder: Path) -> list[Path]:
    """All files, sorted, without hidden ones and those of macOS archives; raises DataError."""
    found = (here / name for here, names in walk_files(folder) for name in names if "__MACOSX" not in here.parts)
    return sorted(found)


def images_of(files: Iterable[Path]) -> list[Path]:
    return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]


def table_columns(path: Path, *columns: str) -> list[tuple[str, ...]]:
    """The stripped cells of some columns of a table; spaces around column names do not matter.

    Raises:
        DataError: unreadable, or a column is missing.
    """
    header, lines = read_lines(path)
    names = [name.strip().casefold() for name in header]
    for column in columns:
        if column.casefold() not in names:
            raise DataError(
                f"{path}: no column named {column!r}{nearest(column, [n for n in names if n])}; "
                f"columns found: {', '.join(name.strip() for name in header if name.strip()) or 'none'}"
            )
    places = [names.index(column.casefold()) for column in columns]
    return [tuple(cells[i].strip() if i < len(cells) else "" for i in places) for _, cells in lines]


def graded(
    dataset: RetinalDataset, table: Path, index: ImageIndex, rows: Sequence[tuple[str, str]], split: str | None = None
) -> list[LabelledFile]:
    """The images that a table names, with their grades, such as "2" or "2.0".

    Raises:
        DataError: an image is missing, or a grade is not the number of a class.
    """
    images = []
    for path, (name, text) in zip(index.find_all([name for name, _ in rows], table), rows, strict=True):
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if value not in range(len(dataset.classes)):
            raise DataError(
                f"{table}: grade {text!r} of {name}; expected a whole number from 0 to {len(dataset.classes) - 1}"
            )
        images.append(LabelledFile(path=path, label=int(value), split=split))
    return images


def refuse_repeats(names: Sequence[str], table: Path) -> None:
    """Refuses a table that lists an image twice.

    Raises:
        DataError: it does.
    """
    twice = [name for name, count in Counter(map(str.casefold, names)).items() if count > 1]
    if twice:
        raise DataError(
            f"{table}: {len(twice)} images are listed more than once ({shown(twice)}); expected one row each"
        )


def with_patients(images: Iterable[LabelledFile], patients: dict[Path, tuple[str, str]]) -> list[LabelledFile]:
    """The images with known patients and eyes filled in."""
    unknown = (None, None)
    return [
        replace(image, patient_id=patient or image.patient_id, eye=eye or image.eye)
        for image in images
        for patient, eye in [patients.get(image.path, unknown)]
    ]


def shown(names: Sequence[str]) -> str:
    """The first few names of a list, for a message."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
