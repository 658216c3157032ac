"""Crops, flips and resizes a batch, each image with its own crop.

Reproduces `torchvision.transforms.functional.resized_crop` with antialias=True on float images: the crop is cut first,
so no weight lies outside the box; bicubic (a = -0.5) as in DINO, or bilinear.

On a CPU, views are resized one by one with torch's own function, which skips the zeros of the filter. On a GPU, one
call per view would cost more than the arithmetic; there, batched products with two weight matrices per view resize many
at once. The filter, its support and its normalization follow PIL's resampling (as ATen's `_upsample_bicubic2d_aa`).

Axis letters: B images, S side of the source, W side of the window that holds the crop, V side of the view, K taps.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from augscale.augmentation.draw import ViewParameters
from augscale.system.devices import to_device

Interpolation = Literal["bicubic", "bilinear"]

WINDOW_STEP = 32
"""Sides of windows are multiples of this number of pixels: small crops cost less, and few different shapes occur."""
_SUPPORT = {"bicubic": 2.0, "bilinear": 1.0}


def crop_resize(
    images: Tensor,
    params: ViewParameters,
    view_size: int,
    interpolation: Interpolation = "bicubic",
    *,
    image_rows: npt.NDArray[np.int64] | None = None,
) -> Tensor:
    """Cuts the crops, flips them and resizes them to view_size.

    Args:
        images: uint8, shape (B, S, S, 3), on any device.
        params: one row per view.
        view_size: V, pixels.
        image_rows: int64, shape (N,), the image of each row of params; None: row i belongs to image i.
    Returns:
        float32, shape (N, 3, V, V), in [0, 1] (bicubic overshoot is clamped), contiguous.
    """
    image_rows = np.arange(len(params)) if image_rows is None else image_rows
    if not len(params):
        return torch.empty(0, 3, view_size, view_size, device=images.device)
    if images.device.type == "cpu":
        return crop_resize_one_by_one(images, params, image_rows, view_size, interpolation)
    return crop_resize_by_products(images, params, image_rows, view_size, interpolation)


def crop_resize_one_by_one(
    images: Tensor,
    params: ViewParameters,
    image_rows: npt.NDArray[np.int64],
    view_size: int,
    interpolation: Interpolation,
) -> Tensor:
    """`crop_resize` for a CPU."""
    views = torch.empty(len(params), 3, view_size, view_size)
    boxes = np.stack([image_rows, params.top, params.left, params.height, params.width], axis=1)
    for view, (row, top, left, height, width) in zip(views, boxes.tolist(), strict=True):
        crop = images[row, top : top + height, left : left + width].permute(2, 0, 1)[None]
        crop = crop.to(torch.float32, memory_format=torch.contiguous_format)
        view.copy_(F.interpolate(crop, (view_size, view_size), mode=interpolation, antialias=True)[0])
    for flips, axis in ((params.vertical_flip, 2), (params.horizontal_flip, 3)):
        rows = torch.from_numpy(np.flatnonzero(flips))
        if len(rows):
            views.index_copy_(0, rows, views.index_select(0, rows).flip(axis))
    return _to_unit_range(views, interpolation)


def crop_resize_by_products(
    images: Tensor,
    params: ViewParameters,
    image_rows: npt.NDArray[np.int64],
    view_size: int,
    interpolation: Interpolation,
) -> Tensor:
    """`crop_resize` for a GPU; works on any device."""
    order = order_by_window(params)
    crops = crops_by_products(images, params.rows(order), image_rows[order], view_size, interpolation)
    views = torch.empty_like(crops).index_copy_(0, to_device(order, images.device), crops)
    return _to_unit_range(views, interpolation)


def order_by_window(params: ViewParameters) -> npt.NDArray[np.int64]:
    """An order of the views that groups windows of one size; int64, shape (N,)."""
    return np.argsort(_window_sizes(params), kind="stable")


def crops_by_products(
    images: Tensor,
    params: ViewParameters,
    image_rows: npt.NDArray[np.int64],
    view_size: int,
    interpolation: Interpolation,
) -> Tensor:
    """The resized crops as the filter gives them: 0 to 255, with overshoot.

    Args:
        params: one row per view, in the order of `order_by_window`.
    Returns:
        float32, shape (N, 3, V, V), contiguous.
    """
    windows = _window_sizes(params)
    last = params.image_size - windows
    top, left = np.minimum(params.top, last), np.minimum(params.left, last)
    places = to_device(np.stack([image_rows, top, left]), images.device)
    # Both axes of all views at once: one call for a GPU instead of one for each window.
    axes = [
        (params.top - top, params.left - left),
        (params.height, params.width),
        (params.vertical_flip, params.horizontal_flip),
    ]
    geometry = to_device(np.stack([np.concatenate(pair) for pair in axes]), images.device)
    num_taps = _num_taps(int(max(params.height.max(), params.width.max())), view_size, interpolation)
    start, length, flip = geometry
    weights = _weights(start, length, flip, num_taps, int(windows.max()), view_size, interpolation)
    y_weights, x_weights = weights.chunk(2)

    crops = torch.empty(len(params), 3, view_size, view_size, device=images.device)
    sizes, begins = np.unique(windows, return_index=True)
    for window, begin, end in zip(sizes.tolist(), begins, [*begins[1:], len(params)], strict=True):
        rows = slice(begin, end)
        # (B, S-W+1, S-W+1, 3, W, W) without copying; the indexing then copies just the windows.
        every_window = images.unfold(1, window, 1).unfold(2, window, 1)
        pixels = every_window[tuple(places[:, rows])].to(torch.float32, memory_format=torch.contiguous_format)
        separable(pixels, y_weights[rows, :, :window], x_weights[rows, :, :window], out=crops[rows])
    return crops


def _window_sizes(params: ViewParameters) -> npt.NDArray[np.int64]:
    longest = np.maximum(params.height, params.width)
    return np.minimum(-(-longest // WINDOW_STEP) * WINDOW_STEP, params.image_size)


def _to_unit_range(views: Tensor, interpolation: Interpolation) -> Tensor:
    """From 0 to 255 to [0, 1], in place; only bicubic overshoots."""
    views.mul_(1 / 255)
    return views.clamp_(0, 1) if interpolation == "bicubic" else views


def separable(images: Tensor, y_weights: Tensor, x_weights: Tensor, out: Tensor | None = None) -> Tensor:
    """Applies a matrix to the columns and one to the rows of every image.

    out[b, c, v, u] = sum over i, j of y_weights[b, v, i] images[b, c, i, j] x_weights[b, u, j], in float32 also under
    autocast.

    Args:
        images: float32, shape (B, 3, I, J), contiguous.
        y_weights: float32, shape (B, V, I).
        x_weights: float32, shape (B, U, J).
        out: the tensor to write to.
    Returns:
        float32, shape (B, 3, V, U), contiguous.
    """
    batch, channels, height, width = images.shape
    with torch.autocast(images.device.type, enabled=False):
        across = torch.bmm(images.view(batch, channels * height, width), x_weights.transpose(1, 2))
        across = across.view(batch, channels, height, -1)
        if out is None:
            out = torch.empty(batch, channels, y_weights.shape[1], x_weights.shape[1], device=images.device)
        for c in range(channels):
            torch.bmm(y_weights, across[:, c], out=out[:, c])
        return out


def _num_taps(longest: int, view_size: int, interpolation: Interpolation) -> int:
    return int(np.ceil(2 * _SUPPORT[interpolation] * max(longest / view_size, 1.0))) + 1


def _weights(
    start: Tensor,
    length: Tensor,
    flip: Tensor,
    num_taps: int,
    window: int,
    view_size: int,
    interpolation: Interpolation,
) -> Tensor:
    """Contribution of each source pixel of the window to each pixel of the view; float32, shape (B, V, W)."""
    position = torch.arange(view_size, device=start.device) + 0.5
    position = torch.where(flip[:, None] > 0, view_size - position, position)
    scale = (length.float() / view_size)[:, None]
    stretch = scale.clamp(min=1)
    center = scale * position
    first = (center - _SUPPORT[interpolation] * stretch + 0.5).floor().clamp_(min=0)
    tap = first[..., None] + torch.arange(num_taps, device=start.device)
    distance = ((tap - center[..., None] + 0.5) / stretch[..., None]).abs_()
    weight = _cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp_(min=0)
    weight *= (tap < length[:, None, None]).float()
    weight /= weight.sum(dim=-1, keepdim=True)
    index = (tap.long() + start[:, None, None]).clamp_(max=window - 1)
    matrix = torch.zeros(len(start), view_size, window, device=start.device)
    return matrix.scatter_add_(2, index, weight)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -0.5 (PIL's bicubic) at x >= 0, as the sum of its two pieces.

    Each piece is 0 at its clamped ends, so the pieces need no selection by masks, which would be slow on CPUs.
    """
    inner, outer = x.clamp(max=1), x.clamp(1, 2)
    return ((1.5 * inner - 2.5) * inner * inner + 1).add_(((-0.5 * outer + 2.5) * outer - 4) * outer + 2)
