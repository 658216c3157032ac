"""Fundus cameras: field of view, color, light, optics, sensor and file compression.

No function here receives the grade of the eye: color, brightness and camera carry no information about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from augscale.demo.draws import Draws, Floats


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera model and its usual settings."""

    name: str
    share: float
    """Share of photographs taken with it."""
    field_deg: float
    """Angular diameter of the field of view."""
    crop: float
    """Diameter of the field over the width of the photograph."""
    cut: float
    """Half height of the field over its radius; 1 is a full circle."""
    color: tuple[float, float, float]
    """Red, green and blue of an average retina, 0 to 1."""
    gain_sd: float
    """SD of the logarithm of the exposure."""
    balance_sd: float
    """SD of the logarithm of the gain of each channel."""
    vignette: float
    """Loss of light at the edge of the field."""
    glow: float
    """Strength of the veil at the edge of the field."""
    glow_color: tuple[float, float, float]
    blur: float
    """Usual SD of the blur over the width of the photograph."""
    noise: float
    """SD of the noise at 256 pixels."""
    contrast: float
    """Exponent of the reflectance."""
    tab: bool
    """True if a notch marks the edge of the field."""
    quality: int
    """Usual quality of the compression, 1 to 100."""


# One column for each camera.
_TABLE: dict[str, tuple[Any, ...]] = {
    "name": ("tabletop-round", "tabletop-cut", "nonmydriatic-pale", "handheld"),
    "share": (0.3, 0.35, 0.25, 0.1),
    "field_deg": (45.0, 48.0, 45.0, 40.0),
    "crop": (0.99, 1.0, 1.0, 1.13),
    "cut": (1.0, 0.78, 0.9, 1.0),
    "color": ((0.66, 0.34, 0.07), (0.58, 0.255, 0.06), (0.60, 0.37, 0.225), (0.60, 0.40, 0.19)),
    "gain_sd": (0.16, 0.24, 0.2, 0.22),
    "balance_sd": (0.10, 0.14, 0.08, 0.12),
    "vignette": (0.18, 0.35, 0.3, 0.45),
    "glow": (0.5, 0.35, 0.35, 0.3),
    "glow_color": ((0.60, 0.56, 0.36), (0.58, 0.40, 0.18), (0.50, 0.54, 0.58), (0.55, 0.50, 0.30)),
    "blur": (0.0030, 0.0023, 0.0020, 0.0050),
    "noise": (0.004, 0.005, 0.006, 0.009),
    "contrast": (0.85, 1.0, 1.1, 0.9),
    "tab": (True, False, False, False),
    "quality": (90, 92, 88, 82),
}
CAMERAS = tuple(Camera(**dict(zip(_TABLE, column, strict=True))) for column in zip(*_TABLE.values(), strict=True))

_KEEPS_CLINIC_P = 0.85
_BALANCE_SPREAD = np.array([0.8, 0.7, 1.5])  # blue varies most, because the weakest channel gets the strongest gain
_KNEE = 0.72  # above this share of white the sensor's response bends

# Luminance table of the JPEG standard (ITU-T T.81, Annex K.1).
_JPEG_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.float64,
)
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_FROM_YCC = np.linalg.inv(_TO_YCC)


def choose_camera(clinic: float, draws: Draws) -> Camera:
    """Chooses the camera of one photograph, mostly that of the patient's clinic.

    Args:
        clinic: the patient's trait in [0, 1).
        draws: stream of this photograph's camera.
    """
    place = clinic if draws.chance(_KEEPS_CLINIC_P) else draws.uniform()
    for camera in CAMERAS:
        place -= camera.share
        if place < 0:
            return camera
    return CAMERAS[-1]


def expose(draws: Draws, camera: Camera, reflectance: Floats, haze: float) -> np.ndarray:
    """Turns the reflectance of the retina into a photograph.

    Args:
        draws: stream of this photograph's exposure.
        camera: the camera.
        reflectance: float64, shape (size, size, 3), 1 is an average retina.
        haze: clouding of the media, 0 to 1.
    Returns:
        uint8, shape (size, size, 3), sRGB; 0 outside the field.
    """
    size = reflectance.shape[0]
    axis = (np.arange(size) - (size - 1) / 2) / (size / 2)
    x, y = axis[None, :] / camera.crop, -axis[:, None] / camera.crop
    radius = np.sqrt(x**2 + y**2)
    light = _light(draws, camera, x, y)
    gain = np.exp(
        draws.normal(-0.02, camera.gain_sd)
        + draws.normals(3, 0.0, 1.0).clip(-2.5, 2.5) * camera.balance_sd * _BALANCE_SPREAD
    )
    average = np.array(camera.color)
    image = average * reflectance**camera.contrast * light
    image = _veil(draws, camera, image, average, haze, x, y, radius)
    image = _blur(draws, camera, image * gain, haze)
    image = np.where(image > _KNEE, 1 - (1 - _KNEE) * np.exp(-(image - _KNEE) / (1 - _KNEE)), image)
    field = _field(draws, camera, size, x, y, radius)
    image = _noise(draws, camera, image) * field[:, :, None] + draws.uniform(0.0, 0.012)
    image = _compress(image, camera.quality + draws.normal(0.0, 3.0))
    # Compression leaves the surround not quite black; most collections mask it.
    return np.rint(np.clip(image * (field > 0)[:, :, None], 0, 1) * 255).astype(np.uint8)


def _light(draws: Draws, camera: Camera, x: Floats, y: Floats) -> Floats:
    """Vignetting around a point near the middle, and a tilt of the light; float64 (size, size, 3)."""
    shift_x, shift_y = draws.normal(0.0, 0.2), draws.normal(0.0, 0.16)
    off_axis = np.sqrt((x - shift_x) ** 2 + (y - shift_y) ** 2)
    vignette = camera.vignette * draws.uniform(0.5, 1.6) * np.array([1.1, 1.0, 0.85])
    tilt_x = draws.normal(0.0, 0.17) + draws.normals(3, 0.0, 0.04)
    tilt_y = draws.normal(0.0, 0.12) + draws.normals(3, 0.0, 0.04)
    fall_off = 1.06 - vignette * off_axis[:, :, None] ** 2.2
    return np.clip(fall_off * (1 + tilt_x * x[:, :, None] + tilt_y * y[:, :, None]), 0.08, None)


def _veil(
    draws: Draws, camera: Camera, image: Floats, average: Floats, haze: float, x: Floats, y: Floats, radius: Floats
) -> Floats:
    """Adds stray light: an even veil from clouded media, a glow at one side of the edge, and sometimes a lens flare."""
    white = np.array(camera.glow_color)
    even = 0.6 * haze * draws.uniform(0.4, 1.2)
    side = draws.uniform(0, 2 * np.pi)
    lopsided = draws.uniform(0.0, 0.9)
    direction = (np.cos(side) * x + np.sin(side) * y) / np.maximum(radius, 1e-6)
    width = draws.uniform(0.04, 0.25)
    rim = np.exp(np.minimum(radius - 1, 0) / width) * (1 - lopsided + lopsided * direction)
    veil = even + camera.glow * draws.uniform(0.0, 1.6) * np.clip(rim, 0, None)
    if draws.chance(0.18):
        flare_x, flare_y = draws.normal(0.0, 0.35), draws.normal(0.0, 0.3)
        extent = draws.uniform(0.06, 0.22)
        squared = (x - flare_x) ** 2 + (y - flare_y) ** 2
        veil = veil + draws.uniform(0.08, 0.4) * np.exp(-squared / (2 * extent**2))
    veil = np.clip(veil, 0, 0.9)[:, :, None]
    return image * (1 - veil) + (0.75 * white + 0.3 * average) * veil


def _blur(draws: Draws, camera: Camera, image: Floats, haze: float) -> Floats:
    """Defocus; a few photographs are badly out of focus."""
    spread = camera.blur * np.exp(draws.normal(0.0, 0.4)) * (1 + 1.5 * haze)
    if draws.chance(0.06):
        spread *= draws.uniform(1.8, 3.2)
    sigma = spread * image.shape[0]
    return gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=3.0) if sigma > 0.2 else image


def _field(draws: Draws, camera: Camera, size: int, x: Floats, y: Floats, radius: Floats) -> Floats:
    """Share of each pixel that lies in the field of view, 0 to 1."""
    px = camera.crop * size / 2
    cut = camera.cut * (1 + draws.normal(0.0, 0.015)) if camera.cut < 1 else 2.0
    field = np.clip((1 - radius) * px + 0.5, 0, 1) * np.clip((cut - np.abs(y)) * px + 0.5, 0, 1)
    if camera.tab and draws.chance(0.7):
        along, across = (x + y) * np.sqrt(0.5), (x - y) * np.sqrt(0.5)
        tab = np.clip((1.035 - along) * px + 0.5, 0, 1) * np.clip((0.045 - np.abs(across)) * px + 0.5, 0, 1)
        field = np.maximum(field, tab * (along > 0.9))
    return field


def _noise(draws: Draws, camera: Camera, image: Floats) -> Floats:
    """Sensor noise after reduction to this size: smaller pixels average over fewer sensor pixels."""
    size = image.shape[0]
    spread = camera.noise * draws.uniform(0.4, 1.4) * min(np.sqrt(size / 256), 1.5)
    noise = draws.normals(size * size * 3).reshape(size, size, 3)
    mostly_grey = 0.75 * noise[:, :, :1] + 0.5 * noise
    return image + spread * mostly_grey * np.sqrt(np.clip(image, 0.02, 1) / 0.4)


def _compress(image: Floats, quality: float) -> Floats:
    """Rounds the coefficients of 8 x 8 blocks as JPEG does, chroma twice as coarsely as luminance."""
    size = image.shape[0]
    scale = (200 - 2 * quality) / 100 if quality >= 50 else 50 / quality
    step = np.maximum(_JPEG_TABLE * max(scale, 0.02), 1.0) / 255
    padding = -size % 8
    padded = np.pad(image, ((0, padding), (0, padding), (0, 0)), mode="edge")
    blocks = (np.clip(padded, 0, 1) - 0.5) @ _TO_YCC.T
    count = padded.shape[0] // 8
    blocks = blocks.reshape(count, 8, count, 8, 3)
    steps = step[:, None, :, None] * np.array([1.0, 2.0, 2.0])
    coefficients = np.rint(dctn(blocks, axes=(1, 3), norm="ortho") / steps) * steps
    decoded = idctn(coefficients, axes=(1, 3), norm="ortho").reshape(padded.shape)
    return (decoded @ _FROM_YCC.T + 0.5)[:size, :size]
