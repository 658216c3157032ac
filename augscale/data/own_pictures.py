"""Marks the pictures that augscale writes, so that a search does not train on those that lie among the images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

MARK = "written by augscale"
_SOFTWARE_TAG = 0x0131
_HEAD_BYTES, _TAIL_BYTES = 2048, 512


def save_options(image_format: str) -> dict[str, Any]:
    """Arguments for Pillow's `save` that put the mark into the file.

    Args:
        image_format: Pillow's name. PNG, JPEG, WEBP and TIFF can carry the mark; other formats are saved without.
    """
    from PIL import Image, PngImagePlugin

    if image_format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Software", MARK)
        return {"pnginfo": text}
    if image_format == "JPEG":
        return {"comment": MARK}
    if image_format == "WEBP":
        exif = Image.Exif()
        exif[_SOFTWARE_TAG] = MARK
        return {"exif": exif}
    return {"software": MARK} if image_format == "TIFF" else {}


def is_own_picture(path: Path) -> bool:
    """True if the first 2048 or last 512 bytes hold the mark, where `save_options` puts it; raises OSError."""
    mark = MARK.encode()
    with path.open("rb") as file:
        if mark in file.read(_HEAD_BYTES):
            return True
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        return mark in file.read(_TAIL_BYTES)
