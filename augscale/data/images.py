"""One image file to a square RGB array; what cannot be decoded is refused with a reason.

What a pixel value means: 8-bit files are taken as they are. Grey files of more than 8 bits are scaled to 0-255 by the
full range of their samples, never clipped; that range is 65535, or 4095 (12 bits) or 255 where no sample is above it,
because cameras store 10- and 12-bit data in 16-bit files. Colour files of 16 bits are read by their upper byte
(Pillow keeps no more), so those that hold 12 bits or fewer are refused instead of being read as black.
Transparency is laid on black, the background of a fundus photograph. Colour profiles are not applied.
Of several frames or pages the first is used, and that is noted. DICOM files are read where pydicom is installed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from augscale.data.dicom import UnusableDicom, is_dicom, read_dicom
from augscale.errors import DataError

DECODER_VERSION = 1
"""Raise when the same file and settings would give other pixels: caches made before are then not used."""

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded. Pillow itself refuses above 2 * Image.MAX_IMAGE_PIXELS."""

MIN_SIDE_PX = 8
FIELD_MIN_GREY = 10
"""Grey value above which a pixel may belong to the visible fundus."""
FIELD_MIN_SHARE = 0.02
"""A row or column belongs to the field of view when more than this share of it is above FIELD_MIN_GREY."""
FIELD_MIN_EXTENT = 0.125
"""A box narrower than this share of the image is taken for a mistake, and the image stays whole."""

# Naming the plugins loads them: found by itself, a plugin would be loaded by many threads at once.
_FORMATS = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
)
_ORIENTATION_TAG = 0x0112
_DRAFT_FACTOR = 2
"""JPEGs are decoded at the smallest DCT scale that is still this many times larger than needed (4x with a crop)."""

Pixels = npt.NDArray[np.uint8]


class UnusableImage(DataError):
    """The file is no image that can be used; the message is the reason alone, without the path."""


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """Square pixels, uint8, shape (S, S, 3), and a note where part of the file was left out."""

    pixels: Pixels
    note: str | None = None


def decode_image(path: Path, size: int, *, crop_to_field: bool = False) -> DecodedImage:
    """Decodes, orients, optionally crops to the field of view, pads to a square with black, and resizes.

    Args:
        path: JPEG, PNG, TIFF, WebP, BMP or DICOM, recognised by content.
        size: side of the result, pixels.
        crop_to_field: cut the black surround of a fundus photograph first, see `field_of_view`.
    Raises:
        UnusableImage: missing, empty, truncated, not an image, too large or too small.
    """
    try:
        if os.path.getsize(path) == 0:
            raise UnusableImage("empty file")
        photo, note = _open_dicom(path) if is_dicom(path) else _open_photo(path, size * (2 if crop_to_field else 1))
    except UnusableImage:
        raise
    except UnusableDicom as error:
        raise UnusableImage(str(error)) from None
    except UnidentifiedImageError:
        raise UnusableImage(_why_not_an_image(path)) from None
    except Image.DecompressionBombError:
        raise UnusableImage(f"more than {MAX_PIXELS // 10**6} million pixels") from None
    except OSError as error:
        raise UnusableImage(f"cannot be decoded ({error.strerror or error})") from None
    except Exception as error:  # a damaged file makes decoders raise almost anything; none of it may stop a run
        raise UnusableImage(f"cannot be decoded ({type(error).__name__}: {error})") from None
    if crop_to_field:
        photo = photo.crop(field_of_view(np.asarray(photo.convert("L"))))
    return DecodedImage(pixels=square(photo, size), note=note)


def _open_photo(path: Path, size: int) -> tuple[Image.Image, str | None]:
    """RGB, upright, at least `size` pixels on its longest side where the file has them; and a note."""
    with Image.open(path, formats=_FORMATS) as image:
        _check_size(*image.size)
        note = _frames_note(getattr(image, "n_frames", 1))
        _shrink_while_decoding(image, size)
        colour_16_bit = image.mode not in ("I;16", "I;16B", "I;16L", "I", "F") and _is_16_bit(image)
        image.load()
        return _oriented(_to_rgb(image, colour_16_bit)), note


def _open_dicom(path: Path) -> tuple[Image.Image, str | None]:
    pixels, frames = read_dicom(path, MAX_PIXELS)
    _check_size(*pixels.shape[1::-1])
    return Image.fromarray(pixels), _frames_note(frames)


def field_of_view(grey: Pixels) -> tuple[int, int, int, int]:
    """The box around the visible fundus: rows and columns of which more than 2 % are brighter than 10.

    Args:
        grey: uint8, shape (H, W).
    Returns:
        left, top, right, bottom in pixels, right and bottom exclusive; the whole image where nothing is found.
    """
    height, width = grey.shape
    bright = grey > FIELD_MIN_GREY
    columns = np.flatnonzero(bright.mean(axis=0) > FIELD_MIN_SHARE)
    rows = np.flatnonzero(bright.mean(axis=1) > FIELD_MIN_SHARE)
    if len(columns) == 0 or len(rows) == 0:
        return 0, 0, width, height
    left, right = int(columns[0]), int(columns[-1]) + 1
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    if right - left < FIELD_MIN_EXTENT * width or bottom - top < FIELD_MIN_EXTENT * height:
        return 0, 0, width, height
    return left, top, right, bottom


def square(photo: Image.Image, size: int) -> Pixels:
    """Resizes the longest side to `size` (Lanczos, antialiased) and centres the image on a black square.

    Args:
        photo: RGB.
        size: pixels.
    Returns:
        uint8, shape (size, size, 3).
    """
    longest = max(photo.size)
    width, height = (max(1, round(side * size / longest)) for side in photo.size)
    if (width, height) != photo.size:
        photo = photo.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = np.zeros((size, size, 3), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    pixels[top : top + height, left : left + width] = np.asarray(photo)
    return pixels


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnusableImage(f"{width}x{height} pixels; at most {MAX_PIXELS // 10**6} million are accepted")
    if min(width, height) < MIN_SIDE_PX:
        raise UnusableImage(f"too small ({width}x{height}); expected at least {MIN_SIDE_PX}x{MIN_SIDE_PX} pixels")


def _frames_note(frames: int) -> str | None:
    return f"first of {frames} frames used" if frames > 1 else None


def _shrink_while_decoding(image: Image.Image, size: int) -> None:
    if image.format in ("JPEG", "MPO"):
        factor = _DRAFT_FACTOR * size / max(image.size)
        image.draft(None, (max(1, int(image.width * factor)), max(1, int(image.height * factor))))


def _is_16_bit(image: Image.Image) -> bool:
    """Whether the file's samples have 16 bits, though Pillow is going to deliver 8: known from the raw mode."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", []))


def _to_rgb(image: Image.Image, colour_16_bit: bool) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # The orientation travels in `info`, which a new image does not have.
        grey = Image.fromarray(_to_8_bit(np.asarray(image)), mode="L").convert("RGB")
        grey.info = image.info
        return grey
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layers = image.convert("RGBA")
        photo = Image.new("RGB", image.size)
        photo.paste(layers, mask=layers.getchannel("A"))
        photo.info = image.info
    else:
        photo = image.convert("RGB")
    if colour_16_bit and np.asarray(photo).max() < 16:
        raise UnusableImage("16-bit colour that holds 12 bits or fewer; convert it to 8 bits first")
    return photo


def _to_8_bit(samples: npt.NDArray[np.generic]) -> Pixels:
    """Scales grey samples of more than 8 bits, see the head of this module."""
    values = samples.astype(np.float64)
    if not np.isfinite(values).all():
        raise UnusableImage("samples that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    scales = (1.0, 255.0, 4095.0, 65535.0) if samples.dtype.kind == "f" else (255.0, 4095.0, 65535.0)
    full = next((scale for scale in scales if high <= scale), None)
    if full is None or low < 0:
        raise UnusableImage(f"samples from {low:g} to {high:g}; expected 8 or 16 bits")
    return np.round(values * (255.0 / full)).astype(np.uint8)


def _oriented(photo: Image.Image) -> Image.Image:
    """The photograph as its EXIF tag says it was held; a damaged tag is passed over."""
    try:
        return ImageOps.exif_transpose(photo)
    except Exception:  # the pixels are good, and EXIF blocks are damaged in as many ways as files are
        return photo


def _why_not_an_image(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "not an image file (a web page)"
    return "not an image file (no JPEG, PNG, TIFF, WebP, BMP or DICOM, or its header is damaged)"
