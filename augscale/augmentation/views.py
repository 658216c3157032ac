"""Makes the views of a training step; parameters are drawn on the host and applied on the images' device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.augmentation.compiled import compiled_color, compiled_finish
from augscale.augmentation.draw import ViewParameters, concatenate, draw_view_parameters
from augscale.augmentation.medical import has_medical, medical
from augscale.augmentation.photometric import gaussian_blur, photometric, solarize, update_rows
from augscale.augmentation.resample import Interpolation, crop_resize, crops_by_products, order_by_window
from augscale.augmentation.scales import AugmentationScales
from augscale.config import CropsConfig
from augscale.system.devices import constant

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_CHUNK_VALUES = {"cpu": 2**20, "cuda": 2**27}
"""Number of view values processed at a time: they fit in the cache of a CPU, or bound the memory use of a GPU."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """The normalized views of B images: the first view of all images, then the second view of all images, ..."""

    global_crops: Tensor
    """float32, shape (2 B, 3, G, G)."""
    local_crops: Tensor
    """float32, shape (n_local B, 3, L, L)."""


def views_at_a_time(view_size: int, device: torch.device) -> int:
    """Number of views of a size that are processed together, at least 1."""
    return max(1, _CHUNK_VALUES.get(device.type, _CHUNK_VALUES["cuda"]) // (3 * view_size * view_size))


def normalize(views: Tensor) -> Tensor:
    """Subtracts ImageNet's mean and divides by its standard deviation, per channel.

    Args:
        views: float, shape (..., 3, V, V), in [0, 1].
    """
    mean, std = (constant(x, views.device).to(views.dtype)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    return (views - mean) / std


def apply_views(
    images: Tensor, params: ViewParameters, view_size: int, *, interpolation: Interpolation = "bicubic"
) -> Tensor:
    """Applies drawn parameters: crop, flip, resize, color, blur, solarization, medical transforms.

    Args:
        images: uint8, shape (B, S, S, 3), S = params.image_size.
        params: one row per image, from `draw_view_parameters`.
        view_size: V, pixels; params.view_size.
    Returns:
        float32, shape (B, 3, V, V), on the device of the images; clamped to [0, 1] after noise and bias field, because
        an image has no values outside its range.
    Raises:
        ValueError: the parameters were drawn for images of another size, number or type.
    """
    _check(images, params, view_size)
    views = torch.empty(len(images), 3, view_size, view_size, device=images.device)
    _apply_into(views, images, params, interpolation, image_rows=np.arange(len(images)))
    return views


class MultiCropViews:
    """DINO's two global views and local views of a batch.

    Args:
        scales: the distributions of the views.
        crops: number and sizes of the views.
        image_size: side of the source images, pixels.
        seed: seed of the run's views.
        compiled: use functions that torch compiles, for a GPU.
    """

    def __init__(
        self, scales: AugmentationScales, crops: CropsConfig, image_size: int, seed: int, *, compiled: bool = False
    ) -> None:
        self.scales = scales
        self.compiled = compiled
        self.crops = crops
        self.image_size = image_size
        self.seed = seed

    def __call__(self, images: Tensor, sample_ids: npt.NDArray[np.int64], partners: Tensor | None = None) -> Views:
        """Draws and applies all views.

        Args:
            images: uint8, shape (B, S, S, 3), on the device for the views.
            sample_ids: int64, shape (B,); they and the seed determine the views. An image needs another id each time it
                is used, e.g. epoch * number of images + row.
            partners: uint8, shape (B, S, S, 3), other images that take the place of the images in the second global
                view and in every second local one; None: all views are of the images.
        """
        local_roles = [f"local{i}" for i in range(self.crops.n_local)]
        return Views(
            global_crops=self._views(images, sample_ids, ["global1", "global2"], self.crops.global_size, partners),
            local_crops=self._views(images, sample_ids, local_roles, self.crops.local_size, partners),
        )

    def _views(
        self,
        images: Tensor,
        sample_ids: npt.NDArray[np.int64],
        roles: list[str],
        view_size: int,
        partners: Tensor | None,
    ) -> Tensor:
        """All views of one size together: fewer and larger steps than view by view."""
        if not roles:
            return torch.empty(0, 3, view_size, view_size, device=images.device)
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
        params, image_rows = concatenate(drawn), np.tile(np.arange(len(images)), len(roles))
        if partners is not None:
            # Views are in the order of the roles; every second role shows the partners, which follow the images.
            image_rows += np.repeat(np.arange(len(roles)) % 2, len(images)) * len(images)
            images = torch.cat([images, partners])
        if self.compiled:
            return _compiled_views(images, params, view_size, image_rows)
        views = torch.empty(len(params), 3, view_size, view_size, device=images.device)
        _apply_into(views, images, params, "bicubic", image_rows=image_rows, normalized=True)
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
    for part in _parts(len(target), size, images.device):
        drawn = params.rows(part)
        crops = crop_resize(images, drawn, size, interpolation, image_rows=image_rows[part])
        views = medical(photometric(crops, drawn), drawn).clamp_(0, 1)
        target[part] = normalize(views) if normalized else views


def _compiled_views(
    images: Tensor, params: ViewParameters, view_size: int, image_rows: npt.NDArray[np.int64]
) -> Tensor:
    """As `_apply_into` with normalization, in fewer passes: views stay sorted by window size until the end."""
    parts = []
    for part in _parts(len(params), view_size, images.device):
        drawn, rows = params.rows(part), image_rows[part]
        order = order_by_window(drawn)
        drawn, rows = drawn.rows(order), rows[order]
        views = compiled_color(crops_by_products(images, drawn, rows, view_size, "bicubic"), drawn)
        gaussian_blur(views, drawn.blur_sigma)
        solarized = drawn.solarize
        if has_medical(drawn):
            update_rows(views, solarized, lambda images, _: solarize(images))
            medical(views, drawn)
            solarized = np.zeros_like(solarized)
        parts.append(compiled_finish(views, order, solarized, IMAGENET_MEAN, IMAGENET_STD))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _parts(num_views: int, view_size: int, device: torch.device) -> list[slice]:
    """Rows to process together, in parts of nearly equal size, so that few shapes occur."""
    number = max(1, -(-num_views // views_at_a_time(view_size, device)))
    size = max(1, -(-num_views // number))
    return [slice(begin, begin + size) for begin in range(0, num_views, size)]
