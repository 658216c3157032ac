"""Reads JPEG, PNG, TIFF, WebP and BMP files with Pillow, and TIFF files that Pillow misreads with tifffile."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from augscale.data.formats.tiff import (
    COUNTS_KIND,
    FLOAT_KIND,
    TiffFacts,
    facts_of,
    is_tiff,
    read_tiff,
    skip_thumbnails,
    tiff_facts,
)
from augscale.data.grey_levels import Samples
from augscale.data.image_records import UnusableImage

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded. Pillow itself refuses above 2 * Image.MAX_IMAGE_PIXELS."""
MIN_SIDE_PX = 8

# Importing the plugins loads them once; otherwise many threads would load one at the same time.
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


@dataclass(frozen=True, kw_only=True)
class FileContent:
    """Content of a file: a finished image, or samples that need a range of grey levels.

    Attributes:
        image: the image or the samples.
        info: Pillow's `info`, which contains the orientation.
        note: a line about the part of the file that is not used.
    """

    image: Image.Image | Samples
    info: dict[str | tuple[int, int], object] = field(default_factory=dict)
    note: str | None = None


def read_photo(path: Path, size: int) -> FileContent:
    """Reads a file with at least `size` pixels on its longest side, if it has them.

    Raises:
        UnusableImage: too large or too small, or pixels whose meaning is unknown.
        UnidentifiedImageError: not an image.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            frames, facts = getattr(image, "n_frames", 1), None
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                frames -= skip_thumbnails(image)
                facts = facts_of(image.tag_v2)
            check_size(*image.size)
            _refuse_unknown_inks(image)
            if facts is None or not facts.misread_by_pillow:
                return FileContent(image=_load(image, facts, size), info=image.info, note=frames_note(frames))
    except UnidentifiedImageError:
        if not is_tiff(path):
            raise
    return _read_with_tifffile(path)


def check_size(width: int, height: int) -> None:
    """Refuses images that are too large or too small.

    Raises:
        UnusableImage: with size and limit.
    """
    if width * height > MAX_PIXELS:
        raise UnusableImage(f"{width}x{height} pixels; at most {MAX_PIXELS // 10**6} million are accepted")
    if min(width, height) < MIN_SIDE_PX:
        raise UnusableImage(f"too small ({width}x{height}); expected at least {MIN_SIDE_PX}x{MIN_SIDE_PX} pixels")


def frames_note(frames: int) -> str | None:
    return f"first of {frames} frames used" if frames > 1 else None


def _load(image: Image.Image, facts: TiffFacts | None, size: int) -> Image.Image | Samples:
    if image.format in ("JPEG", "MPO"):
        factor = _DRAFT_FACTOR * size / max(image.size)
        image.draft(None, (max(1, int(image.width * factor)), max(1, int(image.height * factor))))
    color_16_bit = image.mode not in ("I;16", "I;16B", "I;16L", "I", "F") and _is_16_bit(image)
    image.load()
    if facts is not None and facts.palette is not None:
        image.putpalette(facts.palette)
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_samples(image, facts)
    return _to_rgb(image, color_16_bit)


def _is_16_bit(image: Image.Image) -> bool:
    """True if Pillow's raw mode shows 16-bit samples, of which Pillow delivers 8 bits."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", []))


def _grey_samples(image: Image.Image, facts: TiffFacts | None) -> Samples:
    values = np.asarray(image)
    if facts is not None and facts.sample_format == 1 and values.dtype == np.int32:
        values = values.view(np.uint32)  # Pillow has no mode of its own for unsigned samples of 32 bits
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UnusableImage("samples that are not finite numbers")
    kind = FLOAT_KIND if values.dtype.kind == "f" else COUNTS_KIND
    return Samples(values=values, kind=kind, counts=True, inverted=facts is not None and facts.inverted)


def _to_rgb(image: Image.Image, color_16_bit: bool) -> Image.Image:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layers = image.convert("RGBA")
        alpha = layers.getchannel("A")
        if alpha.getbbox() is None:  # written by programs that do not set the channel
            raise UnusableImage("wholly transparent (0 in all of its alpha channel); save it without")
        photo = Image.new("RGB", image.size)
        photo.paste(layers, mask=alpha)
        photo.info = image.info
    else:
        photo = image.convert("RGB")
    if color_16_bit and np.asarray(photo).max() < 16:
        raise UnusableImage("16-bit color that holds 12 bits or fewer; convert it to 8 bits first")
    return photo


def _refuse_unknown_inks(image: Image.Image) -> None:
    """Refuses a CMYK JPEG that does not say whether 0 is no ink or all of it.

    Adobe's marker says the latter. Pillow assumes it for all files, and those without the marker come out black.
    """
    if image.format in ("JPEG", "MPO") and image.mode == "CMYK" and "adobe" not in image.info:
        raise UnusableImage(
            "a CMYK JPEG file that does not say whether its inks are inverted (no Adobe marker); save it as RGB"
        )


def _read_with_tifffile(path: Path) -> FileContent:
    held, orientation, pages = read_tiff(path, tiff_facts(path), MAX_PIXELS)
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = orientation
    image = held if isinstance(held, Samples) else Image.fromarray(held).convert("RGB")
    return FileContent(image=image, info={"exif": exif.tobytes()}, note=frames_note(pages))
