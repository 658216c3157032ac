"""The fixed probe panel: held-out images and pre-drawn views that every trial and checkpoint is scored on.

A model scored on its own views wins by augmenting less, so the views must not depend on the scales of a trial. The
panel is a pure function of (probe.seed, the images, the panel's settings): the random numbers are keyed by the content
of the images, not by their position, and do not depend on any trial.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from augscale.augmentation.draw import draw_view_parameters
from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.augmentation.views import apply_views, normalize
from augscale.config import CropsConfig, ProbeConfig, StudyConfig
from augscale.data.cache import ImageCache
from augscale.data.image_records import ImageRecord
from augscale.data.splits import MAX_HELD_OUT_SHARE, hold_out, patient_groups
from augscale.errors import ConfigError, DataError
from augscale.seeding import derive_seed

FLOAT32_BYTES = 2**30
"""Larger panels are kept in float16, which changes a normalized value by at most 0.001, a seventeenth of one of 256
grey levels, equally for every trial."""
LEAST_IMAGES = 20
"""A panel does not shrink below this: over so few images, the interval of a score is already some 3.6 times as wide as
over 256 (it grows with the root of their number)."""
FITTED_SHARE = 3
"""A panel that does not fit shrinks to one image in three, so that most are left to train on."""
_CHUNK_IMAGES = 128


@dataclass(frozen=True, kw_only=True)
class ProbePanel:
    """Views of n held-out images at L levels, normalized with ImageNet's mean and standard deviation, on the CPU."""

    view_size: int
    """S, pixels."""
    level_names: tuple[str, ...]
    """probe.levels, mild to strong."""
    views: Tensor
    """float32 or float16 (see FLOAT32_BYTES), shape (L, n, V, 3, S, S)."""
    clean: Tensor
    """Same type, shape (n, 3, S, S): the whole images, resized, not augmented."""
    image_rows: npt.NDArray[np.int64]
    """int64, shape (n,): rows of the image array that the panel shows."""
    groups: npt.NDArray[np.int64]
    """int64, shape (n,): images of one patient have the same number."""
    fingerprint: str
    """Hash of pixels, patients, levels, seed and sizes; scores are comparable if it is equal."""

    @property
    def num_images(self) -> int:
        return self.views.shape[1]

    @property
    def num_views(self) -> int:
        return self.views.shape[2]


def split_off_panel(
    records: Sequence[ImageRecord], num_images: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows to train on, and rows held out for the panel; no patient is in both.

    Args:
        records: all images.
        num_images: probe.images.
        seed: probe.seed.
    """
    return hold_out(records, num_images, derive_seed(seed, "panel"))


def build_panel(
    images: npt.NDArray[np.uint8],
    indices: npt.NDArray[np.int64],
    records: Sequence[ImageRecord],
    probe: ProbeConfig,
    crops: CropsConfig,
) -> ProbePanel:
    """Draws the panel's views.

    Views 1, 3, ... are drawn like DINO's first global view, and views 2, 4, ... like its second, so two views of an
    image are a positive pair as in training. Each level and image has its own random numbers.

    Args:
        images: uint8, shape (N, S, S, 3); may be memory-mapped.
        indices: int64, shape (n,): held-out rows.
        records: one per image, N.
        probe: levels, number of views, seed.
        crops: gives the size of the views, that of global crops.
    Raises:
        ConfigError: a level is unknown or named twice.
        DataError: no images, or rows outside of the array.
    """
    rows = np.asarray(indices, dtype=np.int64)
    _check(images, rows, records, probe)
    levels = [load_scales(name) for name in probe.levels]
    held_out = [records[row] for row in rows]
    names = _names(held_out)
    groups = patient_groups(held_out)
    size = crops.global_size
    shape = (len(levels), len(rows), probe.views, 3, size, size)
    dtype = torch.float32 if 4 * int(np.prod(shape)) <= FLOAT32_BYTES else torch.float16
    views = torch.empty(shape, dtype=dtype)
    clean = torch.empty((len(rows), 3, size, size), dtype=dtype)
    ids = image_keys(held_out)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((probe.seed, probe.views, size, groups.tolist(), names)).encode())
    for scales in levels:
        digest.update(scales.model_dump_json().encode())
    for begin in range(0, len(rows), _CHUNK_IMAGES):
        part = slice(begin, begin + _CHUNK_IMAGES)
        pixels = torch.from_numpy(np.ascontiguousarray(images[rows[part]]))
        digest.update(pixels.numpy().tobytes())
        clean[part] = whole_views(pixels, size)
        for level, scales in enumerate(levels):
            views[level, part] = draw_views(pixels, ids[part], scales, probe, level, size)
    return ProbePanel(
        view_size=size,
        level_names=probe.levels,
        views=views,
        clean=clean,
        image_rows=rows,
        groups=groups,
        fingerprint=digest.hexdigest(),
    )


def _names(records: Sequence[ImageRecord]) -> list[str]:
    return [record.content or record.image_id for record in records]


def panel_split(cache: ImageCache, config: StudyConfig) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the cache to train on, and rows held out for the panel; no patient is in both."""
    return split_off_panel(cache.records, config.probe.images, config.probe.seed)


def fit_panel(config: StudyConfig, num_images: int) -> StudyConfig:
    """The study with a panel that fits: a third of the images where `probe.images` is more than half of them.

    Unchanged where it fits, and where a third is less than `LEAST_IMAGES`, so that the split is refused as too small.

    Args:
        config: a study whose `probe.images` the user did not set, see `config.sets_panel`.
        num_images: number of usable images.
    """
    fitted = num_images // FITTED_SHARE
    return config if panel_fits(config, num_images) or fitted < LEAST_IMAGES else with_panel(config, fitted)


def panel_fits(config: StudyConfig, num_images: int) -> bool:
    """True if the study's panel is at most half of the images."""
    return config.probe.images <= int(num_images * MAX_HELD_OUT_SHARE)


def with_panel(config: StudyConfig, images: int) -> StudyConfig:
    """The study with another number of held-out images."""
    return config.model_copy(update={"probe": config.probe.model_copy(update={"images": images})})


def fitted_words(asked: StudyConfig, fitted: StudyConfig, num_images: int) -> tuple[str, ...]:
    """A line that says that the panel is smaller than the study asks for, and why; empty if it is not."""
    if fitted.probe.images == asked.probe.images:
        return ()
    number = fitted.probe.images
    share = "a third of them" if number == num_images // FITTED_SHARE else "as when this run began"
    return (
        f"too few images to hold out the study's {asked.probe.images} for the score; up to {number} of {num_images} "
        f"are held out ({share}; at least {LEAST_IMAGES}); --set probe.images=N sets another number",
    )


def checked_panel_split(
    records: Sequence[ImageRecord], config: StudyConfig
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """As `panel_split`, of all images, and checked: both sides must be large enough to train and to score.

    Raises:
        DataError: fewer images to train on than a batch, or a panel of one patient.
    """
    train, held_out = split_off_panel(records, config.probe.images, config.probe.seed)
    if len(train) < config.pretrain.batch_size:
        raise DataError(
            f"{len(train)} images are left for training after {len(held_out)} were held out for the panel; "
            f"expected at least pretrain.batch_size = {config.pretrain.batch_size}"
        )
    patients = len(set(patient_groups(records)[held_out].tolist()))
    if patients < 2:
        raise DataError(
            f"the {len(held_out)} images held out for the panel show {patients} patient; expected at least 2, "
            "so that there are negative pairs (more images, or a larger probe.images)"
        )
    return train, held_out


def _check(
    images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], records: Sequence[ImageRecord], probe: ProbeConfig
) -> None:
    if len(set(probe.levels)) < len(probe.levels):
        raise ConfigError(f"probe.levels = {list(probe.levels)}: a level is named twice; expected each once")
    if len(records) != len(images):
        raise DataError(f"{len(records)} records for {len(images)} images; expected one record per image")
    if not len(rows) or rows.min() < 0 or rows.max() >= len(images):
        found = f"[{rows.min()}, {rows.max()}]" if len(rows) else "none"
        raise DataError(f"panel images: rows {found}; expected at least one row within [0, {len(images) - 1}]")


def image_keys(records: Sequence[ImageRecord]) -> npt.NDArray[np.int64]:
    """Keys of each image's random numbers, shape (n,): hashes of its content, not of its position or name."""
    return np.array([derive_seed(0, "panel image", name) for name in _names(records)], dtype=np.int64)


def draw_views(
    pixels: Tensor,
    keys: npt.NDArray[np.int64],
    scales: AugmentationScales,
    probe: ProbeConfig,
    level: int | str,
    size: int,
) -> Tensor:
    """The panel's views of some images at one level.

    Args:
        pixels: uint8, shape (B, S, S, 3).
        keys: from `image_keys`, shape (B,).
        scales: scales of the level.
        probe: number of views and seed.
        level: index in `probe.levels`, or the name of other scales; each has its own random numbers.
        size: side of the views, pixels.
    Returns:
        float32, shape (B, V, 3, size, size), normalized.
    """
    views = torch.empty(len(pixels), probe.views, 3, size, size)
    for view in range(probe.views):
        params = draw_view_parameters(
            scales,
            f"global{1 + view % 2}",
            keys,
            derive_seed(probe.seed, "panel views", level, view // 2),
            image_size=pixels.shape[1],
            view_size=size,
            reference_size=size,
        )
        views[:, view] = normalize(apply_views(pixels, params, size))
    return views


def whole_views(pixels: Tensor, size: int) -> Tensor:
    """The images themselves, resized with antialiasing (bilinear), not cropped; shape (B, 3, size, size)."""
    planes = pixels.permute(0, 3, 1, 2).float() / 255
    if planes.shape[-1] != size:
        planes = functional.interpolate(planes, size=(size, size), mode="bilinear", antialias=True)
    return normalize(planes)
