"""Lists the files of one source: each is an image, set aside, passed over or excluded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from augscale.data.file_types import (
    IMAGE_SUFFIXES,
    THUMBNAILS,
    IsImage,
    Kind,
    UnsupportedImage,
    Verdict,
    count_passed,
    passed_over_lines,
    verdict_by_content,
    verdict_by_name,
)
from augscale.data.folder_labels import contradiction_note, folder_rows
from augscale.data.folders import Exclusion, is_thumbnail, walk_files
from augscale.data.formats.dicom import can_read_dicom
from augscale.data.image_records import MISSING, BadFile
from augscale.data.image_tables import FOLDER_TABLES, Row, Table, read_folder_tables, read_table
from augscale.data.parallel import map_in_order, num_workers
from augscale.data.table_files import is_table
from augscale.data.table_paths import find_files
from augscale.errors import DataError

ACCEPTED = "a folder of images, a table (CSV, TSV, Excel), an image file or 'synthetic'"
_EXPECTED = f"files ending in {', '.join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))}, or DICOM"

Found = dict[PurePosixPath, Path]
"""Files by their path below the source."""


class ListedImage(NamedTuple):
    """An image, its path below the source, its row in the tables, and the folder below the source with its table."""

    path: Path
    inside: PurePosixPath
    row: Row
    scope: PurePosixPath = PurePosixPath()


@dataclass(kw_only=True)
class Listing:
    """The files of one source.

    Attributes:
        base: the folder that paths below the source start at.
        images: the images.
        bad: files set aside.
        passed: files that are not images: path below the source, and kind.
        excluded: files that a pattern excludes.
        notes, label_notes: see `SourceScan`.
        reasons: likely causes, for files that a table names but that do not exist.
    """

    base: Path
    images: list[ListedImage] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)
    passed: dict[Path, tuple[str, Kind]] = field(default_factory=dict)
    excluded: set[Path] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    label_notes: list[str] = field(default_factory=list)
    reasons: dict[Path, str] = field(default_factory=dict)

    def put(self, found: Found, inside: PurePosixPath, path: Path, verdict: Verdict) -> None:
        """Adds one file of a folder to the list of its verdict; images are added to `found`."""
        if isinstance(verdict, Kind):
            self.passed[path] = (str(inside), verdict)
        elif isinstance(verdict, UnsupportedImage):
            self.bad.append(BadFile(path=path, reason=verdict.reason))
        elif verdict.dicom and not can_read_dicom():
            by_name = verdict_by_name(path.name) is not None
            what = f"{path.suffix.lower()} files need" if by_name else "a DICOM file; reading it needs"
            self.bad.append(BadFile(path=path, reason=f"{what} `pip install augscale[dicom]`"))
        else:
            found[inside] = path

    def classify_by_content(self, found: Found, unknown: Found) -> None:
        """Adds the files in `unknown`, whose names do not tell their type, according to their content."""
        if not unknown:
            return
        with ThreadPoolExecutor(num_workers(), thread_name_prefix="look") as pool:
            verdicts = map_in_order(pool, _verdict, unknown.values())
            for (inside, path), verdict in zip(unknown.items(), verdicts, strict=True):
                if isinstance(verdict, BadFile):
                    self.bad.append(verdict)
                else:
                    self.put(found, inside, path, verdict)

    def pass_over_thumbnails(self, found: Found, named: Iterable[PurePosixPath]) -> None:
        """Passes over files in folders of thumbnails, unless a table names them or there are no other images."""
        small = {inside for inside in found if is_thumbnail(inside)} - {*named}
        if len(small) < len(found):
            self.passed |= {found.pop(inside): (str(inside), THUMBNAILS) for inside in small}

    def set_aside_by_name(self) -> None:
        """Sets aside files of unsupported types that a table or the user names as images."""
        kept = []
        for image in self.images:
            verdict = verdict_by_name(image.path.name)
            if verdict is None or isinstance(verdict, IsImage) or not image.path.is_file():
                kept.append(image)
            else:
                self.bad.append(BadFile(path=image.path, reason=_reason(image.path, verdict)))
        self.images = kept

    def add_nameless(self, table_path: Path, table: Table) -> None:
        """Sets aside the rows of a table that name no file."""
        self.bad += [
            BadFile(path=Path(f"{table_path}:{line}"), reason=f"line {line} of the table names no file")
            for line in table.nameless
        ]

    def note_contradictions(self, table: Path, rows: Sequence[tuple[PurePosixPath, Row]]) -> None:
        """Notes that a table contradicts the folders that its images lie in."""
        if note := contradiction_note([inside for inside, _ in rows], [row for _, row in rows]):
            self.notes.append(f"{table}: {note}")

    def rows_by_file(self, path: Path, folder: Path, table: Table, *, must_exist: bool) -> dict[Path, Row]:
        """The rows of a table by file; names of one file must not contradict each other."""
        found = find_files(path, folder, list(table.rows), must_exist=must_exist)
        self.notes.extend(found.notes)
        self.reasons |= {found.paths[name]: reason for name, reason in found.reasons.items()}
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

    def other_contents(self) -> str:
        """A summary, in parentheses, of the contents of a source without images; empty if it has none."""
        parts = [f"{len(self.bad)} files were set aside: {self.bad[0].reason}"] if self.bad else []
        parts += [f"{len(self.excluded)} files were excluded"] if self.excluded else []
        parts += passed_over_lines(count_passed(self.passed))
        return f" ({'; '.join(parts)})" if parts else ""


def list_source(source: str, exclusion: Exclusion) -> Listing:
    """Lists a folder, a table or a single image.

    Raises:
        DataError: nothing is there, no image is in it, or a table is wrong.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        listing = _list_folder(path, exclusion)
    elif path.is_file() and is_table(path):
        listing = _list_table(path, exclusion)
    elif path.is_file():
        listing = Listing(base=path.parent.resolve(), images=[ListedImage(path, PurePosixPath(path.name), Row())])
    else:
        raise DataError(f"data.sources: {source} does not exist; expected {ACCEPTED}")
    listing.set_aside_by_name()
    if not listing.images:
        raise DataError(f"data.sources: {source} holds no image{listing.other_contents()}; expected {_EXPECTED}")
    return listing


def _list_table(path: Path, exclusion: Exclusion) -> Listing:
    table = read_table(path)
    if not table.rows:
        raise DataError(f"{path}: names no file; expected a row for each image")
    listing = Listing(base=path.parent.resolve(), notes=list(table.notes))
    listing.add_nameless(path, table)
    files = listing.rows_by_file(path, path.parent, table, must_exist=True)
    below = listing.base
    parents = [Path(os.path.abspath(file)).parent for file in files]
    if any(not parent.is_relative_to(below) for parent in parents):
        # Ids must be the same on every machine, so paths start at the common folder instead of the root.
        below = Path(os.path.commonpath(parents))
    for file, row in files.items():
        inside = PurePosixPath(Path(os.path.abspath(file)).relative_to(below).as_posix())
        if exclusion.hits(inside):
            listing.excluded.add(file)
        else:
            listing.images.append(ListedImage(file, inside, row))
    listing.note_contradictions(path, [(image.inside, image.row) for image in listing.images])
    return listing


def _list_folder(root: Path, exclusion: Exclusion) -> Listing:
    listing = Listing(base=root.resolve())
    tables: dict[PurePosixPath, dict[PurePosixPath, Row]] = {}
    found: Found = {}
    unknown: Found = {}
    named: set[PurePosixPath] = set()
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
            listing.add_nameless(folder, table)
            files = listing.rows_by_file(table.paths[0], folder, table, must_exist=False)
            tables[here] = {PurePosixPath(os.path.relpath(file, folder)): row for file, row in files.items()}
            rows = _named_by_table(folder, here, tables[here])
            named |= rows.keys()
            found |= {
                inside: path
                for inside, path in rows.items()
                if path not in listing.excluded and not exclusion.hits(inside)
            }
    listing.passed |= {folder: (str(folder.relative_to(root)), kind) for folder, kind in folders.items()}
    listing.classify_by_content(found, {inside: path for inside, path in unknown.items() if inside not in named})
    listing.pass_over_thumbnails(found, named)
    _add_rows(listing, root, found, tables)
    return listing


def _add_rows(
    listing: Listing, root: Path, found: Found, tables: Mapping[PurePosixPath, Mapping[PurePosixPath, Row]]
) -> None:
    """Adds each image with its row in the nearest table at or above it, else with split and label of its folders."""
    free = []
    rows_by_table: dict[PurePosixPath, list[tuple[PurePosixPath, Row]]] = {}
    for inside, path in found.items():
        above = [parent for parent in (inside.parent, *inside.parent.parents) if parent in tables]
        naming = [scope for scope in above if inside.relative_to(scope) in tables[scope]]
        if above:
            scope = (naming or above)[0]
            row = tables[scope].get(inside.relative_to(scope), Row())
            listing.images.append(ListedImage(path, inside, row, scope))
            rows_by_table.setdefault(scope, []).append((inside.relative_to(scope), row))
        else:
            free.append((path, inside))
    for scope, rows_of_scope in rows_by_table.items():
        listing.note_contradictions(root / scope, rows_of_scope)
    from_folders = folder_rows([inside for _, inside in free])
    listing.notes.extend(f"{root}: {note}" for note in from_folders.notes)
    listing.label_notes.extend(f"{root}: {note}" for note in from_folders.label_notes)
    listing.images += [
        ListedImage(path, inside, row) for (path, inside), row in zip(free, from_folders.rows, strict=True)
    ]


def _named_by_table(folder: Path, here: PurePosixPath, rows: Iterable[PurePosixPath]) -> Found:
    """Files that a table names, existing or not; the walk has set aside existing files of unsupported types."""
    return {
        here / file: folder / file
        for file in rows
        if not (isinstance(verdict_by_name(file.name), UnsupportedImage) and (folder / file).exists())
    }


def _verdict(path: Path) -> Verdict | BadFile:
    try:
        return verdict_by_content(path)
    except FileNotFoundError:
        return BadFile(path=path, reason=MISSING)
    except OSError as error:
        return BadFile(path=path, reason=f"cannot be read ({error.strerror})")


def _reason(path: Path, verdict: Kind | UnsupportedImage) -> str:
    if isinstance(verdict, UnsupportedImage):
        return verdict.reason
    return f"{path.suffix.lower()} files are {verdict.name}" + (f"; {verdict.advice}" if verdict.advice else "")
