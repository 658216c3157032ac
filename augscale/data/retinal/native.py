"""The owners' layouts of the six datasets, as far as they are known from descriptions and other public loaders.

The readers find tables and folders by what their names must hold, at any depth, because archives unpack into top
folders of varying names. None of them opens an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from augscale.data.retinal.downloads import (
    NATIVE,
    Download,
    ImageIndex,
    LabelledFile,
    files_below,
    grade,
    images_of,
    named_files,
    not_recognised,
    once_each,
    shown,
    source_folder,
    table_columns,
    with_patients,
)
from augscale.data.retinal.papila import papila_patients, read_papila
from augscale.data.retinal.published import leading_number, read_published
from augscale.data.retinal.registry import RetinalDataset
from augscale.data.table_files import read_lines
from augscale.errors import DataError

_IDRID_SUBSETS = {"training": "train", "testing": "test"}
_RETINA_FOLDERS = {"1_normal": 0, "2_cataract": 1, "2_glaucoma": 2, "3_retina_disease": 3}


def read_download(dataset: RetinalDataset, source: Path | str) -> Download:
    """Reads an unpacked download, in RETFound's layout if it has train and test folders, else in the owners'.

    Raises:
        DataError: no folder, still packed, a layout that is not recognised, or images missing.
    """
    folder = source_folder(source)
    files = files_below(folder)
    download = read_published(dataset, folder) or _READERS[dataset.name](dataset, folder, files)
    images = sorted(download.images, key=lambda image: image.path)
    if dataset.name == "PAPILA":
        images = with_patients(images, papila_patients(image.path for image in images))
    if dataset.name == "MESSIDOR-2":
        images, notes = _with_messidor_pairs(images, files)
        download = replace(download, notes=[*download.notes, *notes])
    return replace(download, images=images)


def _aptos(dataset: RetinalDataset, folder: Path, files: Sequence[Path]) -> Download:
    tables = [path for path in files if path.name.casefold() == "train.csv"]
    if len(tables) != 1:
        raise not_recognised(dataset, folder, files, f"{len(tables)} files named train.csv")
    rows = table_columns(tables[0], "id_code", "diagnosis")
    once_each([name for name, _ in rows], tables[0])
    index = ImageIndex(path for path in images_of(files) if "train_images" in [p.casefold() for p in path.parts])
    paths = index.find_all([name for name, _ in rows], tables[0])
    images = [
        LabelledFile(path=path, label=grade(text, tables[0], name, len(dataset.classes)))
        for path, (name, text) in zip(paths, rows, strict=True)
    ]
    return Download(layout=NATIVE, images=images, notes=_unlisted(index, images, "train.csv"))


def _messidor(dataset: RetinalDataset, folder: Path, files: Sequence[Path]) -> Download:
    tables = named_files(files, "messidor_data", suffix=".csv")
    if len(tables) != 1:
        what = f"{len(tables)} files named messidor_data.csv (the grades, a download of their own)"
        raise not_recognised(dataset, folder, files, what)
    rows = table_columns(tables[0], "image_id", "adjudicated_dr_grade", "adjudicated_gradable")
    once_each([Path(name).stem for name, _, _ in rows], tables[0])
    gradable = [(name, text) for name, text, use in rows if text and use not in ("0", "0.0")]
    index = ImageIndex(images_of(files))
    paths = index.find_all([name for name, _ in gradable], tables[0])
    images = [
        LabelledFile(path=path, label=grade(text, tables[0], name, len(dataset.classes)))
        for path, (name, text) in zip(paths, gradable, strict=True)
    ]
    notes = [f"{len(rows) - len(gradable)} images are not gradable and left out"] if len(rows) > len(gradable) else []
    ungraded = len(index) - len(rows)
    if ungraded > 0:
        notes.append(f"{ungraded} images that messidor_data.csv does not name are left out")
    return Download(layout=NATIVE, images=images, notes=notes)


def _with_messidor_pairs(images: list[LabelledFile], files: Sequence[Path]) -> tuple[list[LabelledFile], list[str]]:
    """The images with patients from messidor-2.csv, whose rows are `left;right`; it may have a header or none."""
    tables = [path for path in named_files(files, "messidor-2", suffix=".csv") if path.stem.casefold() == "messidor-2"]
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


def _idrid(dataset: RetinalDataset, folder: Path, files: Sequence[Path]) -> Download:
    images: list[LabelledFile] = []
    for subset, split in _IDRID_SUBSETS.items():
        tables = named_files(files, "disease grading", subset, "labels", suffix=".csv")
        if len(tables) != 1:
            raise not_recognised(dataset, folder, files, f"{len(tables)} tables of {subset} labels of Disease Grading")
        rows = table_columns(tables[0], "Image name", "Retinopathy grade")
        rows = [row for row in rows if row[0]]
        once_each([name for name, _ in rows], tables[0])
        # The other parts of IDRiD hold images of the same names, so only those beside this table count.
        part = tables[0].parent.parent
        index = ImageIndex(
            path
            for path in images_of(files)
            if path.is_relative_to(part) and f"{subset} set" in path.parent.name.casefold()
        )
        paths = index.find_all([name for name, _ in rows], tables[0])
        images.extend(
            LabelledFile(path=path, label=grade(text, tables[0], name, len(dataset.classes)), split=split)
            for path, (name, text) in zip(paths, rows, strict=True)
        )
    return Download(layout=NATIVE, images=images, notes=[])


def _jsiec(dataset: RetinalDataset, folder: Path, files: Sequence[Path]) -> Download:
    # By number, not by text: the names are known second-hand, and their numbers differ where spellings may not.
    numbers = {leading_number(name): label for label, name in enumerate(dataset.classes)}
    return _class_folders(dataset, folder, files, lambda name: numbers.get(leading_number(name)))


def _retina(dataset: RetinalDataset, folder: Path, files: Sequence[Path]) -> Download:
    return _class_folders(dataset, folder, files, lambda name: _RETINA_FOLDERS.get(name.casefold()))


def _class_folders(
    dataset: RetinalDataset, folder: Path, files: Sequence[Path], number: Callable[[str], int | None]
) -> Download:
    images = []
    places: dict[int, Path] = {}
    for path in images_of(files):
        label = number(path.parent.name)
        if label is None:
            continue
        if places.setdefault(label, path.parent) != path.parent:
            raise DataError(
                f"{folder}: class {dataset.classes[label]!r} lies in two places, {places[label]} and {path.parent}; "
                "give one of them"
            )
        images.append(LabelledFile(path=path, label=label))
    missing = [name for label, name in enumerate(dataset.classes) if label not in places]
    if missing:
        what = f"{len(missing)} of {len(dataset.classes)} classes have no folder with images ({shown(missing)})"
        raise not_recognised(dataset, folder, files, what)
    left_out = len(images_of(files)) - len(images)
    notes = [f"{left_out} images outside the class folders are left out"] if left_out else []
    return Download(layout=NATIVE, images=images, notes=notes)


def _unlisted(index: ImageIndex, images: Sequence[LabelledFile], table: str) -> list[str]:
    left_out = len(index) - len(images)
    return [f"{left_out} images that {table} does not name are left out"] if left_out else []


_READERS: dict[str, Callable[[RetinalDataset, Path, Sequence[Path]], Download]] = {
    "APTOS2019": _aptos,
    "MESSIDOR-2": _messidor,
    "IDRiD": _idrid,
    "PAPILA": read_papila,
    "JSIEC": _jsiec,
    "Retina": _retina,
}
