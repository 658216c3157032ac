"""The decoded images on disk, uint8, shape (N, S, S, 3): built once, memory-mapped, shared by all processes.

    <root>/<key>/images.npy      the pixels
    <root>/<key>/cache.json      records, refused files with reasons, duplicates, notes, settings, fingerprint
    <root>/<key>/set_aside.csv   the files that cannot be used, as a table for the user
    <root>/lookup/<listing>      the key for these paths, sizes and modification times: a second call opens no image

The key is a hash of the contents of all files, their rows in tables, the decode settings and, if any file is not a
plain 8-bit file, the ranges of grey levels. Changing a file gives another cache; moving or touching it does not.
Only one of several exact duplicates is kept: with one copy in training and another in the held-out panel, the score
would be too good. Rows are sorted by content hash, so results do not depend on the names of files or folders. A cache
gets its final name only when it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from augscale.config import DataConfig
from augscale.data.cache_keys import cache_key, listing_key, read_contents
from augscale.data.cache_writer import CACHE_FILE, IMAGES_FILE, OWN_PICTURE, write_cache, write_set_aside
from augscale.data.file_types import OWN_PICTURES, PassedOver, count_passed
from augscale.data.image_records import BadFile, ImageRecord, first_reasons
from augscale.data.parallel import Progress, num_workers
from augscale.data.source_ranges import PLAIN_LEVELS, GreyLevels, SourceRange, find_grey_levels
from augscale.data.sources import SYNTHETIC_SEED, SourceScan, scan_data
from augscale.data.splits import choose_subset
from augscale.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageCache:
    """Decoded images with their records.

    Attributes:
        images: uint8, shape (N, S, S, 3), RGB, memory-mapped and read-only.
        records: one per row of `images`, with `content` set.
        bad: files that cannot be used.
        fingerprint: hash of the images, of their grouping into patients, and of the decode settings.
        directory: the cache's folder.
        duplicates: for each exact copy that was left out, its image id and that of the image kept.
        notes: unused parts of images (further frames), by image id.
        levels: the ranges of grey levels of files of more than 8 bits, by source and kind of file.
        passed_over, excluded: see `SourceScan`.
        source_notes: `SourceScan.notes`.
    """

    images: np.memmap[Any, np.dtype[np.uint8]]
    records: list[ImageRecord]
    bad: list[BadFile]
    fingerprint: str
    directory: Path
    duplicates: dict[str, str]
    notes: dict[str, str]
    levels: GreyLevels = PLAIN_LEVELS
    passed_over: tuple[PassedOver, ...] = ()
    excluded: Mapping[str, int] = field(default_factory=dict)
    source_notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.images.shape[1])

    def __len__(self) -> int:
        return len(self.records)


def default_cache_root() -> Path:
    """$AUGSCALE_CACHE, else `augscale` in $XDG_CACHE_HOME, else ~/.cache/augscale; DataError without a home folder."""
    if own := os.environ.get("AUGSCALE_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    if shared:
        return Path(shared) / "augscale"
    try:
        return Path.home() / ".cache" / "augscale"
    except RuntimeError:
        raise DataError(
            "no home folder to keep decoded images in; expected HOME, or AUGSCALE_CACHE with a folder for them"
        ) from None


def build_cache(
    config: DataConfig,
    *,
    cache_root: Path | None = None,
    allow_bad: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    scan: SourceScan | None = None,
) -> ImageCache:
    """Opens the cache of these images and settings; decodes the images first if there is none.

    Several processes may call this at once: one decodes, the others wait for it.

    Args:
        config: images and decode settings.
        cache_root: folder of all caches; None: `default_cache_root()`.
        allow_bad: accept a larger share of unusable files than `config.max_bad`.
        on_progress: called with (images done, all images) while files are read and decoded.
        scan: of `scan_data(config)`, by a caller that has listed the files; None: they are listed here.
    Raises:
        DataError: no images, too many files that cannot be used, or the disk is full or cannot be written.
    """
    scan = scan or scan_data(config)
    whole = records = scan.records
    if config.splits is not None:
        whole = scan_data(config.model_copy(update={"splits": None})).records
    if config.max_images is not None:
        records = choose_subset(records, config.max_images, SYNTHETIC_SEED)
    root = (cache_root or default_cache_root()).absolute()
    try:
        (root / "lookup").mkdir(parents=True, exist_ok=True)
        lookup = root / "lookup" / listing_key(records, whole, config)
        known = _looked_up(root, lookup)
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be used ({error.strerror})") from None
    cache, unreadable = (known, []) if known else _find_or_decode(config, records, whole, root, lookup, on_progress)
    cache = replace(_as_listed(cache, records, [*scan.bad, *unreadable]), source_notes=scan.notes)
    cache = _without_own_pictures(replace(cache, passed_over=scan.passed_over, excluded=scan.excluded))
    _check_bad_share(cache, config.max_bad, allow_bad)
    return cache


class NoCache(DataError):
    """The folder holds no cache, or a damaged one. Other errors (e.g. lack of memory) do not imply damage."""


def open_cache(directory: Path) -> ImageCache:
    """Opens a cache that was built before.

    Raises:
        NoCache: the folder holds none, or it is damaged.
        DataError: the files cannot be read.
    """
    try:
        stored = json.loads((directory / CACHE_FILE).read_text(encoding="utf-8"))
        images = np.load(directory / IMAGES_FILE, mmap_mode="r")
        records = [_record(values) for values in stored["records"]]
        bad = [BadFile(**entry | {"path": Path(entry["path"])}) for entry in stored["refused"]]
        cache = ImageCache(
            images=images,
            records=records,
            bad=bad,
            fingerprint=stored["fingerprint"],
            directory=directory,
            duplicates=stored["duplicates"],
            notes=stored["notes"],
            levels=_levels(stored.get("levels")),
        )
    except FileNotFoundError as error:
        raise NoCache(f"{directory} is not a cache of images ({Path(error.filename).name} is missing)") from None
    except OSError as error:
        raise DataError(f"{directory}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NoCache(f"{directory}: damaged cache ({error}); delete the folder to have it built again") from None
    if images.ndim != 4 or len(images) != len(records):
        raise NoCache(
            f"{directory}: damaged cache (pixels of shape {images.shape} for {len(records)} records); "
            "delete the folder to have it built again"
        )
    return cache


def _looked_up(root: Path, lookup: Path) -> ImageCache | None:
    try:
        return open_cache(root / lookup.read_text(encoding="utf-8"))
    except (FileNotFoundError, NoCache):
        return None


def _find_or_decode(
    config: DataConfig,
    records: Sequence[ImageRecord],
    whole: Sequence[ImageRecord],
    root: Path,
    lookup: Path,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[ImageCache, list[BadFile]]:
    progress = Progress(records, on_progress)
    pool = ThreadPoolExecutor(num_workers(), thread_name_prefix="decode")
    try:
        read, unreadable = read_contents(records, pool, progress.step)
        levels = find_grey_levels(read, whole, config, pool, progress.more, progress.step)
        key = cache_key(read, config, levels)
        with FileLock(root / f"{key}.lock"):
            directory = root / key
            try:
                cache = open_cache(directory)
            except NoCache:
                shutil.rmtree(directory, ignore_errors=True)
                write_cache(directory, read, config, levels, pool, progress.step)
                cache = open_cache(directory)
        if not unreadable:  # a file may become readable without a change of size or time
            lookup.write_text(key, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be written ({error.strerror})") from None
    finally:
        pool.shutdown(cancel_futures=True)
    return cache, unreadable


def _as_listed(cache: ImageCache, records: Sequence[ImageRecord], bad: list[BadFile]) -> ImageCache:
    """The cache with the current paths and unusable files; images may have been moved since it was built.

    Copies of a refused file are refused, too: only one of them was decoded.
    """
    paths = {record.image_id: record.path for record in records}
    refused = {
        entry.image_id or "": replace(entry, path=paths[entry.image_id or ""] or entry.path) for entry in cache.bad
    }
    copies = {copy: kept for copy, kept in cache.duplicates.items() if kept in refused}
    bad = [*bad, *refused.values()]
    bad += [
        replace(refused[kept], path=paths[copy] or refused[kept].path, image_id=copy) for copy, kept in copies.items()
    ]
    return replace(
        cache,
        records=[replace(record, path=paths[record.image_id]) for record in cache.records],
        bad=sorted(bad, key=lambda entry: entry.path),
        duplicates={copy: kept for copy, kept in cache.duplicates.items() if copy not in copies},
    )


def _without_own_pictures(cache: ImageCache) -> ImageCache:
    """Moves contact sheets and figures of augscale from the bad files to those passed over."""
    own = {entry.path: (entry.path.name, OWN_PICTURES) for entry in cache.bad if entry.reason == OWN_PICTURE}
    return replace(
        cache,
        bad=[entry for entry in cache.bad if entry.path not in own],
        passed_over=(*cache.passed_over, *count_passed(own)),
    )


def _check_bad_share(cache: ImageCache, max_bad: float, allow_bad: bool) -> None:
    files = len(cache.bad) + len(cache.records) + len(cache.duplicates)
    if allow_bad or len(cache.bad) <= max_bad * files:
        return
    listed = write_set_aside(cache.directory, cache.bad)
    raise DataError(
        f"{len(cache.bad)} of {files} files cannot be used ({len(cache.bad) / files:.1%}; at most data.max_bad = "
        f"{max_bad:.1%} is accepted without --allow-bad): {first_reasons(cache.bad)}; all of them: {listed}"
    )


def _record(values: dict[str, Any]) -> ImageRecord:
    return ImageRecord(**values | {"path": None if values["path"] is None else Path(values["path"])})


def _levels(values: dict[str, Any] | None) -> GreyLevels:
    """The stored ranges; caches that were written before ranges existed hold plain 8-bit files only."""
    if values is None:
        return PLAIN_LEVELS
    return GreyLevels(plain=values["plain"], ranges=tuple(SourceRange(**found) for found in values["ranges"]))
