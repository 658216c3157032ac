"""Splits and classes from folders, and what keeps them from being read."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from augscale.data.folder_labels import folder_rows
from augscale.data.manifest import scan_sources

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
