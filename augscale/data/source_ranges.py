"""Ranges of grey levels, found once over the files of each source or given by `data.range`.

A range belongs to a whole source; choosing splits or a subset of the images does not change it. At most 1000 files of
a source are measured, chosen by their paths below the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from augscale.config import DataConfig
from augscale.data.formats.reading import FileKind, file_kind
from augscale.data.grey_levels import FileQuantiles, GreyRange, choose_range, file_quantiles, range_lines
from augscale.data.image_records import ImageRecord, UnusableImage
from augscale.data.images import Ranges, read_samples
from augscale.data.parallel import map_in_order
from augscale.data.sources import SYNTHETIC_SEED
from augscale.data.splits import seeded_rank

MOST_FILES_MEASURED = 1000

Key = tuple[str, str]
"""Source and kind."""


@dataclass(frozen=True, kw_only=True)
class SourceRange:
    """The range of the files of one kind in one source.

    Attributes:
        source: name of the source; see `ImageRecord.origin`.
        kind: see `Samples.kind`.
        low, high: values, after a DICOM file's modality LUT, that become 0 and 255.
        files: number of files it was found over; 0 if it was given.
    """

    source: str
    kind: str
    low: float
    high: float
    files: int

    @property
    def given(self) -> bool:
        """True if `data.range` gave it."""
        return self.files == 0


@dataclass(frozen=True, kw_only=True)
class GreyLevels:
    """The ranges that decide the pixels of files that are not plain 8-bit files.

    Attributes:
        plain: True if all files in use are plain; there are no ranges then.
        ranges: sorted by source and kind.
    """

    plain: bool
    ranges: tuple[SourceRange, ...] = ()

    def facts(self) -> list[dict[str, Any]]:
        """For manifests: plain values of each range."""
        return [asdict(found) | {"given": found.given} for found in self.ranges]

    def lines(self) -> list[str]:
        """Lines to print, one for each range."""
        return [f"grey levels of {line}" for line in range_lines(self.facts())]

    def of(self, origin: str) -> Ranges:
        """The ranges of one source, for the decoder."""
        own = {found.kind: GreyRange(low=found.low, high=found.high) for found in self.ranges if found.source == origin}
        given = next((found for found in self.ranges if found.given), None)
        return Ranges(given=None if given is None else GreyRange(low=given.low, high=given.high), found=own)


PLAIN_LEVELS = GreyLevels(plain=True)


def find_grey_levels(
    used: Sequence[ImageRecord],
    whole: Sequence[ImageRecord],
    config: DataConfig,
    pool: Executor,
    on_planned: Callable[[int], None],
    on_done: Callable[[], None],
) -> GreyLevels:
    """Finds a range for each source and kind of file that needs one.

    Args:
        used: the images to decode.
        whole: all images of the sources, including unused ones.
        config: its `range` is used if it is not "auto".
        pool: threads to read in.
        on_planned: called once with the number of files to measure.
        on_done: called after each measured file.
    """
    kinds = _kinds(used, config, pool)
    needed = sorted({key for record in used if (key := _key(record, kinds)) is not None})
    plain = all(kind.plain for kind in kinds.values())
    if config.range != "auto":
        low, high = config.range
        given = [SourceRange(source=source, kind=kind, low=low, high=high, files=0) for source, kind in needed]
        return GreyLevels(plain=plain, ranges=tuple(given))
    files = _files_to_measure(needed, used, whole, kinds, config, pool) if needed else []
    on_planned(len(files))
    measured: dict[Key, list[FileQuantiles]] = {}
    for (key, _), found in zip(files, map_in_order(pool, lambda file: _read_quantiles(file[1]), files), strict=True):
        on_done()
        if found is not None:
            measured.setdefault(key, []).append(found)
    ranges = [
        SourceRange(source=source, kind=kind, files=len(of_files), **asdict(choose_range(of_files)))
        for (source, kind), of_files in sorted(measured.items())
    ]
    return GreyLevels(plain=plain, ranges=tuple(ranges))


def _kinds(records: Iterable[ImageRecord], config: DataConfig, pool: Executor) -> dict[str, FileKind]:
    """Kinds of files by image id, without built-in photographs, which are plain."""
    files = [record for record in records if record.path is not None]
    look = partial(file_kind, use_window=config.range == "auto")
    found = map_in_order(pool, lambda record: look(Path(record.path or "")), files)
    return {record.image_id: kind for record, kind in zip(files, found, strict=True)}


def _key(record: ImageRecord, kinds: Mapping[str, FileKind]) -> Key | None:
    kind = kinds[record.image_id].kind if record.image_id in kinds else None
    return None if kind is None else (record.origin, kind)


def _files_to_measure(
    needed: Sequence[Key],
    used: Sequence[ImageRecord],
    whole: Sequence[ImageRecord],
    kinds: Mapping[str, FileKind],
    config: DataConfig,
    pool: Executor,
) -> list[tuple[Key, Path]]:
    """A fixed choice of files of each source, and of the used files of each kind that this choice misses."""
    chosen = []
    for source in sorted({source for source, _ in needed}):
        chosen += _seeded_choice([record for record in whole if record.origin == source])
    known = {**kinds, **_kinds([record for record in chosen if record.image_id not in kinds], config, pool)}
    found = {_key(record, known) for record in chosen}
    for key in needed:
        if key not in found:
            chosen += _seeded_choice([record for record in used if _key(record, known) == key])
    keyed = [(_key(record, known), record.path) for record in chosen]
    return [(key, path) for key, path in keyed if key is not None and key in needed and path is not None]


def _seeded_choice(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    ranked = sorted(records, key=lambda r: seeded_rank(SYNTHETIC_SEED, r.image_id.removeprefix(r.origin)))
    return ranked[:MOST_FILES_MEASURED]


def _read_quantiles(path: Path) -> FileQuantiles | None:
    """None for a file that cannot be decoded; it is refused with a reason later."""
    try:
        samples = read_samples(path)
    except UnusableImage:
        return None
    return None if samples is None else file_quantiles(samples)
