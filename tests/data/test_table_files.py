"""Dialects of CSV, Excel, and tables that are named instead of read; pandas writes and reads beside us."""

from __future__ import annotations

import sys
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from augscale.data.image_tables import Table, read_table
from augscale.data.sources import scan_sources
from augscale.data.table_files import OTHER_TABLES
from augscale.errors import DataError

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.sampled_from("ab Zé,;\t\"'|ß%"), max_size=8)


def _labels(table: Table) -> dict[str, str | None]:
    return {file: row.label for file, row in table.rows.items()}


@FAST
@given(
    cells=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([0, 1]),
)
def test_tables_that_pandas_writes_are_read_as_pandas_reads_them(
    tmp_path: Path, cells: list[tuple[str, str]], separator: str, encoding: str, end: str, quoting: int
) -> None:
    files = [f"{number}{name}.jpg" for number, (name, _) in enumerate(cells)]
    labels = [f"x{label}y" for _, label in cells]
    path = tmp_path / "list.csv"
    pd.DataFrame({"file": files, "label": labels, "notes": 'a "b", c'}).to_csv(
        path, sep=separator, encoding=encoding, lineterminator=end, quoting=quoting, index=False
    )
    expected = pd.read_csv(path, sep=separator, encoding=encoding, dtype=str)
    assert _labels(read_table(path)) == dict(zip(expected["file"].str.strip(), expected["label"], strict=True))


@pytest.mark.parametrize("suffix", [".xlsx", ".tsv", ".csv", ".txt"])
def test_a_column_of_numbers_with_gaps_comes_back_whole(tmp_path: Path, suffix: str) -> None:
    """Pandas makes floats of grades with a gap, and Excel of all numbers."""
    table = pd.DataFrame({"file": list("abcd"), "label": [0, 1, None, 3], "patient_id": [12, None, 12, 7]})
    path = tmp_path / f"list{suffix}"
    if suffix == ".xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_csv(path, sep="," if suffix == ".csv" else "\t", index=False)
    rows = read_table(path).rows
    assert [row.label for row in rows.values()] == ["0", "1", None, "3"]
    assert [row.patient_id for row in rows.values()] == ["12", None, "12", "7"]


def test_tables_of_all_kinds_are_sources_and_lie_in_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    table = pd.DataFrame({"file": ["a.jpg", "b.jpg"], "label": [1, 0]})
    table.to_csv(tmp_path / "mine.tsv", sep="\t", index=False)
    table.to_excel(tmp_path / "mine.xlsx", index=False)
    for name in ("mine.tsv", "mine.xlsx"):
        assert [r.label for r in scan_sources([str(tmp_path / name)]).records] == ["1", "0"]
    assert [r.label for r in scan_sources([str(tmp_path)]).records] == [None, None]
    (tmp_path / "mine.xlsx").rename(tmp_path / "labels.xlsx")
    assert [r.label for r in scan_sources([str(tmp_path)]).records] == ["1", "0"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("sep=;\nfile;label\na;1\n", {"a": "1"}),
        ('file;"label";"age, sex, eye"\na;1;"3, f, l"\n', {"a": "1"}),
        ("\n\nfile,label\na,1\n", {"a": "1"}),
        ('file,label,notes\na,1,said "so, later"\nb,2,"two\nlines"\n', {"a": "1", "b": "2"}),
        ("file,label,notes\na,1,free text, with commas\n", {"a": "1"}),
        ("file,label\na,1,,\n", {"a": "1"}),
        ("file,label\na\n", {"a": None}),
    ],
)
def test_dialects(tmp_path: Path, content: str, expected: dict[str, str | None]) -> None:
    (tmp_path / "list.csv").write_text(content, encoding="utf-8")
    assert _labels(read_table(tmp_path / "list.csv")) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"file,label\nM\xfcller.jpg,1\n",
            r"line 2: not a CSV table in UTF-8 \(byte 0xfc; 'Müller.jpg' in Windows",
        ),
        ("file,label\na,1\n".encode("utf-16-le"), "mostly NUL bytes: UTF-16 without a byte order mark"),
        (b"file,label\na, b.jpg,1\n", r"line 2 has 3 cells, the header 2; put text that holds the separator in quotes"),
        (b'file,label\n"a.jpg,1\nb.jpg,2\n', r'line 2: a quote \("\) opens and never closes'),
        (b"file,label,Label\na,1,2\n", r"two columns mean label \('label', 'Label'\) and differ in line 2: '1', '2'"),
        (b"id_code,diagnosis\na,1\n", "rename 'id_code' to 'file' and 'diagnosis' to 'label'"),
        (b"", "the table is empty; expected a header with a column 'file'"),
        (b"file|label\na|1\n", r"columns found: file\|label; expected commas, semicolons or tabs between columns"),
        (b"PK\x03\x04rest", r"an Excel workbook or another archive under this name: rename it to \.xlsx"),
        (b"file,label\na,None\nb,none\n", r"label 'None' \(no label, 1 rows\) beside label 'none' \(a class\)"),
    ],
)
def test_what_would_be_guessed_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_table(tmp_path / "list.csv")
    assert "\n" not in str(caught.value)
    assert "list.csv" in str(caught.value)


def test_a_table_that_names_nothing_is_no_source_and_harms_no_folder(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(DataError, match=r"labels\.csv: names no file; expected a row for each image"):
        scan_sources([str(tmp_path / "labels.csv")])
    (tmp_path / "a.jpg").write_bytes(b"a")
    assert len(scan_sources([str(tmp_path)]).records) == 1


@pytest.mark.parametrize("suffix", sorted(OTHER_TABLES))
def test_other_tables_are_named_with_the_way_on(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"list{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(DataError, match=rf"list\{suffix}: .*CSV"):
        scan_sources([str(path)])


def _book(path: Path, *sheets: tuple[str, list[list[object]]]) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return book


def test_of_a_workbook_the_sheet_with_files_is_read(tmp_path: Path) -> None:
    path = tmp_path / "list.xlsx"
    rows: list[list[object]] = [[None, None], ["file", "label"], ["a.jpg", 2.0], ["b.jpg", True], [None, None]]
    _book(path, ("notes", [["by", "me"]]), ("data", rows))
    assert _labels(read_table(path)) == {"a.jpg": "2", "b.jpg": "TRUE"}
    _book(path, ("one", rows), ("two", rows))
    with pytest.raises(DataError, match="the sheets 'one' and 'two' both have a column 'file'"):
        read_table(path)


def test_cells_of_a_workbook_without_a_value_of_their_own_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.xlsx"
    _book(path, ("data", [["file", "label"], ["a.jpg", "=1+1"]]))
    with pytest.raises(DataError, match="the formula in B2 has no value stored"):
        read_table(path)
    book = _book(path, ("data", [["file", "patient_id"], ["a.jpg", 7], ["b.jpg", None]]))
    book.worksheets[0].merge_cells("B2:B3")
    book.save(path)
    with pytest.raises(DataError, match="cells B2:B3 are merged"):
        read_table(path)


def test_excel_without_openpyxl_or_damaged_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.xlsx"
    path.write_bytes(b"PK\x03\x04 but no workbook")
    with pytest.raises(DataError, match=r"labels\.xlsx: cannot be read as an Excel table"):
        read_table(path)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"pip install 'augscale\[excel\]', or save the table as CSV"):
        read_table(path)
    (tmp_path / "a.jpg").write_bytes(b"a")
    scan = scan_sources([str(tmp_path)])
    assert len(scan.records) == 1
    assert "passed over: " in scan.notes[0]
