"""Decodes images into a new cache folder, which gets its final name only when it is complete."""

from __future__ import annotations

import csv
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL

from augscale.config import DataConfig
from augscale.data.cache_keys import fingerprint
from augscale.data.image_records import BadFile, ImageRecord, UnusableImage, first_reasons
from augscale.data.images import DecodedImage, Ranges, decode_image
from augscale.data.own_pictures import MARK, is_own_picture
from augscale.data.parallel import map_in_order
from augscale.data.source_ranges import GreyLevels
from augscale.data.sources import SYNTHETIC_SEED
from augscale.errors import DataError

IMAGES_FILE = "images.npy"
CACHE_FILE = "cache.json"
OWN_PICTURE = f"a picture {MARK}"
"""Reason for refusing a picture that augscale wrote; `build_cache` does not count such files as bad."""
SET_ASIDE_FILE = "set_aside.csv"


def write_cache(
    directory: Path,
    records: Sequence[ImageRecord],
    config: DataConfig,
    levels: GreyLevels,
    pool: Executor,
    on_done: Callable[[int], None],
) -> None:
    """Decodes the images and writes the cache; the caller holds the lock of this folder.

    Args:
        directory: the folder to make; must not exist.
        records: with `content` set; one record of each content is kept.
        config: decode settings.
        levels: the ranges of grey levels.
        pool: threads to decode in.
        on_done: called with the number of images finished since its last call.
    Raises:
        DataError: no image can be used, or the disk is full; nothing is left behind.
        OSError: the folder cannot be written.
    """
    unique, duplicates = _without_duplicates(records)
    _check_space(directory.parent, len(unique) * config.cache_size**2 * 3)
    on_done(len(records) - len(unique))
    partial_directory = directory.parent / f".{directory.name}.partial"
    shutil.rmtree(partial_directory, ignore_errors=True)  # left by a killed process
    partial_directory.mkdir()
    try:
        kept, refused, notes = _write_images(partial_directory / IMAGES_FILE, unique, config, levels, pool, on_done)
        stored = {
            "fingerprint": fingerprint(kept, config, levels),
            "settings": {"cache_size": config.cache_size, "crop_to_field": config.crop_to_field},
            "pillow": PIL.__version__,
            "records": [asdict(record) | {"path": record.path and str(record.path.absolute())} for record in kept],
            "refused": [asdict(entry) | {"path": str(entry.path.absolute())} for entry in refused],
            "duplicates": duplicates,
            "notes": notes,
            "levels": asdict(levels),
        }
        with (partial_directory / CACHE_FILE).open("w", encoding="utf-8") as file:
            json.dump(stored, file)
            file.flush()
            os.fsync(file.fileno())
        write_set_aside(partial_directory, refused)
        os.replace(partial_directory, directory)
    except OSError as error:
        raise DataError(
            f"{directory.parent}: the decoded images cannot be written ({error.strerror}); "
            "expected a folder with room, e.g. by AUGSCALE_CACHE=FOLDER"
        ) from None
    finally:
        shutil.rmtree(partial_directory, ignore_errors=True)


def write_set_aside(directory: Path, bad: Iterable[BadFile]) -> Path:
    """Writes the list of files that cannot be used, as `file,reason`."""
    path = directory / SET_ASIDE_FILE
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        csv.writer(file).writerows([("file", "reason"), *((str(entry.path), entry.reason) for entry in bad)])
    return path


def _without_duplicates(records: Sequence[ImageRecord]) -> tuple[list[ImageRecord], dict[str, str]]:
    """One record per content, sorted by content, and the id of the kept record by the id of each other copy.

    The first copy with a patient id is kept, so that a copy without one does not hide the patient.
    """
    copies: dict[str, list[ImageRecord]] = {}
    for record in records:
        copies.setdefault(record.content or record.image_id, []).append(record)
    unique = []
    duplicates: dict[str, str] = {}
    for _, alike in sorted(copies.items()):
        kept = min(alike, key=lambda record: (record.patient_id is None, record.image_id))
        unique.append(kept)
        duplicates |= {record.image_id: kept.image_id for record in alike if record is not kept}
    return unique, duplicates


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder}: the decoded images need {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; "
            "expected more room (AUGSCALE_CACHE=FOLDER), a smaller data.cache_size or data.max_images"
        )


def _write_images(
    path: Path,
    records: Sequence[ImageRecord],
    config: DataConfig,
    levels: GreyLevels,
    pool: Executor,
    on_done: Callable[[int], None],
) -> tuple[list[ImageRecord], list[BadFile], dict[str, str]]:
    """Appends every image that can be decoded; returns the records, the refused files, and notes by image id.

    The file is written as a stream: with a memory map, a full disk would kill the process instead of raising an error.
    """
    kept: list[ImageRecord] = []
    refused: list[BadFile] = []
    notes: dict[str, str] = {}
    ranges = {origin: levels.of(origin) for origin in {record.origin for record in records}}
    decode = partial(_decode, size=config.cache_size, crop_to_field=config.crop_to_field, ranges=ranges)
    with path.open("wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL|pydicom")  # a damaged file is refused with a reason
        start = _write_header(file, len(records), config.cache_size)
        for record, result in zip(records, map_in_order(pool, decode, records), strict=True):
            if isinstance(result, str):
                refused.append(BadFile(path=Path(record.path or ""), reason=result, image_id=record.image_id))
            else:
                file.write(np.ascontiguousarray(result.pixels).data)
                kept.append(record)
                if result.note:
                    notes[record.image_id] = result.note
            on_done(1)
        if not kept:
            raise DataError(f"none of {len(records)} images can be used: {first_reasons(refused)}")
        file.seek(0)
        rewritten = _write_header(file, len(kept), config.cache_size)
        assert rewritten == start  # NumPy pads the header so that the first dimension may change
        file.flush()
        os.fsync(file.fileno())
    return kept, refused, notes


def _write_header(file: BinaryIO, num_images: int, size: int) -> int:
    shape = (num_images, size, size, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.tell()


def _decode(record: ImageRecord, *, size: int, crop_to_field: bool, ranges: Mapping[str, Ranges]) -> DecodedImage | str:
    """The image, or the reason to refuse it."""
    if record.path is None:
        from augscale.demo import render  # imports SciPy, which real photographs do not need

        return DecodedImage(pixels=render(record.image_id, SYNTHETIC_SEED, size))
    try:
        if is_own_picture(record.path):
            return OWN_PICTURE
        return decode_image(record.path, size, crop_to_field=crop_to_field, ranges=ranges[record.origin])
    except UnusableImage as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
