"""Files that a table names and that are not there: one repair for all is taken and said, else the likely cause."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from augscale.data.image_records import MISSING
from augscale.data.sources import SourceScan, scan_sources
from augscale.errors import DataError


def _scan(root: Path, files: list[str], rows: list[str], name: str = "list.csv") -> SourceScan:
    """Makes files, and reads a table that names others; labels are the numbers of the rows."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(file.encode())
    lines = [f'"{row}",c{number}' for number, row in enumerate(rows)]
    (root / name).write_text("\n".join(["file,label", *lines]) + "\n", encoding="utf-8")
    return scan_sources([str(root / name if name == "list.csv" else root)])


def _nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("files", "rows", "words"),
    [
        (["img/a.jpg", "img/b.PNG"], ["img/a", "img/b"], "extension missing"),
        (["img/a.jpg", "img/b.jpg"], ["img/A.JPG", "IMG/b.jpg"], "other upper and lower case"),
        (["img/a.jpg", "img/b.jpg"], ["a.jpg", "b.jpg"], "other folder"),
        (["x/a.jpg", "y/b.jpg"], ["a.jpg", "b.jpg"], "other folder"),
        (["a.jpg", "b.jpg"], ["images/a.jpg", "images/b.jpg"], "other folder"),
        (["n/1.jpg", "s/1.jpg"], ["/data/me/set/n/1.jpg", "/data/me/set/s/1.jpg"], "other folder"),
        (["img/a.jpg", "img/b.jpg"], ["img\\a.jpg", "img\\b.jpg"], "backslashes"),
        (["n/1.jpg", "s/1.jpg"], ["C:\\me\\set\\n\\1.jpg", "C:\\me\\set\\s\\1.jpg"], "backslashes, other folder"),
        (["1.jpg", "12.jpg"], ["1.0", "12.0"], "extension missing, 12.0 for 12"),
        (["1.jpg", "12.jpg"], ["1.0.jpg", "12.0.jpg"], "12.0 for 12"),
        (["img/0001.jpg", "img/0012.jpg"], ["img/1.jpg", "img/12.jpg"], "leading zeros lost"),
        (["é1.jpg", "ü2.jpg"], [_nfd("é1.jpg"), _nfd("ü2.jpg")], "other Unicode form (NFC, NFD)"),
        ([_nfd("é/1.jpg"), _nfd("é/2.jpg")], ["é/1.jpg", "é/2.jpg"], "other Unicode form (NFC, NFD)"),
        (["img/a.jpg ", "img/b.jpg "], ["img/a.jpg", "img/b.jpg"], "spaces"),
        (["img/a.jpg", "img/b.jpg"], ["img/ a.jpg", "img /b.jpg"], "spaces"),
        (["../img/a.jpg", "../img/b.jpg"], ["../img/a", "../img/b"], "extension missing"),
        (["my set/a.jpg", "my set/b.jpg"], ["my%20set/a.jpg", "my%20set/b.jpg"], "%20 for a space"),
        (["img/A.JPG", "img/B.JPG"], ["/else/a", "/else/b"], "other upper and lower case, extension missing, other"),
    ],
)
def test_one_repair_for_all_is_taken_and_said(tmp_path: Path, files: list[str], rows: list[str], words: str) -> None:
    scan = _scan(tmp_path / "set", files, rows)
    found = {record.path: record.label for record in scan.records}
    assert found == {tmp_path / "set" / file: f"c{number}" for number, file in enumerate(files)}
    assert scan.bad == []
    assert len(scan.notes) == 1
    assert f"2 of 2 files do not exist as written and were found by one repair ({words}" in scan.notes[0]
    assert scan.notes[0].endswith(f" for {rows[0]}")


def test_a_table_in_its_folder_of_images_is_repaired_alike(tmp_path: Path) -> None:
    scan = _scan(tmp_path / "set", ["img/a.jpg", "img/b.jpg", "img/c.jpg"], ["a", "b"], "labels.csv")
    assert {r.image_id: r.label for r in scan.records} == {
        "set/img/a.jpg": "c0",
        "set/img/b.jpg": "c1",
        "set/img/c.jpg": None,
    }
    assert scan.bad == []
    assert "labels.csv: 2 of 2 files do not exist as written" in scan.notes[0]


def test_some_rows_repaired_where_the_others_are_right(tmp_path: Path) -> None:
    scan = _scan(tmp_path / "set", ["a.jpg", "b.jpg", "c.jpg"], ["a.jpg", "b", "c"])
    assert [record.label for record in scan.records] == ["c0", "c1", "c2"]
    assert "2 of 3 files do not exist as written" in scan.notes[0]


def test_where_nothing_exists_as_written_a_few_may_be_missing_after_the_repair(tmp_path: Path) -> None:
    scan = _scan(tmp_path / "set", ["a.jpg", "b.jpg"], ["a", "b", "gone"])
    assert [record.label for record in scan.records] == ["c0", "c1"]
    assert [(entry.path.name, entry.reason) for entry in scan.bad] == [("gone", MISSING)]


def test_missing_files_beside_others_are_set_aside_with_the_likely_cause(tmp_path: Path) -> None:
    """Two mishaps are not one repair; a file in another folder than its neighbours' may be another image."""
    files = ["img/a.jpg", "img/b.jpg", "img/c.jpg", "else/d.jpg"]
    scan = _scan(tmp_path / "set", files, ["img/a.jpg", "img/B.jpg", "img/c", "img/d.jpg", "img/e.jpg"])
    assert [record.image_id for record in scan.records] == ["set/img/a.jpg"]
    assert {entry.path.name: entry.reason.removeprefix(MISSING) for entry in scan.bad} == {
        "B.jpg": "; there is img/b.jpg (other upper and lower case)",
        "c": "; there is img/c.jpg (extension missing)",
        "d.jpg": "; there is else/d.jpg (other folder)",
        "e.jpg": "",
    }
    assert scan.notes == ()


@pytest.mark.parametrize(
    ("files", "rows", "message"),
    [
        (
            ["c.jpg"],
            ["a.jpg", "b.jpg"],
            "2 of 2 files do not exist, e.g. a.jpg .*no file in or below .* has a similar",
        ),
        (["a.png", "b.png"], ["a.jpg", "b.jpg"], r"there is a.png \(other extension, as for 2 of them\)"),
        (["n/a.jpg", "s/b.jpg"], ["/x/m/a.jpg", "/y/b.jpg"], r"there is n/a.jpg \(other folder"),
        (
            ["a.jpg", "a.png", "b.jpg"],
            ["a", "b"],
            r"'a' does not exist as written, and two files fit: .*a\.jpg and ",
        ),
        (["x/a.jpg", "y/a.jpg"], ["a.jpg"], r"two files fit: .*x/a\.jpg and .*y/a\.jpg"),
        (["../img/a.jpg"], ["img/a.jpg"], "it is there below .*; move the table to that folder"),
    ],
)
def test_no_repair_or_two_is_one_line(tmp_path: Path, files: list[str], rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _scan(tmp_path / "set", files, rows)
    assert "\n" not in str(caught.value)


def test_names_of_one_file_must_agree(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'12' and '12\.0' are the same file, with label = 'c0', here 'c1'"):
        _scan(tmp_path / "set", ["12.jpg"], ["12", "12.0"])


def test_a_repaired_table_gives_the_same_ids_as_a_right_one(tmp_path: Path) -> None:
    right = _scan(tmp_path / "set", ["img/a.jpg", "img/b.jpg"], ["img/a.jpg", "img/b.jpg"]).records
    assert _scan(tmp_path / "set", [], ["C:\\A", "C:\\B"]).records == right


def test_files_of_the_splits_asked_for_that_all_are_missing_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "list.csv").write_text("file,split\na.jpg,train\ngone.jpg,test\n")
    with pytest.raises(DataError, match=r"none of 1 files exists, e\.g\. .*gone\.jpg"):
        scan_sources([str(tmp_path / "list.csv")], splits=["test"])
