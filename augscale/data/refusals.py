"""Why an image file is refused: what it is where it is none that is read, and pixels that nobody can know."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from augscale.data.passed_over import UnsupportedImage, verdict_by_content

_HEAD_BYTES = 256
_JPEG_MAGIC = b"\xff\xd8\xff"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def why_not_an_image(path: Path) -> str:
    """What a file is that Pillow does not know.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_HEAD_BYTES).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "not an image file (a web page)"
    if start.startswith(_LFS_POINTER):
        return "not an image file (a pointer of git-lfs in its place; fetch the images with `git lfs pull`)"
    if start.startswith(_JPEG_MAGIC):
        return "a JPEG file of a kind that is not read (12 bits, JPEG-LS), or its header is damaged; convert it to PNG"
    verdict = verdict_by_content(path)
    if isinstance(verdict, UnsupportedImage):
        return f"not an image file that is read: {verdict.reason}"
    return "not an image file (no JPEG, PNG, TIFF, WebP, BMP or DICOM, or its header is damaged)"


def why_inks_are_unknown(image: Image.Image) -> str | None:
    """Whether a CMYK JPEG leaves open if 0 is no ink or all of it; None where it is known.

    Adobe's marker says the latter. Pillow takes that of all files, and those without the marker come out black.
    """
    if image.format not in ("JPEG", "MPO") or image.mode != "CMYK" or "adobe" in image.info:
        return None
    return "a CMYK JPEG file that does not say whether its inks are inverted (no Adobe marker); save it as RGB"


def why_nothing_is_seen(alpha: Image.Image) -> str | None:
    """Whether a channel of opacity hides the whole picture, as programs write that leave it unset."""
    return "wholly transparent (0 in all of its alpha channel); save it without" if alpha.getbbox() is None else None
