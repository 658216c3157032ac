"""Keys of caches: hashes of the files' contents and, as a shortcut, of their paths and modification times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from augscale.config import DataConfig
from augscale.data.formats.reading import installed_decoders
from augscale.data.image_records import BadFile, ImageRecord
from augscale.data.images import DECODER_VERSION
from augscale.data.parallel import map_in_order
from augscale.data.source_ranges import GreyLevels
from augscale.data.sources import SYNTHETIC_SEED
from augscale.data.splits import patient_groups

CACHE_VERSION = 1
"""Increase when the format of the cache files changes; older caches are then not found."""

DECODER_OF_LEVELS = 1
"""Increase when the decoder gives other pixels for files that are not plain 8-bit files."""

_DIGEST_BYTES = 16


def listing_key(records: Sequence[ImageRecord], whole: Sequence[ImageRecord], config: DataConfig) -> str:
    """A hash of paths, sizes, modification times, records, decode settings and installed decoders.

    Args:
        records: the images in use.
        whole: all images of the sources; ranges of grey levels are found over them.
        config: decode settings.
    Raises:
        OSError: a file was deleted after it was listed.
    """
    used = {record.image_id for record in records}
    lines = [[*_where(record), *_facts(record)] for record in records]
    others = [[*_where(record), record.origin] for record in whole if record.image_id not in used]
    levels = [DECODER_OF_LEVELS, config.range, installed_decoders(), [record.origin for record in records], others]
    synthetic = _synthetic_content("") if _has_synthetic(records) else None
    return _digest([_settings(config), synthetic, levels, *_exclusion(config), *lines])


def _where(record: ImageRecord) -> list[str | int]:
    if record.path is None:
        return []
    status = record.path.stat()
    return [str(record.path.absolute()), status.st_size, status.st_mtime_ns]


def read_contents(
    records: Sequence[ImageRecord], pool: Executor, on_done: Callable[[], None]
) -> tuple[list[ImageRecord], list[BadFile]]:
    """Hashes the bytes of every file.

    Returns:
        The records with their `content`, and the files that cannot be read.
    """
    read: list[ImageRecord] = []
    bad: list[BadFile] = []
    for record, content in zip(records, map_in_order(pool, _content, records), strict=True):
        if record.path is not None:
            on_done()
        if isinstance(content, BadFile):
            bad.append(content)
        else:
            read.append(replace(record, content=content))
    return read, bad


def cache_key(records: Iterable[ImageRecord], config: DataConfig, levels: GreyLevels) -> str:
    """A hash of contents, records and decode settings; 32 hexadecimal digits.

    If any file is not a plain 8-bit file, the ranges of grey levels and the installed decoders are included.
    """
    settings: list[object] = [_settings(config), *_exclusion(config)]
    if not levels.plain:
        settings.append([*levels_digest(levels), installed_decoders()])
    return _digest([*settings, *sorted([record.content or "", *map(str, _facts(record))] for record in records)])


def fingerprint(records: Sequence[ImageRecord], config: DataConfig, levels: GreyLevels) -> str:
    """A hash of everything that results depend on: the images in order, their patients, decode settings and ranges.

    File and folder names, labels and splits are not included.
    """
    groups = patient_groups(records).tolist()
    settings = [_settings(config), *levels_digest(levels)]
    return _digest([*settings, *([r.content, group] for r, group in zip(records, groups, strict=True))])


def levels_digest(levels: GreyLevels) -> list[str]:
    """A hash of the ranges without the names of sources; empty if all files are plain 8-bit files."""
    if levels.plain:
        return []
    ranges = sorted({(found.kind, found.low, found.high, found.given) for found in levels.ranges})
    return [_digest([DECODER_OF_LEVELS, *ranges])]


def _settings(config: DataConfig) -> list[int | bool]:
    return [CACHE_VERSION, DECODER_VERSION, config.cache_size, config.crop_to_field]


def _exclusion(config: DataConfig) -> list[list[str]]:
    """Empty without exclusions, so that caches older than `data.exclude` are still found."""
    return [["exclude", *sorted(config.exclude)]] if config.exclude else []


def _facts(record: ImageRecord) -> list[str | None]:
    return [record.image_id, record.label, record.split, record.patient_id, record.eye, record.source]


def _has_synthetic(records: Iterable[ImageRecord]) -> bool:
    return any(record.path is None for record in records)


def _content(record: ImageRecord) -> str | BadFile:
    if record.path is None:
        return _synthetic_content(record.image_id)
    try:
        with record.path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)).hexdigest()
    except OSError as error:
        return BadFile(path=record.path, reason=f"cannot be read ({error.strerror})")


def _synthetic_content(image_id: str) -> str:
    from augscale.demo.render import RENDERER

    return _digest([image_id, SYNTHETIC_SEED, RENDERER])


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=_DIGEST_BYTES).hexdigest()
