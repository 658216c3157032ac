"""Reads facts about TIFF files from their tags, and decodes with tifffile (extra `tiff`) those that Pillow misreads.

Pillow takes signed 8-bit samples for unsigned ones, the first of separate 16-bit planes for all of them, compressed
big-endian samples that are signed or have 32 bits for little-endian ones, and grey files without a photometric
interpretation for MINISWHITE. It knows no floating point of 16 or 64 bits and no color of floating point.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import TiffImagePlugin

from augscale.data.grey_levels import Samples
from augscale.data.image_records import UnusableImage

TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_FORMATS = {_UNSIGNED: "unsigned", _SIGNED: "signed", _FLOAT: "floating point", 5: "complex", 6: "complex"}
_MINISWHITE, _MINISBLACK, _RGB = 0, 1, 2
_PHOTOMETRIC = {3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
_PHOTOMETRIC |= {32803: "CFA", 32844: "LogL", 32845: "LogLuv"}
_SEPARATE, _UNCOMPRESSED = 2, 1
_COLOR_MAP = 320
_SUBFILE_TYPE, _REDUCED = 254, 1
COUNTS_KIND, FLOAT_KIND = "grey of more than 8 bits", "floating point"
"""Files of one kind in one source share a range. PNG and TIFF are one kind."""


@dataclass(frozen=True, kw_only=True)
class TiffFacts:
    """Facts about the samples of the first page."""

    bits: tuple[int, ...]
    sample_format: int
    photometric: int
    separate: bool
    channels: int
    swapped: bool = False
    """True if Pillow exchanges the bytes of each sample although libtiff has already put them in order."""
    has_photometric: bool = True
    """True if the photometric interpretation is given."""
    palette: bytes | None = None
    """Red, green and blue of each color of a palette that holds 8 bits in 16; Pillow would
    use the upper byte, which is 0."""

    @property
    def name(self) -> str:
        """e.g. "a TIFF file of 3 separate planes of 16 bits, unsigned"."""
        bits = "/".join(str(number) for number in sorted(set(self.bits)))
        what = f"{_PHOTOMETRIC[self.photometric]} " if self.photometric in _PHOTOMETRIC else ""
        many = f"{self.channels} {'separate planes' if self.separate else 'channels'} of " if self.channels > 1 else ""
        return f"a {what}TIFF file of {many}{bits} bits, {_FORMATS.get(self.sample_format, 'untyped')}"

    @property
    def kind(self) -> str | None:
        """See `Samples`; None for files of 8 bits and color files of 16 bits, which need no range."""
        if self.sample_format == _FLOAT:
            return FLOAT_KIND
        color = self.photometric not in (_MINISWHITE, _MINISBLACK)
        wide = self.sample_format == _SIGNED or max(self.bits) > (16 if color else 8)
        return COUNTS_KIND if wide else None

    @property
    def misread_by_pillow(self) -> bool:
        """True if Pillow opens the file and delivers other values than it holds."""
        if max(self.bits) <= 8:
            taken_for_white = not self.has_photometric and self.channels == 1
            return self.swapped or taken_for_white or self.sample_format == _SIGNED
        return self.swapped or (self.separate and self.channels > 1)

    @property
    def inverted(self) -> bool:
        """True if low values are bright."""
        return self.photometric == _MINISWHITE


def is_tiff(path: Path) -> bool:
    """True if the file begins like a TIFF; raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return file.read(4) in TIFF_MAGICS


def facts_of(tags: Mapping[int, Any]) -> TiffFacts:
    """Facts from the tags of a page."""
    channels = int(tags.get(277, 1))
    formats = tags.get(339, (_UNSIGNED,))
    found = tags.get(258, (1,))
    bits = tuple(int(number) for number in (found if isinstance(found, tuple) else (found,)))
    sample_format = int(formats[0] if isinstance(formats, tuple) else formats)
    compressed_big_endian = getattr(tags, "prefix", b"II") == b"MM" and int(tags.get(259, 1)) != _UNCOMPRESSED
    wide = max(bits) >= 32 or (max(bits) == 16 and sample_format == _SIGNED)
    return TiffFacts(
        bits=bits,
        sample_format=sample_format,
        photometric=int(tags.get(262, _MINISBLACK)),
        separate=int(tags.get(284, 1)) == _SEPARATE,
        channels=channels,
        swapped=compressed_big_endian and wide,
        has_photometric=262 in tags,
        palette=_palette_of_8_bits(tags.get(_COLOR_MAP)),
    )


def _palette_of_8_bits(entries: Any) -> bytes | None:
    """Red, green and blue of each color if all entries of a palette are below 256, which is libtiff's criterion."""
    if not isinstance(entries, tuple) or len(entries) % 3 or not 0 < max(entries, default=0) < 256:
        return None
    return np.array(entries, dtype=np.uint8).reshape(3, -1).T.tobytes()


def skip_thumbnails(image: TiffImagePlugin.TiffImageFile) -> int:
    """Moves to the first page that is not a reduced copy of another; returns the number of pages before it."""
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        if not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & _REDUCED:
            return number
    image.seek(0)
    return 0


def tiff_facts(path: Path) -> TiffFacts:
    """Reads the tags of the first page, also in files that Pillow cannot open; raises UnusableImage if damaged."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            head += file.read(8) if head[2:3] == b"+" else b""
            directory = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(directory.next)
            directory.load(file)
            return facts_of(directory)
    except Exception as error:  # a damaged directory raises almost anything
        raise UnusableImage(f"a TIFF file whose header is damaged ({type(error).__name__})") from None


def read_tiff(path: Path, facts: TiffFacts, max_pixels: int) -> tuple[Samples | npt.NDArray[np.uint8], int, int]:
    """Decodes the first page with tifffile.

    Args:
        path: a TIFF file.
        facts: from `tiff_facts`.
        max_pixels: larger images are refused before they are decoded.
    Returns:
        Samples, or finished pixels, uint8, shape (H, W) or (H, W, 3); the orientation tag; the number of pages.
    Raises:
        UnusableImage: tifffile is missing, or the content is not supported; the message names it.
    """
    if facts.photometric not in (_MINISWHITE, _MINISBLACK, _RGB) or facts.sample_format not in (1, 2, 3):
        raise UnusableImage(f"{facts.name}; not supported: convert it to grey or RGB of 8 or 16 bits")
    if facts.channels != (3 if facts.photometric == _RGB else 1):
        raise UnusableImage(f"{facts.name}; expected 1 channel, or 3 of RGB")
    if find_spec("tifffile") is None:
        raise UnusableImage(f"{facts.name}; reading it needs `pip install augscale[tiff]`")
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # a damaged file is refused with a reason
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.imagewidth * page.imagelength > max_pixels:
            raise UnusableImage(
                f"{page.imagewidth}x{page.imagelength} pixels; at most {max_pixels // 10**6} million are accepted"
            )
        _refuse_missing_data(page, path.stat().st_size, facts)
        try:
            values = page.asarray(maxworkers=1)
        except Exception as error:  # codecs raise almost anything
            raise UnusableImage(f"{facts.name}; cannot be decoded ({str(error) or type(error).__name__})") from None
        orientation = page.tags[274].value if 274 in page.tags else 1
        pages = len(file.pages)
    if facts.channels > 1 and facts.separate:
        values = np.moveaxis(values, 0, -1)
    if values.ndim != (3 if facts.channels > 1 else 2):
        raise UnusableImage(f"{facts.name}; its shape {values.shape} is not supported")
    return _finished(np.ascontiguousarray(values), facts), int(orientation), pages


def _refuse_missing_data(page: Any, file_size: int, facts: TiffFacts) -> None:
    """Refuses truncated files: tifffile would fill the missing part with zeros."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    whole = all(offset > 0 and count > 0 and offset + count <= file_size for offset, count in segments)
    if not whole or len(segments) != math.prod(page.chunked):
        raise UnusableImage(f"{facts.name}; part of its data is missing (truncated or damaged)")


def _finished(values: npt.NDArray[Any], facts: TiffFacts) -> Samples | npt.NDArray[np.uint8]:
    if facts.kind is None and values.dtype == np.uint16:
        if values.max() < 16 * 256:
            raise UnusableImage("16-bit color that holds 12 bits or fewer; convert it to 8 bits first")
        return (values >> 8).astype(np.uint8)  # as Pillow reads 16-bit color that is not separate
    if facts.kind is None and values.dtype == bool:
        values = values.astype(np.uint8)
    if facts.kind is None and values.dtype == np.uint8:
        top = 2 ** max(facts.bits) - 1
        if top < 255:
            values = (values * (255.0 / top)).round().astype(np.uint8)
        return ~values if facts.inverted else values
    if facts.kind is None:
        raise UnusableImage(f"{facts.name}, which its data are not ({values.dtype})")
    if not np.isfinite(values).all():
        raise UnusableImage("samples that are not finite numbers")
    return Samples(values=values, kind=facts.kind, counts=True, inverted=facts.inverted)
