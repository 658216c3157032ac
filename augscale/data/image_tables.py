"""Tables of images (`file,label,split,patient_id,eye`), given by themselves or found in a folder of images."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from augscale.data.labels import is_no_value, is_rounded, label_text, no_value_note, whole_number
from augscale.data.table_files import has_file_column, read_lines
from augscale.errors import DataError
from augscale.settings import nearest

FOLDER_TABLES = tuple(f"{stem}{end}" for end in (".csv", ".tsv", ".xlsx") for stem in ("manifest", "labels", "meta"))
"""Tables that are read in every folder of images; if two give a value, the first of this list counts."""

COLUMNS = ("file", "label", "split", "patient_id", "eye")
_ALIASES = {"patient": "patient_id", "patientid": "patient_id"}
_EYES = {"l": "left", "os": "left", "left": "left", "r": "right", "od": "right", "right": "right"}
_SPLITS = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}
_OTHER_NAMES = {
    "file": (
        *("filename", "file_name", "filepath", "file_path", "path", "image", "image_path", "image_name", "image_id"),
        *("img", "img_path", "img_name", "id_code", "imageid", "image_file", "name", "id"),
    ),
    "label": ("diagnosis", "class", "level", "grade", "target", "category", "y", "dr_grade", "retinopathy_grade"),
}
"""Names of these columns in other programs, for the message."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The values of tables for one file; None if unknown."""

    label: str | None = None
    split: str | None = None
    patient_id: str | None = None
    eye: str | None = None

    def filled_from(self, other: Row) -> Row:
        """This row, with its gaps filled from another."""
        gaps = {f.name: getattr(other, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **gaps)

    def difference(self, other: Row, *, gaps: bool = True) -> str:
        """The values that differ, e.g. `label = '1', here '2'`; if `gaps` is false, only values known in both rows."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return ", ".join(
            f"{name} = {first!r}, here {second!r}"
            for name, (first, second) in pairs.items()
            if first != second and (gaps or None not in (first, second))
        )


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of one or more tables.

    Attributes:
        rows: the rows in the order of the table, by the file cell as written.
        nameless: line numbers (the header is line 1) of rows with an empty file cell.
        notes: cells that are read differently from how they are written, a line each.
        paths: the tables.
    """

    rows: dict[str, Row]
    nameless: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()


def normal_split(name: str) -> str:
    """`train`, `val` or `test` for their usual spellings; any other name as it is."""
    return _SPLITS.get(name.lower(), name.lower() if name.lower() in ("train", "val", "test") else name)


def read_table(path: Path) -> Table:
    """Reads one table; unknown columns are ignored, empty cells and `nan`, `NA`, ... mean "not known".

    Labels and patient ids such as `12.0` are read as `12`. A repeated row counts once.

    Args:
        path: CSV, TSV or Excel with a header, see `read_lines`.
    Raises:
        DataError: unreadable, no `file` column, or rows that contradict each other or do not fit the header.
    """
    header, lines = read_lines(path)
    names = [_column(name) for name in header]
    columns = _columns(path, header, names, lines)
    # Extra cells belong to the last column if that is an unknown one (free text); otherwise the cells are shifted.
    most = len(names) if names[-1] in COLUMNS else None
    rows: dict[str, Row] = {}
    nameless: list[int] = []
    no_labels: Counter[str] = Counter()
    for number, cells in lines:
        if most is not None and any(cell.strip() for cell in cells[most:]):
            raise DataError(
                f"{path}: line {number} has {len(cells)} cells, the header {most}; put text that holds the separator "
                "in quotes"
            )
        values = {name: _cell(cells, place) for name, place in columns.items()}
        file = values.pop("file")
        if is_no_value(file):
            nameless.append(number)
            continue
        if is_rounded(values.get("patient_id", "")):
            raise DataError(
                f"{path}: line {number}: patient_id {values['patient_id']!r} is a number whose last digits a "
                "spreadsheet has cut off, so different patients look alike; export the ids as text"
            )
        if "label" in values and is_no_value(values["label"]):
            no_labels[values["label"]] += 1
        row = _row(values)
        if rows.setdefault(file, row) != row:
            raise DataError(f"{path}: line {number}: {file} is listed before with {rows[file].difference(row)}")
    note = _no_label_note(path, rows, no_labels)
    return Table(rows=rows, nameless=tuple(nameless), notes=(f"{path.name}: {note}",) if note else (), paths=(path,))


def read_folder_tables(folder: Path) -> Table:
    """The tables in a folder, merged on `file`; without `paths` if none of them has a `file` column.

    A `labels.csv` without that column belongs to another program and is passed over with a note. So is a TSV or Excel
    file that cannot be read.

    Raises:
        DataError: as `read_table`.
    """
    tables = []
    notes: list[str] = []
    for path in (folder / name for name in FOLDER_TABLES):
        if not path.is_file():
            continue
        try:
            header = read_lines(path)[0]
        except DataError as error:
            if path.suffix == ".csv":
                raise
            notes.append(f"passed over: {error}")
            continue
        if has_file_column(header):
            tables.append(read_table(path))
        else:
            notes.append(f"passed over: {path}: {_no_file_column(header, [_column(name) for name in header])}")
    merged: dict[str, Row] = {}
    for place, table in enumerate(tables):
        earlier = " and ".join(other.paths[0].name for other in tables[:place])
        differences = {
            file: difference
            for file, row in table.rows.items()
            if file in merged and (difference := merged[file].difference(row, gaps=False))
        }
        if differences:
            file, difference = next(iter(differences.items()))
            notes.append(
                f"{table.paths[0]}: differs from {earlier} for {len(differences)} files, "
                f"e.g. {file}: {difference}; {earlier} counts"
            )
        merged |= {file: merged[file].filled_from(row) if file in merged else row for file, row in table.rows.items()}
    return Table(
        rows=merged,
        nameless=tuple(number for table in tables for number in table.nameless),
        notes=(*notes, *(note for table in tables for note in table.notes)),
        paths=tuple(path for table in tables for path in table.paths),
    )


def _column(name: str) -> str:
    """The column of a header cell, e.g. patient_id for "PatientID" or "patient id"."""
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    return _ALIASES.get(plain.replace("_", ""), plain)


def _cell(cells: Sequence[str], place: int) -> str:
    return cells[place].strip() if place < len(cells) else ""


def _columns(
    path: Path, header: Sequence[str], names: Sequence[str], lines: Sequence[tuple[int, list[str]]]
) -> dict[str, int]:
    """The place of each known column.

    Raises:
        DataError: `file` is missing, a column is misspelled, or occurs twice with different values.
    """
    if "file" not in names:
        raise DataError(f"{path}: {_no_file_column(header, names)}")
    missing = [name for name in COLUMNS if name not in names]
    for name in names:
        # If a misspelled patient_id were ignored, one patient could be on both sides of a split.
        if name not in COLUMNS and (meant := difflib.get_close_matches(name, missing, n=1, cutoff=0.8)):
            raise DataError(f"{path}: unknown column {name!r} (did you mean {meant[0]}?); rename it either way")
    for name in COLUMNS:
        first, *others = [place for place, found in enumerate(names) if found == name] or [0]
        for other in others:
            for number, cells in lines:
                pair = _cell(cells, first), _cell(cells, other)
                if pair[0] != pair[1]:
                    raise DataError(
                        f"{path}: two columns mean {name} ({header[first].strip()!r}, {header[other].strip()!r}) and "
                        f"differ in line {number}: {pair[0]!r}, {pair[1]!r}; rename one"
                    )
    return {name: names.index(name) for name in COLUMNS if name in names}


def _no_file_column(header: Sequence[str], names: Sequence[str]) -> str:
    if not header:
        return "the table is empty; expected a header with a column 'file'"
    found = ", ".join(name.strip() for name in header)
    meant = {
        column: next((header[names.index(name)].strip() for name in others if name in names), None)
        for column, others in _OTHER_NAMES.items()
    }
    if meant["file"] is None:
        alone = "; expected commas, semicolons or tabs between columns" if len(header) == 1 else ""
        return f"no column named 'file'{nearest('file', list(names))}; columns found: {found}{alone}"
    rename = f"rename {meant['file']!r} to 'file'"
    if "label" not in names and meant["label"] is not None:
        rename += f" and {meant['label']!r} to 'label'"
    return f"no column named 'file'; columns found: {found}; {rename} if that is what they hold"


def _row(values: dict[str, str]) -> Row:
    normal = {
        "label": label_text,
        "patient_id": whole_number,
        "eye": lambda eye: _EYES.get(eye.lower(), eye),
        "split": normal_split,
    }
    return Row(**{name: normal[name](value) for name, value in values.items() if not is_no_value(value)})


def _no_label_note(path: Path, rows: dict[str, Row], no_labels: Counter[str]) -> str | None:
    """A note about labels such as `nan`.

    Raises:
        DataError: `None` beside a class `none`: it may mean that class or no label.
    """
    written = {row.label for row in rows.values() if row.label is not None}
    alike = sorted(label for label in written if label.casefold() == "none")
    if alike and no_labels["None"]:
        raise DataError(
            f"{path}: label 'None' (no label, {no_labels['None']} rows) beside label {alike[0]!r} (a class); "
            "write them alike, or leave cells without label empty"
        )
    return no_value_note(no_labels)
