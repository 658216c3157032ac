"""The contact sheet shows the originals and the views that training would see."""

from __future__ import annotations

import numpy as np
import pytest

from augscale.augmentation.scales import PRESETS
from augscale.config import CropsConfig
from augscale.reporting.shared.contact_sheet import CELL, contact_sheet

CROPS = CropsConfig(global_size=CELL, n_local=4, local_size=32)


@pytest.fixture
def images() -> np.ndarray:
    """uint8, shape (3, CELL, CELL, 3): smooth colours, of sheet size so that `none` is pasted unchanged."""
    ramp = np.linspace(0, 255, CELL).astype(np.uint8)
    image = np.stack([*np.meshgrid(ramp, ramp), np.full((CELL, CELL), 90, np.uint8)], axis=-1)
    return np.stack([image, image[::-1], 255 - image])


def find(sheet: np.ndarray, image: np.ndarray) -> list[tuple[int, int]]:
    """Where the image stands on the sheet, pixel by pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (CELL, CELL, 3))[:, :, 0]
    corners = (windows[:, :, 0, 0] == image[0, 0]).all(axis=-1) & (windows[:, :, -1, -1] == image[-1, -1]).all(axis=-1)
    return [(y, x) for y, x in np.argwhere(corners) if np.array_equal(windows[y, x], image)]


def test_originals_come_first_and_none_repeats_them(images: np.ndarray) -> None:
    sheet = np.asarray(contact_sheet(images, {"none": PRESETS["none"]}, CROPS))
    tops = []
    for image in images:
        places = find(sheet, image)
        assert len(places) == 3
        assert len({y for y, _ in places}) == 1
        tops.append(places[0][0])
    assert tops == sorted(set(tops))


def test_a_block_is_added_per_scales_and_blocks_of_equal_scales_are_equal(images: np.ndarray) -> None:
    one = contact_sheet(images, {"a": PRESETS["strong"]}, CROPS)
    two = contact_sheet(images, {"a": PRESETS["strong"], "b": PRESETS["strong"]}, CROPS)
    assert two.height == one.height
    step = two.width - one.width
    pixels = np.asarray(two)
    top = next(y for y, _ in find(pixels, images[0]))
    first, second = pixels[top:, -2 * step : -step], pixels[top:, -step:]
    assert np.array_equal(first, second)


def test_weaker_scales_show_views_nearer_to_the_original(images: np.ndarray) -> None:
    def distance(name: str) -> float:
        sheet = np.asarray(contact_sheet(images, {"x": PRESETS[name]}, CROPS, seed=1)).astype(float)
        none = np.asarray(contact_sheet(images, {"x": PRESETS["none"]}, CROPS, seed=1)).astype(float)
        return float(np.abs(sheet[-400:, :420] - none[-400:, :420]).mean())

    assert 0 < distance("weak") < distance("strong")


def test_seed_decides_the_views(images: np.ndarray) -> None:
    sheets = [np.asarray(contact_sheet(images, {"x": PRESETS["strong"]}, CROPS, seed=seed)) for seed in (0, 0, 1)]
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[0], sheets[2])


def test_sheet_without_local_crops_is_narrower(images: np.ndarray) -> None:
    crops = CropsConfig(global_size=48, n_local=0, local_size=24)
    with_locals = contact_sheet(images, {"x": PRESETS["strong"]}, CROPS)
    without = contact_sheet(images, {"x": PRESETS["strong"]}, crops, labels=["a", "b", "c" * 80])
    assert without.width < with_locals.width


def test_a_caption_says_nothing_of_local_crops_that_are_not_drawn(images: np.ndarray) -> None:
    """Scales that differ in nothing else give the same sheet."""
    other = PRESETS["strong"].model_copy(
        update={"local_crops_scale": (0.5, 0.7), "blur_p": (1.0, 0.1, 0.9), "solarize_p": (0.0, 0.2, 0.9)}
    )
    for n_local, same in ((0, True), (1, False)):
        crops = CropsConfig(global_size=48, n_local=n_local, local_size=24)
        # With two views per image only captions can differ.
        one, two = (contact_sheet(images, {"x": s}, crops, views_per_image=2) for s in (PRESETS["strong"], other))
        assert np.array_equal(np.asarray(one), np.asarray(two)) == same


def test_empty_sheets_are_refused(images: np.ndarray) -> None:
    for pictures, scales, views in ((images[:0], PRESETS, 6), (images, {}, 6), (images, PRESETS, 1)):
        with pytest.raises(ValueError, match="at least one image, one set of scales and two views"):
            contact_sheet(pictures, scales, CROPS, views_per_image=views)
