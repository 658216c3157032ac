"""Everything that all runs are trained and measured on, built once per process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from augscale.augmentation.scales import NONE, STRONG, AugmentationScales, interpolate, load_scales
from augscale.config import StudyConfig
from augscale.data.cache import ImageCache, build_cache
from augscale.data.splits import patient_groups
from augscale.errors import DataError
from augscale.evaluation.datasets import LabelledImages, open_dataset
from augscale.evaluation.ridge import draw_folds
from augscale.scoring.panel import checked_panel_split, draw_views, image_keys, whole_views
from augscale.seeding import derive_seed
from augscale.statistics.stratified_bootstrap import resample_weights
from benchmarks.evidence.lesions import lesion_images, lesion_names
from benchmarks.evidence.settings import GREY, LESIONS, MeasureSettings

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

SPLITS = ("train", "val", "test")
_SPLIT_SHARES = (0.6, 0.16, 0.24)
LADDER = ("strong@0.25", "strong@0.5", "strong")
"""The default panel, mild to strong."""
_GREY_SIGMA_SHARE = 0.06
_GREY_GAIN = 4.0


@dataclass(frozen=True, kw_only=True, eq=False)
class OutcomeData:
    """One labelled dataset as outcomes see it.

    images: uint8, shape (N, S, S, 3), whole images. labels, groups: int64, shape (N,). split: N times train, val or
    test. folds: int64, shape (repeats, N), in which fold of each repeat an image is held out; no group is in two.
    test_weights: float32, shape (N_test, 1 + draws); all_weights: shape (N, 1 + draws): how often each image counts,
    once in column 0 and as drawn in the others.
    """

    name: str
    images: Bytes
    labels: Integers
    groups: Integers
    split: npt.NDArray[np.str_]
    folds: Integers
    test_weights: npt.NDArray[np.float32]
    all_weights: npt.NDArray[np.float32]

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    def part(self, split: str) -> Integers:
        return np.flatnonzero(self.split == split)


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """Held-out photographs and their pre-drawn views.

    pixels: uint8, shape (n, S, S, 3). clean: float32, shape (n, 3, V, V). views: by level, float32, shape
    (n, 2, 3, V, V); large_views: the same at another size. groups: int64, shape (n,): patients. keys: what the draws
    of each photograph are keyed by.
    """

    pixels: Tensor
    clean: Tensor
    views: dict[str, Tensor]
    large_views: dict[str, Tensor]
    groups: Integers
    keys: Integers


def panel_levels() -> dict[str, AugmentationScales]:
    """The ladders: from mild to strong, photometric changes only, and crops only; by name."""
    photometric = STRONG.model_copy(
        update={name: getattr(NONE, name) for name in ("global_crops_scale", "aspect_ratio", "horizontal_flip_p")}
    )
    return {
        "strong@0.25": load_scales("strong@0.25"),
        "strong@0.5": load_scales("strong@0.5"),
        "strong": STRONG,
        "photometric@0.5": interpolate(NONE, photometric, 0.5),
        "photometric": photometric,
        "crops@0.5": load_scales("crops@0.5"),
        "crops": load_scales("crops"),
    }


def pretraining_study(study: StudyConfig, settings: MeasureSettings, data_root: Path) -> StudyConfig:
    """The study with the training images of the data root as its sources.

    Raises:
        DataError: a folder is missing.
    """
    folders = [data_root / name for name in settings.pretrain_folders]
    for folder in folders:
        if not folder.is_dir():
            expected = ", ".join(settings.pretrain_folders)
            raise DataError(f"--data-root {data_root}: no folder {folder.name}; expected {expected}")
    data = study.data.model_copy(update={"sources": tuple(map(str, folders)), "splits": ("train",)})
    return study.model_copy(update={"data": data})


def open_pretraining(study: StudyConfig, settings: MeasureSettings) -> tuple[ImageCache, Integers, Panel]:
    """The images to pre-train on, the rows to train on, and the panel of the others."""
    cache = build_cache(study.data)
    train, held_out = checked_panel_split(cache.records, study)
    records = [cache.records[row] for row in held_out]
    pixels = torch.from_numpy(np.ascontiguousarray(cache.images[held_out]))
    keys = image_keys(records)
    size, large = study.crops.global_size, settings.large_panel_size
    levels = panel_levels()
    panel = Panel(
        pixels=pixels,
        clean=whole_views(pixels, size),
        views={name: draw_panel(pixels, keys, scales, study, name, size) for name, scales in levels.items()},
        large_views={name: draw_panel(pixels, keys, levels[name], study, name, large) for name in LADDER if large},
        groups=patient_groups(records),
        keys=keys,
    )
    return cache, train, panel


def draw_panel(
    pixels: Tensor, keys: Integers, scales: AugmentationScales, study: StudyConfig, level: str, size: int
) -> Tensor:
    """Two views of each panel photograph, float32, shape (n, 2, 3, size, size)."""
    probe = study.probe.model_copy(update={"views": 2})
    return draw_views(pixels, keys, scales, probe, level, size)


def open_outcomes(settings: MeasureSettings, data_root: Path, folder: Path) -> dict[str, OutcomeData]:
    """The labelled datasets by name.

    Args:
        data_root: folder of the real ones.
        folder: where rendered photographs are kept.
    """
    found: dict[str, OutcomeData] = {}
    for name in settings.datasets:
        source = name.removesuffix(GREY)
        if source in found:
            data = found[source]
        elif source == LESIONS:
            data = _lesions(settings, folder)
        else:
            data = _real(open_labelled(source, settings, data_root), settings)
        found[name] = data if name == source else _grey(name, data, settings)
    return found


def open_labelled(name: str, settings: MeasureSettings, data_root: Path, size: int | None = None) -> LabelledImages:
    """A real dataset, cut to the field of view and decoded at `size` or the size of the outcomes' views."""
    return open_dataset(data_root / name, size=size or settings.view_size, crop_to_field=True)


def without_colour(images: Bytes) -> Bytes:
    """Local contrast alone: grey, minus its blurred self, at a fixed gain, around mid-grey.

    Colour, brightness and slow changes of illumination are gone; only structure can tell classes apart.

    Args:
        images: uint8, shape (N, S, S, 3).
    Returns:
        The same shape and type, three equal channels.
    """
    grey = images.astype(np.float32).mean(axis=3)
    sigma = _GREY_SIGMA_SHARE * images.shape[1]
    local = grey - gaussian_filter(grey, (0, sigma, sigma))
    stretched = np.clip(np.rint(128 + _GREY_GAIN * local), 0, 255).astype(np.uint8)
    return np.repeat(stretched[..., None], 3, axis=3)


def _grey(name: str, data: OutcomeData, settings: MeasureSettings) -> OutcomeData:
    keep = np.arange(len(data.labels))
    if settings.grey_images is not None and settings.grey_images < len(keep):
        order = np.random.default_rng(derive_seed(0, name)).permutation(data.groups.max() + 1)
        place = np.argsort(order)[data.groups]
        keep = np.sort(np.argsort(place, kind="stable")[: settings.grey_images])
    images = without_colour(data.images[keep])
    return _outcome_data(name, images, data.labels[keep], data.groups[keep], data.split[keep], settings)


def _real(dataset: LabelledImages, settings: MeasureSettings) -> OutcomeData:
    images = np.ascontiguousarray(dataset.images[dataset.rows])
    return _outcome_data(dataset.name, images, dataset.labels, dataset.groups, np.array(dataset.split), settings)


def _lesions(settings: MeasureSettings, folder: Path) -> OutcomeData:
    _, labels, patients = lesion_names(settings.lesion_patients)
    images = lesion_images(settings.lesion_patients, settings.view_size, folder)
    order = np.random.default_rng(derive_seed(0, LESIONS)).permutation(patients.max() + 1)
    ends = np.cumsum(np.multiply(_SPLIT_SHARES, len(order)))
    place = np.argsort(order)[patients]
    split = np.array(SPLITS)[np.minimum(np.searchsorted(ends, place, side="right"), 2)]
    return _outcome_data(LESIONS, images, labels, patients, split, settings)


def _outcome_data(
    name: str,
    images: Bytes,
    labels: Integers,
    groups: Integers,
    split: npt.NDArray[np.str_],
    settings: MeasureSettings,
) -> OutcomeData:
    for part in SPLITS:
        if len(np.unique(labels[split == part])) < 2:
            raise DataError(f"{name}: {(split == part).sum()} images in {part}; expected some of at least 2 classes")
    test = split == "test"
    return OutcomeData(
        name=name,
        images=images,
        labels=labels,
        groups=groups,
        split=split,
        folds=draw_folds(labels, groups, folds=settings.folds, repeats=settings.repeats),
        test_weights=_weights(labels[test], groups[test], settings.draws),
        all_weights=_weights(labels, groups, settings.draws),
    )


def _weights(labels: Integers, groups: Integers, draws: int) -> npt.NDArray[np.float32]:
    drawn = resample_weights(labels, groups, resamples=draws) if draws else np.empty((len(labels), 0), np.float32)
    return np.concatenate([np.ones((len(labels), 1), np.float32), drawn], axis=1)
