"""Signs in the pixels that an image is not a photograph: nearly black, of one color, or few grey levels (a mask).

All signs come from histograms of grey values. Black bars, which the decoder adds around images that are not square, do
not count. All functions work on many images at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BLACK_BELOW = 17
"""99.9 % of the pixels of a nearly black image are below this grey value; 12-bit values
read as 16-bit values give at most 16."""
_BRIGHT_SHARE = 0.001
_CONSTANT_SPREAD = 2
_CONSTANT_SHARE = 0.998
"""Least share of pixels within 2 grey levels of the most frequent one, in an image of one color."""
_SHARP_SPREAD, _BLURRED_SPREAD = 2, 8
"""Grey levels on both sides of a frequent one that belong to it; a hazy fundus has a hump of 15 levels."""
_MODE_DISTANCE = 30
_MOST_MODES = 6
_MASK_SHARE = 0.94
_MASK_REST_SHARE = 0.75
"""In a mask, a few far-apart grey levels hold 94 % of the pixels, and 75 % of those outside the most frequent one."""
_FRAYED = 33
"""Number of the darkest and of the brightest grey levels that count as black and white in a lossy file."""
_MASK_SHARE_LOSSY, _MASK_REST_SHARE_LOSSY = 0.9, 0.6
_FLAT_COLORS = 8
"""A file with at most this number of colors is a mask."""
_SUSPECT_SHARE, _SUSPECT_SHARE_COLOR = 0.5, 0.7
"""Shrinking blurs the edges of a mask. If two grey levels hold this share, the file itself is examined."""
_COLORLESS = 4.0
_CHUNK_IMAGES = 128
_MOST_SIDE_PX = 128
_FILE_SIDE_PX = 512


@dataclass(frozen=True, kw_only=True)
class PixelSigns:
    """One row per image.

    Attributes:
        brightness: float32, shape (N,), mean grey value, 0 to 255.
        black: bool, (N,), nearly black.
        constant: bool, (N,), of one color, and not black.
        mask: bool, (N,), of few, far-apart grey levels.
        suspect: bool, (N,), perhaps a mask with blurred edges; only the file can tell.
    """

    brightness: npt.NDArray[np.float32]
    black: Flags
    constant: Flags
    mask: Flags
    suspect: Flags


def pixel_signs(images: npt.NDArray[np.uint8]) -> PixelSigns:
    """Finds the signs of every image.

    Args:
        images: uint8, shape (N, S, S, 3); may be memory-mapped.
    """
    counts = np.empty((len(images), 256), dtype=np.int64)
    colorless = np.empty(len(images), dtype=bool)
    step = max(1, images.shape[1] // _MOST_SIDE_PX)
    for begin in range(0, len(images), _CHUNK_IMAGES):
        rows = slice(begin, begin + _CHUNK_IMAGES)
        pixels = np.asarray(images[rows, ::step, ::step])
        counts[rows] = grey_counts(pixels)
        colorless[rows] = _is_colorless(pixels)
    shares = counts / counts.sum(axis=1, keepdims=True)
    black = shares[:, BLACK_BELOW:].sum(axis=1) <= _BRIGHT_SHARE
    near_mode = _window_sums(shares, _CONSTANT_SPREAD).max(axis=1)
    constant = ~black & (near_mode >= _CONSTANT_SHARE)
    mask = ~black & ~constant & _is_mask(shares)
    two = mode_shares(shares, _BLURRED_SPREAD)[0]
    suspect = ~black & ~constant & ~mask & (two >= np.where(colorless, _SUSPECT_SHARE, _SUSPECT_SHARE_COLOR))
    brightness = (shares @ np.arange(256)).astype(np.float32)
    return PixelSigns(brightness=brightness, black=black, constant=constant, mask=mask, suspect=suspect)


def grey_counts(pixels: npt.NDArray[np.uint8]) -> Counts:
    """Histograms of grey values, without black bars around an image.

    Args:
        pixels: uint8, shape (N, H, W, 3).
    Returns:
        int64, shape (N, 256); an image that is black all over keeps its pixels.
    """
    number, height, width = pixels.shape[:3]
    red, green, blue = (pixels[..., channel].astype(np.uint16) for channel in range(3))
    grey = (77 * red + 150 * green + 29 * blue) >> 8
    offsets = 256 * np.arange(number, dtype=np.int64)[:, None, None]
    counts = np.bincount((grey + offsets).ravel(), minlength=256 * number).reshape(number, 256)
    lit: Flags = np.asarray((red | green | blue) > 0)
    box = _extent(np.asarray(lit.any(axis=2))) * _extent(np.asarray(lit.any(axis=1)))
    counts[:, 0] -= np.where(box > 0, height * width - box, 0)
    return counts


def mode_shares(shares: npt.NDArray[np.float64], spread: int) -> tuple[npt.NDArray[np.float64], ...]:
    """Shares of each histogram that a few far-apart grey levels hold.

    Args:
        shares: float64, shape (N, 256), rows that add up to 1.
        spread: number of levels on both sides that belong to a frequent one.
    Returns:
        Three arrays, float64, shape (N,), each in [0, 1]: the share of the two most frequent levels; that of all but
        the most frequent level among the pixels outside it; that of all levels together.
    """
    left = shares.copy()
    rows = np.arange(len(shares))
    levels = np.arange(256)
    found = []
    for _ in range(_MOST_MODES):
        windows = _window_sums(left, spread)
        peak = np.where(left.any(axis=1), _peaks(left, windows), 0)
        found.append(windows[rows, peak])
        # Levels next to a mode are not part of another one, unless the histogram is a broad hump.
        away = np.abs(levels[None] - peak[:, None])
        left = np.where(away < _MODE_DISTANCE, 0, left)
    held = np.stack(found)
    outside = np.maximum(1 - held[0], 1e-9)
    return held[:2].sum(axis=0), held[1:].sum(axis=0) / outside, held.sum(axis=0)


def file_is_mask(path: Path | None) -> bool | None:
    """True if an image file holds few, far-apart grey levels; None if Pillow cannot read it, or there is no file."""
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            if image.mode == "1":
                return True
            image.draft("L", (_FILE_SIDE_PX, _FILE_SIDE_PX))
            if image.mode.startswith(("I", "F")):
                return bool(len(np.unique(np.asarray(image))) <= _FLAT_COLORS)
            if image.getcolors(_FLAT_COLORS) is not None:
                return True
            counts = np.array(image.convert("L").histogram(), dtype=np.float64)[None]
            # An overexposed photograph is black and white, too, but has colors.
            colors = np.asarray(image.convert("RGB"))[None]
            lossy = image.format in ("JPEG", "MPO", "WEBP") and _is_colorless(colors)[0]
    except Exception:  # DICOM and other files that Pillow does not read
        return None
    shares = counts / counts.sum()
    return bool(_is_mask(shares)[0]) or bool(lossy and _is_black_and_white(shares[0]))


def _is_black_and_white(shares: npt.NDArray[np.float64]) -> bool:
    """True if nearly all pixels are black or white: lossy compression frays the edges of thin masks."""
    black, white = shares[:_FRAYED].sum(), shares[-_FRAYED:].sum()
    return bool(black + white >= _MASK_SHARE_LOSSY and white >= _MASK_REST_SHARE_LOSSY * (1 - black) and black > 0)


def _is_mask(shares: npt.NDArray[np.float64]) -> Flags:
    _, rest, several = mode_shares(shares, _SHARP_SPREAD)
    return (several >= _MASK_SHARE) & (rest >= _MASK_REST_SHARE)


def _is_colorless(pixels: npt.NDArray[np.uint8]) -> Flags:
    red, green, blue = (pixels[..., channel] for channel in range(3))  # far faster than max over an axis of three
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    return np.asarray((high - low).mean(axis=(1, 2)) < _COLORLESS)


def _peaks(left: npt.NDArray[np.float64], windows: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The level of the fullest window; of several equal ones, the level with most pixels itself."""
    return np.asarray((windows + 1e-6 * left).argmax(axis=1))


def _window_sums(shares: npt.NDArray[np.float64], spread: int) -> npt.NDArray[np.float64]:
    """Sums over `spread` levels on both sides of each."""
    padded = np.pad(shares, ((0, 0), (spread + 1, spread)))
    sums = np.cumsum(padded, axis=1)
    return sums[:, 2 * spread + 1 :] - sums[:, : -(2 * spread + 1)]


def _extent(lit: Flags) -> Counts:
    """Number of rows (or columns) from the first lit one to the last: int64, shape (N,), 0 for none."""
    first = lit.argmax(axis=1)
    last = lit.shape[1] - lit[:, ::-1].argmax(axis=1)
    return np.where(lit.any(axis=1), last - first, 0).astype(np.int64)
