"""Drawn parameters: distributions against torchvision, independence of batch, and ranges."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision import transforms

from augscale.augmentation.draw import ViewParameters, concatenate, draw_view_parameters
from augscale.augmentation.scales import PRESETS, AugmentationScales

MANY = np.arange(4000)


def draw(scales: AugmentationScales, role: str = "global1", ids: np.ndarray = MANY, **changes) -> ViewParameters:
    sizes = {"image_size": 128, "view_size": 96, "reference_size": 224, "seed": 3} | changes
    return draw_view_parameters(scales, role, ids, **sizes)


def assert_same(a: ViewParameters, b: ViewParameters) -> None:
    for field in fields(a):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


def test_parameters_do_not_depend_on_the_batch_or_its_order() -> None:
    ids = np.array([5, 900, 17, 3, 2**40])
    together = draw(PRESETS["weak+med"], ids=ids)
    assert_same(draw(PRESETS["weak+med"], ids=ids[::-1]), together.rows(np.arange(5)[::-1]))
    single = [draw(PRESETS["weak+med"], ids=ids[i : i + 1]) for i in range(5)]
    assert_same(concatenate(single), together)


def test_roles_and_seeds_and_ids_give_different_views() -> None:
    strong = PRESETS["strong"]
    base = draw(strong).left
    for other in (draw(strong, role="global2"), draw(strong, seed=4), draw(strong, ids=MANY + 5000)):
        assert abs(np.corrcoef(base, other.left)[0, 1]) < 0.06
    assert not np.array_equal(draw(strong, role="local0").left, draw(strong, role="local1").left)


def test_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="role 'global3' is not known"):
        draw(PRESETS["strong"], role="global3")


@pytest.mark.parametrize(
    ("area", "ratio"), [((0.4, 1.0), (3 / 4, 4 / 3)), ((0.05, 0.4), (3 / 4, 4 / 3)), ((0.9, 1.0), (0.3, 3.0))]
)
def test_crop_boxes_follow_torchvision(area: tuple[float, float], ratio: tuple[float, float]) -> None:
    params = draw(AugmentationScales(global_crops_scale=area, aspect_ratio=ratio))
    torch.manual_seed(0)
    image = torch.empty(3, 128, 128)
    boxes = [transforms.RandomResizedCrop.get_params(image, list(area), list(ratio)) for _ in range(4000)]
    for ours, theirs in zip(
        (params.top, params.left, params.height, params.width), zip(*boxes, strict=True), strict=True
    ):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
    ours = np.log(params.width / params.height) * params.height * params.width
    theirs = np.array([np.log(w / h) * h * w for _, _, h, w in boxes])
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


def test_boxes_in_a_tiny_image_have_torchvisions_frequencies() -> None:
    """At 8 px every rounding and every off-by-one changes the frequencies visibly."""
    area, ratio = (0.3, 1.0), (3 / 4, 4 / 3)
    params = draw(AugmentationScales(global_crops_scale=area, aspect_ratio=ratio), image_size=8, ids=np.arange(8000))
    torch.manual_seed(0)
    image = torch.empty(3, 8, 8)
    theirs = np.array([transforms.RandomResizedCrop.get_params(image, list(area), list(ratio)) for _ in range(8000)])
    ours = np.stack([params.top, params.left, params.height, params.width], axis=1)
    for columns in ((2, 3), (0, 2), (1, 3)):
        cells, inverse = np.unique(np.concatenate([ours, theirs])[:, columns], axis=0, return_inverse=True)
        counts = [np.bincount(part, minlength=len(cells)) for part in (inverse[:8000], inverse[8000:])]
        common = np.sum(counts, axis=0) >= 20
        assert stats.chi2_contingency(np.array(counts)[:, common]).pvalue > 1e-3


def test_crop_that_never_fits_is_torchvisions_centre_crop() -> None:
    for ratio in ((2.0, 3.0), (0.2, 0.5)):
        params = draw(AugmentationScales(global_crops_scale=(1.0, 1.0), aspect_ratio=ratio), ids=np.arange(4))
        expected = transforms.RandomResizedCrop.get_params(torch.empty(3, 128, 128), [1.0, 1.0], list(ratio))
        for i in range(4):
            assert (params.top[i], params.left[i], params.height[i], params.width[i]) == expected


def test_boxes_lie_inside_the_image() -> None:
    for image_size in (8, 97):
        params = draw(
            AugmentationScales(global_crops_scale=(0.001, 1.0), aspect_ratio=(0.2, 5.0)), image_size=image_size
        )
        assert params.height.min() >= 1
        assert params.width.min() >= 1
        assert params.top.min() >= 0
        assert params.left.min() >= 0
        assert (params.top + params.height).max() <= image_size
        assert (params.left + params.width).max() <= image_size


def test_factors_are_uniform_in_their_ranges() -> None:
    scales = AugmentationScales(brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1)
    factors = draw(scales).factors
    for column, (low, high) in enumerate([(0.6, 1.4), (0.0, 2.5), (0.8, 1.2), (-0.1, 0.1)]):
        assert stats.kstest(factors[:, column], stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(factors.T) - np.eye(4)).max() < 0.06


def test_all_orders_of_the_jitter_are_equally_likely() -> None:
    order = draw(PRESETS["strong"]).order
    assert np.array_equal(np.sort(order, axis=1), np.tile(np.arange(4), (len(order), 1)))
    _, counts = np.unique(order @ [1000, 100, 10, 1], return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("role", ["global1", "global2", "local3"])
def test_probabilities_are_those_of_the_role(role: str) -> None:
    index = {"global1": 0, "global2": 1, "local3": 2}[role]
    scales = PRESETS["weak+med"].model_copy(update={"vertical_flip_p": 0.3})
    params = draw(scales, role=role)
    found = {
        "horizontal_flip_p": params.horizontal_flip.mean(),
        "vertical_flip_p": params.vertical_flip.mean(),
        "jitter_p": params.jitter.mean(),
        "grayscale_p": params.grayscale.mean(),
        "noise_p": (params.noise_sigma > 0).mean(),
        "bias_field_p": params.bias_field.mean(),
        "med_blur_p": (params.med_blur_sigma > 0).all(axis=1).mean(),
    }
    for name, share in found.items():
        assert share == pytest.approx(getattr(scales, name), abs=0.03), name
    assert (params.blur_sigma > 0).mean() == pytest.approx(scales.blur_p[index], abs=0.03)
    assert params.solarize.mean() == pytest.approx(scales.solarize_p[index], abs=0.03)
    area = params.height * params.width / 128**2
    low, high = scales.local_crops_scale if index == 2 else scales.global_crops_scale
    assert low - 0.02 < area.min()
    assert area.max() < high + 0.02


def test_blur_sigma_is_dinos_at_224_and_shrinks_with_the_global_view() -> None:
    at_224 = draw(PRESETS["strong"]).blur_sigma
    assert stats.kstest(at_224, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
    np.testing.assert_allclose(draw(PRESETS["strong"], reference_size=56).blur_sigma, at_224 / 4)


def test_medical_numbers_are_uniform_in_torchios_ranges() -> None:
    params = draw(PRESETS["weak+med"])
    on = params.med_blur_sigma[:, 0] > 0
    for values, low, high in (
        (params.med_blur_sigma[on, 0], 0, 0.1),
        (params.med_blur_sigma[on, 1], 0, 0.1),
        (params.noise_sigma[params.noise_sigma > 0], 0, 0.1),
        (params.bias_coefficients[:, 7], -0.1, 0.1),
    ):
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert params.bias_coefficients.shape == (4000, 10)


def test_scales_share_their_randomness() -> None:
    strong, weak = draw(PRESETS["strong"]), draw(PRESETS["weak"])
    assert np.array_equal(strong.horizontal_flip, weak.horizontal_flip)
    assert np.array_equal(strong.order, weak.order)
    np.testing.assert_allclose((strong.factors[:, 0] - 1) / 0.4, (weak.factors[:, 0] - 1) / 0.2, atol=1e-12)


def test_switched_off_jitter_is_off() -> None:
    assert not draw(AugmentationScales(brightness=0, contrast=0, saturation=0, hue=0)).jitter.any()
