"""Reads any image file, and finds the kind of its samples beforehand; files of one kind share a grey range."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from augscale.data.file_types import why_not_an_image
from augscale.data.formats.dicom import dicom_kind, is_dicom, looks_like_dicom, read_dicom
from augscale.data.formats.photos import MAX_PIXELS, FileContent, frames_note, read_photo
from augscale.data.formats.tiff import COUNTS_KIND, TIFF_MAGICS, facts_of, skip_thumbnails, tiff_facts
from augscale.data.image_records import UnusableImage

_HEAD_BYTES = 132
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_OPTIONAL_DECODERS = (
    *("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle", "jpeg_ls", "gdcm"),
    *("tifffile", "imagecodecs"),
)


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """Facts about a file before it is decoded.

    Attributes:
        plain: 8 bits, read by Pillow alone: the pixels depend on nothing else.
        kind: see `Samples.kind`; None if the file needs no range.
    """

    plain: bool
    kind: str | None = None


PLAIN = FileKind(plain=True)


def read_file(path: Path, size: int, *, use_window: bool = True) -> FileContent:
    """Reads an image file, recognized by its content.

    Args:
        path: any file.
        size: pixels needed along the longest side; a JPEG may be decoded at a reduced scale.
        use_window: apply the window or VOI LUT of a DICOM file if it has one.
    Raises:
        UnusableImage: with the reason.
    """
    try:
        if os.path.getsize(path) == 0:
            raise UnusableImage("empty file")
        if not is_dicom(path):
            return read_photo(path, size)
        samples, frames = read_dicom(path, MAX_PIXELS, use_window=use_window)
        return FileContent(image=samples, note=frames_note(frames))
    except UnusableImage:
        raise
    except UnidentifiedImageError:
        raise UnusableImage(why_not_an_image(path)) from None
    except Image.DecompressionBombError:
        raise UnusableImage(f"more than {MAX_PIXELS // 10**6} million pixels") from None
    except OSError as error:
        raise UnusableImage(f"cannot be decoded ({error.strerror or error})") from None
    except Exception as error:  # a damaged file makes decoders raise almost anything; none of it may stop a run
        raise UnusableImage(f"cannot be decoded ({type(error).__name__}: {error})") from None


def file_kind(path: Path, *, use_window: bool = True) -> FileKind:
    """The kind of a file from its header; damaged files and other types count as plain and are refused when decoded.

    Args:
        path: any file.
        use_window: see `read_file`.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return PLAIN
    if head.startswith(_PNG_MAGIC):
        grey_16_bit = head[24:26] == b"\x10\0"  # bit depth and color type of the header chunk
        return FileKind(plain=not grey_16_bit, kind=COUNTS_KIND if grey_16_bit else None)
    if head.startswith(TIFF_MAGICS):
        return _tiff_kind(path)
    if looks_like_dicom(head):
        try:
            return FileKind(plain=False, kind=dicom_kind(path, use_window=use_window))
        except UnusableImage:
            return FileKind(plain=False)
    return PLAIN


def installed_decoders() -> list[str]:
    """The installed optional packages; they decide which files other than plain ones can be read."""
    return [name for name in _OPTIONAL_DECODERS if find_spec(name) is not None]


def _tiff_kind(path: Path) -> FileKind:
    try:
        with Image.open(path, formats=("TIFF",)) as image:
            assert isinstance(image, TiffImagePlugin.TiffImageFile)
            skipped = skip_thumbnails(image)
            facts = facts_of(image.tag_v2)
        by_pillow = not (facts.misread_by_pillow or facts.palette or skipped)
        return FileKind(plain=facts.kind is None and by_pillow, kind=facts.kind)
    except Exception:  # files that Pillow cannot open; damaged files raise almost anything
        try:
            return FileKind(plain=False, kind=tiff_facts(path).kind)
        except UnusableImage:
            return PLAIN
