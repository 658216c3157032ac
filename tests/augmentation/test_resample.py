"""Crop, flip and resize against torchvision, one image at a time."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as tvf
from torchvision.transforms.functional import InterpolationMode

from augscale.augmentation.draw import ViewParameters, draw_view_parameters
from augscale.augmentation.resample import Interpolation, crop_resize_by_products, crop_resize_one_by_one
from augscale.augmentation.resample import crop_resize as crop_resize_anywhere
from augscale.augmentation.scales import AugmentationScales

FLIPS = AugmentationScales(vertical_flip_p=0.5, global_crops_scale=(0.05, 1.0), aspect_ratio=(0.5, 2.0))

WAYS = {"one by one": crop_resize_one_by_one, "by products": crop_resize_by_products}


class CropResize(Protocol):
    def __call__(
        self, images: Tensor, params: ViewParameters, view_size: int, interpolation: Interpolation = "bicubic"
    ) -> Tensor: ...


@pytest.fixture(params=WAYS)
def crop_resize(request: pytest.FixtureRequest) -> CropResize:
    """What CPUs use and what GPUs use, row i of the parameters for image i."""
    way = WAYS[request.param]
    return lambda images, params, view_size, interpolation="bicubic": way(
        images, params, np.arange(len(params)), view_size, interpolation
    )


def draw(images: Tensor, view_size: int, scales: AugmentationScales = FLIPS, seed: int = 0) -> ViewParameters:
    return draw_view_parameters(
        scales,
        "global1",
        np.arange(len(images)),
        seed,
        image_size=images.shape[1],
        view_size=view_size,
        reference_size=64,
    )


def torchvision_views(images: Tensor, params: ViewParameters, view_size: int, mode: InterpolationMode) -> Tensor:
    views = []
    for i, image in enumerate(images):
        box = (int(params.top[i]), int(params.left[i]), int(params.height[i]), int(params.width[i]))
        view = tvf.resized_crop(image.permute(2, 0, 1) / 255, *box, [view_size, view_size], mode, antialias=True)
        view = tvf.hflip(view) if params.horizontal_flip[i] else view
        views.append(tvf.vflip(view) if params.vertical_flip[i] else view)
    return torch.stack(views).clamp(0, 1)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("view_size", [16, 31, 64, 96, 150])
def test_views_of_photographs_equal_torchvisions(
    crop_resize: CropResize, photographs: Tensor, mode: str, view_size: int
) -> None:
    for seed in range(3):
        params = draw(photographs, view_size, seed=seed)
        views = crop_resize(photographs, params, view_size, mode)  # type: ignore[arg-type]
        expected = torchvision_views(photographs, params, view_size, InterpolationMode(mode))
        assert (views - expected).abs().max() < 2e-5


def test_nothing_outside_the_crop_is_seen(crop_resize: CropResize) -> None:
    images = torch.randint(0, 256, (16, 70, 70, 3), dtype=torch.uint8)
    params = draw(images, 40)
    views = crop_resize(images, params, 40)
    for i in range(len(images)):
        outside = torch.ones(70, 70, dtype=torch.bool)
        outside[params.top[i] : params.top[i] + params.height[i], params.left[i] : params.left[i] + params.width[i]] = (
            False
        )
        images[i][outside] = 255 - images[i][outside]
    assert torch.equal(crop_resize(images, params, 40), views)


def test_full_image_at_equal_size_is_the_image_bit_for_bit(crop_resize: CropResize) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(3 * 48 * 48 * 4 // 256).reshape(4, 48, 48, 3)
    full = AugmentationScales(global_crops_scale=(1.0, 1.0), aspect_ratio=(1.0, 1.0), horizontal_flip_p=0)
    for mode in ("bicubic", "bilinear"):
        views = crop_resize(images, draw(images, 48, full), 48, mode)  # type: ignore[arg-type]
        assert torch.equal(views, images.permute(0, 3, 1, 2).float().mul(1 / 255))
        assert torch.equal((views * 255).round().to(torch.uint8), images.permute(0, 3, 1, 2))


def test_flips_at_full_size_mirror_the_pixels(crop_resize: CropResize) -> None:
    images = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8)
    scales = AugmentationScales(global_crops_scale=(1.0, 1.0), aspect_ratio=(1.0, 1.0), vertical_flip_p=0.5)
    params = draw(images, 32, scales)
    views = crop_resize(images, params, 32)
    assert 0 < params.horizontal_flip.sum() < 40
    for i in range(40):
        axes = [axis for axis, flip in ((2, params.horizontal_flip[i]), (1, params.vertical_flip[i])) if flip]
        assert torch.equal(views[i], images[i].permute(2, 0, 1).float().mul(1 / 255).flip(axes))


def test_autocast_does_not_coarsen_the_views(crop_resize: CropResize, photographs: Tensor) -> None:
    params = draw(photographs, 48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = crop_resize(photographs, params, 48)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, crop_resize(photographs, params, 48))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_no_views_are_none(device: str) -> None:
    params = draw_view_parameters(FLIPS, "local0", np.arange(0), 0, image_size=32, view_size=16, reference_size=16)
    images = torch.empty(0, 32, 32, 3, dtype=torch.uint8, device=device)
    assert crop_resize_anywhere(images, params, 16).shape == (0, 3, 16, 16)
