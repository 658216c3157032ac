"""Whole views: batch independence, layout, identity, devices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from augscale.augmentation import views as views_module
from augscale.augmentation.draw import draw_view_parameters
from augscale.augmentation.scales import PRESETS, AugmentationScales
from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD, MultiCropViews, apply_views, normalize
from augscale.config import CropsConfig

CROPS = CropsConfig(global_size=48, n_local=3, local_size=24)


def multi_crop(name: str = "weak+med", crops: CropsConfig = CROPS, seed: int = 0) -> MultiCropViews:
    return MultiCropViews(PRESETS[name], crops, 96, seed)


def test_views_are_stacked_view_by_view_and_normalised(photographs: Tensor) -> None:
    ids = np.arange(100, 112)
    views = multi_crop()(photographs, ids)
    assert views.global_crops.shape == (24, 3, 48, 48)
    assert views.local_crops.shape == (36, 3, 24, 24)
    assert views.global_crops.dtype == torch.float32
    for stack, roles, size in (
        (views.global_crops, ["global1", "global2"], 48),
        (views.local_crops, ["local0", "local1", "local2"], 24),
    ):
        for number, role in enumerate(roles):
            params = draw_view_parameters(
                PRESETS["weak+med"], role, ids, 0, image_size=96, view_size=size, reference_size=48
            )
            expected = normalize(apply_views(photographs, params, size))
            assert torch.allclose(stack[12 * number : 12 * (number + 1)], expected, atol=1e-5)


def test_no_local_crops_give_an_empty_stack(photographs: Tensor) -> None:
    views = multi_crop(crops=CropsConfig(global_size=32, n_local=0, local_size=16))(photographs, np.arange(12))
    assert views.local_crops.shape == (0, 3, 16, 16)
    assert views.global_crops.shape == (24, 3, 32, 32)


@pytest.mark.parametrize("name", ["strong", "weak+med"])
def test_views_do_not_depend_on_batch_size_order_or_chunks(
    photographs: Tensor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = multi_crop(name)(photographs, np.arange(12)).global_crops.view(2, 12, 3, 48, 48)
    shuffled = np.random.default_rng(0).permutation(12)
    other = multi_crop(name)(photographs[shuffled], shuffled).global_crops.view(2, 12, 3, 48, 48)
    assert (other - together[:, shuffled]).abs().max() < 1e-4
    for i in range(0, 12, 5):
        alone = multi_crop(name)(photographs[i : i + 1], np.array([i])).global_crops
        assert (alone - together[:, i]).abs().max() < 1e-4
    monkeypatch.setitem(views_module._CHUNK_VALUES, "cpu", 5 * 3 * 48 * 48)
    chunked = multi_crop(name)(photographs, np.arange(12)).global_crops.view(2, 12, 3, 48, 48)
    assert (chunked - together).abs().max() < 1e-4


def test_the_same_call_gives_the_same_bits(photographs: Tensor) -> None:
    first, second = (multi_crop("weak+med")(photographs, np.arange(12)).global_crops for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, multi_crop("weak+med", seed=1)(photographs, np.arange(12)).global_crops)
    assert not torch.equal(first, multi_crop("weak+med")(photographs, np.arange(12, 24)).global_crops)


def test_none_is_the_image_itself(photographs: Tensor) -> None:
    crops = CropsConfig(global_size=96, n_local=1, local_size=96)
    views = MultiCropViews(PRESETS["none"], crops, 96, 0)(photographs, np.arange(12))
    image = photographs.permute(0, 3, 1, 2).float().mul(1 / 255)
    params = draw_view_parameters(
        PRESETS["none"], "global1", np.arange(12), 0, image_size=96, view_size=96, reference_size=96
    )
    assert torch.equal(apply_views(photographs, params, 96), image)
    for view in (*views.global_crops.chunk(2), views.local_crops):
        assert torch.equal(view, normalize(image))


def test_views_stay_in_zero_to_one_at_full_strength(photographs: Tensor) -> None:
    scales = AugmentationScales(
        brightness=2, contrast=2, saturation=2, hue=0.5, jitter_p=1, noise_std=1, noise_p=1,
        bias_field_coefficients=2, bias_field_p=1, med_blur_std=3, med_blur_p=1, solarize_p=(0.5, 0.5, 0.5),
    )  # fmt: skip
    for role in ("global1", "local0"):
        params = draw_view_parameters(scales, role, np.arange(12), 0, image_size=96, view_size=40, reference_size=224)
        views = apply_views(photographs, params, 40)
        assert views.min() >= 0
        assert views.max() <= 1
        assert torch.isfinite(views).all()


def test_normalize_is_imagenets(photographs: Tensor) -> None:
    view = torch.tensor(IMAGENET_MEAN)[:, None, None].expand(3, 2, 2)
    assert normalize(view).abs().max() < 1e-7
    one_up = view + torch.tensor(IMAGENET_STD)[:, None, None]
    assert torch.allclose(normalize(one_up), torch.ones(3, 2, 2), atol=1e-6)


def test_images_of_another_size_or_type_are_refused(photographs: Tensor) -> None:
    params = draw_view_parameters(
        PRESETS["weak"], "global1", np.arange(12), 0, image_size=96, view_size=48, reference_size=48
    )
    with pytest.raises(ValueError, match="the parameters are for uint8"):
        apply_views(photographs.float(), params, 48)
    with pytest.raises(ValueError, match="the parameters are for uint8"):
        apply_views(photographs[:, :90], params, 48)
    with pytest.raises(ValueError, match="drawn for 48"):
        apply_views(photographs, params, 40)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["strong", "weak+med"])
def test_views_are_the_same_on_the_gpu(photographs: Tensor, name: str) -> None:
    on_cpu = multi_crop(name)(photographs, np.arange(12))
    on_gpu = multi_crop(name)(photographs.cuda(), np.arange(12))
    for a, b in ((on_cpu.global_crops, on_gpu.global_crops), (on_cpu.local_crops, on_gpu.local_crops)):
        difference = (a - b.cpu()).abs()
        # Solarise jumps at 128/255: a rounding there may fall on either side.
        assert (difference > 1e-3).float().mean() < 1e-4
        assert difference.median() < 1e-5
