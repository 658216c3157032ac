"""Reads the cells of tables: CSV and TSV in any of the usual dialects, and Excel workbooks.

Ambiguous content is refused with a message instead of being guessed: text that is not Unicode, quotes that never
close, merged cells, formulas without a stored value.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from augscale.errors import DataError

TEXT_SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".txt"})
EXCEL_SUFFIXES = frozenset({".xlsx", ".xlsm"})
TABLE_SUFFIXES = TEXT_SUFFIXES | EXCEL_SUFFIXES
"""Tables that are read."""

_SAVE_AS_CSV = "save it as CSV (UTF-8) or .xlsx"
_WITH_PANDAS = "python -c \"import pandas as pd; pd.{call}.to_csv('TABLE.csv', index=False)\""
OTHER_TABLES = {
    ".xls": f"an Excel file of before 2007: open it and {_SAVE_AS_CSV}",
    ".xlsb": f"a binary Excel file: open it and {_SAVE_AS_CSV}",
    ".ods": f"an OpenDocument sheet: open it and {_SAVE_AS_CSV}",
    ".numbers": f"a Numbers sheet: open it and {_SAVE_AS_CSV}",
    ".parquet": f"a Parquet table: write it as CSV, e.g. {_WITH_PANDAS.format(call='read_parquet({file!r})')}",
    ".feather": f"a Feather table: write it as CSV, e.g. {_WITH_PANDAS.format(call='read_feather({file!r})')}",
    ".json": f"JSON: write it as CSV, e.g. {_WITH_PANDAS.format(call='read_json({file!r})')}",
    ".jsonl": f"JSON lines: write it as CSV, e.g. {_WITH_PANDAS.format(call='read_json({file!r}, lines=True)')}",
    ".pkl": "a pickle, which is never loaded: write the table as CSV",
    ".rds": "an R object: write it as CSV with write.csv",
    ".sav": "an SPSS file: export it as CSV",
    ".dta": f"a Stata file: write it as CSV, e.g. {_WITH_PANDAS.format(call='read_stata({file!r})')}",
}
"""Tables that are not read, and how to convert them."""

_CONTENTS = {
    b"PK\x03\x04": "an Excel workbook or another archive under this name: rename it to .xlsx if it is a workbook",
    b"\xd0\xcf\x11\xe0": OTHER_TABLES[".xls"],
    b"PAR1": OTHER_TABLES[".parquet"],
}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = ",;\t"
_MOST_EXACT = 2**53
"""A workbook stores floating point, which rounds whole numbers above this one."""
_SEPARATOR_LINE = re.compile(r"sep=([,;\t])", re.IGNORECASE)
"""The line above a header that tells Excel the separator."""


def is_table(path: Path) -> bool:
    """True if the name is that of a table, including types that are not read."""
    return path.suffix.lower() in TABLE_SUFFIXES or path.suffix.lower() in OTHER_TABLES


def read_lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The cells of the header, and the line number and cells of every other line that is not empty.

    Text is UTF-8, or UTF-16 or UTF-32 with a byte order mark; the separator is that of the header: comma, semicolon or
    tab. In a workbook the sheet with a column `file` is read, else the first one; numbers without fraction become whole
    numbers.

    Raises:
        DataError: unreadable, not Unicode text, a kind of table that is not read, or openpyxl is missing.
    """
    suffix = path.suffix.lower()
    if suffix in OTHER_TABLES:
        raise DataError(f"{path}: {OTHER_TABLES[suffix].replace('{file!r}', repr(path.name))}")
    if suffix in EXCEL_SUFFIXES:
        return _header_and_lines(_excel_rows(path))
    return _header_and_lines(_text_rows(path))


def has_file_column(header: Sequence[str]) -> bool:
    """True if one of the cells is `file`."""
    return "file" in [cell.strip().lower() for cell in header]


def _header_and_lines(rows: Iterator[tuple[int, list[str]]]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    filled = ((number, cells) for number, cells in rows if any(cell.strip() for cell in cells))
    header = next(filled, (0, []))[1]
    return header, list(filled)


def _text_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    text = _text(path)
    lines = io.StringIO(text, newline="")
    first = lines.readline()
    separator = _SEPARATOR_LINE.fullmatch(first.strip("\r\n ").strip('"'))
    above = 1 if separator else 0
    if not separator:
        lines.seek(0)
    delimiter = separator[1] if separator else _delimiter(path, first)
    try:
        if '"' in text:
            _check_quotes(path, text, delimiter)
        reader = csv.reader(lines, delimiter=delimiter)
        for cells in reader:
            yield above + reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV table ({error})") from None


def _delimiter(path: Path, first: str) -> str:
    """The delimiter that gives a column `file`, else the most cells; text in quotes does not count."""
    order = "\t,;" if path.suffix.lower() in (".tsv", ".tab") else _DELIMITERS
    plain = re.sub('"[^"]*"', "", first)

    def merit(delimiter: str) -> tuple[bool, int]:
        return has_file_column(next(csv.reader([first], delimiter=delimiter), [])), plain.count(delimiter)

    return max(order, key=merit)


def _check_quotes(path: Path, text: str, delimiter: str) -> None:
    """Refuses a quote that never closes: all following rows would be one cell."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begin = 1
    try:
        for _ in reader:
            begin = reader.line_num + 1
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise DataError(
                f'{path}: line {begin}: a quote (") opens and never closes; close it, or write it twice'
            ) from None


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    for opening, what in _CONTENTS.items():
        if content.startswith(opening):
            raise DataError(f"{path}: {what.replace('{file!r}', repr(path.name))}")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {_not_unicode(content, error)}; save it as UTF-8 (Excel: 'CSV UTF-8')") from None
    if 4 * text.count("\0") > len(text):
        raise DataError(f"{path}: mostly NUL bytes: UTF-16 without a byte order mark, or no text; save it as UTF-8")
    return text


def _not_unicode(content: bytes, error: UnicodeDecodeError) -> str:
    """The line of the first invalid byte, and its word read as Windows-1252, the usual cause."""
    number = content.count(b"\n", 0, error.start) + 1
    begin = max(content.rfind(mark, 0, error.start) for mark in (b"\n", b"\r", b",", b";", b"\t", b'"')) + 1
    word = re.split(rb'[\r\n,;\t"]', content[begin : begin + 60], maxsplit=1)[0]
    found = word.decode("cp1252", "replace")
    if error.encoding != "utf-8":
        return f"line {number}: not a CSV table in {error.encoding.upper()} ({error.reason})"
    return f"line {number}: not a CSV table in UTF-8 (byte 0x{content[error.start]:02x}; {found!r} in Windows-1252)"


def _excel_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    sheet = _sheet(path)
    rows = [[_cell_text(cell.value) for cell in row] for row in sheet.iter_rows()]
    for merged in sheet.merged_cells.ranges:
        if merged.max_row > merged.min_row:
            raise DataError(f"{path}: cells {merged.coord} are merged, so only one has a value; unmerge them")
    if any(not cell for row in rows for cell in row):
        _refuse_formulas(path, sheet)
    yield from enumerate(rows, start=1)


def _sheet(path: Path) -> Any:
    book = workbook(path, data_only=True)
    sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or book.worksheets
    named = [sheet for sheet in sheets if has_file_column(_first_row(sheet))]
    if len(named) > 1:
        names = " and ".join(repr(sheet.title) for sheet in named[:2])
        raise DataError(f"{path}: the sheets {names} both have a column 'file'; expected one such sheet")
    return (named or sheets)[0]


def _first_row(sheet: Any) -> list[str]:
    for row in sheet.iter_rows(values_only=True):
        cells = [_cell_text(value) for value in row]
        if any(cell.strip() for cell in cells):
            return cells
    return []


def _refuse_formulas(path: Path, values: Any) -> None:
    """Refuses formulas without a stored value: such cells would silently be empty."""
    for row in workbook(path, data_only=False)[values.title].iter_rows():
        for cell in row:
            if cell.data_type == "f" and values[cell.coordinate].value is None:
                raise DataError(
                    f"{path}: the formula in {cell.coordinate} has no value stored; open and save the file in Excel "
                    "or LibreOffice, or save it as CSV"
                )


def workbook(path: Path, *, data_only: bool) -> Any:
    """An Excel file as openpyxl reads it, with the values of formulas or with the formulas; raises DataError."""
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            f"{path}: Excel tables need openpyxl: pip install 'augscale[excel]', or save the table as CSV (UTF-8)"
        ) from None
    try:
        return openpyxl.load_workbook(path, data_only=data_only)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged archive makes openpyxl raise almost anything
        raise DataError(f"{path}: cannot be read as an Excel table ({type(error).__name__}: {error})") from None


def _cell_text(value: Any) -> str:
    """The text that the cell would have if the table were saved as CSV."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, (int, float)) and abs(value) > _MOST_EXACT:
        return f"{value:.14E}"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
