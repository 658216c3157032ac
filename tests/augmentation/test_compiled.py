"""All views at once against the images of each operation picked out, which is checked against torchvision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_photometric import EVERYTHING, draw
from torch import Tensor

from augscale.augmentation import compiled
from augscale.augmentation.compiled import color, color_numbers, compiled_color
from augscale.augmentation.photometric import color_jitter, to_grayscale
from augscale.augmentation.scales import PRESETS, AugmentationScales
from augscale.augmentation.views import MultiCropViews
from augscale.config import CropsConfig


@pytest.fixture
def views(photographs: Tensor) -> Tensor:
    """float32, shape (24, 3, 48, 48): patches of photographs, and edge cases of colour."""
    patches = photographs[:, :48, :].unfold(2, 48, 48).permute(0, 2, 3, 1, 4).reshape(24, 3, 48, 48)
    views = patches.float().div(255)
    views[0], views[1], views[2] = 0.0, 1.0, 0.5
    views[3] = torch.randint(0, 2, (3, 48, 48), generator=torch.Generator().manual_seed(1)).float()
    return views.contiguous()


def one_by_one(views: Tensor, scales: AugmentationScales, seed: int) -> Tensor:
    params, views = draw(len(views), scales, seed), views.clone()
    color_jitter(views, params)
    to_grayscale(views, params.grayscale)
    return views


def at_once(views: Tensor, scales: AugmentationScales, seed: int) -> Tensor:
    numbers = color_numbers(draw(len(views), scales, seed))
    return color(255 * views, *(torch.from_numpy(array) for array in numbers))


def multi_crop(scales: AugmentationScales, *, compiled: bool) -> MultiCropViews:
    crops = CropsConfig(global_size=48, n_local=3, local_size=24)
    return MultiCropViews(scales, crops, image_size=96, seed=0, compiled=compiled)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scales", [EVERYTHING, PRESETS["strong"], PRESETS["weak"]], ids=["all", "strong", "weak"])
def test_colours_are_what_the_operations_make_of_them_one_by_one(views: Tensor, scales: AugmentationScales, seed: int):
    found = at_once(views, scales, seed)
    torch.testing.assert_close(found, one_by_one(views, scales, seed), rtol=0, atol=2e-6)
    assert not torch.allclose(found, views, atol=1e-3)


def test_without_jitter_and_grayscale_the_views_stay(views: Tensor):
    scales = EVERYTHING.model_copy(update={"jitter_p": 0.0, "grayscale_p": 0.0})
    torch.testing.assert_close(at_once(views, scales, 0), views, rtol=0, atol=1e-6)


def test_every_jittered_view_gets_every_operation_once():
    params = draw(300)
    phases, whole = color_numbers(params)
    assert phases.shape == (2, 10, 300)
    assert phases.dtype == whole.dtype == np.float32
    factors = np.where(params.jitter[:, None], params.factors, [1, 1, 1, 0]).astype(np.float32)
    scales = phases[:, [0, 2, 6, 8]].prod(axis=(0, 1))
    np.testing.assert_allclose(scales, factors[:, 0] * factors[:, 2], rtol=1e-6)
    np.testing.assert_allclose(phases[:, [1, 3, 7, 9]].sum(axis=(0, 1)), 1 - factors[:, 2], atol=1e-6)
    np.testing.assert_array_equal(phases[:, 4].sum(axis=0), factors[:, 3])
    np.testing.assert_array_equal(phases[:, 5].sum(axis=0), params.jitter)
    np.testing.assert_array_equal(whole, [factors[:, 1], params.grayscale])


@pytest.mark.parametrize("name", ["all", "strong", "weak", "weak+med"])
def test_views_are_what_they_are_without(photographs: Tensor, name: str, monkeypatch: pytest.MonkeyPatch):
    """As written, on a CPU: crops by products, order of windows, colours, solarise, medical transforms."""
    monkeypatch.setattr(compiled, "compiled_version", lambda function: function)
    scales, ids = EVERYTHING if name == "all" else PRESETS[name], np.arange(12)
    found = multi_crop(scales, compiled=True)(photographs, ids)
    expected = multi_crop(scales, compiled=False)(photographs, ids)
    _assert_equal(found, expected)


@pytest.mark.slow
def test_compiled_on_a_cpu_colours_are_the_same(views: Tensor):
    found = compiled_color(255 * views, draw(len(views)))
    torch.testing.assert_close(found, one_by_one(views, EVERYTHING, 0), rtol=0, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["all", "weak+med"])
def test_compiled_on_a_gpu_views_are_the_same(photographs: Tensor, name: str):
    scales, ids = EVERYTHING if name == "all" else PRESETS[name], np.arange(12)
    found = multi_crop(scales, compiled=True)(photographs.cuda(), ids)
    _assert_equal(found, multi_crop(scales, compiled=False)(photographs, ids))


def _assert_equal(found: Any, expected: Any) -> None:
    for a, b in ((found.global_crops, expected.global_crops), (found.local_crops, expected.local_crops)):
        difference = (a.cpu() - b).abs()
        # Solarise jumps at 128/255: a rounding there may fall on either side.
        assert (difference > 1e-3).float().mean() < 1e-4
        assert difference.median() < 1e-5
