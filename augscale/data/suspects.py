"""Draws a contact sheet of the images that the check before training found odd, each with its finding."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from augscale.data.own_pictures import save_options
from augscale.runs.files import write_bytes_atomic

SUSPECTS_FILE = "suspects.png"
_TILE_PX, _TEXT_PX, _GAP_PX, _COLUMNS = 144, 28, 8, 6
_TEXT_LENGTH = 24


def write_suspects(
    folder: Path, images: npt.NDArray[np.uint8], suspects: Sequence[tuple[int, str, str]]
) -> Path | None:
    """Writes `suspects.png`, or removes an older one where there is nothing to show.

    Args:
        folder: the run folder.
        images: uint8, shape (N, S, S, 3).
        suspects: row, kind of finding, and image id of each image to show.
    """
    path = folder / SUSPECTS_FILE
    if not suspects:
        path.unlink(missing_ok=True)
        return None
    buffer = io.BytesIO()
    _sheet(images, suspects).save(buffer, format="PNG", **save_options("PNG"))
    write_bytes_atomic(path, buffer.getvalue())
    return path


def _sheet(images: npt.NDArray[np.uint8], suspects: Sequence[tuple[int, str, str]]) -> Image.Image:
    step_x, step_y = _TILE_PX + _GAP_PX, _TILE_PX + _TEXT_PX + _GAP_PX
    columns, lines = min(_COLUMNS, len(suspects)), -(-len(suspects) // _COLUMNS)
    sheet = Image.new("RGB", (columns * step_x + _GAP_PX, lines * step_y + _GAP_PX), (238, 238, 238))
    draw = ImageDraw.Draw(sheet)
    for index, (row, kind, image_id) in enumerate(suspects):
        left, top = _GAP_PX + index % _COLUMNS * step_x, _GAP_PX + index // _COLUMNS * step_y
        tile = Image.fromarray(np.asarray(images[row])).resize((_TILE_PX, _TILE_PX), Image.Resampling.BICUBIC)
        sheet.paste(tile, (left, top))
        name = image_id.encode("ascii", "replace").decode()  # Pillow's own font has no other characters
        draw.text((left, top + _TILE_PX + 1), kind, fill=(150, 30, 30))
        draw.text((left, top + _TILE_PX + 13), name[-_TEXT_LENGTH:], fill=(60, 60, 60))
    return sheet
