"""All sources of a study as one list of images: folders, class folders, tables, files and the built-in photographs.

Patient ids are comparable within one source only: patient 7 of one hospital is not patient 7 of another. A source is a
folder that was asked for, or a folder below it that holds tables of its own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from augscale.config import DataConfig
from augscale.data.file_types import PassedOver, count_passed
from augscale.data.folders import Exclusion
from augscale.data.image_records import MISSING, BadFile, ImageRecord
from augscale.data.image_tables import normal_split
from augscale.data.listing import ACCEPTED, Listing, list_source
from augscale.data.patient_names import with_patients
from augscale.errors import DataError

SYNTHETIC = "synthetic"
SYNTHETIC_SEED = 0
"""The built-in photographs are one fixed data set; studies differ in their own seeds, not in their images."""

_FileKey = tuple[int, int] | Path
"""Device and inode of an existing file, else its path."""


@dataclass(frozen=True, kw_only=True)
class SourceScan:
    """The contents of the sources: every file is an image, set aside, passed over or excluded.

    Attributes:
        records: the images, sorted by id.
        bad: the files set aside before any was decoded.
        passed_over: files that are not images, counted by kind.
        excluded: number of files that each pattern of `exclude` has matched.
        notes: table cells that are read differently from how they are written, and reasons why folders are not read as
            splits; a line each.
        label_notes: reasons why folders are not read as labels.
    """

    records: list[ImageRecord]
    bad: list[BadFile]
    passed_over: tuple[PassedOver, ...] = ()
    excluded: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    label_notes: tuple[str, ...] = ()


def scan_sources(
    sources: Sequence[str],
    *,
    splits: Sequence[str] | None = None,
    synthetic_patients: int = 300,
    exclude: Sequence[str] = (),
    patient_pattern: str | None = None,
) -> SourceScan:
    """Lists the images of folders, class folders, tables, single files and "synthetic"; decodes none of them.

    A folder is searched with everything below it (symbolic links are followed; hidden names, folders of systems and
    those that augscale wrote are passed over). A file whose name does not tell its type is recognized by its first
    bytes. Thumbnails, in folders of that name, are passed over if there are other images. Tables in a folder
    (`labels.csv`, `meta.csv`, `manifest.csv`, also .tsv and .xlsx, with a `file` column) describe its images; images
    that no table names are used too. Without a table, `train`/`val`/`test` folders give the split and class folders
    the label, if every image lies in such folders. A table given by itself names its images, relative to the table;
    names that do not exist as written are searched, see `find_files`. A file that several sources contain counts once,
    with the values from all of them.

    Args:
        sources: paths, or "synthetic".
        splits: use only images of these splits.
        synthetic_patients: number of patients of the built-in photographs.
        exclude: patterns of files that are not used, see `Exclusion`; a file excluded in one source is excluded in all.
        patient_pattern: takes patient ids from names, see `with_patients`.
    Raises:
        DataError: nothing is there, no image is in it, a table is wrong, no file exists, the splits are empty, or
            `patient_pattern` finds no id in a name.
    """
    if not sources:
        raise DataError(f"data.sources is empty; expected {ACCEPTED}")
    exclusion = Exclusion(exclude)
    listings = [list_source(source, exclusion) for source in sources if source != SYNTHETIC]
    by_file = _merged(listings)
    missing = {key for key in by_file if isinstance(key, Path)}
    records = [*by_file.values(), *(_built_in(synthetic_patients) if SYNTHETIC in sources else ())]
    if not records:
        raise DataError("data.sources: every image is excluded by data.exclude in at least one source")
    notes = tuple(dict.fromkeys(note for listing in listings for note in listing.notes))
    if splits is not None:
        records = _of_splits(records, splits, notes)
    gone = {record.path for record in records if record.path is not None and record.path in missing}
    reasons = {path: reason for listing in listings for path, reason in listing.reasons.items()}
    bad = {problem.path: problem for listing in listings for problem in listing.bad}
    bad |= {path: BadFile(path=path, reason="; ".join(filter(None, (MISSING, reasons.get(path))))) for path in gone}
    if len(gone) == len(records):
        first = next(record.path for record in records if record.path is not None)
        raise DataError(f"data.sources: none of {len(gone)} files exists, e.g. {first}: {bad[first].reason}")
    records = [record for record in records if record.path not in missing]
    if patient_pattern is not None:
        records = with_patients(records, patient_pattern)
    used = {record.path for record in records} | bad.keys()
    passed = {path: what for listing in listings for path, what in listing.passed.items() if path not in used}
    return SourceScan(
        records=sorted(records, key=lambda r: r.image_id),
        bad=sorted(bad.values(), key=lambda b: b.path),
        passed_over=count_passed(passed),
        excluded=exclusion.counts,
        notes=notes,
        label_notes=tuple(note for listing in listings for note in listing.label_notes),
    )


def scan_data(config: DataConfig) -> SourceScan:
    """Lists the images that `data` of a study names, before a random subset of them is drawn."""
    return scan_sources(
        config.sources,
        splits=config.splits,
        synthetic_patients=config.synthetic_patients,
        exclude=config.exclude,
        patient_pattern=config.patient_pattern,
    )


def _built_in(patients: int) -> Iterator[ImageRecord]:
    from augscale.demo.patients import synthetic_records

    for photograph in synthetic_records(patients, SYNTHETIC_SEED):
        yield ImageRecord(path=None, source=SYNTHETIC, **vars(photograph))


def _merged(listings: Sequence[Listing]) -> dict[_FileKey, ImageRecord]:
    """One record for each file, even if several sources contain it."""
    names = _source_names([listing.base for listing in listings])
    by_file: dict[_FileKey, ImageRecord] = {}
    for listing in listings:
        for record in _records(listing, names[listing.base]):
            key = _file_key(record.path)
            by_file[key] = _merge(by_file[key], record) if key in by_file else record
    for path in (path for listing in listings for path in listing.excluded):
        by_file.pop(_file_key(path), None)
    return by_file


def _source_names(bases: Iterable[Path]) -> dict[Path, str]:
    """The shortest distinct names: the last part of each path, with as many parents as needed."""
    bases = set(bases)
    depth = dict.fromkeys(bases, 1)
    while True:
        names = {base: "/".join(part for part in base.parts[-depth[base] :] if part != os.sep) for base in bases}
        taken = list(names.values())
        alike = [base for base in bases if taken.count(names[base]) > 1 and depth[base] < len(base.parts)]
        if not alike:
            return {base: name or "data" for base, name in names.items()}
        for base in alike:
            depth[base] += 1


def _records(listing: Listing, name: str) -> Iterator[ImageRecord]:
    for path, inside, row, scope in listing.images:
        source = f"{name}/{scope}" if scope.parts else name
        yield ImageRecord(image_id=f"{name}/{inside}", path=path, source=source, origin=name, **vars(row))


def _file_key(path: Path | None) -> _FileKey:
    """The same for every link to a file."""
    assert path is not None
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return path
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else path


def _merge(first: ImageRecord, second: ImageRecord) -> ImageRecord:
    """The first record with its gaps filled; a patient id of the second is taken together with its source."""
    known = {name: getattr(first, name) or getattr(second, name) for name in ("label", "split", "eye")}
    if first.patient_id is None and second.patient_id is not None:
        known |= {"patient_id": second.patient_id, "source": second.source}
    return replace(first, **known)


def _of_splits(records: list[ImageRecord], splits: Sequence[str], notes: Sequence[str]) -> list[ImageRecord]:
    wanted = {normal_split(split) for split in splits}
    kept = [record for record in records if record.split in wanted]
    if not kept:
        found = ", ".join(sorted({record.split for record in records if record.split})) or "none"
        why = "".join(f"; {note}" for note in notes)
        raise DataError(f"data.splits = {list(splits)}: no image belongs to them; splits found: {found}{why}")
    return kept
