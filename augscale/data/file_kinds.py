"""What kind of samples a file holds, from its first bytes and header: which files share a range of grey levels."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, TiffImagePlugin

from augscale.data.dicom import UnusableDicom, dicom_kind, looks_like_dicom
from augscale.data.tiff import COUNTS_KIND, TIFF_MAGICS, UnusableTiff, facts_of, skip_thumbnails, tiff_facts

_HEAD_BYTES = 132
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_OPTIONAL_DECODERS = (
    "pydicom",
    "pylibjpeg",
    "libjpeg",
    "openjpeg",
    "rle",
    "jpeg_ls",
    "gdcm",
    "tifffile",
    "imagecodecs",
)


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """What is known of a file before it is decoded.

    Attributes:
        plain: 8 bits, read by Pillow alone: its pixels depend on nothing else.
        kind: as `Samples.kind`; None where the file needs no range.
    """

    plain: bool
    kind: str | None = None


PLAIN = FileKind(plain=True)


def file_kind(path: Path, *, use_window: bool = True) -> FileKind:
    """Looks at a file; one that is damaged, or no image, is called plain, and is refused when it is decoded.

    Args:
        path: any file.
        use_window: whether DICOM files are shown by their own window where they have one.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return PLAIN
    if head.startswith(_PNG_MAGIC):
        grey_16_bit = head[24:26] == b"\x10\0"  # bit depth and colour type of the header chunk
        return FileKind(plain=not grey_16_bit, kind=COUNTS_KIND if grey_16_bit else None)
    if head.startswith(TIFF_MAGICS):
        return _tiff_kind(path)
    if looks_like_dicom(head):
        try:
            return FileKind(plain=False, kind=dicom_kind(path, use_window=use_window))
        except UnusableDicom:
            return FileKind(plain=False)
    return PLAIN


def installed_decoders() -> list[str]:
    """The optional packages that decide which files that are not plain can be read."""
    return [name for name in _OPTIONAL_DECODERS if find_spec(name) is not None]


def _tiff_kind(path: Path) -> FileKind:
    try:
        with Image.open(path, formats=("TIFF",)) as image:
            assert isinstance(image, TiffImagePlugin.TiffImageFile)
            skipped = skip_thumbnails(image)
            facts = facts_of(image.tag_v2)
        by_pillow = not (facts.misread_by_pillow or facts.palette or skipped)
        plain = facts.kind is None and by_pillow
        return FileKind(plain=plain, kind=facts.kind)
    except Exception:  # what Pillow cannot open; damaged files raise almost anything
        try:
            return FileKind(plain=False, kind=tiff_facts(path).kind)
        except UnusableTiff:
            return PLAIN
