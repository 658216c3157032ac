"""One image file to a square RGB array; what cannot be decoded is refused with a reason.

What a pixel value means: 8-bit files are taken as they are. Grey files of more than 8 bits, and DICOM files without a
window, are scaled by one range for all files of their kind in a source (`grey_levels`); a file that is decoded alone
is its own source. Colour files of 16 bits are read by their upper byte (Pillow keeps no more), so those that hold 12
bits or fewer are refused instead of being read as black. Transparency is laid on black, the background of a fundus
photograph. Colour profiles are not applied. Of several frames or pages the first is used, and that is noted. DICOM
files are read where pydicom is installed, and TIFF files that Pillow cannot read where tifffile is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from augscale.data.grey_levels import GreyRange, Samples, choose_range, measure, to_8_bit
from augscale.data.refusals import why_inks_are_unknown, why_not_an_image, why_nothing_is_seen
from augscale.data.tiff import (
    COUNTS_KIND,
    FLOAT_KIND,
    UnusableTiff,
    facts_of,
    inverted,
    is_tiff,
    read_tiff,
    skip_thumbnails,
    tiff_facts,
)
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


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The ranges of one source.

    Attributes:
        given: by a person, for every kind; windows of DICOM files are then left out. None takes what was found.
        found: by kind, see `Samples`; None where a file is decoded alone, and is its own source.
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
            return choose_range([measure(samples)])
        if samples.kind not in self.found:
            raise UnusableImage(
                f"no range of grey levels was found for {samples.kind}; expected data.range = [LOW, HIGH]"
            )
        return self.found[samples.kind]


ALONE = Ranges()


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What a file holds: a finished image, or samples that need a range."""

    content: Image.Image | Samples
    info: dict[str | tuple[int, int], object] = field(default_factory=dict)
    """Pillow's, for the orientation."""
    note: str | None = None


def decode_image(path: Path, size: int, *, crop_to_field: bool = False, ranges: Ranges = ALONE) -> DecodedImage:
    """Decodes, orients, optionally crops to the field of view, pads to a square with black, and resizes.

    Args:
        path: JPEG, PNG, TIFF, WebP, BMP or DICOM, recognised by content.
        size: side of the result, pixels.
        crop_to_field: cut the black surround of a fundus photograph first, see `field_of_view`.
        ranges: of the source that the file belongs to.
    Raises:
        UnusableImage: missing, empty, truncated, not an image, too large or too small.
    """
    read = _read(path, size * (2 if crop_to_field else 1), use_window=ranges.given is None)
    photo = _photo(read, ranges)
    if crop_to_field:
        photo = photo.crop(field_of_view(np.asarray(photo.convert("L"))))
    return DecodedImage(pixels=square(photo, size), note=read.note)


def read_samples(path: Path) -> Samples | None:
    """The samples of a file that is scaled by the range of its source; None where it needs none.

    Raises:
        UnusableImage: as `decode_image`.
    """
    content = _read(path, 1).content
    return content if isinstance(content, Samples) and content.kind is not None else None


def _read(path: Path, size: int, *, use_window: bool = True) -> _Read:
    try:
        if os.path.getsize(path) == 0:
            raise UnusableImage("empty file")
        return _read_dicom(path, use_window) if is_dicom(path) else _read_photo(path, size)
    except UnusableImage:
        raise
    except (UnusableDicom, UnusableTiff) as error:
        raise UnusableImage(str(error)) from None
    except UnidentifiedImageError:
        raise UnusableImage(why_not_an_image(path)) from None
    except Image.DecompressionBombError:
        raise UnusableImage(f"more than {MAX_PIXELS // 10**6} million pixels") from None
    except OSError as error:
        raise UnusableImage(f"cannot be decoded ({error.strerror or error})") from None
    except Exception as error:  # a damaged file makes decoders raise almost anything; none of it may stop a run
        raise UnusableImage(f"cannot be decoded ({type(error).__name__}: {error})") from None


def _read_photo(path: Path, size: int) -> _Read:
    """At least `size` pixels on its longest side where the file has them."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            frames, facts = getattr(image, "n_frames", 1), None
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                frames -= skip_thumbnails(image)
                facts = facts_of(image.tag_v2)
            _check_size(*image.size)
            if reason := why_inks_are_unknown(image):
                raise UnusableImage(reason)
            note = _frames_note(frames)
            if facts is None or not facts.misread_by_pillow:
                _shrink_while_decoding(image, size)
                colour_16_bit = image.mode not in ("I;16", "I;16B", "I;16L", "I", "F") and _is_16_bit(image)
                image.load()
                if facts is not None and facts.palette is not None:
                    image.putpalette(facts.palette)
                if image.mode.startswith("I") or image.mode == "F":
                    unsigned = facts is not None and facts.sample_format == 1
                    samples = _grey_samples(image, unsigned=unsigned, turned=facts is not None and inverted(facts))
                    return _Read(content=samples, info=image.info, note=note)
                return _Read(content=_to_rgb(image, colour_16_bit), info=image.info, note=note)
    except UnidentifiedImageError:
        if not is_tiff(path):
            raise
    return _read_with_tifffile(path)


def _read_with_tifffile(path: Path) -> _Read:
    held, orientation, pages = read_tiff(path, tiff_facts(path), MAX_PIXELS)
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = orientation
    content = held if isinstance(held, Samples) else Image.fromarray(held).convert("RGB")
    return _Read(content=content, info={"exif": exif.tobytes()}, note=_frames_note(pages))


def _read_dicom(path: Path, use_window: bool) -> _Read:
    samples, frames = read_dicom(path, MAX_PIXELS, use_window=use_window)
    return _Read(content=samples, note=_frames_note(frames))


def _photo(read: _Read, ranges: Ranges) -> Image.Image:
    """RGB and upright."""
    photo = read.content
    if isinstance(photo, Samples):
        _check_size(*photo.values.shape[1::-1])
        photo = Image.fromarray(to_8_bit(photo, ranges.of(photo))).convert("RGB")
    photo.info = read.info
    return _oriented(photo)


def _grey_samples(image: Image.Image, *, unsigned: bool, turned: bool) -> Samples:
    values = np.asarray(image)
    if unsigned and values.dtype == np.int32:
        values = values.view(np.uint32)  # Pillow has no mode of its own for it
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UnusableImage("samples that are not finite numbers")
    kind = FLOAT_KIND if values.dtype.kind == "f" else COUNTS_KIND
    return Samples(values=values, kind=kind, counts=True, inverted=turned)


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
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layers = image.convert("RGBA")
        if reason := why_nothing_is_seen(layers.getchannel("A")):
            raise UnusableImage(reason)
        photo = Image.new("RGB", image.size)
        photo.paste(layers, mask=layers.getchannel("A"))
        photo.info = image.info
    else:
        photo = image.convert("RGB")
    if colour_16_bit and np.asarray(photo).max() < 16:
        raise UnusableImage("16-bit colour that holds 12 bits or fewer; convert it to 8 bits first")
    return photo


def _oriented(photo: Image.Image) -> Image.Image:
    """The photograph as its EXIF tag says it was held; a damaged tag is passed over."""
    try:
        return ImageOps.exif_transpose(photo)
    except Exception:  # the pixels are good, and EXIF blocks are damaged in as many ways as files are
        return photo
