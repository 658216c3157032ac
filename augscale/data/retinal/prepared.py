"""Prepared datasets on disk: `DATA_ROOT/NAME/manifest.csv` and `dataset.json`; images are not moved or copied.

`manifest.csv` (`file,label,split,patient_id,eye`) is an ordinary table for every command that takes one.
`dataset.json` is written last: a folder without it is not prepared.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augscale.data.image_tables import COLUMNS, read_table
from augscale.data.retinal.downloads import LabelledFile
from augscale.data.retinal.registry import REGISTRY, SPLITS, RetinalDataset
from augscale.errors import DataError, StudyError
from augscale.runs.files import read_json, write_json, write_text_atomic

MANIFEST_FILE = "manifest.csv"
FACTS_FILE = "dataset.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared dataset.

    Attributes:
        name: the name in the registry.
        directory: `DATA_ROOT/NAME`.
        facts: `dataset.json`: source, layout, split, counts, classes, notes, date, versions.
        changed: True if this call wrote it; False if it existed already.
    """

    name: str
    directory: Path
    facts: dict[str, Any]
    changed: bool = False

    @property
    def manifest(self) -> Path:
        """The table of images."""
        return self.directory / MANIFEST_FILE

    @property
    def counts(self) -> dict[str, int]:
        """Images per split."""
        return {split: int(self.facts["counts"].get(split, 0)) for split in SPLITS}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "manifest": str(self.manifest), "changed": self.changed, **self.facts}


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """One dataset of the registry and its state on disk.

    Attributes:
        dataset: its entry in the registry.
        prepared: the prepared dataset; None if there is none or it is damaged.
        files: number of images in the manifest, and of those that exist.
        problem: the reason why a prepared dataset cannot be used, if any.
    """

    dataset: RetinalDataset
    prepared: Prepared | None
    files: tuple[int, int] = (0, 0)
    problem: str | None = None

    @property
    def how_to_get(self) -> list[str]:
        """Steps from nothing to a prepared dataset, a line each."""
        prepare = f"unpack, then: augscale data prepare {self.dataset.name} --from FOLDER"
        return [*self.dataset.get, self.dataset.published_page(), prepare]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.dataset.model_dump(),
            "how_to_get": self.how_to_get,
            "prepared": None if self.prepared is None else self.prepared.to_dict(),
            "files_listed": self.files[0],
            "files_present": self.files[1],
            "problem": self.problem,
        }


def default_data_root() -> Path:
    """$AUGSCALE_DATA, else `augscale` in $XDG_DATA_HOME, else ~/.local/share/augscale."""
    if own := os.environ.get("AUGSCALE_DATA"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_DATA_HOME")
    return (Path(shared) if shared else Path.home() / ".local" / "share") / "augscale"


def list_datasets(data_root: Path | None = None) -> list[DatasetStatus]:
    """The six datasets and their state on disk; images are not opened."""
    return [_status(dataset, data_root) for dataset in REGISTRY]


def missing_text(dataset: RetinalDataset) -> str:
    """One line about a dataset that is needed but not prepared."""
    then = f"then augscale data prepare {dataset.name} --from FOLDER"
    return f"{dataset.name}: not prepared; get it from {dataset.get[0]}; {then}"


def read_prepared(dataset: RetinalDataset, data_root: Path | None = None) -> Prepared | None:
    """The prepared dataset; None if it is not prepared, or was interrupted before `dataset.json` was written.

    Raises:
        DataError: `dataset.json` exists and cannot be understood.
    """
    directory = (data_root or default_data_root()).expanduser().absolute() / dataset.name
    path = directory / FACTS_FILE
    if not path.exists() or not (directory / MANIFEST_FILE).exists():
        return None
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or not isinstance(facts.get("counts"), dict):
        raise DataError(f"{path}: damaged, or written by another version; prepare {dataset.name} again with --force")
    return Prepared(name=dataset.name, directory=directory, facts=facts)


def manifest_text(images: Sequence[LabelledFile], classes: Sequence[str], directory: Path) -> str:
    """`manifest.csv` as text: files below `directory` relative to it, others by absolute path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image in sorted(images, key=lambda image: image.path):
        inside = image.path.is_relative_to(directory)
        file = (image.path.relative_to(directory) if inside else image.path).as_posix()
        cells = (classes[image.label], image.split, image.patient_id, image.eye)
        writer.writerow([file, *(cell or "" for cell in cells)])
    return text.getvalue()


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def counts_of(images: Sequence[LabelledFile], classes: Sequence[str]) -> dict[str, Any]:
    """Images per split, in total, and per class and split."""
    by_split = Counter(image.split for image in images)
    by_class = Counter((image.label, image.split) for image in images)
    return {
        **{split: by_split[split] for split in SPLITS},
        "total": len(images),
        "classes": {name: [by_class[label, split] for split in SPLITS] for label, name in enumerate(classes)},
    }


def write_prepared(prepared: Prepared, manifest: str) -> None:
    """Writes both files; at every moment the folder holds the old dataset, the new one, or none.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    facts_file = prepared.directory / FACTS_FILE
    try:
        prepared.directory.mkdir(parents=True, exist_ok=True)
        facts_file.unlink(missing_ok=True)
        write_text_atomic(prepared.manifest, manifest)
        write_json(facts_file, prepared.facts)
    except OSError as error:
        raise DataError(f"{error.filename or prepared.directory}: cannot be written ({error.strerror})") from None
    except StudyError as error:
        raise DataError(str(error)) from None


def _status(dataset: RetinalDataset, data_root: Path | None) -> DatasetStatus:
    try:
        prepared = read_prepared(dataset, data_root)
        if prepared is None:
            return DatasetStatus(dataset=dataset, prepared=None)
        files = list(read_table(prepared.manifest).rows)
    except DataError as error:
        return DatasetStatus(dataset=dataset, prepared=None, problem=str(error))
    present = sum((prepared.directory / file).is_file() for file in files)
    problem = None if present == len(files) else f"{len(files) - present} of its {len(files)} images are missing"
    return DatasetStatus(dataset=dataset, prepared=prepared, files=(len(files), present), problem=problem)
