"""PAPILA's own layout: photographs named by patient and eye, diagnoses in two Excel tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from augscale.data.retinal.downloads import (
    NATIVE,
    Download,
    ImageIndex,
    LabelledFile,
    images_of,
    named_files,
    not_recognised,
    once_each,
)
from augscale.data.retinal.registry import RetinalDataset
from augscale.errors import ConfigError, DataError

# The tables say 0 healthy, 1 glaucoma, 2 suspect; the classes of the paper are normal, suspect, glaucoma.
_CLASS_OF_DIAGNOSIS = {0: 0, 2: 1, 1: 2}
_EYES = {"od": "right", "os": "left"}
_FILE_NAME = re.compile(r"RET(\d+)(OD|OS)", re.IGNORECASE)
_ROW_NAME = re.compile(r"#?\s*(\d+)(?:\.0)?")
_ROWS_BEFORE_DATA = 5


def papila_patients(paths: Iterable[Path]) -> dict[Path, tuple[str, str]]:
    """Patient ("002") and eye of each image, from names such as RET002OD."""
    found = {path: _FILE_NAME.match(path.stem) for path in paths}
    return {path: (match[1], _EYES[match[2].lower()]) for path, match in found.items() if match}


def read_papila(dataset: RetinalDataset, folder: Path, files: Sequence[Path]) -> Download:
    """FundusImages/RET###OD.jpg and ClinicalData/patient_data_{od,os}.xlsx.

    Raises:
        ConfigError: openpyxl, which reads the tables, is not installed.
        DataError: a table is missing or damaged, or images are missing.
    """
    # ExpertsSegmentations holds pictures of the same photographs with contours drawn in.
    index = ImageIndex(path for path in images_of(files) if path.parent.name.casefold() == "fundusimages")
    images: list[LabelledFile] = []
    for eye in _EYES:
        tables = named_files(files, f"patient_data_{eye}", suffix=".xlsx")
        if len(tables) != 1:
            raise not_recognised(dataset, folder, files, f"{len(tables)} tables patient_data_{eye}.xlsx")
        diagnoses = _diagnoses(tables[0])
        names = [f"RET{int(patient):03d}{eye.upper()}" for patient, _ in diagnoses]
        once_each(names, tables[0])
        paths = index.find_all(names, tables[0])
        images.extend(
            LabelledFile(path=path, label=_CLASS_OF_DIAGNOSIS[diagnosis])
            for path, (_, diagnosis) in zip(paths, diagnoses, strict=True)
        )
    left_out = len(index) - len(images)
    notes = [f"{left_out} photographs that no table names are left out"] if left_out else []
    return Download(layout=NATIVE, images=images, notes=notes)


def _diagnoses(table: Path) -> list[tuple[str, int]]:
    """Patient number and diagnosis of each row; rows that do not open with `#002` or a number are headers."""
    rows = _cells(table)
    column = None
    for cells in rows[:_ROWS_BEFORE_DATA]:
        names = [str(cell).strip().casefold() for cell in cells]
        if column is None and "diagnosis" in names:
            column = names.index("diagnosis")
    if column is None:
        raise DataError(f"{table}: no column named 'Diagnosis' in its first {_ROWS_BEFORE_DATA} rows")
    found = []
    for cells in rows:
        match = _ROW_NAME.fullmatch(str(cells[0]).strip()) if cells else None
        if match is None:
            continue
        value = cells[column] if column < len(cells) else None
        text = str(value).strip()
        if text.removesuffix(".0") not in map(str, _CLASS_OF_DIAGNOSIS):
            raise DataError(
                f"{table}: diagnosis {text!r} of patient {cells[0]}; expected 0 (healthy), 1 (glaucoma) or 2 (suspect)"
            )
        found.append((match[1], int(text.removesuffix(".0"))))
    if not found:
        raise DataError(f"{table}: no row opens with a patient number such as #002")
    return found


def _cells(table: Path) -> list[tuple[Any, ...]]:
    try:
        import openpyxl
    except ImportError:
        raise ConfigError(
            "PAPILA's diagnoses are Excel files, read by openpyxl, which is not installed; "
            "pip install openpyxl (or augscale[papila])"
        ) from None
    try:
        book = openpyxl.load_workbook(table, read_only=True, data_only=True)
        try:
            return list(book.worksheets[0].iter_rows(values_only=True))
        finally:
            book.close()
    except Exception as error:  # a damaged archive makes openpyxl raise almost anything
        raise DataError(f"{table}: cannot be read as an Excel table ({type(error).__name__}: {error})") from None
