"""Prepared datasets on disk: `DATA_ROOT/NAME/manifest.csv` and `dataset.json`; images stay where they are.

`manifest.csv` (`file,label,split,patient_id,eye`) is an ordinary CSV manifest, for every command
that takes one. `dataset.json` is written last: a folder without it is not prepared.
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

from augscale.data.image_tables import COLUMNS, Table, read_table
from augscale.data.retinal.registry import SPLITS, RetinalDataset
from augscale.errors import DataError, StudyError
from augscale.runs.files import read_json, write_json, write_text_atomic

MANIFEST_FILE = "manifest.csv"
FACTS_FILE = "dataset.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ManifestRow:
    """One image of a prepared dataset; `label` is a class name."""

    path: Path
    label: str
    split: str
    patient_id: str | None
    eye: str | None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared dataset.

    Attributes:
        name: as in the registry.
        directory: `DATA_ROOT/NAME`.
        facts: `dataset.json`: source, layout, split, counts, classes, notes, date, versions.
        changed: whether this call wrote it; False where it was there already.
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
        return {
            "name": self.name,
            "manifest": str(self.manifest),
            "changed": self.changed,
            **self.facts,
        }


def default_data_root() -> Path:
    """$AUGSCALE_DATA, else `augscale` in $XDG_DATA_HOME, else ~/.local/share/augscale."""
    if own := os.environ.get("AUGSCALE_DATA"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_DATA_HOME")
    return (Path(shared) if shared else Path.home() / ".local" / "share") / "augscale"


def read_prepared(dataset: RetinalDataset, data_root: Path | None = None) -> Prepared | None:
    """The prepared dataset; None where it has not been prepared (or only half: a crash before `dataset.json`).

    Raises:
        DataError: `dataset.json` is there and cannot be understood.
    """
    directory = (data_root or default_data_root()).expanduser().absolute() / dataset.name
    path = directory / FACTS_FILE
    if not path.exists() or not (directory / MANIFEST_FILE).exists():
        return None
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or not isinstance(facts.get("counts"), dict):
        raise DataError(f"{path}: damaged, or written by another version; prepare {dataset.name} again with --force")
    return Prepared(name=dataset.name, directory=directory, facts=facts)


def read_manifest(prepared: Prepared) -> Table:
    """The rows of a prepared dataset's manifest.

    Raises:
        DataError: unreadable or contradictory.
    """
    return read_table(prepared.manifest)


def manifest_text(rows: Sequence[ManifestRow], directory: Path) -> str:
    """`manifest.csv` as text: files below `directory` relative to it, others by absolute path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(rows, key=lambda row: row.path):
        inside = row.path.is_relative_to(directory)
        file = (row.path.relative_to(directory) if inside else row.path).as_posix()
        writer.writerow([file, row.label, row.split, row.patient_id or "", row.eye or ""])
    return text.getvalue()


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def counts_of(rows: Sequence[ManifestRow], classes: Sequence[str]) -> dict[str, Any]:
    """Images per split, in all, and per class and split."""
    by_split = Counter(row.split for row in rows)
    by_class = Counter((row.label, row.split) for row in rows)
    return {
        **{split: by_split[split] for split in SPLITS},
        "total": len(rows),
        "classes": {name: [by_class[name, split] for split in SPLITS] for name in classes},
    }


def write_prepared(prepared: Prepared, manifest: str) -> None:
    """Writes both files; at every moment the folder holds the old dataset, none, or the new one.

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
