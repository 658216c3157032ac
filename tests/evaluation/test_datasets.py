"""Opening labelled datasets: what a folder, a table, a name becomes, and each defined trouble in one line."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augscale.data import sources
from augscale.data.retinal import prepare
from augscale.errors import ConfigError, DataError
from augscale.evaluation.datasets import LabelledImages, open_dataset
from augscale.evaluation.label_maps import external_pairs

SIZE = 16


def _photo(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def _class_folders(root: Path, counts: Mapping[str, int]) -> Path:
    """counts: images by folder, e.g. "train/normal"."""
    number = 0
    for folder, count in counts.items():
        for _ in range(count):
            _photo(root / folder / f"{number:04d}.png", number)
            number += 1
    return root


def _table(root: Path, rows: list[str], header: str = "file,label,split,patient_id") -> Path:
    """A folder of images with labels.csv; every file named is made, its content by its place."""
    for place, row in enumerate(rows):
        file = row.split(",")[0]
        if not (root / file).exists():
            _photo(root / file, place)
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


@pytest.fixture
def opened(tmp_path: Path):
    def _open(path: Path | str, **settings) -> LabelledImages:
        settings = {"size": SIZE, "cache_root": tmp_path / "cache", "data_root": tmp_path / "root"} | settings
        return open_dataset(path, **settings)

    return _open


def _split_counts(data: LabelledImages) -> dict[str, int]:
    return dict(Counter(data.split))


def _one_line(caught: pytest.ExceptionInfo[BaseException]) -> None:
    assert "\n" not in str(caught.value)


def test_class_folders_with_splits(tmp_path: Path, opened) -> None:
    root = _class_folders(
        tmp_path / "mine",
        {"train/sick": 6, "train/Normal": 4, "valid/sick": 2, "valid/Normal": 2, "test/sick": 3, "test/Normal": 1},
    )
    data = opened(root)
    assert data.name == "mine"
    assert data.classes == ("Normal", "sick")
    assert _split_counts(data) == {"train": 10, "val": 4, "test": 4}
    assert data.images.shape == (18, SIZE, SIZE, 3)
    for name, label, split, row in zip(data.image_ids, data.labels, data.split, data.rows, strict=True):
        folder = f"{'valid' if split == 'val' else split}/{data.classes[label]}"
        path = root / name.removeprefix("mine/")
        assert f"/{folder}/" in f"/{name}"
        grey = np.asarray(Image.open(path).convert("RGB")).mean()
        assert abs(float(data.images[row].mean()) - grey) < 2  # the row is that photograph
    assert data.part("test").tolist() == [i for i, split in enumerate(data.split) if split == "test"]
    assert data.part("test").dtype == data.labels.dtype == data.rows.dtype == data.groups.dtype == np.int64
    assert data.notes == ()


def test_class_folders_without_splits_get_a_seeded_one(tmp_path: Path, opened) -> None:
    root = _class_folders(tmp_path / "mine", {"a": 50, "b": 25})
    data = opened(root)
    assert _split_counts(data) == {"train": 45, "val": 12, "test": 18}
    assert data.counts()["test"] == {"a": 12, "b": 6}
    assert data.notes == ("no splits given: split at random by image, 45/12/18 train/val/test, seed 0",)
    assert opened(root).split == data.split
    other = opened(root, split_seed=1)
    assert other.split != data.split
    assert other.fingerprint != data.fingerprint
    shutil.copytree(root, tmp_path / "else" / "mine")
    moved = opened(tmp_path / "else" / "mine")
    assert (moved.split, moved.fingerprint) == (data.split, data.fingerprint)


def test_a_made_split_keeps_patients_and_exact_copies_together(tmp_path: Path, opened) -> None:
    rows = [f"{i:03d}.png,{i // 2 % 3},,p{i // 2}" for i in range(90)]
    root = _table(tmp_path / "mine", rows)
    shutil.copy(root / "000.png", root / "089.png")
    data = opened(root)
    splits_of_group: dict[int, set[str]] = {}
    for group, split in zip(data.groups.tolist(), data.split, strict=True):
        splits_of_group.setdefault(group, set()).add(split)
    assert max(map(len, splits_of_group.values())) == 1
    assert len(splits_of_group) == 44  # 45 patients, two of whom share a photograph
    assert len(data) == 90
    assert len(np.unique(data.rows)) == 89
    first, last = data.image_ids.index("mine/000.png"), data.image_ids.index("mine/089.png")
    assert data.rows[first] == data.rows[last]
    assert "1 images have exact copies with another label" in data.notes
    assert "split at random by patient" in data.notes[0]
    assert _split_counts(data)["test"] in range(20, 24)


def test_a_made_split_keeps_patients_from_file_names_together(tmp_path: Path, opened) -> None:
    for number in range(60):
        _photo(tmp_path / "mine" / "ab"[number // 2 % 2] / f"P{number // 2}_{'LR'[number % 2]}.png", number)
    data = opened(tmp_path / "mine", patient_pattern=r"(P\d+)_[LR]")
    sides: dict[str, set[str]] = {}
    for name, split in zip(data.image_ids, data.split, strict=True):
        sides.setdefault(name.rpartition("_")[0], set()).add(split)
    assert len(sides) == 30
    assert max(map(len, sides.values())) == 1
    assert "split at random by patient" in data.notes[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patient_pattern": ""}, "mine: patient_pattern: '' has no group in parentheses"),
        ({"patient_pattern": "P["}, "mine: patient_pattern: 'P[' is not a regular expression"),
        ({"exclude": [""]}, "mine: exclude: '' is not accepted"),
    ],
)
def test_a_pattern_that_is_not_valid_is_refused(tmp_path: Path, opened, settings, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(_class_folders(tmp_path / "mine", {"a": 4, "b": 4}), **settings)
    assert message in str(caught.value)
    _one_line(caught)


def test_val_is_split_off_train_by_patient(tmp_path: Path, opened) -> None:
    rows = [f"{i:03d}.png,{i // 2 % 2},{'train' if i < 76 else 'test'},p{i // 2}" for i in range(100)]
    data = opened(_table(tmp_path / "mine", rows))
    assert _split_counts(data) == {"train": 60, "val": 16, "test": 24}
    groups = [set(data.groups[data.part(split)].tolist()) for split in ("train", "val", "test")]
    assert not groups[0] & groups[1]
    assert data.notes == ("no val split given: val is split off train, 60/16/24 train/val/test, seed 0",)


def test_without_a_test_split_val_is_the_test_set(tmp_path: Path, opened) -> None:
    root = _class_folders(tmp_path / "mine", {"train/a": 19, "train/b": 19, "val/a": 5, "val/b": 5})
    data = opened(root)
    assert all("/val/" in data.image_ids[i] for i in data.part("test"))
    assert _split_counts(data) == {"train": 30, "val": 8, "test": 10}
    assert data.notes[0].startswith("no test split given: the val images are the test set, and val is split off train")


def test_all_in_train_is_no_split(tmp_path: Path, opened) -> None:
    data = opened(_table(tmp_path / "mine", [f"{i:03d}.png,{i % 2},train," for i in range(50)]))
    assert _split_counts(data) == {"train": 30, "val": 8, "test": 12}
    assert data.notes[0].startswith("all images are in train: split at random by image")


def test_unlabelled_images_are_left_out_and_counted(tmp_path: Path, opened) -> None:
    rows = [f"{i:03d}.png,{'' if i % 5 == 0 else i % 2},," for i in range(50)]
    root = _table(tmp_path / "mine", rows)
    _photo(root / "not_in_the_table.png", 999)
    data = opened(root)
    assert len(data) == 40
    assert "11 images without a label left out" in data.notes


def test_labelled_images_without_a_split_are_left_out_where_others_have_one(tmp_path: Path, opened) -> None:
    splits = ["train"] * 20 + ["val"] * 6 + ["test"] * 8 + [""] * 3
    data = opened(_table(tmp_path / "mine", [f"{i:03d}.png,{i % 2},{split}," for i, split in enumerate(splits)]))
    assert _split_counts(data) == {"train": 20, "val": 6, "test": 8}
    assert data.notes == ("3 labelled images without a split left out, because others have one",)


def test_patients_in_several_given_splits_are_told_and_kept(tmp_path: Path, opened) -> None:
    splits = ["train"] * 20 + ["val"] * 6 + ["test"] * 8
    rows = [f"{i:03d}.png,{i % 2},{split},p{i % 17}" for i, split in enumerate(splits)]
    data = opened(_table(tmp_path / "mine", rows))
    assert _split_counts(data) == {"train": 20, "val": 6, "test": 8}
    assert data.notes == ("14 patients or exact copies lie in several splits: results are too good",)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["2", "10", "0", "1"], ("0", "1", "2", "10")),
        (["glaucoma", "cataract", "normal"], ("normal", "cataract", "glaucoma")),
        (["Severe", "Mild", "No_DR"], ("No_DR", "Mild", "Severe")),
        (["a_sick", "NoDR"], ("NoDR", "a_sick")),
        (["pm", "non_pm"], ("non_pm", "pm")),
        (["zebra", "healthy"], ("healthy", "zebra")),
        (["Proliferative", "Non-proliferative", "Normal"], ("Normal", "Non-proliferative", "Proliferative")),
        (["10.0.X", "2.0.Y", "0.0.Normal"], ("0.0.Normal", "2.0.Y", "10.0.X")),
        (["nodule", "none"], ("none", "nodule")),
        (["b", "a"], ("a", "b")),
        (["3_c", "2_b", "1_normal"], ("1_normal", "2_b", "3_c")),
    ],
)
def test_the_order_of_classes(tmp_path: Path, opened, labels: list[str], classes: tuple[str, ...]) -> None:
    rows = [f"{i:03d}.png,{labels[i % len(labels)]},," for i in range(12 * len(labels))]
    assert opened(_table(tmp_path / "mine", rows)).classes == classes


def test_the_order_of_classes_can_be_given(tmp_path: Path, opened) -> None:
    root = _class_folders(tmp_path / "mine", {"alpha": 12, "beta": 12})
    data = opened(root, classes=["beta", "alpha"])
    assert data.classes == ("beta", "alpha")
    assert all(f"/{data.classes[label]}/" in name for name, label in zip(data.image_ids, data.labels, strict=True))
    more = opened(root, classes=["beta", "gamma", "alpha"])
    assert "class 'gamma' has no image" in more.notes
    with pytest.raises(ConfigError, match=r"labelled 'beta'.*\(did you mean betta\?\), which is none of the classes"):
        opened(root, classes=["alpha", "betta"])
    with pytest.raises(ConfigError, match="a name occurs twice"):
        opened(root, classes=["alpha", "alpha", "beta"])


def test_a_single_class_is_refused(tmp_path: Path, opened) -> None:
    with pytest.raises(DataError, match=r"mine: all 20 labelled images are of class '1'; expected at least two") as e:
        opened(_table(tmp_path / "mine", [f"{i:03d}.png,1,," for i in range(20)]))
    _one_line(e)


def test_a_class_with_one_image_trains_and_is_told(tmp_path: Path, opened) -> None:
    data = opened(_class_folders(tmp_path / "mine", {"a": 20, "b": 20, "rare": 1}))
    assert data.counts()["train"]["rare"] == 1
    assert "class 'rare' has one image, in train: averages over classes leave it out" in data.notes


def test_one_image_per_class_is_refused(tmp_path: Path, opened) -> None:
    with pytest.raises(
        DataError, match="mine: 3 images in 3 classes are too few to be split into train, val, test"
    ) as e:
        opened(_class_folders(tmp_path / "mine", {"a": 1, "b": 1, "c": 1}))
    _one_line(e)


def test_one_patient_is_refused_with_the_reason(tmp_path: Path, opened) -> None:
    rows = [f"{i:03d}.png,{i % 2},,p1" for i in range(20)]
    with pytest.raises(DataError, match=r"too few to be split .*, the largest patient has 20") as e:
        opened(_table(tmp_path / "mine", rows))
    _one_line(e)


def test_a_class_absent_from_train_or_test_is_told(tmp_path: Path, opened) -> None:
    root = _class_folders(
        tmp_path / "mine",
        {"train/a": 4, "train/b": 4, "train/c": 3, "val/a": 1, "test/a": 3, "test/b": 2, "test/d": 2},
    )
    assert opened(root).notes == (
        "class 'c' has no image in test: averages over classes leave it out",
        "class 'd' has no image in train: none of its 2 images can be recognized",
    )


def test_a_train_split_of_one_class_is_refused(tmp_path: Path, opened) -> None:
    root = _class_folders(tmp_path / "mine", {"train/a": 4, "val/a": 1, "test/a": 3, "test/b": 2})
    with pytest.raises(DataError, match="mine: all training images are of class 'a'; expected two classes"):
        opened(root)


def test_a_split_that_names_a_missing_file_is_refused_or_left_out(tmp_path: Path, opened) -> None:
    rows = [f"{i:03d}.png,{i % 2},{'train' if i < 20 else 'val' if i < 26 else 'test'}," for i in range(34)]
    root = _table(tmp_path / "mine", rows)
    (root / "033.png").unlink()
    with pytest.raises(DataError, match=r"mine: 1 of its files do not exist, e\.g\. .*033\.png; repair the table") as e:
        opened(root)
    _one_line(e)
    data = opened(root, allow_bad=True)
    assert len(data) == 33
    assert data.notes[0].startswith("1 files left out (033.png: no such file")


def test_a_damaged_image_is_left_out_and_many_are_refused(tmp_path: Path, opened) -> None:
    root = _class_folders(tmp_path / "mine", {"a": 20, "b": 20})
    (root / "a" / "0003.png").write_bytes(b"no image")
    data = opened(root)
    assert len(data) == 39
    assert data.notes[0].startswith("1 images cannot be decoded: left out (0003.png: not an image file")
    for number in range(4, 9):
        (root / "a" / f"{number:04d}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="6 of 40 files cannot be used"):
        opened(root)
    assert len(opened(root, allow_bad=True)) == 34


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["test"] * 20, r"no image is in train \(0/0/20 train/val/test\); expected train and test, or no splits"),
        (["fold1"] * 10 + ["fold2"] * 10, "split 'fold1'; expected train, val, test"),
        (["train"] * 10 + [""] * 10, "10 of 20 images have no split, the rest is train"),
    ],
)
def test_splits_that_cannot_be_used(tmp_path: Path, opened, splits: list[str], message: str) -> None:
    rows = [f"{i:03d}.png,{i % 2},{split}," for i, split in enumerate(splits)]
    with pytest.raises(DataError, match=message) as e:
        opened(_table(tmp_path / "mine", rows))
    _one_line(e)


def test_images_without_any_label_are_refused(tmp_path: Path, opened) -> None:
    _photo(tmp_path / "mine" / "a.png", 0)
    with pytest.raises(DataError, match="mine: none of its 1 images has a label; expected two or more class folders"):
        opened(tmp_path / "mine")


def test_names_and_paths_that_lead_nowhere(tmp_path: Path, opened) -> None:
    with pytest.raises(DataError, match=r"no dataset named 'papilla' \(did you mean PAPILA\?\)"):
        opened("papilla")
    with pytest.raises(
        DataError, match=r"PAPILA: not prepared; get it from figshare.*then augscale data prepare PAPILA"
    ):
        opened("papila")
    with pytest.raises(DataError, match="no dataset named ''; expected a folder"):
        opened("")
    with pytest.raises(DataError, match=r"\./papila does not exist; expected a folder or CSV"):
        opened("./papila")


def _retina(root: Path) -> Path:
    counts = {"1_normal": 24, "2_cataract": 12, "2_glaucoma": 12, "3_retina_disease": 12}
    return _class_folders(root, {f"dataset/{name}": count for name, count in counts.items()})


def test_a_prepared_dataset_opens_by_name_and_by_path(tmp_path: Path, opened) -> None:
    prepared = prepare("Retina", _retina(tmp_path / "in"), tmp_path / "root")
    data = opened("retina")
    assert data.name == "Retina"
    assert data.classes == ("normal", "cataract", "glaucoma", "other retinal disease")
    assert _split_counts(data) == prepared.counts
    assert data.label_space is not None
    for place in (prepared.directory, prepared.manifest):
        again = opened(place, data_root=tmp_path / "nowhere")
        assert (again.name, again.classes, again.fingerprint) == (data.name, data.classes, data.fingerprint)


def test_a_folder_of_a_datasets_name_is_used_only_where_nothing_is_prepared(
    tmp_path: Path, opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _class_folders(tmp_path / "retina", {"a": 12, "b": 12})
    assert opened("retina").classes == ("a", "b")
    prepare("Retina", _retina(tmp_path / "in"), tmp_path / "root")
    assert opened("retina").name == "Retina"
    assert opened("./retina").classes == opened(Path("retina")).classes == ("a", "b")


def test_a_csv_manifest_is_named_by_its_stem(tmp_path: Path, opened) -> None:
    root = _table(tmp_path / "mine", [f"{i:03d}.png,{i % 2},," for i in range(24)])
    (root / "labels.csv").rename(root / "cohort.csv")
    assert opened(root / "cohort.csv").name == "cohort"
    (root / "cohort.csv").rename(root / "labels.csv")
    assert opened(root / "labels.csv").name == "mine"


def test_the_built_in_photographs_are_graded_and_split_by_patient(opened) -> None:
    data = opened("synthetic", synthetic_patients=12)
    assert data.classes == ("0", "1", "2", "3", "4")
    patients = {
        split: {data.image_ids[i].split("/")[1] for i in data.part(split)} for split in ("train", "val", "test")
    }
    assert not patients["train"] & patients["test"]
    assert not patients["train"] & patients["val"]
    assert sum(map(len, patients.values())) == 12
    assert "split at random by patient" in data.notes[0]


def test_restricted_renumbers_in_the_order_given(tmp_path: Path, opened) -> None:
    data = opened(_class_folders(tmp_path / "mine", {"normal": 20, "cataract": 16, "glaucoma": 24}))
    few = data.restricted(["glaucoma", "cataract"])
    assert few.classes == ("glaucoma", "cataract")
    assert len(few) == 40
    for name, label, row in zip(few.image_ids, few.labels, few.rows, strict=True):
        before = data.image_ids.index(name)
        assert few.classes[label] == data.classes[data.labels[before]]
        assert row == data.rows[before]
        assert few.split[few.image_ids.index(name)] == data.split[before]
    assert few.notes == ("20 images of normal left out",)
    assert few.fingerprint not in (data.fingerprint, data.restricted(["cataract", "glaucoma"]).fingerprint)
    assert data.restricted(data.classes) is data
    with pytest.raises(DataError, match=r"mine: no class 'katarakt' \(did you mean cataract\?\)"):
        data.restricted(["katarakt", "normal"])
    with pytest.raises(DataError, match="all training images are of class 'normal'; expected two classes"):
        data.restricted(["normal"])


def test_the_fingerprint_depends_on_what_results_depend_on(tmp_path: Path, opened) -> None:
    splits = ["train"] * 20 + ["val"] * 6 + ["test"] * 8
    rows = [f"{i:03d}.png,{i % 2},{split}," for i, split in enumerate(splits)]
    root = _table(tmp_path / "mine", rows)
    found = [opened(root).fingerprint, opened(root, size=24).fingerprint]
    _table(root, [*rows[:-1], "033.png,0,test,"])
    found.append(opened(root).fingerprint)
    _table(root, [*rows[:-1], "033.png,1,val,"])
    found.append(opened(root).fingerprint)
    _table(root, [*rows[:-2], "032.png,0,test,p", "033.png,1,test,p"])
    found.append(opened(root).fingerprint)
    _table(root, rows)
    _photo(root / "033.png", 777)
    found.append(opened(root).fingerprint)
    assert len(set(found)) == len(found)
    _photo(root / "033.png", 33)
    assert opened(root).fingerprint == found[0]


def test_pairs_share_classes_by_name_and_numbers_only_as_a_whole(tmp_path: Path, opened) -> None:
    names = {
        "three": ["normal", "cataract", "glaucoma"],
        "two": ["Cataract", "glaucoma"],
        "grades": ["0", "1", "2"],
        "grades_too": ["0", "1", "2"],
        "binary": ["0", "1"],
        "one_shared": ["normal", "amd"],
    }
    datasets = [opened(_class_folders(tmp_path / name, dict.fromkeys(classes, 14))) for name, classes in names.items()]
    pairs = external_pairs(datasets)
    assert [str(label_map) for _, _, label_map in pairs] == [
        "three cataract, glaucoma -> two Cataract, glaucoma; normal left out",
        "two Cataract, glaucoma -> three cataract, glaucoma; normal left out",
        "grades 0, 1, 2 -> grades_too 0, 1, 2",
        "grades_too 0, 1, 2 -> grades 0, 1, 2",
    ]
    a, b = pairs[0][2].apply(*pairs[0][:2])
    assert (a.classes, b.classes) == (("cataract", "glaucoma"), ("Cataract", "glaucoma"))
    assert pairs[0][2].reason == "2 class names in common"


def test_classes_left_out_on_both_sides_name_their_dataset(tmp_path: Path, opened) -> None:
    a = opened(_class_folders(tmp_path / "a", {"normal": 14, "amd": 14, "x": 14}))
    b = opened(_class_folders(tmp_path / "b", {"normal": 14, "amd": 14, "y": 14}))
    assert str(external_pairs([a, b])[0][2]) == "a normal, amd -> b normal, amd; x (a), y (b) left out"


def test_prepared_dr_sets_pair_by_their_label_space(tmp_path: Path, opened) -> None:
    for name, folders in (
        ("APTOS2019", ["anodr", "bmilddr", "cmoderatedr", "dseveredr", "eproliferativedr"]),
        ("IDRiD", ["anoDR", "bmildDR", "cmoderateDR", "dsevereDR", "eproDR"]),
    ):
        counts = {f"{split}/{folder}": 2 for split in ("train", "val", "test") for folder in folders}
        prepare(name, _class_folders(tmp_path / "in" / name, counts), tmp_path / "root")
    pairs = external_pairs([opened("aptos2019"), opened("idrid")])
    assert [(a.name, b.name) for a, b, _ in pairs] == [("APTOS2019", "IDRiD"), ("IDRiD", "APTOS2019")]
    assert {label_map.reason for _, _, label_map in pairs} == {"diabetic retinopathy grade (ICDR, 0-4)"}


REAL = {
    "aptos2019": ((1573, 423, 631), {"0": 323, "1": 61, "2": 166, "3": 32, "4": 49}),
    "srahim_dr": ((356, 98, 142), {"0": 66, "1": 24, "2": 40, "3": 7, "4": 5}),
    "odir3": ((994, 267, 398), {"normal": 257, "cataract": 68, "glaucoma": 73}),
    "retina_cg": ((120, 33, 48), {"cataract": 24, "glaucoma": 24}),
    "palm": ((317, 80, 398), {"non_pm": 189, "pm": 209}),
}


def test_real_photographs_open_with_the_counts_of_their_description(fundus_dir: Path, opened) -> None:
    datasets = {name: opened(fundus_dir / name, size=8) for name in REAL}
    for name, (splits, test) in REAL.items():
        data = datasets[name]
        assert tuple(len(data.part(split)) for split in ("train", "val", "test")) == splits
        assert list(data.counts()["test"].items()) == list(test.items())  # in class order
        assert data.notes == ()
    assert len(np.unique(datasets["odir3"].groups)) == 1002
    assert {str(label_map) for _, _, label_map in external_pairs(list(datasets.values()))} == {
        "aptos2019 0, 1, 2, 3, 4 -> srahim_dr 0, 1, 2, 3, 4",
        "srahim_dr 0, 1, 2, 3, 4 -> aptos2019 0, 1, 2, 3, 4",
        "odir3 cataract, glaucoma -> retina_cg cataract, glaucoma; normal left out",
        "retina_cg cataract, glaucoma -> odir3 cataract, glaucoma; normal left out",
    }
    with pytest.raises(DataError, match="pool: none of its 122 images has a label"):
        opened(fundus_dir / "pool")
    assert json.loads(json.dumps(datasets["palm"].counts()))["train"] == {"non_pm": 149, "pm": 168}


def test_the_files_of_a_dataset_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _class_folders(tmp_path / "set", {"a": 20, "b": 20})
    listed = []

    def counted(source: str, exclusion: sources.Exclusion) -> sources.Listing:
        listed.append(source)
        return list_source(source, exclusion)

    list_source = sources.list_source
    monkeypatch.setattr(sources, "list_source", counted)
    opened = open_dataset(folder, size=SIZE, cache_root=tmp_path / "cache", allow_bad=True)
    assert listed == [str(folder)]
    assert len(opened) == 40
