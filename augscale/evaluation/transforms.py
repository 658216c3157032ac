"""The two views of an image for frozen networks: the center of the whole image, and a random crop.

Both start from the decoded square images of the cache; the authors' scripts start from the files. An image that was not
square has a changed aspect ratio, and a larger image has lost the detail beyond the cache's size.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.augmentation.draw import draw_view_parameters
from augscale.augmentation.resample import crop_resize
from augscale.augmentation.scales import NONE
from augscale.augmentation.views import apply_views, normalize
from augscale.seeding import derive_seed

RESIZE_OVER_CROP = 256 / 224
"""Evaluation resizes to 256 pixels and crops the central 224; other view sizes use the same ratio."""
RANDOM_CROP = NONE.model_copy(update={"global_crops_scale": (0.08, 1.0), "aspect_ratio": (3 / 4, 4 / 3)})
"""torchvision's RandomResizedCrop with its defaults and without a flip, as in the authors' script."""
_CROP_SEED = derive_seed(0, "evaluation-crops")
_ROWS_PER_DRAW = 2**32


def decoded_side(view_size: int) -> int:
    """Side to decode images at, pixels: as large as the evaluation transform resizes them."""
    return round(view_size * RESIZE_OVER_CROP)


def resized_side(view_size: int) -> int:
    """Side that images are resized to before the center is cut out, pixels: 256 for views of 224."""
    return int(view_size * RESIZE_OVER_CROP)


def evaluation_views(images: Tensor, view_size: int) -> Tensor:
    """Resize (bicubic, antialiased) and CenterCrop, as torchvision does with PIL images, but for PIL's rounding.

    Args:
        images: uint8, shape (B, S, S, 3), on any device.
        view_size: V, pixels.
    Returns:
        float32, shape (B, 3, V, V), normalized, on the device of the images.
    """
    side = resized_side(view_size)
    start = round((side - view_size) / 2)
    center = slice(start, start + view_size)
    if images.shape[1:3] == (side, side):
        # As `decoded_side` has it. At its own size an image passes the filter unchanged, to the last bit.
        cut = images[:, center, center].permute(0, 3, 1, 2)
        return normalize(cut.to(torch.float32, memory_format=torch.contiguous_format).mul_(1 / 255))
    whole = draw_view_parameters(
        NONE,
        "global1",
        np.zeros(len(images), dtype=np.int64),
        0,
        image_size=images.shape[1],
        view_size=side,
        reference_size=side,
    )
    resized = crop_resize(images, whole, side, "bicubic")
    return normalize(resized[:, :, center, center])


def random_crops(images: Tensor, rows: npt.NDArray[np.int64], draw: int, view_size: int) -> Tensor:
    """RandomResizedCrop (area 0.08 to 1, bilinear), a function of the image's row and the draw.

    Args:
        images: uint8, shape (B, S, S, 3), on any device.
        rows: int64, shape (B,), row numbers that identify the images; row and `draw` determine the crop.
        draw: number of the repetition, from 0.
        view_size: V, pixels.
    Returns:
        float32, shape (B, 3, V, V), normalized, on the device of the images.
    """
    drawn = draw_view_parameters(
        RANDOM_CROP,
        "global1",
        draw * _ROWS_PER_DRAW + rows,
        _CROP_SEED,
        image_size=images.shape[1],
        view_size=view_size,
        reference_size=view_size,
    )
    return normalize(apply_views(images, drawn, view_size, interpolation="bilinear"))


def read_images(images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """Rows of a memory-mapped cache, uint8 (B, S, S, 3), on a device."""
    return torch.from_numpy(np.ascontiguousarray(images[rows])).to(device)
