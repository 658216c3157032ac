"""Decodes an image file to a square RGB array; a file that cannot be decoded is refused with a reason.

8-bit files are taken as they are. Grey files of more than 8 bits, and DICOM files without a window, are scaled by one
range for all files of their kind in a source (`grey_levels`); a file that is decoded alone is its own source. Color
files of 16 bits are read by their upper byte (Pillow keeps no more), so those that hold 12 bits or fewer are refused
instead of being read as black. Transparent pixels become black, the background of a fundus photograph. Color profiles
are not applied. If there are several frames or pages, the first is used, with a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from augscale.data.formats.photos import check_size
from augscale.data.formats.reading import read_file
from augscale.data.grey_levels import GreyRange, Samples, choose_range, file_quantiles, to_8_bit
from augscale.data.image_records import UnusableImage

DECODER_VERSION = 1
"""Increase when the same file and settings would give other pixels: older caches are then not used."""

FIELD_MIN_GREY = 10
"""Grey value above which a pixel may belong to the visible fundus."""
FIELD_MIN_SHARE = 0.02
"""A row or column belongs to the field of view if more than this share of it is above FIELD_MIN_GREY."""
FIELD_MIN_EXTENT = 0.125
"""If the box is narrower than this share of the image, it is wrong, and the image is not cropped."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """Square pixels, uint8, shape (S, S, 3), and a note if part of the file is not used."""

    pixels: Pixels
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The ranges of one source.

    Attributes:
        given: `data.range`, for every kind; windows of DICOM files are then not applied. None: use `found`.
        found: ranges by kind, see `Samples`; None if a file is decoded alone, and is its own source.
    """

    given: GreyRange | None = None
    found: Mapping[str, GreyRange] | None = None

    def of(self, samples: Samples) -> GreyRange:
        """The range that these samples are scaled by.

        Raises:
            UnusableImage: none was found for files of this kind.
        """
        if samples.kind is None:
            assert samples.nominal is not None
            return samples.nominal
        if self.given is not None:
            return self.given
        if self.found is None:
            return choose_range([file_quantiles(samples)])
        if samples.kind not in self.found:
            raise UnusableImage(
                f"no range of grey levels was found for {samples.kind}; expected data.range = [LOW, HIGH]"
            )
        return self.found[samples.kind]


ALONE = Ranges()


def decode_image(path: Path, size: int, *, crop_to_field: bool = False, ranges: Ranges = ALONE) -> DecodedImage:
    """Decodes, orients, optionally crops to the field of view, pads to a square with black, and resizes.

    Args:
        path: JPEG, PNG, TIFF, WebP, BMP or DICOM, recognized by content.
        size: side of the result, pixels.
        crop_to_field: cut the black surround of a fundus photograph first, see `field_of_view`.
        ranges: the ranges of the source of the file.
    Raises:
        UnusableImage: missing, empty, truncated, not an image, too large or too small.
    """
    content = read_file(path, size * (2 if crop_to_field else 1), use_window=ranges.given is None)
    photo = content.image
    if isinstance(photo, Samples):
        check_size(*photo.values.shape[1::-1])
        photo = Image.fromarray(to_8_bit(photo, ranges.of(photo))).convert("RGB")
    photo.info = content.info
    photo = _upright(photo)
    if crop_to_field:
        photo = photo.crop(field_of_view(np.asarray(photo.convert("L"))))
    return DecodedImage(pixels=square(photo, size), note=content.note)


def read_samples(path: Path) -> Samples | None:
    """The samples of a file that is scaled by the range of its source; None for files that need no range.

    Raises:
        UnusableImage: as `decode_image`.
    """
    image = read_file(path, 1).image
    return image if isinstance(image, Samples) and image.kind is not None else None


def field_of_view(grey: Pixels) -> tuple[int, int, int, int]:
    """The box around the visible fundus: rows and columns of which more than 2 % are brighter than 10.

    Args:
        grey: uint8, shape (H, W).
    Returns:
        left, top, right, bottom in pixels, right and bottom exclusive; the whole image if nothing is found.
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
    """Resizes the longest side to `size` (Lanczos, antialiased) and centers the image on a black square.

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


def _upright(photo: Image.Image) -> Image.Image:
    """The photograph turned by its EXIF tag; a damaged tag is ignored."""
    try:
        return ImageOps.exif_transpose(photo)
    except Exception:  # a damaged EXIF block raises almost anything, and the pixels are good
        return photo
