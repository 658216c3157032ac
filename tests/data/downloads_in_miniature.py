"""The downloads of the six datasets as they are described, with few and tiny images."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import openpyxl
from PIL import Image

from augscale.data.retinal.registry import get_dataset

JSIEC_CLASSES = get_dataset("JSIEC").classes

# Images per grade; test of IDRiD apart.
APTOS_GRADES = (20, 8, 12, 6, 6)
MESSIDOR_GRADES = (14, 8, 10, 6, 6)
IDRID_GRADES = {"Training": (12, 4, 10, 6, 5), "Testing": (6, 1, 5, 3, 2)}
PAPILA_PATIENTS = 20


def photo(path: Path, number: int) -> Path:
    """A JPEG or PNG of 16x16 pixels that no other number has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    Image.fromarray(pixels).save(path, format=kind)
    return path


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(header)
        writer.writerows(rows)
    return path


def grades(counts: Sequence[int]) -> list[int]:
    """One grade per image, mixed."""
    each = [grade for grade, count in enumerate(counts) for _ in range(count)]
    return np.random.default_rng(0).permutation(each).tolist()


def aptos(root: Path) -> Path:
    """train.csv, train_images/, and the unlabelled test part."""
    labels = grades(APTOS_GRADES)
    names = [f"{number:012x}" for number in range(len(labels))]
    table(root / "train.csv", ["id_code", "diagnosis"], zip(names, labels, strict=True))
    for number, name in enumerate(names):
        photo(root / "train_images" / f"{name}.png", number)
    table(root / "test.csv", ["id_code"], [["ffff"]])
    photo(root / "test_images" / "ffff.png", 999)
    return root


def messidor(root: Path, *, pairs: bool = True) -> Path:
    """Mixed names; the grades write other extensions and cases than the files; two images are not gradable."""
    labels = grades(MESSIDOR_GRADES)
    rows: list[list[object]] = []
    files = []
    for number, label in enumerate(labels):
        png = number < len(labels) // 2
        name = f"20051020_{number:05d}_0100_PP.png" if png else f"IM{number:06d}.JPG"
        files.append(photo(root / "IMAGES" / name, number).name)
        rows.append([name if png else f"im{number:06d}.jpg", label, 0, 1])
    for number in (900, 901):
        files.append(photo(root / "IMAGES" / f"IM{number:06d}.JPG", number).name)
        rows.append([f"IM{number:06d}.jpg", "", "", 0])
    columns = ["image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable"]
    table(root / "grades" / "messidor_data.csv", columns, rows)
    if pairs:
        # The last pair of gradable images is broken up: each is the partner of one that is not gradable.
        order = [*files[:-4], files[-4], files[-2], files[-3], files[-1]]
        table(root / "messidor-2.csv", ["left", "right"], zip(order[::2], order[1::2], strict=True), delimiter=";")
    return root


def idrid(root: Path, top: str = "B. Disease Grading") -> Path:
    """Names begin at 001 in both subsets; a column name ends in a space; empty columns follow; another part beside."""
    number = 0
    for letter, subset, folder in (("a", "Training", "a. Training Set"), ("b", "Testing", "b. Testing Set")):
        rows = []
        for place, label in enumerate(grades(IDRID_GRADES[subset]), start=1):
            number += 1
            photo(root / top / "1. Original Images" / folder / f"IDRiD_{place:03d}.jpg", number)
            rows.append([f"IDRiD_{place:03d}", label, 1, "", "", ""])
        name = f"{letter}. IDRiD_Disease Grading_{subset} Labels.csv"
        columns = ["Image name", "Retinopathy grade", "Risk of macular edema ", "", "", ""]
        table(root / top / "2. Groundtruths" / name, columns, rows)
    photo(root / "C. Localization" / "1. Original Images" / "a. Training Set" / "IDRiD_001.jpg", 5000)
    return root


def papila(root: Path) -> Path:
    """Two header rows, patients as #002; diagnosis 0 healthy, 1 glaucoma, 2 suspect; pictures with contours beside."""
    top = root / "PapilaDB-PAPILA-17f8fa7746adb20275b5b6a0d99dc9dfe3007e9f"
    for eye in ("OD", "OS"):
        book = openpyxl.Workbook()
        sheet = book.active
        assert sheet is not None
        sheet.append(["ID", "Age", "Gender", "Diagnosis", "Refractive_Defect"])
        sheet.append([None, None, None, None, "dioptre_1"])
        sheet.append(["ID", "Age", "Gender", "Diagnosis", "Refractive_Defect"])
        for patient in range(2, 2 + PAPILA_PATIENTS):
            sheet.append([f"#{patient:03d}", 60 + patient, 0, papila_diagnosis(patient, eye), 0.5])
            photo(top / "FundusImages" / f"RET{patient:03d}{eye}.jpg", patient * 2 + (eye == "OS"))
            photo(top / "ExpertsSegmentations" / "ImagesWithContours" / f"RET{patient:03d}{eye}.jpg", patient)
        (top / "ClinicalData").mkdir(parents=True, exist_ok=True)
        book.save(top / "ClinicalData" / f"patient_data_{eye.lower()}.xlsx")
    fold_lists(top)
    return root


def fold_lists(root: Path) -> None:
    """Folders named train and test that hold lists, not images."""
    for split in ("train", "test"):
        table(root / "HelpCode" / "kfold" / split / "fold0" / "index.csv", ["file"], [["RET002OD"]])


def papila_diagnosis(patient: int, eye: str) -> int:
    """0 for most; the eyes of some patients differ."""
    if patient % 3 == 0:
        return 1
    return 2 if patient % 4 == 0 and eye == "OD" else 0


def jsiec(root: Path) -> Path:
    for label, name in enumerate(JSIEC_CLASSES):
        for place in range(3 + label % 2):
            photo(root / "1000images" / name / f"{label}_{place}.JPG", 10 * label + place)
    return root


def retina(root: Path, counts: Sequence[int] = (9, 5, 6, 5)) -> Path:
    names = ("1_normal/NL", "2_cataract/cataract", "2_glaucoma/Glaucoma", "3_retina_disease/Retina")
    for label, (name, count) in enumerate(zip(names, counts, strict=True)):
        for place in range(1, count + 1):
            photo(root / "dataset" / f"{name}_{place:03d}.png", 1000 * label + place)
    photo(root / "logo.png", 77)
    return root


def published(
    root: Path, folders: Sequence[str], names: Sequence[str] = (), per_split: Sequence[int] = (4, 2, 3)
) -> Path:
    """RETFound's layout; `names` gives the file names, taken in turn."""
    number = 0
    for split, count in zip(("train", "val", "test"), per_split, strict=True):
        for folder in folders:
            for _ in range(count):
                name = names[number] if names else f"image{number}.jpg"
                photo(root / split / folder / name, number)
                number += 1
    return root
