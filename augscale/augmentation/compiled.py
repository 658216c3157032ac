"""Color operations for a GPU: all views at once, in two functions compiled by torch.

`photometric` selects the images of each operation, which saves arithmetic on a CPU. A GPU is limited by the number of
passes of the views through its memory. Here jitter and grayscale together need two passes: only contrast needs the
whole view before it can change a pixel, and every view gets it once.

Colors are processed plane by plane (float32, shape (B, V, V)): all operations between two passes are one kernel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.augmentation.draw import BRIGHTNESS, CONTRAST, HUE, SATURATION, ViewParameters
from augscale.augmentation.photometric import GRAY_WEIGHTS, SOLARIZE_THRESHOLD, turned_hue
from augscale.system.compiling import compiled_version
from augscale.system.devices import constant, to_device

Planes = tuple[Tensor, ...]


def compiled_color(crops: Tensor, params: ViewParameters) -> Tensor:
    """`photometric.color_jitter` and `photometric.to_grayscale` for crops as they come from resampling.

    Args:
        crops: float32, shape (B, 3, V, V), 0 to 255, with overshoot.
        params: one row per view.
    Returns:
        float32, shape (B, 3, V, V), in [0, 1].
    """
    phases, whole = (to_device(numbers, crops.device) for numbers in color_numbers(params))
    views: Tensor = compiled_version(color)(crops, phases, whole)
    return views


def compiled_finish(
    views: Tensor,
    order: npt.NDArray[np.int64],
    solarized: npt.NDArray[np.bool_],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Tensor:
    """Solarizes the chosen views, clamps all to [0, 1], normalizes them and restores their order.

    Args:
        views: float32, shape (B, 3, V, V).
        order: shape (B,), the place of each view in the result.
        solarized: shape (B,), true for the views to solarize.
        mean, std: mean and standard deviation of the three channels.
    """
    device = views.device
    source = to_device(order.argsort(), device)
    chosen = to_device(solarized.astype(np.float32), device)
    finished: Tensor = compiled_version(finish)(views, source, chosen, constant(mean, device), constant(std, device))
    return finished


def color_numbers(params: ViewParameters) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Encodes the color operations of each view as numbers; operations that a view does not get become identities.

    Brightness and saturation are steps of the form scale * pixel + luma * (luma of the pixel). Each comes before or
    after contrast and, within that phase, before or after hue; both may fall into the same place.

    Returns:
        Phases, float32, shape (2, 10, B), before and after contrast: scale and luma of two steps before hue, the shift
        of hue and 1 if there is one, scale and luma of two steps after it.
        Whole, float32, shape (2, B): the contrast factor, and 1 if the view becomes gray.
    """
    count = len(params)
    each = np.arange(count)
    turn = params.order.argsort(axis=1)
    is_late = turn > turn[:, [CONTRAST]]
    steps = np.zeros((2, 2, 2, 2, count), dtype=np.float32)  # phase, before or after hue, step, scale and luma
    steps[:, :, :, 0] = 1
    taken = np.zeros((2, 2, count), dtype=np.int64)
    for first in (True, False):
        for operation, other in ((BRIGHTNESS, SATURATION), (SATURATION, BRIGHTNESS)):
            is_first = turn[:, operation] < turn[:, other]
            rows = each[params.jitter & (is_first == first)]
            phase = is_late[rows, operation].astype(np.int64)
            with_hue = is_late[rows, HUE] == is_late[rows, operation]
            after = (with_hue & (turn[rows, operation] > turn[rows, HUE])).astype(np.int64)
            step = taken[phase, after, rows]
            factor = params.factors[rows, operation]
            steps[phase, after, step, 0, rows] = factor
            steps[phase, after, step, 1, rows] = 1 - factor if operation == SATURATION else 0
            taken[phase, after, rows] += 1
    hue = np.zeros((2, 2, count), dtype=np.float32)  # phase, shift and whether
    rows = each[params.jitter]
    phase = is_late[rows, HUE].astype(np.int64)
    hue[phase, 0, rows] = params.factors[rows, HUE]
    hue[phase, 1, rows] = 1
    before_hue, after_hue = steps.reshape(2, 2, 4, count).swapaxes(0, 1)
    whole = np.stack([np.where(params.jitter, params.factors[:, CONTRAST], 1.0), params.grayscale]).astype(np.float32)
    return np.concatenate([before_hue, hue, after_hue], axis=1), whole


def color(crops: Tensor, phases: Tensor, whole: Tensor) -> Tensor:
    """The compiled part of `compiled_color`; phases and whole from `color_numbers`."""
    contrast, gray = whole[:, :, None, None].unbind()
    planes: Planes = tuple((plane * (1 / 255)).clamp(0, 1) for plane in crops.unbind(dim=1))
    planes = _phase(planes, phases[0])
    mean = _luma(planes).mean(dim=(1, 2), keepdim=True)
    planes = tuple((plane * contrast + mean * (1 - contrast)).clamp(0, 1) for plane in planes)
    planes = _step(_phase(planes, phases[1]), 1 - gray, gray)
    return torch.stack(planes, dim=1)


def finish(views: Tensor, source: Tensor, solarized: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The compiled part of `compiled_finish`; source: int64, shape (B,), the view that belongs in each place."""
    inverted = (solarized[:, None, None, None] > 0) & (views >= SOLARIZE_THRESHOLD)
    views = torch.where(inverted, 1 - views, views).clamp(0, 1)
    return ((views - mean[:, None, None]) / std[:, None, None])[source]


def _phase(planes: Planes, numbers: Tensor) -> Planes:
    """Applies two steps, hue, and two steps; numbers of shape (10, B)."""
    before_hue, (shift, is_turned), after_hue = numbers[:, :, None, None].split([4, 2, 4])
    planes = _two_steps(planes, before_hue)
    red, green, blue = planes
    lowest, chroma, hue = turned_hue(red, green, blue, shift.flatten())
    parts = ((hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs())
    turned = (lowest + chroma * part.clamp(0, 1) for part in parts)
    planes = tuple(torch.where(is_turned > 0, new, old) for new, old in zip(turned, planes, strict=True))
    return _two_steps(planes, after_hue)


def _two_steps(planes: Planes, numbers: Tensor) -> Planes:
    scale_1, luma_1, scale_2, luma_2 = numbers.unbind()
    return _step(_step(planes, scale_1, luma_1), scale_2, luma_2)


def _step(planes: Planes, scale: Tensor, luma: Tensor) -> Planes:
    gray = _luma(planes)
    return tuple((plane * scale + gray * luma).clamp(0, 1) for plane in planes)


def _luma(planes: Planes) -> Tensor:
    red, green, blue = planes
    return red * GRAY_WEIGHTS[0] + green * GRAY_WEIGHTS[1] + blue * GRAY_WEIGHTS[2]
