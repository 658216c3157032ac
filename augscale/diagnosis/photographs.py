"""The photographs of a diagnosis: decoding, choice of the examined ones, and their views."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augscale.augmentation.scales import AugmentationScales
from augscale.config import DataConfig, GreyRangeSetting, ProbeConfig
from augscale.data.cache import ImageCache, build_cache
from augscale.data.facts import file_facts, file_lines
from augscale.data.image_records import ImageRecord
from augscale.data.labels import clean_labels
from augscale.data.sanity import Sanity, check_images
from augscale.data.splits import choose_subset, patient_groups
from augscale.diagnosis.near_duplicates import near_duplicates
from augscale.errors import DataError
from augscale.networks.checkpoints import LoadedCheckpoint
from augscale.networks.weights import HeldOut
from augscale.records.diagnosis import LADDER, NearDuplicate
from augscale.scoring.batch_norm_views import common_rows, common_views
from augscale.scoring.panel import draw_views, image_keys, split_off_panel, whole_views
from augscale.settings import parse_settings

Levels = Mapping[str, tuple[str, AugmentationScales]]
"""Kind ("ladder" or "scales") and scales of each level, by its name; the ladder's levels run from mild to strong."""
CommonViews = Callable[[int], torch.Tensor]
"""Returns the views that batch norm statistics are gathered on, by their size in pixels: float32, shape (N, 3, size,
size), see `common_views`."""
Progress = Callable[[str, int, int], None]
"""Called with (name of the work, amount done, total amount)."""

CACHE_MARGIN = 1.15
"""Factor by which decoded images are larger than the views, if no sidecar states their size."""
MIN_COMMON = 32
"""With fewer other photographs than this, batch norm statistics are gathered on the examined ones instead."""
MAX_IMAGES_SEARCHED = 20_000
"""Near-duplicates are searched among all images up to this number; in larger data only near the examined images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Photographs:
    """The examined photographs, with methods that draw their views of one size."""

    pixels: npt.NDArray[np.uint8]
    """uint8, shape (n, S, S, 3)."""
    records: Sequence[ImageRecord]
    levels: Levels
    probe: ProbeConfig
    """Views per photograph, seed, bootstrap and limits."""
    view_size: int
    """Side of the views, pixels."""

    @cached_property
    def groups(self) -> npt.NDArray[np.int64]:
        """int64, shape (n,): patients."""
        return patient_groups(self.records)

    @cached_property
    def keys(self) -> npt.NDArray[np.int64]:
        return image_keys(self.records)

    def at(self, view_size: int) -> Photographs:
        """The same photographs, whose views have another size in pixels but show the same."""
        return self if view_size == self.view_size else replace(self, view_size=view_size)

    @property
    def ladder(self) -> list[str]:
        return [name for name, (kind, _) in self.levels.items() if kind == LADDER]

    def whole(self, part: slice) -> torch.Tensor:
        """The photographs without augmentation, shape (B, 3, S, S)."""
        return whole_views(torch.from_numpy(self.pixels[part]), self.view_size)

    def views(self, level: str, part: slice) -> torch.Tensor:
        """Views at one level, shape (B, V, 3, S, S)."""
        pixels, scales = torch.from_numpy(self.pixels[part]), self.levels[level][1]
        return draw_views(pixels, self.keys[part], scales, self.probe, self._place(level), self.view_size)

    def recipe(self, level: str) -> list[Any]:
        """Everything besides pixels, keys and size that the views of a level depend on; JSON values."""
        scales = self.levels[level][1].model_dump(mode="json")
        return [scales, self._place(level), self.probe.views, self.probe.seed]

    def _place(self, level: str) -> int | str:
        # The ladder's views are those of a search's panel, which numbers its levels.
        return self.ladder.index(level) if level in self.ladder else level


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageData:
    """All decoded images."""

    config: DataConfig
    cache: ImageCache
    sanity: Sanity
    records: Sequence[ImageRecord]
    """One per image; labels that mean no label are removed."""
    notes: tuple[str, ...]

    def near_duplicates(self, rows: npt.NDArray[np.int64]) -> list[NearDuplicate]:
        """Pairs among all images; in data above `MAX_IMAGES_SEARCHED`, only pairs with one of `rows`."""
        groups = patient_groups(self.records)
        near = None if len(self.records) <= MAX_IMAGES_SEARCHED else rows.tolist()
        return [
            NearDuplicate(
                a=self.records[pair.a].image_id,
                b=self.records[pair.b].image_id,
                correlation=round(pair.correlation, 5),
                same_patient=bool(groups[pair.a] == groups[pair.b]),
            )
            for pair in near_duplicates(self.cache.images, near)
        ]

    def facts(self, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
        """`data` of diagnosis.json, for the examined rows."""
        examined = [self.records[row] for row in rows]
        labels = Counter(record.label for record in examined if record.label is not None)
        return {
            "sources": list(self.config.sources),
            "fingerprint": self.cache.fingerprint,
            "ranges": self.cache.levels.facts(),
            "num_images": len(self.records),
            **file_facts(self.cache, self.sanity),
            "num_patients": len(set(patient_groups(examined).tolist())),
            "num_exact_duplicates": len(self.cache.duplicates),
            "labels": dict(sorted(labels.items())),
            "num_labelled": sum(labels.values()),
        }


def decode_images(
    data: str | Path | Sequence[str | Path] | None,
    own: Mapping[str, Any],
    view_size: int,
    *,
    crop_to_field: bool | None,
    grey_range: GreyRangeSetting | None,
    exclude: Sequence[str],
    patient_pattern: str | None,
    cache_root: Path | None,
    allow_bad: bool,
    unlabelled: Collection[str],
    on_progress: Progress,
) -> ImageData:
    """Decodes the images with `own`, the known data settings of the first checkpoint's training."""
    config, notes = _data_config(data, own, view_size, crop_to_field, grey_range, exclude, patient_pattern)
    cache = build_cache(
        config,
        cache_root=cache_root,
        allow_bad=allow_bad,
        on_progress=lambda done, total: on_progress("decoding images", done, total),
    )
    sanity = check_images(cache, allow_bad=allow_bad)
    clean = clean_labels("diagnose", [record.label for record in cache.records], unlabelled=unlabelled)
    return ImageData(
        config=config,
        cache=cache,
        sanity=sanity,
        records=[replace(record, label=label) for record, label in zip(cache.records, clean.labels, strict=True)],
        notes=(*notes, *cache.levels.lines(), *file_lines(cache, sanity), *cache.source_notes, *clean.notes),
    )


def _data_config(
    data: str | Path | Sequence[str | Path] | None,
    own: Mapping[str, Any],
    view_size: int,
    crop_to_field: bool | None,
    grey_range: GreyRangeSetting | None,
    exclude: Sequence[str],
    patient_pattern: str | None,
) -> tuple[DataConfig, list[str]]:
    notes = []
    if data is None:
        sources = tuple(own.get("sources", ("synthetic",)))
        if not own:
            notes.append("no --data given: the built-in procedural photographs are used")
    else:
        sources = (str(data),) if isinstance(data, (str, Path)) else tuple(str(source) for source in data)
    values = dict(own) | {"sources": sources, "splits": own.get("splits") if data is None else None}
    if patient_pattern is not None or data is not None:
        values["patient_pattern"] = patient_pattern
    values["exclude"] = (*(own.get("exclude", ()) if data is None else ()), *exclude)
    values.setdefault("cache_size", math.ceil(CACHE_MARGIN * view_size / 32) * 32)
    if crop_to_field is not None:
        values["crop_to_field"] = crop_to_field
    if grey_range is not None:
        values["range"] = grey_range
    return parse_settings(DataConfig, values, "data"), notes


def choose_rows(
    cache: ImageCache, checkpoints: Sequence[LoadedCheckpoint], num_images: int, seed: int
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Rows of the photographs to examine, and notes for the reader.

    If a checkpoint of augscale was trained on these images, only photographs that its study held out are chosen. Whole
    patients are chosen as far as the number allows.
    """
    rows = np.arange(len(cache.records))
    notes = []
    own = {held_out for c in checkpoints if (held_out := _held_out(c, cache)) is not None}
    for held_out in own:
        rows = np.intersect1d(rows, split_off_panel(cache.records, held_out.images, held_out.seed)[1])
    if own and len(rows) < 2:
        raise DataError("the checkpoints held out different photographs of these data; expected some in common")
    if own:
        notes.append("the photographs were held out: the checkpoints of these data were not trained on them")
    elif any(c.kind == "augscale" for c in checkpoints):
        notes.append(
            "the data as a whole are not those of the checkpoints: it is not known which of the photographs they were "
            "trained on"
        )
    else:
        notes.append("it is not known whether the checkpoints were trained on these photographs")
    records = [cache.records[row] for row in rows]
    chosen = {record.image_id for record in choose_subset(records, num_images, seed)}
    return np.array([row for row in rows if cache.records[row].image_id in chosen], dtype=np.int64), notes


def views_for_statistics(
    cache: ImageCache, rows: npt.NDArray[np.int64], checkpoints: Sequence[LoadedCheckpoint], seed: int
) -> tuple[CommonViews, str]:
    """The views that batch norm statistics are gathered on, and a description of their photographs.

    The photographs are the training images of the checkpoints' own study if the data are its images, as in the search;
    otherwise photographs that are not examined, or the examined ones if there are too few others.
    """
    held_out = next((found for c in checkpoints if (found := _held_out(c, cache)) is not None), None)
    if held_out is not None:
        candidates = split_off_panel(cache.records, held_out.images, held_out.seed)[0]
        seed = held_out.seed
    else:
        candidates = np.setdiff1d(np.arange(len(cache.records)), rows)
    few = len(candidates) < min(MIN_COMMON, len(rows))
    chosen = common_rows(cache.records, rows if few else candidates, seed)
    where = "the examined photographs themselves" if few else f"{len(chosen)} photographs that are not examined"

    @functools.cache
    def views(size: int) -> torch.Tensor:
        return common_views(cache.images, cache.records, chosen, seed=seed, size=size)

    return views, where


def _held_out(checkpoint: LoadedCheckpoint, cache: ImageCache) -> HeldOut | None:
    """The photographs that a checkpoint held out of these data; None if it was trained on other data."""
    return checkpoint.sidecar.held_out if checkpoint.sidecar.data_fingerprint == cache.fingerprint else None
