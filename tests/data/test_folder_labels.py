"""Splits and classes from folders, and what keeps them from being read."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from augscale.data.folder_labels import folder_rows
from augscale.data.sources import scan_sources

SPLITS = ["train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "test/a/4.jpg", "test/b/5.jpg"]
CLASSES = ["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg"]


def _rows(files: list[str]) -> tuple[list[tuple[str | None, str | None]], str | None]:
    found = folder_rows([PurePosixPath(file) for file in files])
    notes = [*found.notes, *found.label_notes]
    assert len(notes) <= 1
    return [(row.split, row.label) for row in found.rows], next(iter(notes), None)


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ([*SPLITS, "extra/a/6.jpg", "extra/b/7.jpg"], "extra/ (2 images) beside test, train, val: neither splits nor"),
        ([*SPLITS, "montage.jpg"], "montage.jpg beside test, train, val: neither splits nor classes are read"),
        (["train/1.jpg", "test/2.jpg", "extra/3.jpg"], "extra/ (1 image) beside test, train: neither splits nor"),
        (
            [*CLASSES, "montage.jpg"],
            "1 of 5 images do not lie in a class folder as the others do, e.g. montage.jpg: no",
        ),
        ([*CLASSES, "a/deep/5.jpg"], "1 of 5 images do not lie in a class folder as the others do, e.g. a/deep/5.jpg"),
    ],
)
def test_what_breaks_the_layout_is_named(files: list[str], note: str) -> None:
    rows, found = _rows(files)
    assert {label for _, label in rows} == {None}
    assert found is not None
    assert found.startswith(note)


def test_an_image_beside_the_class_folders_of_a_split_leaves_the_splits() -> None:
    rows, note = _rows([*SPLITS, "train/6.jpg"])
    assert {split for split, _ in rows} == {"train", "val", "test"}
    assert {label for _, label in rows} == {None}
    assert note is not None
    assert "e.g. train/6.jpg" in note


@pytest.mark.parametrize("files", [SPLITS, CLASSES, ["1.jpg", "2.jpg"], ["2019/1.jpg", "x.jpg", "test/y.jpg"], []])
def test_a_sound_or_plain_folder_needs_no_word(files: list[str]) -> None:
    assert _rows(files)[1] is None


def test_files_that_are_no_images_break_nothing(tmp_path: Path) -> None:
    for name in (*SPLITS, "README.txt", "train/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    scan = scan_sources([str(tmp_path)])
    assert {(record.split, record.label) for record in scan.records} >= {("train", "a"), ("test", "b")}
    assert scan.notes == scan.label_notes == ()


def test_names_of_class_folders() -> None:
    assert [label for _, label in _rows(["0.0/a.jpg", "1.0/b.jpg"])[0]] == ["0", "1"]
    assert [label for _, label in _rows(["None/a.jpg", "NA/b.jpg"])[0]] == ["None", "NA"]
    rows, note = _rows(["nan/a.jpg", "1/b.jpg", "0/c.jpg"])
    assert [label for _, label in rows] == [None, "1", "0"]
    assert note == "class folder 'nan' (1): taken as no label"


def test_a_table_that_contradicts_the_class_folders_counts_and_is_said(tmp_path: Path) -> None:
    for number in range(6):
        file = tmp_path / "abc"[number % 3] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        file.touch()
    rows = [f"{'abc'[i % 3]}/{i}.png,{'abc'[(i + (i > 1)) % 3]}" for i in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]), encoding="utf-8")
    for source in (tmp_path, tmp_path / "labels.csv"):
        scan = scan_sources([str(source)])
        assert [note for note in scan.notes if "4 of 6 images lie in the folder of another label" in note]
        assert [record.label for record in scan.records if record.image_id.endswith("2.png")] == ["a"]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", "a/0.png,3", "b/1.png,4"]), encoding="utf-8")
    assert not scan_sources([str(tmp_path)]).notes  # folders that are no classes


def test_two_tables_that_contradict_each_other_are_said(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").touch()
    (tmp_path / "labels.csv").write_text("file,label\n0.png,0\n1.png,1\n2.png,\n", encoding="utf-8")
    (tmp_path / "meta.csv").write_text("file,label\n0.png,0\n1.png,0\n2.png,1\n", encoding="utf-8")
    scan = scan_sources([str(tmp_path)])
    assert [record.label for record in scan.records] == ["0", "1", "1"]
    assert len(scan.notes) == 1
    assert "1.png: label = '1', here '0'; labels.csv counts" in scan.notes[0]
