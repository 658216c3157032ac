"""The common views on which batch norm statistics are gathered before networks are compared, see `batch_norm`.

The images are training images, never those of the panel. The views are first global views drawn from `SCALES`, the
middle one of the panel's levels: networks are compared on such views, and no preset trains with them. The views are a
pure function of (the images, probe.seed, the size of the views) and do not depend on any trial.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.augmentation.draw import draw_view_parameters
from augscale.augmentation.scales import load_scales
from augscale.augmentation.views import apply_views, normalize
from augscale.config import StudyConfig
from augscale.data.cache import ImageCache
from augscale.data.image_records import ImageRecord
from augscale.networks.batch_norm import NUM_IMAGES
from augscale.pretraining.student_teacher import uses_common_statistics
from augscale.scoring.panel import image_keys
from augscale.seeding import derive_seed

SCALES = "strong@0.5"
_CHUNK_IMAGES = 128


def common_rows(
    records: Sequence[ImageRecord], candidates: npt.NDArray[np.int64], seed: int, count: int = NUM_IMAGES
) -> npt.NDArray[np.int64]:
    """Rows of the images that statistics are gathered on, chosen by content, independent of order and file names.

    Args:
        records: all images.
        candidates: int64, shape (N,): rows that may be taken, e.g. the training images.
        seed: probe.seed.
        count: number of images; all candidates if there are fewer.
    Returns:
        int64, shape (min(N, count),), rising.
    """
    keys = image_keys([records[row] for row in candidates])
    order = [derive_seed(seed, "common statistics", int(key)) for key in keys]
    return np.sort(np.asarray(candidates, dtype=np.int64)[np.argsort(order, kind="stable")[:count]])


def common_views(
    images: npt.NDArray[np.uint8],
    records: Sequence[ImageRecord],
    rows: npt.NDArray[np.int64],
    *,
    seed: int,
    size: int,
) -> Tensor:
    """One view of each image.

    Args:
        images: uint8, shape (M, S, S, 3); may be memory-mapped.
        records: one per image, M.
        rows: from `common_rows`, shape (N,).
        seed: probe.seed.
        size: side of the views, pixels.
    Returns:
        float32, shape (N, 3, size, size), normalized, on the CPU.
    """
    scales = load_scales(SCALES)
    keys = image_keys([records[row] for row in rows])
    views = torch.empty(len(rows), 3, size, size)
    for begin in range(0, len(rows), _CHUNK_IMAGES):
        part = slice(begin, begin + _CHUNK_IMAGES)
        pixels = torch.from_numpy(np.ascontiguousarray(images[rows[part]]))
        params = draw_view_parameters(
            scales,
            "global1",
            keys[part],
            derive_seed(seed, "common views"),
            image_size=pixels.shape[1],
            view_size=size,
            reference_size=size,
        )
        views[part] = normalize(apply_views(pixels, params, size))
    return views


def study_common_views(config: StudyConfig, cache: ImageCache, train: npt.NDArray[np.int64]) -> Tensor | None:
    """The common views of a study's training images; None if its networks keep their own statistics.

    Args:
        train: int64, rows of the cache that the study trains on.
    """
    if not uses_common_statistics(config):
        return None
    seed = config.probe.seed
    rows = common_rows(cache.records, train, seed)
    return common_views(cache.images, cache.records, rows, seed=seed, size=config.crops.global_size)
