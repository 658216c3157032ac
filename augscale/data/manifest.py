"""Folders, class folders, CSV manifests and the built-in photographs to one list of images.

Patient ids are only comparable within one source: patient 7 of one hospital is not patient 7 of another. A source
is a folder that was asked for, or a folder below it that holds tables of its own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from augscale.data.bad_files import MISSING, BadFile, first_reasons
from augscale.data.folder_labels import against_table, folder_rows
from augscale.data.folders import Exclusion, walk_files
from augscale.data.image_tables import FOLDER_TABLES, Row, Table, normal_split, read_folder_tables, read_table
from augscale.data.listing import Listing
from augscale.data.passed_over import (
    IMAGE_SUFFIXES,
    Kind,
    PassedOver,
    UnsupportedImage,
    count_passed,
    verdict_by_name,
)
from augscale.data.table_files import is_table
from augscale.data.table_paths import find_files
from augscale.errors import DataError

__all__ = [
    "IMAGE_SUFFIXES",
    "MISSING",
    "SYNTHETIC",
    "SYNTHETIC_SEED",
    "BadFile",
    "ImageRecord",
    "SourceScan",
    "first_reasons",
    "read_sources",
    "scan_sources",
    "walk_files",
]

SYNTHETIC = "synthetic"
SYNTHETIC_SEED = 0
"""The built-in photographs are one fixed data set; studies differ in their own seeds, not in their images."""

_ACCEPTED = "a folder of images, a table (CSV, TSV, Excel), an image file or 'synthetic'"
_EXPECTED = f"files ending in {', '.join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))}, or DICOM"


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One photograph.

    Attributes:
        image_id: source and path below it, e.g. "aptos2019/000c1434d8d7.jpg"; free of absolute paths.
        path: the file; None for a built-in photograph.
        label, split: as the tables or class folders say; only informative in pre-training.
        patient_id: comparable within `source` only.
        eye: "left", "right" or as the table says.
        source: where it came from.
        content: hash of the file's bytes once it has been read; equal content means an exact duplicate.
        origin: which of the sources that were asked for it came from: the files of one share a range of grey levels.
    """

    image_id: str
    path: Path | None
    label: str | None = None
    split: str | None = None
    patient_id: str | None = None
    eye: str | None = None
    source: str
    content: str | None = None
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class SourceScan:
    """What the sources hold: every file is an image, set aside, passed over or excluded.

    Attributes:
        records: the images, sorted by id.
        bad: the files set aside before any was decoded.
        passed_over: files that are no images, counted by kind.
        excluded: how many files each pattern of `exclude` has matched.
        notes: what was taken otherwise than it is written, and what keeps folders from being read as splits; a line
            each.
        label_notes: what keeps folders from being read as labels.
    """

    records: list[ImageRecord]
    bad: list[BadFile]
    passed_over: tuple[PassedOver, ...] = ()
    excluded: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    label_notes: tuple[str, ...] = ()


def read_sources(
    sources: Sequence[str], *, splits: Sequence[str] | None = None, synthetic_patients: int = 300
) -> list[ImageRecord]:
    """The images of the sources; see `scan_sources`, which also tells what was set aside."""
    return scan_sources(sources, splits=splits, synthetic_patients=synthetic_patients).records


def scan_sources(
    sources: Sequence[str],
    *,
    splits: Sequence[str] | None = None,
    synthetic_patients: int = 300,
    exclude: Sequence[str] = (),
) -> SourceScan:
    """Lists the images of folders, class folders, CSV manifests, single files and "synthetic"; decodes none of them.

    A folder is searched with everything below it (symbolic links followed; hidden names, folders of systems and
    those that augscale wrote passed over). Files whose name does not tell what they are, are told by their first bytes.
    Thumbnails, in folders called so, are passed over where there are other images. Tables in it
    (`labels.csv`, `meta.csv`, `manifest.csv`, also .tsv and .xlsx, with a `file` column) say what is known about its
    images; images that no table names are used too. Where no table lies, `train`/`val`/`test` folders give the split
    and class folders the label, if every image lies in such folders. A table given by itself names its images,
    relative to the table; names that do not exist as written are looked for, see `find_files`.
    A file that is reached twice counts once; what either way tells about it is kept.

    Args:
        sources: paths, or "synthetic".
        splits: use only images of these splits.
        synthetic_patients: how many patients the built-in photographs have.
        exclude: patterns of files that are not used, see `Exclusion`; a file that any way to it excludes is excluded.
    Raises:
        DataError: nothing there, no image in it, a wrong table, files that do not exist, or no image of the splits.
    """
    if not sources:
        raise DataError(f"data.sources is empty; expected {_ACCEPTED}")
    exclusion = Exclusion(exclude)
    listings = [_list_source(source, exclusion) for source in sources if source != SYNTHETIC]
    names = _source_names([listing.base for listing in listings])
    by_file: dict[tuple[int, int] | Path, ImageRecord] = {}
    for listing in listings:
        for path, record in _records(listing, names[listing.base]):
            key = _file_on_disk(path) or path
            by_file[key] = _merge(by_file[key], record) if key in by_file else record
    for path in (path for listing in listings for path in listing.excluded):
        by_file.pop(_file_on_disk(path) or path, None)
    missing = {key for key in by_file if isinstance(key, Path)}
    records = list(by_file.values())
    if SYNTHETIC in sources:
        from augscale.demo import synthetic_records

        listed = synthetic_records(synthetic_patients, SYNTHETIC_SEED)
        records.extend(ImageRecord(path=None, source=SYNTHETIC, **vars(photograph)) for photograph in listed)
    notes = tuple(dict.fromkeys(note for listing in listings for note in listing.notes))
    if splits is not None:
        records = _of_splits(records, splits, notes)
    bad = {problem.path: problem for listing in listings for problem in listing.bad}
    reasons = {path: reason for listing in listings for path, reason in listing.reasons.items()}
    gone = [record.path for record in records if record.path is not None and record.path in missing]
    bad |= {path: BadFile(path=path, reason=_why_missing(reasons.get(path))) for path in gone}
    if len(gone) == len(records):
        raise DataError(
            f"data.sources: none of {len(gone)} files exists, e.g. {gone[0]}: {_why_missing(reasons.get(gone[0]))}"
        )
    records = [record for record in records if record.path not in missing]
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


def _list_source(source: str, exclusion: Exclusion) -> Listing:
    path = Path(source).expanduser()
    if path.is_dir():
        listing = _list_folder(path, exclusion)
    elif path.is_file() and is_table(path):
        listing = _list_manifest(path, exclusion)
    elif path.is_file():
        listing = Listing(base=path.parent.resolve())
        listing.files.append((path, PurePosixPath(path.name), Row(), PurePosixPath()))
    else:
        raise DataError(f"data.sources: {source} does not exist; expected {_ACCEPTED}")
    listing.set_aside_by_name()
    if not listing.files:
        raise DataError(f"data.sources: {source} holds no image{listing.what_else()}; expected {_EXPECTED}")
    return listing


def _why_missing(reason: str | None) -> str:
    return f"{MISSING}; {reason}" if reason else MISSING


def _list_manifest(path: Path, exclusion: Exclusion) -> Listing:
    table = read_table(path)
    if not table.rows:
        raise DataError(f"{path}: names no file; expected a row for each image")
    listing = Listing(base=path.parent.resolve(), bad=_nameless(path, table), notes=list(table.notes))
    files = _files_of(path, path.parent, table, listing, must_exist=True)
    below = listing.base
    parents = [Path(os.path.abspath(file)).parent for file in files]
    if any(not parent.is_relative_to(below) for parent in parents):
        # Absolute paths: ids must not hold what differs between machines, so all start at the common folder.
        below = Path(os.path.commonpath(parents))
    for file, row in files.items():
        inside = PurePosixPath(Path(os.path.abspath(file)).relative_to(below).as_posix())
        if exclusion.hits(inside):
            listing.excluded.add(file)
        else:
            listing.files.append((file, inside, row, PurePosixPath()))
    _say_contradictions(listing, path, [(inside, row) for _, inside, row, _ in listing.files])
    return listing


def _say_contradictions(listing: Listing, table: Path, rows: Sequence[tuple[PurePosixPath, Row]]) -> None:
    if note := against_table([inside for inside, _ in rows], [row for _, row in rows]):
        listing.notes.append(f"{table}: {note}")


def _files_of(path: Path, folder: Path, table: Table, listing: Listing, *, must_exist: bool) -> dict[Path, Row]:
    """What a table says, by file; names that lead to one file say the same or are refused."""
    found = find_files(path, folder, list(table.rows), must_exist=must_exist)
    listing.notes.extend(found.notes)
    listing.reasons |= {found.paths[name]: reason for name, reason in found.reasons.items()}
    files: dict[Path, Row] = {}
    names: dict[str, str] = {}
    for name, row in table.rows.items():
        file = found.paths[name]
        first = names.setdefault(os.path.abspath(file), name)
        known = files.setdefault(found.paths[first], row)
        if difference := known.difference(row, gaps=False):
            raise DataError(f"{path}: {first!r} and {name!r} are the same file, with {difference}")
        files[found.paths[first]] = known.filled_from(row)
    return files


def _list_folder(root: Path, exclusion: Exclusion) -> Listing:
    listing = Listing(base=root.resolve())
    tables: dict[PurePosixPath, dict[PurePosixPath, Row]] = {}
    found: dict[PurePosixPath, Path] = {}
    named: set[PurePosixPath] = set()
    unknown: dict[PurePosixPath, Path] = {}
    folders: dict[Path, Kind] = {}
    for folder, names in walk_files(root, folders):
        here = PurePosixPath(folder.relative_to(root).as_posix())
        for name in names:
            if exclusion.hits(here / name):
                listing.excluded.add(folder / name)
            elif (verdict := verdict_by_name(name)) is None:
                unknown[here / name] = folder / name
            elif name not in FOLDER_TABLES:
                listing.put(found, here / name, folder / name, verdict)
        table = read_folder_tables(folder)
        listing.notes.extend(table.notes)
        if table.paths:
            listing.bad.extend(_nameless(folder, table))
            files = _files_of(table.paths[0], folder, table, listing, must_exist=False)
            tables[here] = {PurePosixPath(os.path.relpath(file, folder)): row for file, row in files.items()}
            rows = _named_by_table(folder, here, tables[here])
            named |= rows.keys()
            found |= {
                inside: path
                for inside, path in rows.items()
                if path not in listing.excluded and not exclusion.hits(inside)
            }
    listing.passed |= {folder: (str(folder.relative_to(root)), kind) for folder, kind in folders.items()}
    listing.look_inside(found, {inside: path for inside, path in unknown.items() if inside not in named})
    listing.pass_over_thumbnails(found, named)
    free = []
    told_by_tables: dict[PurePosixPath, list[tuple[PurePosixPath, Row]]] = {}
    for inside, path in found.items():
        above = [parent for parent in (inside.parent, *inside.parent.parents) if parent in tables]
        naming = [scope for scope in above if inside.relative_to(scope) in tables[scope]]
        if above:
            scope = (naming or above)[0]
            row = tables[scope].get(inside.relative_to(scope), Row())
            listing.files.append((path, inside, row, scope))
            told_by_tables.setdefault(scope, []).append((inside.relative_to(scope), row))
        else:
            free.append((path, inside))
    for scope, rows_of_scope in told_by_tables.items():
        _say_contradictions(listing, root / scope, rows_of_scope)
    told = folder_rows([inside for _, inside in free])
    listing.notes.extend(f"{root}: {note}" for note in told.notes)
    listing.label_notes.extend(f"{root}: {note}" for note in told.label_notes)
    for (path, inside), row in zip(free, told.rows, strict=True):
        listing.files.append((path, inside, row, PurePosixPath()))
    return listing


def _named_by_table(folder: Path, here: PurePosixPath, rows: Iterable[PurePosixPath]) -> dict[PurePosixPath, Path]:
    """What a table names, there or not; files of unsupported types that are there are set aside by the walk."""
    return {
        here / file: folder / file
        for file in rows
        if not (isinstance(verdict_by_name(file.name), UnsupportedImage) and (folder / file).exists())
    }


def _nameless(path: Path, table: Table) -> list[BadFile]:
    return [
        BadFile(path=Path(f"{path}:{line}"), reason=f"line {line} of the table names no file")
        for line in table.nameless
    ]


def _source_names(bases: Iterable[Path]) -> dict[Path, str]:
    """The shortest different names: the last part of each path, with as many parents as tell them apart."""
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


def _records(listing: Listing, name: str) -> Iterator[tuple[Path, ImageRecord]]:
    for path, inside, row, scope in listing.files:
        yield (
            path,
            ImageRecord(
                image_id=f"{name}/{inside}",
                path=path,
                label=row.label,
                split=row.split,
                patient_id=row.patient_id,
                eye=row.eye,
                source=f"{name}/{scope}" if scope.parts else name,
                origin=name,
            ),
        )


def _file_on_disk(path: Path) -> tuple[int, int] | None:
    """What tells one file from another, by whatever links it is reached; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _merge(first: ImageRecord, second: ImageRecord) -> ImageRecord:
    """The first record with its gaps filled; a patient id comes with the source that it belongs to."""
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
