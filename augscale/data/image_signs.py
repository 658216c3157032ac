"""Black images, one-color images, masks and near-duplicates of a cache, found once and kept in its `signs.npz`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.data.cache import ImageCache
from augscale.data.image_records import ImageRecord
from augscale.data.parallel import map_in_order, num_workers
from augscale.data.pixel_signs import file_is_mask, pixel_signs
from augscale.data.thumbnails import near_twins
from augscale.errors import CheckpointError
from augscale.runs.files import write_atomic

SIGNS_FILE = "signs.npz"
SIGNS_VERSION = 1
"""Version of `signs.npz`; increase it when the same images would get other values."""
MOST_FILES_OPENED = 2000

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSigns:
    """One row per image of a cache.

    Attributes:
        brightness: float32, shape (N,), mean grey value.
        black, constant, mask: bool, (N,); see `PixelSigns`. At most one of them is true for an image.
        unsure: number of images that may be masks and whose files were not opened; at most 2000 files are opened.
        opened, opened_masks: number of files that were opened, and of the masks among them.
        looked_at: int64, (Q,), rows for which the most similar other image was searched.
        twins: int64, (Q,), row of that image if the two are nearly the same, else -1.
    """

    brightness: npt.NDArray[np.float32]
    black: Flags
    constant: Flags
    mask: Flags
    unsure: int
    opened: int
    opened_masks: int
    looked_at: npt.NDArray[np.int64]
    twins: npt.NDArray[np.int64]

    @property
    def expected_masks(self) -> int:
        """Estimated number of masks: files that were not opened hold the same share of masks as those opened."""
        share = self.opened_masks / self.opened if self.opened else 0.0
        return int(self.mask.sum()) + round(share * self.unsure)


def image_signs(cache: ImageCache) -> ImageSigns:
    """Reads the signs from the cache folder, or finds and stores them."""
    path = cache.directory / SIGNS_FILE
    signs = _read(path, len(cache))
    if signs is None:
        signs = find_signs(cache.images, cache.records)
        values = asdict(signs)
        with suppress(CheckpointError):  # in a cache that cannot be written, signs are found again each time
            write_atomic(path, lambda file: np.savez(file, version=SIGNS_VERSION, **values))
    return signs


def find_signs(images: npt.NDArray[np.uint8], records: Sequence[ImageRecord]) -> ImageSigns:
    """Finds the signs. Files of images that may be masks are opened, because resizing has blurred the cached pixels.

    Args:
        images: uint8, shape (N, S, S, 3).
        records: N.
    """
    seen = pixel_signs(images)
    candidates = np.flatnonzero(seen.mask | seen.suspect)
    # Evenly spaced rows are a random choice, because rows are sorted by hash.
    chosen = candidates[:: -(-len(candidates) // MOST_FILES_OPENED) or 1]
    mask = seen.mask.copy()
    with ThreadPoolExecutor(num_workers(), thread_name_prefix="look") as pool:
        verdicts = list(map_in_order(pool, file_is_mask, [records[row].path for row in chosen]))
    for row, verdict in zip(chosen.tolist(), verdicts, strict=True):
        if verdict is not None:
            mask[row] = verdict
    opened = np.zeros(len(images), dtype=bool)
    opened[chosen] = True
    looked_at, twins = near_twins(images, np.flatnonzero(~(seen.black | seen.constant | mask)))
    return ImageSigns(
        brightness=seen.brightness,
        black=seen.black,
        constant=seen.constant,
        mask=mask,
        unsure=int((seen.suspect & ~opened).sum()),
        opened=sum(verdict is not None for verdict in verdicts),
        opened_masks=sum(bool(verdict) for verdict in verdicts),
        looked_at=looked_at,
        twins=twins,
    )


def _read(path: Path, num_images: int) -> ImageSigns | None:
    """The stored signs; None if they are missing, damaged or of another version."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if int(stored["version"]) != SIGNS_VERSION or len(stored["mask"]) != num_images:
                return None
            values: dict[str, Any] = {name: stored[name] for name in ImageSigns.__dataclass_fields__}
    except (OSError, ValueError, KeyError, EOFError):
        return None
    for name in ("unsure", "opened", "opened_masks"):
        values[name] = int(values[name])
    return ImageSigns(**values)
