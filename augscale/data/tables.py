"""CSV tables about images (`file,label,split,patient_id,eye`), alone as a manifest or lying in a folder of images."""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass, fields, replace
from pathlib import Path

from augscale.errors import DataError
from augscale.settings import nearest

FOLDER_TABLES = ("manifest.csv", "labels.csv", "meta.csv")
"""Tables that are looked for in every folder of images; where two give a value, the first of this list wins."""

COLUMNS = ("file", "label", "split", "patient_id", "eye")
_ALIASES = {"patient": "patient_id", "patientid": "patient_id"}
_EYES = {"l": "left", "os": "left", "left": "left", "r": "right", "od": "right", "right": "right"}
_SPLITS = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}
_DELIMITERS = ",;\t"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What tables say about one file; None where they say nothing."""

    label: str | None = None
    split: str | None = None
    patient_id: str | None = None
    eye: str | None = None

    def filled_from(self, other: Row) -> Row:
        """This row, with its gaps filled from another."""
        gaps = {f.name: getattr(other, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **gaps)


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of one or more tables.

    Attributes:
        rows: by the file cell as written, in the order of the table.
        nameless: line numbers (the header is line 1) of rows whose file cell is empty.
    """

    rows: dict[str, Row]
    nameless: tuple[int, ...] = ()


def _column(name: str) -> str:
    """The column that a header cell stands for, e.g. patient_id for "PatientID" or "patient id"."""
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    return _ALIASES.get(plain.replace("_", ""), plain)


def normal_split(name: str) -> str:
    """`train`, `val` or `test` for their usual spellings; any other name as it is."""
    return _SPLITS.get(name.lower(), name.lower() if name.lower() in ("train", "val", "test") else name)


def read_table(path: Path) -> Table:
    """Reads one table; columns beside those known are ignored, empty cells mean "not known".

    The delimiter is that of the header: comma, semicolon or tab. The same row twice counts once.

    Args:
        path: a CSV file in UTF-8 with a header.
    Raises:
        DataError: unreadable, not UTF-8 text, no `file` column, or two rows that contradict each other.
    """
    header, lines = read_lines(path)
    names = [_column(name) for name in header]
    if "file" not in names:
        found = ", ".join(name.strip() for name in header) or "none"
        raise DataError(f"{path}: no column named 'file'{nearest('file', names)}; columns found: {found}")
    columns = {name: names.index(name) for name in COLUMNS if name in names}
    missing = [name for name in COLUMNS if name not in names]
    for name in names:
        # Passed over, a misspelt patient_id would let one patient be on both sides of a split.
        if name not in COLUMNS and (meant := difflib.get_close_matches(name, missing, n=1, cutoff=0.8)):
            raise DataError(f"{path}: unknown column {name!r} (did you mean {meant[0]}?); rename it either way")
    rows: dict[str, Row] = {}
    nameless = []
    for number, cells in lines:
        values = {name: cells[i].strip() if i < len(cells) else "" for name, i in columns.items()}
        file = values.pop("file")
        if not file:
            nameless.append(number)
            continue
        row = _row(values)
        if rows.setdefault(file, row) != row:
            raise DataError(f"{path}: line {number}: {file} is listed before with {_difference(rows[file], row)}")
    return Table(rows=rows, nameless=tuple(nameless))


def read_folder_tables(folder: Path) -> Table | None:
    """The tables lying in a folder, merged on `file`; None where none of them has a `file` column.

    A `labels.csv` without that column belongs to another program and is passed over.

    Raises:
        DataError: as `read_table`.
    """
    merged: dict[str, Row] = {}
    nameless: list[int] = []
    found = False
    for name in FOLDER_TABLES:
        path = folder / name
        if not path.is_file() or "file" not in [cell.strip().lower() for cell in read_lines(path)[0]]:
            continue
        found = True
        table = read_table(path)
        nameless.extend(table.nameless)
        for file, row in table.rows.items():
            merged[file] = merged[file].filled_from(row) if file in merged else row
    return Table(rows=merged, nameless=tuple(nameless)) if found else None


def read_lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header's cells, and every other non-empty line's number and cells.

    Raises:
        DataError: unreadable, or not UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            delimiter = max(_DELIMITERS, key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            header = next(reader, [])
            return header, [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table in UTF-8 ({error})") from None


def _row(values: dict[str, str]) -> Row:
    known = {name: value for name, value in values.items() if value}
    if "eye" in known:
        known["eye"] = _EYES.get(known["eye"].lower(), known["eye"])
    if "split" in known:
        known["split"] = normal_split(known["split"])
    return Row(**known)


def _difference(before: Row, now: Row) -> str:
    names = [f.name for f in fields(Row) if getattr(before, f.name) != getattr(now, f.name)]
    return ", ".join(f"{name} = {getattr(before, name)!r}, here {getattr(now, name)!r}" for name in names)
