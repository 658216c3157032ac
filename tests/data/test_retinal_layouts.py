"""The downloads of the paper's six datasets, each layout in miniature, with the oddities it is known for."""

from __future__ import annotations

import builtins
import csv
from collections import Counter
from pathlib import Path

import pytest
from downloads_in_miniature import (
    APTOS_GRADES,
    IDRID_GRADES,
    MESSIDOR_GRADES,
    aptos,
    idrid,
    jsiec,
    messidor,
    papila,
    papila_diagnosis,
    photo,
    published,
    retina,
    table,
)

from augscale.data.retinal.downloads import PUBLISHED
from augscale.data.retinal.native import read_download
from augscale.data.retinal.registry import REGISTRY, get_dataset
from augscale.errors import ConfigError, DataError

DR_CLASSES, JSIEC_CLASSES = get_dataset("APTOS2019").classes, get_dataset("JSIEC").classes


def _class_counts(images, num_classes):
    found = Counter(image.label for image in images)
    return tuple(found[label] for label in range(num_classes))


def test_aptos_reads_the_training_part_and_not_the_unlabelled_one(tmp_path: Path) -> None:
    download = read_download(get_dataset("APTOS2019"), aptos(tmp_path / "in" / "aptos"))
    assert _class_counts(download.images, 5) == APTOS_GRADES
    assert {image.path.parent.name for image in download.images} == {"train_images"}
    with (tmp_path / "in" / "aptos" / "train.csv").open() as file:
        expected = {row["id_code"]: int(row["diagnosis"]) for row in csv.DictReader(file)}
    assert {image.path.stem: image.label for image in download.images} == expected


def test_messidor_matches_names_whatever_case_and_extension_and_drops_the_ungradable(tmp_path: Path) -> None:
    download = read_download(get_dataset("messidor2"), messidor(tmp_path))
    assert _class_counts(download.images, 5) == MESSIDOR_GRADES
    assert "2 images are not gradable and left out" in download.notes
    patients = Counter(image.patient_id for image in download.images)
    assert None not in patients
    # Two images lost their partner, which is not gradable.
    assert Counter(patients.values()) == {2: (len(download.images) - 2) // 2, 1: 2}
    assert {image.eye for image in download.images} == {"left", "right"}


def test_messidor_pairs_without_a_header_lose_no_pair(tmp_path: Path) -> None:
    root = messidor(tmp_path)
    lines = (root / "messidor-2.csv").read_text().splitlines()
    (root / "messidor-2.csv").write_text("\n".join(lines[1:]) + "\n")
    images = read_download(get_dataset("MESSIDOR-2"), root).images
    assert all(image.patient_id for image in images)


def test_messidor_without_its_grades_says_that_they_are_another_download(tmp_path: Path) -> None:
    root = messidor(tmp_path)
    (root / "grades" / "messidor_data.csv").unlink()
    with pytest.raises(DataError, match=r"0 files named messidor_data\.csv \(the grades, a download of their own\)"):
        read_download(get_dataset("MESSIDOR-2"), root)


@pytest.mark.parametrize("top", ["B. Disease Grading", "B.Disease_Grading/B. Disease Grading", "idrid"])
def test_idrid_keeps_subsets_apart_though_names_repeat(tmp_path: Path, top: str) -> None:
    images = read_download(get_dataset("IDRiD"), idrid(tmp_path, top)).images
    for subset, split in (("Training", "train"), ("Testing", "test")):
        part = [image for image in images if image.split == split]
        assert _class_counts(part, 5) == IDRID_GRADES[subset]
        assert all(subset in image.path.parent.name for image in part)
    assert len({image.path for image in images}) == len(images)
    assert not any("Localization" in str(image.path) for image in images)


def test_papila_maps_suspect_to_1_and_glaucoma_to_2_and_knows_patients(tmp_path: Path) -> None:
    images = read_download(get_dataset("PAPILA"), papila(tmp_path)).images
    assert len(images) == 40
    for image in images:
        patient, eye = int(image.path.stem[3:6]), image.path.stem[6:]
        assert image.label == {0: 0, 2: 1, 1: 2}[papila_diagnosis(patient, eye)]
        assert (image.patient_id, image.eye) == (f"{patient:03d}", {"OD": "right", "OS": "left"}[eye])
        assert image.path.parent.name == "FundusImages"


def test_papila_without_openpyxl_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = papila(tmp_path)
    real = builtins.__import__

    def without(name, *rest):
        if name == "openpyxl":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"Excel tables need openpyxl: pip install 'augscale\[excel\]'"):
        read_download(get_dataset("PAPILA"), root)


def test_a_damaged_excel_table_is_one_line(tmp_path: Path) -> None:
    root = papila(tmp_path)
    next(root.rglob("patient_data_od.xlsx")).write_bytes(b"PK not a table")
    with pytest.raises(DataError, match=r"patient_data_od\.xlsx: cannot be read as an Excel table") as caught:
        read_download(get_dataset("PAPILA"), root)
    assert "\n" not in str(caught.value)


def test_jsiec_classes_are_in_numeric_order_not_in_string_order(tmp_path: Path) -> None:
    images = read_download(get_dataset("JSIEC"), jsiec(tmp_path)).images
    by_folder = {image.path.parent.name: image.label for image in images}
    assert by_folder == {name: label for label, name in enumerate(JSIEC_CLASSES)}
    assert by_folder["2.0.BRVO"] < by_folder["10.0.Possible glaucoma"]
    assert by_folder["0.0.Normal"] == 0
    numbers = [tuple(map(int, name.split(".")[:2][: 1 + name.split(".")[1].isdigit()])) for name in JSIEC_CLASSES]
    assert numbers == sorted(numbers)
    assert len(JSIEC_CLASSES) == 39


def test_jsiec_folders_are_known_by_number_where_the_spelling_differs(tmp_path: Path) -> None:
    root = jsiec(tmp_path)
    (root / "1000images" / "13.Dragged Disc").rename(root / "1000images" / "13.Dragged disk")
    assert len({image.label for image in read_download(get_dataset("JSIEC"), root).images}) == 39


def test_retina_has_two_folders_numbered_2(tmp_path: Path) -> None:
    download = read_download(get_dataset("retina"), retina(tmp_path))
    assert _class_counts(download.images, 4) == (9, 5, 6, 5)
    assert {image.path.parent.name for image in download.images if image.label == 2} == {"2_glaucoma"}
    assert download.notes == ["1 images outside the class folders are left out"]


@pytest.mark.parametrize("dataset", REGISTRY, ids=lambda dataset: dataset.name)
def test_published_folders_of_every_dataset(tmp_path: Path, dataset) -> None:
    root = published(tmp_path / "download" / dataset.name, dataset.published_folders, per_split=(2, 1, 1))
    download = read_download(dataset, tmp_path / "download")
    assert download.layout == PUBLISHED
    for image in download.images:
        split, folder = image.path.relative_to(root).parts[:2]
        assert (image.split, image.label) == (split, dataset.published_folders.index(folder))
    assert len(download.images) == 4 * len(dataset.classes)


def test_published_class_folders_in_sorted_order_are_the_class_numbers() -> None:
    for dataset in REGISTRY:
        if dataset.name != "JSIEC":
            assert list(dataset.published_folders) == sorted(dataset.published_folders)


def test_published_folders_with_slightly_other_names_are_known_by_their_letter(tmp_path: Path) -> None:
    folders = ["aNoDR", "bMildDR", "c_moderate", "dsevere", "eproDR"]
    images = read_download(get_dataset("IDRiD"), published(tmp_path, folders)).images
    assert {(folders.index(image.path.parent.name), image.label) for image in images} == {(i, i) for i in range(5)}


def test_class_folders_in_alphabetical_order_are_not_taken_for_class_numbers(tmp_path: Path) -> None:
    """glaucoma, normal, suspect sorted would make glaucoma the normal class; by name they are right."""
    images = read_download(get_dataset("PAPILA"), published(tmp_path, ["glaucoma", "normal", "suspect"])).images
    assert {image.path.parent.name: image.label for image in images} == {"normal": 0, "suspect": 1, "glaucoma": 2}
    with pytest.raises(DataError, match=r"class folder 'healthy' does not belong to PAPILA; expected anormal, bsus"):
        read_download(get_dataset("PAPILA"), published(tmp_path / "b", ["glaucoma", "healthy", "suspect"]))


def test_a_published_folder_of_another_dataset_is_refused(tmp_path: Path) -> None:
    root = published(tmp_path, get_dataset("PAPILA").published_folders)
    with pytest.raises(DataError, match="does not belong to Retina"):
        read_download(get_dataset("Retina"), root)


def test_a_missing_published_class_is_refused(tmp_path: Path) -> None:
    root = published(tmp_path, get_dataset("Retina").published_folders[:3])
    with pytest.raises(DataError, match=r"1 class folders of Retina are missing \(ddretina_disease\)"):
        read_download(get_dataset("Retina"), root)


def test_papila_patients_are_known_in_published_folders_too(tmp_path: Path) -> None:
    names = [f"RET{n // 2:03d}{'OD' if n % 2 else 'OS'}.jpg" for n in range(40)]
    images = read_download(
        get_dataset("PAPILA"), published(tmp_path, get_dataset("PAPILA").published_folders, names)
    ).images
    assert all(image.patient_id == image.path.stem[3:6] for image in images)


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    root = aptos(tmp_path)
    for number in (3, 5):
        (root / "train_images" / f"{number:012x}.png").unlink()
    with pytest.raises(DataError, match=r"2 of 52 images that it names are missing \(000000000003, 000000000005\)"):
        read_download(get_dataset("APTOS2019"), root)


def test_an_image_that_lies_twice_is_refused(tmp_path: Path) -> None:
    root = messidor(tmp_path)
    photo(root / "copy" / "20051020_00000_0100_PP.jpg", 1)
    with pytest.raises(DataError, match=r"20051020_00000_0100_PP\.png is there more than once"):
        read_download(get_dataset("MESSIDOR-2"), root)


def test_class_folders_that_lie_twice_are_refused(tmp_path: Path) -> None:
    retina(tmp_path)
    retina(tmp_path / "dataset" / "again")
    with pytest.raises(DataError, match="lies in two places, "):
        read_download(get_dataset("Retina"), tmp_path)


@pytest.mark.parametrize("text", ["5", "-1", "x", "", "1.5"])
def test_a_grade_out_of_range_names_table_and_image(tmp_path: Path, text: str) -> None:
    root = aptos(tmp_path)
    rows = [[f"{number:012x}", 0] for number in range(51)] + [[f"{51:012x}", text]]
    table(root / "train.csv", ["id_code", "diagnosis"], rows)
    with pytest.raises(DataError, match=r"train\.csv: grade .* of 000000000033; expected a whole number from 0 to 4"):
        read_download(get_dataset("APTOS2019"), root)


def test_a_table_with_other_columns_names_those_found(tmp_path: Path) -> None:
    root = aptos(tmp_path)
    table(root / "train.csv", ["id", "level"], [["a", 1]])
    with pytest.raises(DataError, match=r"no column named 'id_code'.*columns found: id, level"):
        read_download(get_dataset("APTOS2019"), root)


def test_packed_downloads_say_unpack_first(tmp_path: Path) -> None:
    archive = tmp_path / "1000images.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"1000images\.zip is packed; unpack it first"):
        read_download(get_dataset("JSIEC"), archive)
    with pytest.raises(DataError, match=r"39 of 39 classes have no folder.*1000images\.zip is still packed: unpack it"):
        read_download(get_dataset("JSIEC"), tmp_path)


@pytest.mark.parametrize("dataset", REGISTRY, ids=lambda dataset: dataset.name)
def test_an_empty_folder_says_in_one_line_what_was_expected(tmp_path: Path, dataset) -> None:
    with pytest.raises(DataError, match=f"expected for {dataset.name}") as caught:
        read_download(dataset, tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="is not a folder; expected the unpacked download"):
        read_download(dataset, tmp_path / "gone")


def test_the_registry_holds_table_1() -> None:
    splits = {dataset.name: (dataset.table1, dataset.table1_total, len(dataset.classes)) for dataset in REGISTRY}
    assert splits == {
        "MESSIDOR-2": ((972, 246, 526), 1744, 5),
        "IDRiD": ((329, 84, 103), 516, 5),
        "APTOS2019": ((2048, 514, 1100), 3662, 5),
        "PAPILA": ((312, 79, 98), 489, 3),
        "JSIEC": ((534, 150, 316), 1000, 39),
        "Retina": ((336, 84, 181), 601, 4),
    }
    assert {dataset.name for dataset in REGISTRY if dataset.classes == DR_CLASSES} == {
        "MESSIDOR-2",
        "IDRiD",
        "APTOS2019",
    }
    for dataset in REGISTRY:
        assert dataset.class_counts is None or sum(dataset.class_counts) in (dataset.official, dataset.table1_total)


def test_an_unknown_name_names_the_nearest() -> None:
    assert get_dataset("messidor_2").name == "MESSIDOR-2"
    with pytest.raises(ConfigError, match=r"no dataset named 'papilla' \(did you mean PAPILA\?\); known: MESSIDOR-2"):
        get_dataset("papilla")
