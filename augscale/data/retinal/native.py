"""The owners' layouts of the six datasets, as far as they are known from descriptions and other public loaders.

The readers find tables and folders by words in their names, at any depth, because archives unpack into top folders of
varying names. None of them opens an image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from augscale.data.retinal.downloads import (
    NATIVE,
    Download,
    ImageIndex,
    LabelledFile,
    Unpacked,
    graded,
    refuse_repeats,
    shown,
    table_columns,
    with_patients,
)
from augscale.data.retinal.published import leading_number, read_published
from augscale.data.retinal.registry import RetinalDataset
from augscale.data.table_files import read_lines, workbook
from augscale.errors import DataError

_IDRID_SUBSETS = {"training": "train", "testing": "test"}
_RETINA_FOLDERS = {"1_normal": 0, "2_cataract": 1, "2_glaucoma": 2, "3_retina_disease": 3}
# PAPILA's tables say 0 healthy, 1 glaucoma, 2 suspect; the classes of the paper are normal, suspect, glaucoma.
_PAPILA_CLASSES = {"0": 0, "2": 1, "1": 2}
_PAPILA_EYES = {"od": "right", "os": "left"}
_PAPILA_FILE = re.compile(r"RET(\d+)(OD|OS)", re.IGNORECASE)
_PAPILA_ROW = re.compile(r"#?\s*(\d+)(?:\.0)?")
_PAPILA_HEADER_ROWS = 5


def read_download(dataset: RetinalDataset, source: Path | str) -> Download:
    """Reads an unpacked download, in RETFound's layout if it has train and test folders, else in the owners'.

    Raises:
        DataError: not a folder, still packed, an unknown layout, or images missing.
        ConfigError: openpyxl, which reads PAPILA's tables, is not installed.
    """
    unpacked = Unpacked.open(dataset, source)
    download = read_published(dataset, unpacked.folder)
    if download is None:
        images, notes = _READERS[dataset.name](unpacked)
        download = Download(layout=NATIVE, images=images, notes=notes)
    images = sorted(download.images, key=lambda image: image.path)
    notes = download.notes
    if dataset.name == "PAPILA":
        images = with_patients(images, _papila_patients(image.path for image in images))
    if dataset.name == "MESSIDOR-2":
        images, more = _with_messidor_pairs(images, unpacked)
        notes = [*notes, *more]
    return replace(download, images=images, notes=notes)


_Read = tuple[list[LabelledFile], list[str]]
"""Images and notes."""


def _aptos(unpacked: Unpacked) -> _Read:
    tables = [path for path in unpacked.files if path.name.casefold() == "train.csv"]
    table = unpacked.the_only(tables, "files named train.csv")
    rows = [(name, text) for name, text in table_columns(table, "id_code", "diagnosis")]
    refuse_repeats([name for name, _ in rows], table)
    index = ImageIndex(path for path in unpacked.images if "train_images" in [p.casefold() for p in path.parts])
    images = graded(unpacked.dataset, table, index, rows)
    return images, _left_out(len(index) - len(images), "images that train.csv does not name")


def _messidor(unpacked: Unpacked) -> _Read:
    what = "files named messidor_data.csv (the grades, a download of their own)"
    table = unpacked.the_only(unpacked.named("messidor_data", suffix=".csv"), what)
    rows = table_columns(table, "image_id", "adjudicated_dr_grade", "adjudicated_gradable")
    refuse_repeats([Path(name).stem for name, _, _ in rows], table)
    gradable = [(name, text) for name, text, use in rows if text and use not in ("0", "0.0")]
    index = ImageIndex(unpacked.images)
    ungradable = len(rows) - len(gradable)
    notes = [f"{ungradable} images are not gradable and left out"] if ungradable else []
    notes += _left_out(len(index) - len(rows), "images that messidor_data.csv does not name")
    return graded(unpacked.dataset, table, index, gradable), notes


def _with_messidor_pairs(images: list[LabelledFile], unpacked: Unpacked) -> _Read:
    """The images with patients from messidor-2.csv, whose rows are `left;right`; it may have a header or none."""
    tables = [p for p in unpacked.named("messidor-2", suffix=".csv") if p.stem.casefold() == "messidor-2"]
    if not tables:
        return images, ["messidor-2.csv is not there: the patients are not known"]
    header, lines = read_lines(tables[0])
    index = ImageIndex(image.path for image in images)
    patients: dict[Path, tuple[str, str]] = {}
    for cells in [header, *(cells for _, cells in lines)]:
        names = [cell.strip() for cell in cells[:2] if cell.strip()]
        found = [index.find(name) for name in names]
        for path, eye in zip(found, ("left", "right"), strict=False):
            if path is None:
                continue  # a header, or an image that is not gradable
            if path in patients:
                raise DataError(f"{tables[0]}: {path.name} is in two pairs; expected every image once")
            patients[path] = (Path(names[0]).stem, eye)
    alone = len(images) - len(patients)
    notes = [f"{alone} images are in no pair of messidor-2.csv: each counts as a patient of its own"] if alone else []
    return with_patients(images, patients), notes


def _idrid(unpacked: Unpacked) -> _Read:
    images: list[LabelledFile] = []
    for subset, split in _IDRID_SUBSETS.items():
        tables = unpacked.named("disease grading", subset, "labels", suffix=".csv")
        table = unpacked.the_only(tables, f"tables of {subset} labels of Disease Grading")
        rows = [(name, text) for name, text in table_columns(table, "Image name", "Retinopathy grade") if name]
        refuse_repeats([name for name, _ in rows], table)
        # The other parts of IDRiD hold images of the same names, so only those beside this table count.
        part = table.parent.parent
        index = ImageIndex(
            path
            for path in unpacked.images
            if path.is_relative_to(part) and f"{subset} set" in path.parent.name.casefold()
        )
        images += graded(unpacked.dataset, table, index, rows, split)
    return images, []


def _jsiec(unpacked: Unpacked) -> _Read:
    # Folders are recognized by number, because the spelling of their names is known only second-hand.
    numbers = {leading_number(name): label for label, name in enumerate(unpacked.dataset.classes)}
    return _class_folders(unpacked, lambda name: numbers.get(leading_number(name)))


def _retina(unpacked: Unpacked) -> _Read:
    return _class_folders(unpacked, lambda name: _RETINA_FOLDERS.get(name.casefold()))


def _class_folders(unpacked: Unpacked, number: Callable[[str], int | None]) -> _Read:
    classes = unpacked.dataset.classes
    images = []
    places: dict[int, Path] = {}
    for path in unpacked.images:
        label = number(path.parent.name)
        if label is None:
            continue
        if places.setdefault(label, path.parent) != path.parent:
            raise DataError(
                f"{unpacked.folder}: class {classes[label]!r} lies in two places, {places[label]} and {path.parent}; "
                "give one of them"
            )
        images.append(LabelledFile(path=path, label=label))
    missing = [name for label, name in enumerate(classes) if label not in places]
    if missing:
        what = f"{len(missing)} of {len(classes)} classes have no folder with images ({shown(missing)})"
        raise unpacked.not_recognized(what)
    return images, _left_out(len(unpacked.images) - len(images), "images outside the class folders")


def _papila(unpacked: Unpacked) -> _Read:
    """FundusImages/RET###OD.jpg and ClinicalData/patient_data_{od,os}.xlsx."""
    # ExpertsSegmentations holds pictures of the same photographs with contours drawn in.
    index = ImageIndex(path for path in unpacked.images if path.parent.name.casefold() == "fundusimages")
    images: list[LabelledFile] = []
    for eye in _PAPILA_EYES:
        tables = unpacked.named(f"patient_data_{eye}", suffix=".xlsx")
        table = unpacked.the_only(tables, f"tables patient_data_{eye}.xlsx")
        rows = _papila_labels(table)
        names = [f"RET{int(patient):03d}{eye.upper()}" for patient, _ in rows]
        refuse_repeats(names, table)
        paths = index.find_all(names, table)
        images += [LabelledFile(path=path, label=label) for path, (_, label) in zip(paths, rows, strict=True)]
    return images, _left_out(len(index) - len(images), "photographs that no table names")


def _papila_patients(paths: Iterable[Path]) -> dict[Path, tuple[str, str]]:
    """Patient ("002") and eye of each image, from names such as RET002OD."""
    found = {path: _PAPILA_FILE.match(path.stem) for path in paths}
    return {path: (match[1], _PAPILA_EYES[match[2].lower()]) for path, match in found.items() if match}


def _papila_labels(table: Path) -> list[tuple[str, int]]:
    """Patient number and class of each row; rows that do not begin with `#002` or a number are headers."""
    rows = list(workbook(table, data_only=True).worksheets[0].iter_rows(values_only=True))
    headers = [[str(cell).strip().casefold() for cell in cells] for cells in rows[:_PAPILA_HEADER_ROWS]]
    column = next((names.index("diagnosis") for names in headers if "diagnosis" in names), None)
    if column is None:
        raise DataError(f"{table}: no column named 'Diagnosis' in its first {_PAPILA_HEADER_ROWS} rows")
    found = []
    for cells in rows:
        match = _PAPILA_ROW.fullmatch(str(cells[0]).strip()) if cells else None
        if match is None:
            continue
        text = str(cells[column] if column < len(cells) else None).strip()
        label = _PAPILA_CLASSES.get(text.removesuffix(".0"))
        if label is None:
            raise DataError(
                f"{table}: diagnosis {text!r} of patient {cells[0]}; expected 0 (healthy), 1 (glaucoma) or 2 (suspect)"
            )
        found.append((match[1], label))
    if not found:
        raise DataError(f"{table}: no row begins with a patient number such as #002")
    return found


def _left_out(count: int, what: str) -> list[str]:
    return [f"{count} {what} are left out"] if count > 0 else []


_READERS: dict[str, Callable[[Unpacked], _Read]] = {
    "APTOS2019": _aptos,
    "MESSIDOR-2": _messidor,
    "IDRiD": _idrid,
    "PAPILA": _papila,
    "JSIEC": _jsiec,
    "Retina": _retina,
}
