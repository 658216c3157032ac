"""Writes docs/images/views.png: views of two built-in photographs at `none`, `weak` and `strong`.

    python docs/make_views.py

The photographs are procedural. All blocks of a row have the same seed, so they differ by their scales only.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import augscale
from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.config import CropsConfig
from augscale.data.own_pictures import save_options
from augscale.demo import render

PICTURE = Path(__file__).parent / "images" / "views.png"
PHOTOGRAPHS = ("synthetic/p0195/right/0", "synthetic/p0255/left/0")
SCALES = ("none", "weak", "strong")
SEED = 5
IMAGE_SIZE, VIEW_SIZE, LOCAL_SIZE = 256, 92, 44
GAP, BLOCK_GAP, HEAD = 4, 24, 52
"""Space between views, between blocks, and above the views for the captions, pixels."""
CROPS = CropsConfig(global_size=VIEW_SIZE, n_local=4, local_size=LOCAL_SIZE)


def picture() -> bytes:
    """The PNG file."""
    images = np.stack([render(name, 0, IMAGE_SIZE) for name in PHOTOGRAPHS])
    blocks = [[Image.fromarray(image).resize((VIEW_SIZE, VIEW_SIZE), Image.Resampling.LANCZOS)] for image in images]
    columns = [_block_of_originals(blocks), *(_block(images, name) for name in SCALES)]
    width = sum(column.width for column in columns) + BLOCK_GAP * (len(columns) - 1)
    sheet = Image.new("RGB", (width, columns[0].height), "white")
    left = 0
    for column in columns:
        sheet.paste(column, (left, 0))
        left += column.width + BLOCK_GAP
    file = BytesIO()
    sheet.save(file, format="PNG", optimize=True, **save_options("PNG"))
    return file.getvalue()


def _block_of_originals(rows: list[list[Image.Image]]) -> Image.Image:
    return _with_caption("image", "", rows, [(0, 0)], VIEW_SIZE)


def _block(images: NDArray[np.uint8], name: str) -> Image.Image:
    """Two global views and four local views of each image."""
    scales = augscale.load_scales(name)
    make_views = augscale.MultiCropViews(scales, CROPS, IMAGE_SIZE, SEED)
    views = make_views(torch.from_numpy(images), np.arange(len(images)))
    global_views, local_views = _pictures(views.global_crops), _pictures(views.local_crops)
    rows = [global_views[row :: len(images)] + local_views[row :: len(images)] for row in range(len(images))]
    step, local_step = VIEW_SIZE + GAP, LOCAL_SIZE + GAP
    places = [(0, 0), (step, 0)]
    places += [(2 * step + x * local_step, y * local_step) for y in range(2) for x in range(2)]
    areas = [_percent(area) for area in (scales.global_crops_scale, scales.local_crops_scale)]
    caption = f"global {areas[0]}, local {areas[1]} of the image"
    return _with_caption(name, caption, rows, places, 3 * VIEW_SIZE + 2 * GAP)


def _percent(area: tuple[float, float]) -> str:
    low, high = (f"{100 * value:.0f}" for value in area)
    return f"{high} %" if low == high else f"{low} to {high} %"


def _pictures(views: torch.Tensor) -> list[Image.Image]:
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = (views * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
    return [Image.fromarray(view.permute(1, 2, 0).numpy()) for view in pixels]


def _with_caption(
    name: str, caption: str, rows: list[list[Image.Image]], places: list[tuple[int, int]], width: int
) -> Image.Image:
    block = Image.new("RGB", (width, HEAD + len(rows) * (VIEW_SIZE + GAP) - GAP), "white")
    draw = ImageDraw.Draw(block)
    draw.text((0, 0), name, fill="#1c1c1c", font=ImageFont.load_default(size=20))
    draw.text((0, 29), caption, fill="#555555", font=ImageFont.load_default(size=12))
    for number, row in enumerate(rows):
        for view, (x, y) in zip(row, places, strict=True):
            block.paste(view, (x, HEAD + number * (VIEW_SIZE + GAP) + y))
    return block


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(picture())
