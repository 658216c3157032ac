"""Sources: what each kind of source yields, what is ignored, set aside, or refused in one line."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from augscale.data.image_records import ImageRecord
from augscale.data.image_tables import read_table
from augscale.data.sources import scan_sources
from augscale.errors import DataError


def _touch(root: Path, *names: str) -> Path:
    """Files with some content; sources are listed without opening any."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _by_id(records: list[ImageRecord]) -> dict[str, ImageRecord]:
    assert len({record.image_id for record in records}) == len(records)
    return {record.image_id: record for record in records}


def test_folder_is_read_recursively_with_suffixes_in_any_case(tmp_path: Path) -> None:
    names = ["a.jpg", "b.JPEG", "deep/c.Png", "deep/er/d.tif", "e.TIFF", "f.webp", "g.bmp"]
    root = _touch(
        tmp_path / "set", *names, "notes.txt", "README", "x.md", ".hidden.jpg", ".git/h.jpg", "__MACOSX/._a.jpg"
    )
    scan = scan_sources([str(root)])
    assert [record.image_id for record in scan.records] == sorted(f"set/{name}" for name in names)
    assert scan.bad == []
    assert {record.source for record in scan.records} == {"set"}
    assert {record.label for record in scan.records} == {None}


def test_images_of_unsupported_types_are_set_aside(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "a.jpg", "b.gif", "c.HEIC")
    bad = scan_sources([str(root)]).bad
    assert [(entry.path.name, entry.reason) for entry in bad] == [
        ("b.gif", ".gif files are not supported; convert them to PNG or JPEG"),
        ("c.HEIC", ".heic files are not supported; convert them to PNG or JPEG"),
    ]


def test_dicom_files_are_images_where_pydicom_is_installed_and_set_aside_elsewhere(tmp_path, monkeypatch) -> None:
    root = _touch(tmp_path / "set", "a.jpg", "c.DCM")
    assert [record.image_id for record in scan_sources([str(root)]).records] == ["set/a.jpg", "set/c.DCM"]
    monkeypatch.setattr("augscale.data.listing.can_read_dicom", lambda: False)
    scan = scan_sources([str(root)])
    assert [record.image_id for record in scan.records] == ["set/a.jpg"]
    assert [entry.reason for entry in scan.bad] == [".dcm files need `pip install augscale[dicom]`"]


def test_class_folders_give_labels(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "normal/a.jpg", "sick/a.jpg", "sick/b.jpg")
    records = _by_id(scan_sources([str(root)]).records)
    assert {name: record.label for name, record in records.items()} == {
        "set/normal/a.jpg": "normal",
        "set/sick/a.jpg": "sick",
        "set/sick/b.jpg": "sick",
    }


def test_split_folders_above_class_folders_give_both(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "train/0/a.jpg", "train/1/b.jpg", "Validation/0/c.jpg", "test/1/d.jpg")
    records = _by_id(scan_sources([str(root)]).records)
    assert {(record.split, record.label) for record in records.values()} == {
        ("train", "0"),
        ("train", "1"),
        ("val", "0"),
        ("test", "1"),
    }


def test_a_plain_folder_with_some_subfolders_gets_no_labels(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "a.jpg", "2019/b.jpg", "test/c.jpg", "2020/jan/d.jpg")
    assert {(record.label, record.split) for record in scan_sources([str(root)]).records} == {(None, None)}


def test_csv_manifest_names_its_images_relative_to_itself(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "img/a.jpg", "img/b.jpg", "img/unlisted.jpg")
    table = _write(
        root / "list.csv",
        "file,label,split,patient_id,eye,camera\nimg/a.jpg,2,train,p1,OS,Topcon\nimg/b.jpg,,valid,p1,right,\n",
    )
    records = _by_id(scan_sources([str(table)]).records)
    assert set(records) == {"set/img/a.jpg", "set/img/b.jpg"}
    a, b = records["set/img/a.jpg"], records["set/img/b.jpg"]
    assert (a.label, a.split, a.patient_id, a.eye, a.source) == ("2", "train", "p1", "left", "set")
    assert (b.label, b.split, b.patient_id, b.eye, b.source) == (None, "val", "p1", "right", "set")
    assert a.path is not None
    assert a.path.read_bytes() == b"img/a.jpg"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_may_have_a_byte_order_mark_spaces_and_another_delimiter(tmp_path: Path, delimiter: str) -> None:
    root = _touch(tmp_path / "set", "a.jpg", "b, the second.jpg")
    lines = [delimiter.join(["File ", " Patient"]), delimiter.join(["a.jpg", " p1 "]), ""]
    lines.append(delimiter.join(['"b, the second.jpg"', "p2"]))
    (root / "list.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    records = scan_sources([str(root / "list.csv")]).records
    assert [record.patient_id for record in records] == ["p1", "p2"]


def test_absolute_paths_in_a_csv_leave_no_trace_in_the_ids(tmp_path: Path) -> None:
    first = _touch(tmp_path / "here", "x/a.jpg", "y/b.jpg")
    second = _touch(tmp_path / "there", "x/a.jpg", "y/b.jpg")
    ids = []
    for number, root in enumerate((first, second)):
        table = _write(tmp_path / f"{number}" / "lists" / "list.csv", f"file\n{root}/x/a.jpg\n{root}/y/b.jpg\n")
        ids.append([record.image_id for record in scan_sources([str(table)]).records])
    assert ids[0] == ids[1] == ["lists/x/a.jpg", "lists/y/b.jpg"]


def test_rows_without_a_file_or_with_a_missing_one_are_set_aside(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "a.jpg")
    table = _write(root / "list.csv", "file,label\na.jpg,1\ngone.jpg,0\n,1\n")
    scan = scan_sources([str(table)])
    assert [record.image_id for record in scan.records] == ["set/a.jpg"]
    assert sorted(entry.reason for entry in scan.bad) == [
        "line 4 of the table names no file",
        "no such file (named by a table, or a broken link)",
    ]


def test_missing_files_of_other_splits_are_not_counted(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "a.jpg")
    table = _write(root / "list.csv", "file,split\na.jpg,train\ngone.jpg,test\n")
    assert scan_sources([str(table)], splits=["train"]).bad == []


def test_the_same_row_twice_counts_once_but_a_contradiction_is_an_error(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "a.jpg")
    twice = _write(root / "twice.csv", "file,label\na.jpg,1\na.jpg,1\n")
    assert len(scan_sources([str(twice)]).records) == 1
    torn = _write(root / "torn.csv", "file,label\na.jpg,1\na.jpg,2\n")
    with pytest.raises(DataError, match=r"torn\.csv: line 3: a\.jpg is listed before with label = '1', here '2'"):
        scan_sources([str(torn)])


def test_a_csv_without_file_column_names_the_columns_found(tmp_path: Path) -> None:
    table = _write(_touch(tmp_path, "a.jpg") / "list.csv", "files,label\na.jpg,1\n")
    with pytest.raises(
        DataError, match=r"no column named 'file' \(did you mean files\?\); columns found: files, label"
    ):
        scan_sources([str(table)])


@pytest.mark.parametrize("content", [b"", b"file\n\xff\xfe\x00.jpg\n"])
def test_a_csv_that_is_empty_or_no_text_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    table = tmp_path / "list.csv"
    table.write_bytes(content)
    with pytest.raises(DataError) as caught:
        scan_sources([str(table)])
    assert "list.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_in_a_folder_are_merged_and_unlisted_images_kept(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "a.jpg", "b.jpg", "c.jpg")
    _write(root / "labels.csv", "file,label,split\na.jpg,1,train\nb.jpg,0,test\n")
    _write(root / "meta.csv", "file,source_file,patient\na.jpg,x,7\nb.jpg,y,\n")
    records = _by_id(scan_sources([str(root)]).records)
    a = records["set/a.jpg"]
    assert (a.label, a.split, a.patient_id) == ("1", "train", "7")
    assert (records["set/b.jpg"].label, records["set/b.jpg"].patient_id) == ("0", None)
    assert records["set/c.jpg"].label is None


def test_a_labels_file_of_another_program_is_passed_over(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "a.jpg")
    _write(root / "labels.csv", "class,colour\n1,red\n")
    scan = scan_sources([str(root)])
    assert len(scan.records) == 1
    assert scan.notes[0].startswith("passed over: ")
    assert scan.notes[0].endswith("labels.csv: no column named 'file'; columns found: class, colour")


def test_folders_with_tables_below_a_source_are_sources_of_their_own(tmp_path: Path) -> None:
    """Patient 7 of one set is not patient 7 of the other."""
    root = _touch(tmp_path / "all", "one/a.jpg", "two/b.jpg", "loose.jpg")
    for name in ("one/a.jpg", "two/b.jpg"):
        _write((root / name).parent / "meta.csv", f"file,patient\n{Path(name).name},7\n")
    records = scan_sources([str(root)]).records
    assert {(r.source, r.patient_id) for r in records} == {("all/one", "7"), ("all/two", "7"), ("all", None)}


def test_a_table_above_may_name_files_below(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "img/a.jpg")
    _write(root / "labels.csv", "file,label\n./img/a.jpg,3\n")
    assert [(r.image_id, r.label) for r in scan_sources([str(root)]).records] == [("set/img/a.jpg", "3")]


def test_a_file_reached_twice_counts_once_and_keeps_what_is_known(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "img/a.jpg", "img/b.jpg")
    os.symlink(root / "img" / "a.jpg", root / "img" / "z_link.jpg")
    os.symlink(root / "img", root / "img_again")
    os.symlink(root, root / "img" / "loop")
    table = _write(tmp_path / "list" / "list.csv", f"file,label,patient_id\n{root}/img/a.jpg,4,p9\n")
    records = scan_sources([str(root), str(root / "img"), str(table)]).records
    assert [record.path and record.path.name for record in records] == ["a.jpg", "b.jpg"]
    assert (records[0].label, records[0].patient_id) == ("4", "p9")


def test_a_broken_link_is_set_aside(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "a.jpg")
    os.symlink(tmp_path / "gone.jpg", root / "b.jpg")
    scan = scan_sources([str(root)])
    assert len(scan.records) == 1
    assert [entry.path.name for entry in scan.bad] == ["b.jpg"]


def test_sources_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    first, second = _touch(tmp_path / "x" / "images", "a.jpg"), _touch(tmp_path / "y" / "images", "a.jpg")
    assert [r.image_id for r in scan_sources([str(first), str(second)]).records] == ["x/images/a.jpg", "y/images/a.jpg"]


def test_one_image_file_is_a_source(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "a.jpg", "b.jpg")
    assert [record.image_id for record in scan_sources([str(root / "b.jpg")]).records] == ["set/b.jpg"]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: str(root / "gone"), "does not exist; expected a folder"),
        (lambda root: str(_touch(root / "set", "notes.txt")), "holds no image; expected files ending in bmp, jpeg"),
        (lambda root: str(_touch(root / "set", "a.gif")), r"holds no image \(1 files were set aside: .gif"),
    ],
)
def test_nothing_to_read_is_one_line(tmp_path: Path, prepare: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        scan_sources([prepare(tmp_path)])  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_unknown_splits_name_those_found(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "train/a.jpg", "test/b.jpg")
    assert [r.image_id for r in scan_sources([str(root)], splits=["train"]).records] == ["set/train/a.jpg"]
    with pytest.raises(DataError, match="splits found: test, train"):
        scan_sources([str(root)], splits=["trian"])


def test_real_folders_have_the_counts_of_their_description(fundus_dir: Path) -> None:
    records = scan_sources([str(fundus_dir / name) for name in ("aptos2019", "odir3", "pool")]).records
    assert Counter(record.source for record in records) == {"aptos2019": 2627, "odir3": 1659, "pool": 122}
    aptos = [record for record in records if record.source == "aptos2019"]
    assert Counter(record.split for record in aptos) == {"train": 1573, "val": 423, "test": 631}
    assert Counter(r.label for r in aptos if r.split == "test") == {"0": 323, "1": 61, "2": 166, "3": 32, "4": 49}
    assert len({record.patient_id for record in records if record.source == "odir3"}) == 1002


def test_the_whole_real_collection_is_scoped_by_its_folders(fundus_dir: Path) -> None:
    records = scan_sources([str(fundus_dir)]).records
    assert len(records) == 6000
    assert {r.source for r in records} == {
        f"fundus/{name}" for name in ("aptos2019", "srahim_dr", "odir3", "retina_cg", "palm", "pool")
    }


@pytest.mark.parametrize("header", ["PatientID", "patient id", "Patient-Id", "patient"])
def test_patient_ids_are_known_by_their_usual_spellings(tmp_path: Path, header: str) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"file,{header}\na.png,7\n", encoding="utf-8")
    assert read_table(table).rows["a.png"].patient_id == "7"


@pytest.mark.parametrize(("header", "meant"), [("patient_idd", "patient_id"), ("labels", "label"), ("spilt", "split")])
def test_a_misspelt_column_is_refused_and_others_are_passed_over(tmp_path: Path, header: str, meant: str) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"file,{header}\na.png,7\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"unknown column '{header}' \\(did you mean {meant}\\?\\)"):
        read_table(table)
    table.write_text("file,age,sex,camera\na.png,7,f,x\n", encoding="utf-8")
    assert set(read_table(table).rows) == {"a.png"}
