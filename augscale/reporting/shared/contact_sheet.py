"""A contact sheet: views of the same images at several sets of scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from augscale.augmentation.scales import AugmentationScales, describe
from augscale.config import CropsConfig

CELL = 144
"""Side of the original and of a global view on the sheet, pixels; local views are beside them in two lines."""
GAP, LOCAL_GAP = 6, 4
LOCAL_CELL = (CELL - LOCAL_GAP) // 2
BLOCK_GAP = 40
MARGIN = 32
_INK, _SOFT, _PAPER = "#1c1c1c", "#666666", "#ffffff"
_BARS = ("#c2571a", "#1f6f8b", "#5b7f2b", "#7a4b94", "#8a6d1d", "#4a5568")
_NAME_SIZE, _TEXT_SIZE, _SMALL_SIZE = 24, 13, 12
_LINE = 18
"""Height of a line of text, pixels."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    images: int
    locals_: int
    head: int
    """Height of the captions above the views."""

    @property
    def block_width(self) -> int:
        columns = -(-self.locals_ // 2)
        return 2 * CELL + GAP + (GAP + columns * (LOCAL_CELL + LOCAL_GAP) - LOCAL_GAP if columns else 0)

    def width(self, blocks: int) -> int:
        return 2 * MARGIN + CELL + blocks * (BLOCK_GAP + self.block_width)

    @property
    def row_height(self) -> int:
        return CELL + 2 * GAP + _LINE

    @property
    def height(self) -> int:
        return 2 * MARGIN + self.head + self.images * self.row_height

    def block_left(self, block: int) -> int:
        return MARGIN + CELL + BLOCK_GAP + block * (self.block_width + BLOCK_GAP)

    def row_top(self, row: int) -> int:
        return MARGIN + self.head + row * self.row_height


def contact_sheet(
    images: npt.NDArray[np.uint8],
    scales_by_name: Mapping[str, AugmentationScales],
    crops: CropsConfig,
    *,
    seed: int = 0,
    views_per_image: int = 6,
    labels: Sequence[str] | None = None,
) -> Image.Image:
    """Draws each image in a row: the original, then a block of views per set of scales.

    All blocks use one seed, so the views of a row differ by their scales only.

    Args:
        images: uint8, shape (n, S, S, 3), n >= 1.
        scales_by_name: scales to show, in this order; names become captions.
        crops: sizes of the views; without local crops only the global ones are shown.
        seed: of the views.
        views_per_image: in each block, at least 2: two global views, the rest local (at most crops.n_local).
        labels: one per image, written under the original.
    Returns:
        An RGB image.
    Raises:
        ValueError: no images, or no scales, or fewer than two views.
    """
    if not len(images) or not scales_by_name or views_per_image < 2:
        raise ValueError("a contact sheet needs at least one image, one set of scales and two views")
    num_locals = min(views_per_image - 2, crops.n_local)
    layout = _Layout(images=len(images), locals_=num_locals, head=0)
    captions = {name: _caption(scales, crops, layout.block_width) for name, scales in scales_by_name.items()}
    lines = max(len(caption) for caption in captions.values())
    layout = _Layout(images=len(images), locals_=num_locals, head=_NAME_SIZE + 24 + (lines + 2) * _LINE)
    sheet = Image.new("RGB", (layout.width(len(scales_by_name)), layout.height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_originals(sheet, draw, images, labels, layout)
    for block, (name, scales) in enumerate(scales_by_name.items()):
        _draw_caption(draw, name, captions[name], crops, block, layout)
        _draw_views(sheet, images, scales, crops, seed, block, layout)
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _caption(scales: AugmentationScales, crops: CropsConfig, width: int) -> list[str]:
    """The description, broken into lines that fit the block."""
    font = _font(_TEXT_SIZE)
    lines = []
    for sentence in describe(scales, local_crops=crops.n_local > 0).splitlines():
        line = ""
        for word in sentence.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def _draw_originals(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    images: npt.NDArray[np.uint8],
    labels: Sequence[str] | None,
    layout: _Layout,
) -> None:
    left = MARGIN
    draw.rectangle((left, MARGIN, left + CELL, MARGIN + 4), fill="#b0b0b0")
    draw.text((left, MARGIN + 14), "original", fill=_INK, font=_font(_NAME_SIZE))
    size = f"{images.shape[1]} px"
    draw.text((left, layout.row_top(0) - _LINE), size, fill=_INK, font=_font(_SMALL_SIZE))
    for row, image in enumerate(images):
        top = layout.row_top(row)
        sheet.paste(_cell(image, CELL), (left, top))
        if labels:
            draw.text((left, top + CELL + 4), _shorten(labels[row]), fill=_SOFT, font=_font(_SMALL_SIZE))


def _shorten(label: str, most: int = 24) -> str:
    return label if len(label) <= most else "…" + label[-(most - 1) :]


def _draw_caption(
    draw: ImageDraw.ImageDraw, name: str, caption: list[str], crops: CropsConfig, block: int, layout: _Layout
) -> None:
    left = layout.block_left(block)
    bar = _BARS[block % len(_BARS)]
    draw.rectangle((left, MARGIN, left + layout.block_width, MARGIN + 4), fill=bar)
    draw.text((left, MARGIN + 14), name, fill=_INK, font=_font(_NAME_SIZE))
    for number, line in enumerate(caption):
        top = MARGIN + _NAME_SIZE + 24 + number * _LINE
        draw.text((left, top), line, fill=_SOFT, font=_font(_TEXT_SIZE))
    columns = [(f"global 1, {crops.global_size} px", left), ("global 2", left + CELL + GAP)]
    if layout.locals_:
        columns.append((f"local, {crops.local_size} px", left + 2 * (CELL + GAP)))
    for text, x in columns:
        draw.text((x, layout.row_top(0) - _LINE), text, fill=_INK, font=_font(_SMALL_SIZE))


def _draw_views(
    sheet: Image.Image,
    images: npt.NDArray[np.uint8],
    scales: AugmentationScales,
    crops: CropsConfig,
    seed: int,
    block: int,
    layout: _Layout,
) -> None:
    left = layout.block_left(block)
    for number, role in enumerate(("global1", "global2")):
        for row, view in enumerate(_views(images, scales, role, crops, seed)):
            sheet.paste(_cell(view, CELL), (left + number * (CELL + GAP), layout.row_top(row)))
    step = LOCAL_CELL + LOCAL_GAP
    for number in range(layout.locals_):
        column, line = divmod(number, 2)
        x = left + 2 * (CELL + GAP) + column * step
        for row, view in enumerate(_views(images, scales, f"local{number}", crops, seed)):
            sheet.paste(_cell(view, LOCAL_CELL), (x, layout.row_top(row) + line * step))


def _views(
    images: npt.NDArray[np.uint8], scales: AugmentationScales, role: str, crops: CropsConfig, seed: int
) -> npt.NDArray[np.uint8]:
    """uint8, shape (n, V, V, 3): one view of every image."""
    import torch

    from augscale.augmentation.draw import draw_view_parameters
    from augscale.augmentation.views import apply_views

    size = crops.local_size if role.startswith("local") else crops.global_size
    params = draw_view_parameters(
        scales,
        role,
        np.arange(len(images)),
        seed,
        image_size=images.shape[1],
        view_size=size,
        reference_size=crops.global_size,
    )
    views = apply_views(torch.from_numpy(np.array(images)), params, size)
    pixels = views.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.asarray(pixels, dtype=np.uint8)


def _cell(pixels: npt.NDArray[np.uint8], side: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.BICUBIC)
