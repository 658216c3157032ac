"""Draws the parameters of views (crops, factors, orders of operations) without applying them.

Every number is a pure function of (seed, role, sample id, slot): a sample gets the same view for every batch size,
order of the batch, device, and set of other operations. Each quantity has its own slot, so two scales drawn with one
seed share their random numbers: their crops differ only by the scales.
Distributions are those of torchvision (`RandomResizedCrop`, `ColorJitter`) and of TorchIO (`RandomBlur`,
`RandomNoise`, `RandomBiasField`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.augmentation.scales import AugmentationScales
from augscale.seeding import counter_uniforms, derive_seed

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

CROP_ATTEMPTS = 10
BLUR_REFERENCE_SIZE = 224
"""Side of the global view, in pixels, that `blur_sigma` refers to."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_ORDERS = np.array(list(itertools.permutations(range(4))), dtype=np.int64)

_SLOTS = {
    "area": CROP_ATTEMPTS,
    "aspect": CROP_ATTEMPTS,
    "position": 2,
    "flip": 2,
    "jitter": 1,
    "factors": 4,
    "order": 1,
    "grayscale": 1,
    "blur": 2,
    "solarize": 1,
    "med_blur": 3,
    "noise": 3,
    "bias": 1,
    "coefficients": 21,
}
"""Number of uniform numbers per sample, by purpose. A bias field of the largest order, 5, has 21 coefficients."""


@dataclass(frozen=True, kw_only=True)
class ViewParameters:
    """Parameters of N views, one row per sample; units and ranges are given per field."""

    image_size: int
    """Side of the source images, pixels."""
    view_size: int
    """Side of the views, pixels."""
    top: Integers
    left: Integers
    height: Integers
    width: Integers
    """The crop box in source pixels, inside the image."""
    horizontal_flip: Flags
    vertical_flip: Flags
    jitter: Flags
    factors: Floats
    """(N, 4): brightness, contrast and saturation factors (1 = unchanged), hue shift in turns (0 = unchanged)."""
    order: Integers
    """(N, 4): the operations (0 brightness, 1 contrast, 2 saturation, 3 hue) in the order of application."""
    grayscale: Flags
    blur_sigma: Floats
    """Sigma in pixels of the view; 0 = no blur."""
    solarize: Flags
    med_blur_sigma: Floats
    """(N, 2): sigmas along y and x, pixels of the view; 0 = no blur."""
    noise_sigma: Floats
    """Standard deviation on values in [0, 1]; 0 = no noise."""
    noise_position: Floats
    """(N,), in [0, 1): start of the sample's noise in the pool of normal numbers."""
    bias_field: Flags
    bias_coefficients: Floats
    """(N, K): coefficients of y^i x^j, i outer and j inner, i + j <= order, coordinates in [-1, 1]."""
    bias_field_order: int

    def __len__(self) -> int:
        return len(self.top)

    def rows(self, index: slice | npt.NDArray[np.int64]) -> ViewParameters:
        """The parameters of some of the samples."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            values[field.name] = value[index] if isinstance(value, np.ndarray) else value
        return ViewParameters(**values)


def concatenate(parts: Sequence[ViewParameters]) -> ViewParameters:
    """Stacks the rows of several draws with the same sizes and scales."""
    values: dict[str, Any] = {}
    for field in fields(ViewParameters):
        columns = [getattr(part, field.name) for part in parts]
        values[field.name] = np.concatenate(columns) if isinstance(columns[0], np.ndarray) else columns[0]
    return ViewParameters(**values)


def draw_view_parameters(
    scales: AugmentationScales,
    role: str,
    sample_ids: npt.ArrayLike,
    seed: int,
    *,
    image_size: int,
    view_size: int,
    reference_size: int,
) -> ViewParameters:
    """Draws one view of each sample.

    Args:
        scales: the distributions to draw from.
        role: "global1", "global2", "local0", "local1", ...; views of different roles are independent.
        sample_ids: int64, shape (N,); a sample has one view per (seed, role).
        seed: seed of the whole run.
        image_size: side of the square source images, pixels.
        view_size: side of the views, pixels.
        reference_size: side of the run's *global* views, pixels. Blur sigmas are multiplied by reference_size / 224,
            for local views too: at global views of 224 px they are DINO's, and local and global blur keep their ratio.
    Raises:
        ValueError: unknown role.
    """
    kind = _view_kind(role)
    ids = np.asarray(sample_ids, dtype=np.int64)
    uniforms = _uniforms(seed, role, ids)
    area = scales.local_crops_scale if kind == 2 else scales.global_crops_scale
    top, left, height, width = _crop_boxes(area, scales.aspect_ratio, uniforms, image_size)
    jitter, factors, order = _jitter(scales, uniforms)
    sigma = _between(uniforms["blur"][:, 1], *scales.blur_sigma) * (reference_size / BLUR_REFERENCE_SIZE)
    med_sigma = uniforms["med_blur"][:, 1:] * scales.med_blur_std
    noise_p, noise_sigma, noise_position = uniforms["noise"].T
    num_coefficients = (scales.bias_field_order + 1) * (scales.bias_field_order + 2) // 2
    limit = scales.bias_field_coefficients
    coefficients = _between(uniforms["coefficients"][:, :num_coefficients], -limit, limit)
    return ViewParameters(
        image_size=image_size,
        view_size=view_size,
        top=top,
        left=left,
        height=height,
        width=width,
        horizontal_flip=uniforms["flip"][:, 0] < scales.horizontal_flip_p,
        vertical_flip=uniforms["flip"][:, 1] < scales.vertical_flip_p,
        jitter=jitter,
        factors=factors,
        order=order,
        grayscale=uniforms["grayscale"][:, 0] < scales.grayscale_p,
        blur_sigma=np.where(uniforms["blur"][:, 0] < scales.blur_p[kind], sigma, 0.0),
        solarize=uniforms["solarize"][:, 0] < scales.solarize_p[kind],
        med_blur_sigma=np.where(uniforms["med_blur"][:, :1] < scales.med_blur_p, med_sigma, 0.0),
        noise_sigma=np.where(noise_p < scales.noise_p, noise_sigma * scales.noise_std, 0.0),
        noise_position=noise_position.copy(),
        bias_field=(uniforms["bias"][:, 0] < scales.bias_field_p) & (limit > 0),
        bias_coefficients=coefficients,
        bias_field_order=scales.bias_field_order,
    )


def _view_kind(role: str) -> int:
    """Index into the scales' per-view probabilities: first global, second global, local."""
    if role in ("global1", "global2"):
        return int(role[-1]) - 1
    if re.fullmatch(r"local\d+", role):
        return 2
    raise ValueError(f"role {role!r} is not known; expected global1, global2, local0, local1, ...")


def _uniforms(seed: int, role: str, ids: Integers) -> dict[str, Floats]:
    numbers = counter_uniforms(derive_seed(seed, "view", role), ids, sum(_SLOTS.values()))
    ends = np.cumsum(list(_SLOTS.values()))
    return dict(zip(_SLOTS, np.split(numbers, ends[:-1], axis=1), strict=True))


def _between(u: Floats, low: float, high: float) -> Floats:
    return low + u * (high - low)


def _crop_boxes(
    area: tuple[float, float], ratio: tuple[float, float], uniforms: dict[str, Floats], size: int
) -> tuple[Integers, Integers, Integers, Integers]:
    """torchvision's RandomResizedCrop.get_params: the first of ten attempts that fits, else the center."""
    target = size * size * _between(uniforms["area"], *area)
    aspect = np.exp(_between(uniforms["aspect"], np.log(ratio[0]), np.log(ratio[1])))
    widths = np.rint(np.sqrt(target * aspect)).astype(np.int64)
    heights = np.rint(np.sqrt(target / aspect)).astype(np.int64)
    fits = (widths > 0) & (widths <= size) & (heights > 0) & (heights <= size)
    attempt = fits.argmax(axis=1)
    found = np.asarray(fits.any(axis=1))
    each = np.arange(len(fits))
    center_width = round(size * ratio[1]) if ratio[1] < 1 else size
    center_height = round(size / ratio[0]) if ratio[0] > 1 else size
    width = np.where(found, widths[each, attempt], center_width)
    height = np.where(found, heights[each, attempt], center_height)
    vertical, horizontal = uniforms["position"].T
    top = np.where(found, (vertical * (size - height + 1)).astype(np.int64), (size - height) // 2)
    left = np.where(found, (horizontal * (size - width + 1)).astype(np.int64), (size - width) // 2)
    return top, left, height, width


def _jitter(scales: AugmentationScales, uniforms: dict[str, Floats]) -> tuple[Flags, Floats, Integers]:
    low = [max(0.0, 1 - scales.brightness), max(0.0, 1 - scales.contrast), max(0.0, 1 - scales.saturation)]
    high = [1 + scales.brightness, 1 + scales.contrast, 1 + scales.saturation]
    lows, highs = np.array([*low, -scales.hue]), np.array([*high, scales.hue])
    factors = lows + uniforms["factors"] * (highs - lows)
    order = _ORDERS[(uniforms["order"][:, 0] * len(_ORDERS)).astype(np.int64)]
    changes = max(scales.brightness, scales.contrast, scales.saturation, scales.hue) > 0
    return (uniforms["jitter"][:, 0] < scales.jitter_p) & changes, factors, order
