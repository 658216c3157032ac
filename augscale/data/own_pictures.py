"""Pictures that augscale writes carry a mark, so that a folder of images in which they lie does not train on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

MARK = "written by augscale"
_SOFTWARE_TAG = 0x0131
_HEAD_BYTES, _TAIL_BYTES = 2048, 512


def save_options(image_format: str) -> dict[str, Any]:
    """What to hand to Pillow's `save` so that the file carries the mark.

    Args:
        image_format: as Pillow names it. PNG, JPEG, WEBP and TIFF can carry the mark; others are saved without.
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
    """Whether the file carries the mark in its first 2048 or last 512 bytes, where `save_options` puts it.

    Raises:
        OSError: it cannot be read.
    """
    mark = MARK.encode()
    with path.open("rb") as file:
        if mark in file.read(_HEAD_BYTES):
            return True
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        return mark in file.read(_TAIL_BYTES)
