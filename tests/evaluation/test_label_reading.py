"""Labelled datasets from tables as people have them: which classes come out, and what is said of them first."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from augscale.cli.app import app
from augscale.cli.options import split_datasets
from augscale.config import load_study
from augscale.errors import ConfigError, DataError
from augscale.evaluation.datasets import LabelledImages, open_dataset, open_datasets
from augscale.searching.labelled_score import open_labelled

SIZE = 16
COUNT = 30


def _photos(root: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name, format="PNG")
    return root


def _table(root: Path, label: Callable[[int], object], file: str = "{:02d}.png", name: str = "list.csv") -> Path:
    _photos(root, [f"{number:02d}.png" for number in range(COUNT)])
    rows = [f"{file.format(number)},{label(number)}" for number in range(COUNT)]
    (root / name).write_text("\n".join(["file,label", *rows]) + "\n", encoding="utf-8")
    return root / name


@pytest.fixture
def opened(tmp_path: Path):
    def _open(path: Path, **settings) -> LabelledImages:
        return open_dataset(path, size=SIZE, cache_root=tmp_path / "cache", **settings)

    return _open


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        (lambda i: f"{i % 3}.0", ("0", "1", "2")),
        (lambda i: f"{i % 3}.0" if i < 15 else i % 3, ("0", "1", "2")),
        (lambda i: ["normal", "Normal", "NORMAL ", "glaucoma"][i % 4], ("normal", "glaucoma")),
        (lambda i: ["nan", "NA", "None", "?", "N/A", "null", ""][i % 7] if i % 3 == 0 else i % 3, ("1", "2")),
    ],
)
def test_classes_of_a_table(tmp_path: Path, opened, label: Callable[[int], object], classes: tuple[str, ...]) -> None:
    data = opened(_table(tmp_path / "mine", label))
    assert data.classes == classes
    unlabelled = COUNT - len(data)
    assert (f"{unlabelled} images without a label left out" in data.notes) is (unlabelled > 0)


def test_spellings_of_a_number_change_nothing_else(tmp_path: Path, opened) -> None:
    plain = opened(_table(tmp_path / "a" / "mine", lambda i: i % 3))
    floats = opened(_table(tmp_path / "b" / "mine", lambda i: f"{i % 3}.0"))
    assert (plain.fingerprint, plain.split, plain.classes) == (floats.fingerprint, floats.split, floats.classes)


def test_a_negative_label_is_refused_before_anything_is_decoded_unless_told(tmp_path: Path, opened) -> None:
    table = _table(tmp_path / "mine", lambda i: -1 if i % 5 == 0 else i % 2)
    with pytest.raises(DataError, match=r"list: 6 images have the label '-1'.*--unlabelled -1"):
        opened(table)
    assert not (tmp_path / "cache").exists()
    data = opened(table, unlabelled=["-1"])
    assert data.classes == ("0", "1")
    assert data.notes[:2] == ("6 images labelled '-1': no label, as declared", "6 images without a label left out")


def test_class_folders_of_two_splits_that_differ_in_case_are_one_class(tmp_path: Path, opened) -> None:
    folders = {"train/Normal": 8, "train/sick": 8, "test/normal": 4, "test/Sick": 4}
    root = _photos(tmp_path / "mine", [f"{name}/{i}.png" for name, count in folders.items() for i in range(count)])
    data = opened(root)
    assert data.classes == ("Normal", "sick")
    assert data.counts()["test"] == {"Normal": 4, "sick": 4}
    assert "class 'Normal' is spelled in several ways and joined: 'Normal' (8), 'normal' (4)" in data.notes


def test_what_breaks_class_folders_is_named_where_labels_are_needed(tmp_path: Path, opened) -> None:
    root = _photos(tmp_path / "mine", [f"{s}/{c}/{i}.png" for s in ("train", "test") for c in "ab" for i in range(4)])
    _photos(root, ["extra/a/x.png"])
    with pytest.raises(
        DataError, match=r"none of its 17 images has a label.*extra/ \(1 image\) beside test, train"
    ) as e:
        opened(root)
    assert "\n" not in str(e.value)


def test_a_repaired_table_opens_and_says_so_and_a_few_missing_files_say_why(tmp_path: Path, opened) -> None:
    data = opened(_table(tmp_path / "mine", lambda i: i % 2, file="C:\\data\\{:02d}.PNG"))
    assert len(data) == COUNT
    assert "30 of 30 files do not exist as written and were found by one repair" in data.notes[0]
    table = tmp_path / "mine" / "list.csv"
    rows = [f"{number:02d}.png,{number % 2}" for number in range(COUNT - 1)]
    table.write_text("\n".join(["file,label", *rows, "29.jpg,1"]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"1 of its files do not exist, e\.g\. .*29\.jpg \(there is 29\.png \(other"):
        opened(table)


def test_classes_are_said_before_anything_is_embedded(tmp_path: Path) -> None:
    table = _table(tmp_path / "mine", lambda i: "nan" if i % 5 == 0 else ["a", "b", "B"][i % 3])
    said: list[str] = []
    open_one = partial(open_dataset, size=SIZE, cache_root=tmp_path / "cache")
    notes = open_datasets([table], open_one, data_root=None, on_progress=None, say=said.append)[1]
    assert said[0].startswith("list: 24 images (14 train, ")
    assert said[0].endswith("2 classes: a (8), b (16)")
    assert said[1:] == notes
    assert "list: list.csv: label 'nan' (6): taken as no label (a class needs another name)" in said


def test_the_command_says_the_classes_and_takes_what_is_no_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path / "cache"))
    table = _table(tmp_path / "my, data", lambda i: [-1, -9, "0.0", "1", 0, 1][i % 6])
    arguments = ["evaluate", "random:resnet18", "--datasets", str(table), "--protocol", "knn", "--size", "32"]
    arguments += ["--no-untrained", "--seeds", "1", "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, DataError)
    done = CliRunner().invoke(app, [*arguments, "--unlabelled", "-1", "--unlabelled", "-9", "--json"])
    assert done.exit_code == 0, done.output
    assert "list: 20 images (12 train, 3 val, 5 test), 2 classes: 0 (10), 1 (10)" in done.stderr
    facts = json.loads(done.stdout)["facts"]["datasets"]["list"]
    assert facts["classes"] == ["0", "1"]


def test_the_labelled_score_of_a_search_takes_what_is_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path / "cache"))
    table = _table(tmp_path / "mine", lambda i: [-1, 0, 1][i % 3])
    values = {"probe.score": "knn-auroc", "probe.labelled": [str(table)]}
    with pytest.raises(DataError, match="label '-1'"):
        open_labelled(load_study("smoke", values))
    datasets = open_labelled(load_study("smoke", values | {"probe.unlabelled": ["-1"]}))
    assert datasets[0].classes == ("0", "1")
    with pytest.raises(ConfigError, match=r"unlabelled = \['-1'\] is about labels; expected probe\.labelled, too"):
        load_study("smoke", {"probe.unlabelled": ["-1"]})


def test_dataset_paths_may_hold_commas_and_lists_of_names_still_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my, data", "a,b", "c"):
        Path(name).mkdir()
    assert split_datasets(None) == ["all"]
    assert split_datasets(["aptos2019, idrid,./c"]) == ["aptos2019", "idrid", "./c"]
    assert split_datasets(["./my, data"]) == ["./my, data"]
    assert split_datasets(["papila,./my, data,./a,b,./c", "jsiec"]) == ["papila", "./my, data", "./a,b", "./c", "jsiec"]
    assert split_datasets(["./nowhere,./c"]) == ["./nowhere", "./c"]
    assert split_datasets(["x,", ",", "\0,y"]) == ["x", "\0", "y"]
