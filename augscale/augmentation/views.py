"""From a batch of images to the views of one training step, drawn and applied on the device of the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.augmentation.draw import ViewParameters, concatenate, draw_view_parameters
from augscale.augmentation.medical import medical
from augscale.augmentation.photometric import photometric
from augscale.augmentation.resample import Interpolation, crop_resize
from augscale.augmentation.scales import AugmentationScales
from augscale.config import CropsConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_CHUNK_VALUES = {"cpu": 2**20, "cuda": 2**27}
"""Numbers (of views) worked on at a time: what stays in a CPU's cache, or what bounds the memory of a GPU."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """The views of B images, normalised, view-major: all images' first view, then all images' second view, ..."""

    global_crops: Tensor
    """float32, shape (2 B, 3, G, G)."""
    local_crops: Tensor
    """float32, shape (n_local B, 3, L, L)."""


def views_at_a_time(view_size: int, device: torch.device) -> int:
    """How many views of a size are worked on together, at least 1."""
    return max(1, _CHUNK_VALUES.get(device.type, _CHUNK_VALUES["cuda"]) // (3 * view_size * view_size))


def normalize(views: Tensor) -> Tensor:
    """Subtracts ImageNet's mean and divides by its standard deviation, per channel.

    Args:
        views: float, shape (..., 3, V, V), in [0, 1].
    """
    mean, std = (
        torch.tensor(x, device=views.device, dtype=views.dtype)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (views - mean) / std


def apply_views(
    images: Tensor, params: ViewParameters, view_size: int, *, interpolation: Interpolation = "bicubic"
) -> Tensor:
    """Applies drawn parameters: crop, flip, resize, colour, blur, solarise, medical transforms.

    Args:
        images: uint8, shape (B, S, S, 3), S = params.image_size.
        params: one row per image, from `draw_view_parameters`.
        view_size: V, pixels; params.view_size.
    Returns:
        float32, shape (B, 3, V, V), on the device of the images, in [0, 1]: noise and bias field are clamped, because
        an image has no values beyond its range.
    Raises:
        ValueError: the images are not what the parameters were drawn for.
    """
    _check(images, params, view_size)
    views = torch.empty(len(images), 3, view_size, view_size, device=images.device)
    _apply_into(views, images, params, interpolation, image_rows=np.arange(len(images)))
    return views


class MultiCropViews:
    """Two global views and the local views of a batch, as DINO trains on.

    Args:
        scales: what the views are drawn from.
        crops: how many views, and their sizes.
        image_size: side of the source images, pixels.
        seed: of the run's views.
    """

    def __init__(self, scales: AugmentationScales, crops: CropsConfig, image_size: int, seed: int) -> None:
        self.scales = scales
        self.crops = crops
        self.image_size = image_size
        self.seed = seed

    def __call__(self, images: Tensor, sample_ids: npt.NDArray[np.int64]) -> Views:
        """Draws and applies all views.

        Args:
            images: uint8, shape (B, S, S, 3), on the device that the views are wanted on.
            sample_ids: int64, shape (B,); decide the views together with the seed. An image that comes again wants
                another id, e.g. epoch * number of images + row.
        """
        local_roles = [f"local{i}" for i in range(self.crops.n_local)]
        return Views(
            global_crops=self._views(images, sample_ids, ["global1", "global2"], self.crops.global_size),
            local_crops=self._views(images, sample_ids, local_roles, self.crops.local_size),
        )

    def _views(self, images: Tensor, sample_ids: npt.NDArray[np.int64], roles: list[str], view_size: int) -> Tensor:
        """All views of one size together: fewer and larger steps than view by view."""
        views = torch.empty(len(roles) * len(images), 3, view_size, view_size, device=images.device)
        if not roles:
            return views
        drawn = [
            draw_view_parameters(
                self.scales,
                role,
                sample_ids,
                self.seed,
                image_size=self.image_size,
                view_size=view_size,
                reference_size=self.crops.global_size,
            )
            for role in roles
        ]
        _check(images, drawn[0], view_size)
        image_rows = np.tile(np.arange(len(images)), len(roles))
        _apply_into(views, images, concatenate(drawn), "bicubic", image_rows=image_rows, normalized=True)
        return views


def _check(images: Tensor, params: ViewParameters, view_size: int) -> None:
    size = params.image_size
    if images.dtype != torch.uint8 or images.shape != (len(params), size, size, 3):
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; "
            f"the parameters are for uint8 of shape {(len(params), size, size, 3)}"
        )
    if view_size != params.view_size:
        raise ValueError(f"view_size is {view_size}; the parameters were drawn for {params.view_size}")


def _apply_into(
    target: Tensor,
    images: Tensor,
    params: ViewParameters,
    interpolation: Interpolation,
    *,
    image_rows: npt.NDArray[np.int64],
    normalized: bool = False,
) -> None:
    size = target.shape[-1]
    most = views_at_a_time(size, images.device)
    for begin in range(0, len(target), most):
        part = slice(begin, begin + most)
        drawn = params.rows(part)
        crops = crop_resize(images, drawn, size, interpolation, image_rows=image_rows[part])
        views = medical(photometric(crops, drawn), drawn).clamp_(0, 1)
        target[part] = normalize(views) if normalized else views
