"""Color and blur of a batch of views, each image with its own factors and its own order of operations.

Agrees with torchvision's functional transforms on float images (`adjust_brightness`, `adjust_contrast`,
`adjust_saturation`, `adjust_hue`, `rgb_to_grayscale`, `gaussian_blur` with reflect padding, `solarize`), and keeps
DINO's sequence: jitter, grayscale, blur, solarize. An operation is applied only to the images that drew it; the
host knows them, so it never waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from augscale.augmentation.draw import CONTRAST, HUE, SATURATION, ViewParameters
from augscale.augmentation.resample import separable
from augscale.system.devices import to_device

GRAY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601, as rounded by torchvision)."""
SOLARIZE_THRESHOLD = 128 / 255
BLUR_TRUNCATE = 4.0
"""The blur's kernel is cut at this many sigmas."""

Operation = Callable[[Tensor, Tensor], Tensor]


def photometric(views: Tensor, params: ViewParameters) -> Tensor:
    """Jitter, grayscale, blur and solarization, in this order.

    Args:
        views: float32, shape (B, 3, V, V), in [0, 1], contiguous; overwritten.
        params: one row per view.
    Returns:
        The same tensor, in [0, 1].
    """
    color_jitter(views, params)
    to_grayscale(views, params.grayscale)
    gaussian_blur(views, params.blur_sigma)
    update_rows(views, params.solarize, lambda images, _: solarize(images))
    return views


def color_jitter(views: Tensor, params: ViewParameters) -> None:
    """Brightness, contrast, saturation and hue in each image's own order, in place.

    In each of the four turns, brightness, contrast and saturation are one affine step with coefficients for each image,
    so images are selected for hue only.
    """
    for turn in range(4):
        operation = np.where(params.jitter, params.order[:, turn], -1)
        factor = np.take_along_axis(params.factors, params.order[:, turn, None], axis=1)[:, 0]
        change = 1 - factor
        affine(
            views,
            keep=np.where((operation >= 0) & (operation != HUE), factor, 1.0),
            luma=np.where(operation == SATURATION, change, 0.0),
            mean_luma=np.where(operation == CONTRAST, change, 0.0),
        )
        update_rows(views, (operation == HUE) & (factor != 0), adjust_hue, factor)


def to_grayscale(views: Tensor, chosen: npt.NDArray[np.bool_]) -> None:
    """Replaces the chosen images by their luma in all channels, in place."""
    luma = chosen.astype(np.float64)
    affine(views, keep=1 - luma, luma=luma, mean_luma=np.zeros(len(luma)))


def affine(
    views: Tensor,
    *,
    keep: npt.NDArray[np.float64],
    luma: npt.NDArray[np.float64],
    mean_luma: npt.NDArray[np.float64],
) -> None:
    """clamp(keep * image + luma * (luma of each pixel) + mean_luma * (mean luma of the image), 0, 1), in place.

    With factor f, brightness is (f, 0, 0), saturation (f, 1 - f, 0), contrast (f, 0, 1 - f), grayscale (0, 1, 0), and
    (1, 0, 0) changes nothing.

    Args:
        keep, luma, mean_luma: shape (B,).
    """
    if np.all(keep == 1):
        return
    numbers = to_device(np.stack([keep, luma, mean_luma]).astype(np.float32), views.device)
    scale, per_pixel, per_image = numbers[:, :, None, None, None]
    if luma.any() or mean_luma.any():
        gray = grayscale(views)
        offset = torch.addcmul(per_image * gray.mean(dim=(2, 3), keepdim=True), gray, per_pixel)
        views.mul_(scale).add_(offset)
    else:
        views.mul_(scale)
    views.clamp_(0, 1)


def update_rows(
    views: Tensor,
    chosen: npt.NDArray[np.bool_],
    operation: Operation,
    values: npt.NDArray[np.float64] | None = None,
) -> None:
    """Replaces the chosen images by operation(images, values of the chosen images), in place."""
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return
    values = np.zeros(len(views)) if values is None else values
    drawn = to_device(values[rows].astype(np.float32), views.device)
    if len(rows) == len(views):
        views.copy_(operation(views, drawn))
        return
    index = to_device(rows, views.device)
    views.index_copy_(0, index, operation(views.index_select(0, index), drawn))


def grayscale(images: Tensor) -> Tensor:
    """Luma, float32, shape (B, 1, V, V)."""
    red, green, blue = (images[:, c : c + 1] for c in range(3))
    return (red * GRAY_WEIGHTS[0]).add_(green, alpha=GRAY_WEIGHTS[1]).add_(blue, alpha=GRAY_WEIGHTS[2])


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turns the hue by shift (turns, in [-0.5, 0.5]) and keeps the saturation and value of HSV.

    With lowest channel p, chroma c and hue h in sixths of a turn, red is p + c clamp(|h - 3| - 1, 0, 1), and green
    and blue are p + c clamp(2 - |h - 2|, 0, 1) and p + c clamp(2 - |h - 4|, 0, 1).
    """
    red, green, blue = images.unbind(dim=1)
    lowest, chroma, hue = turned_hue(red, green, blue, shift)
    turned = torch.empty_like(images)
    torch.addcmul(lowest, chroma, (hue - 3).abs_().sub_(1).clamp_(0, 1), out=turned[:, 0])
    torch.addcmul(lowest, chroma, (hue - 2).abs_().neg_().add_(2).clamp_(0, 1), out=turned[:, 1])
    torch.addcmul(lowest, chroma, hue.sub_(4).abs_().neg_().add_(2).clamp_(0, 1), out=turned[:, 2])
    return turned


def turned_hue(red: Tensor, green: Tensor, blue: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lowest channel, chroma, and the hue in sixths of a turn after the shift; each float32, shape (B, V, V).

    The highest channel is marked by numbers 0 and 1, because selection by masks is slow on CPUs.
    """
    lowest = torch.minimum(torch.minimum(red, green), blue)
    highest = torch.maximum(torch.maximum(red, green), blue)
    chroma = highest - lowest
    is_not_red = (highest - red).sign_()
    is_blue = (highest - green).sign_().mul_(is_not_red)
    is_green = is_not_red - is_blue
    hue = (green - blue).mul_(1 - is_not_red)
    hue.addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    # Where all channels are equal, 0 / tiny = 0; elsewhere chroma is at least one rounding step of a number near 1.
    hue.div_(chroma.clamp(min=1e-12)).add_(is_green, alpha=2).add_(is_blue, alpha=4)
    hue.add_(shift[:, None, None], alpha=6)
    hue.sub_((hue / 6).floor_(), alpha=6)
    return lowest, chroma, hue


def solarize(images: Tensor) -> Tensor:
    """Inverts values from 128/255 up (PIL's default threshold)."""
    return torch.addcmul(images, (images >= SOLARIZE_THRESHOLD).float(), 1 - 2 * images)


def gaussian_blur(views: Tensor, sigma: npt.NDArray[np.float64]) -> None:
    """Blurs each image with its own sigma (pixels, 0 = leave), reflect padding, in place.

    The kernel is cut at 4 sigma; a torchvision blur with kernel size 2 ceil(4 sigma) + 1 is the same.
    """
    size = views.shape[-1]
    radius = np.minimum(np.ceil(BLUR_TRUNCATE * sigma), size - 1).astype(np.int64)
    rows = np.flatnonzero((sigma > 0) & (radius > 0))
    if not len(rows):
        return
    if views.device.type == "cpu":
        # Convolution takes half the time of the matrices, which are mostly zeros.
        index = torch.from_numpy(rows)
        views.index_copy_(0, index, _convolved(views.index_select(0, index), sigma[rows], radius[rows]).clamp_(0, 1))
        return
    weights = gaussian_matrices(sigma[rows], radius[rows], size, views.device, mirror_edge=False)
    blur_rows(views, rows, weights, weights)


def _convolved(images: Tensor, sigma: npt.NDArray[np.float64], radius: npt.NDArray[np.int64]) -> Tensor:
    """Filters each image with its own Gaussian of sigma and radius (pixels), reflect padding: grouped convolutions."""
    batch, channels, height, width = images.shape
    reach = int(radius.max())
    kernels = _kernels(sigma, radius, images.device).repeat_interleave(channels, dim=0)
    padded = F.pad(images, (reach,) * 4, mode="reflect").view(1, -1, height + 2 * reach, width + 2 * reach)
    with torch.autocast(images.device.type, enabled=False):
        across = F.conv2d(padded, kernels[:, None, None, :], groups=batch * channels)
        return F.conv2d(across, kernels[:, None, :, None], groups=batch * channels).view_as(images)


def _kernels(sigma: npt.NDArray[np.float64], radius: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """float32, shape (B, 2 R + 1), R the largest radius; rows sum to 1; where radius is 0, 1 in the middle."""
    reach = int(radius.max())
    offset = torch.arange(-reach, reach + 1, device=device)
    safe_sigma = to_device(np.where(radius > 0, sigma, 1.0).astype(np.float32), device)
    kernel = torch.exp(-0.5 * (offset / safe_sigma[:, None]) ** 2)
    kernel *= offset.abs() <= to_device(radius, device)[:, None]
    return kernel / kernel.sum(dim=1, keepdim=True)


def blur_rows(views: Tensor, rows: npt.NDArray[np.int64], y_weights: Tensor, x_weights: Tensor) -> None:
    """Filters some of the images with their matrices, in place, and clamps: rounding can leave [0, 1]."""
    if len(rows) == len(views):
        views.copy_(separable(views, y_weights, x_weights).clamp_(0, 1))
        return
    index = to_device(rows, views.device)
    blurred = separable(views.index_select(0, index), y_weights, x_weights).clamp_(0, 1)
    views.index_copy_(0, index, blurred)


def gaussian_matrices(
    sigma: npt.NDArray[np.float64],
    radius: npt.NDArray[np.int64],
    size: int,
    device: torch.device,
    *,
    mirror_edge: bool,
) -> Tensor:
    """One-dimensional Gaussian filters as matrices.

    Args:
        sigma: pixels, shape (B,); where radius is 0 the matrix is the identity.
        radius: radius of the kernel, pixels, shape (B,).
        size: length of the axis, pixels.
        mirror_edge: true repeats the border pixel (d c b a | a b c d, scipy's "reflect"); false does not
            (d c b | a b c d, torch's "reflect").
    Returns:
        float32, shape (B, size, size); rows sum to 1.
    """
    reach = int(radius.max())
    offset = torch.arange(-reach, reach + 1, device=device)
    kernel = _kernels(sigma, radius, device)
    period = 2 * size if mirror_edge else max(2 * (size - 1), 1)
    source = (torch.arange(size, device=device)[:, None] + offset) % period
    mirrored = (2 * size - 1 if mirror_edge else 2 * (size - 1)) - source
    index = torch.where(source < size, source, mirrored).expand(len(sigma), -1, -1)
    matrix = torch.zeros(len(sigma), size, size, device=device)
    return matrix.scatter_add_(2, index, kernel[:, None, :].expand_as(index))
