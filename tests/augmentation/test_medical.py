"""Blur, noise and bias field against TorchIO."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchio
from scipy import stats
from torch import Tensor

from augscale.augmentation.draw import ViewParameters, draw_view_parameters
from augscale.augmentation.medical import add_noise, apply_bias_field, med_blur
from augscale.augmentation.scales import PRESETS, AugmentationScales


@pytest.fixture
def views(photographs: Tensor) -> Tensor:
    return photographs.permute(0, 3, 1, 2).float().div(255).contiguous()


def draw(count: int, scales: AugmentationScales, size: int = 96) -> ViewParameters:
    return draw_view_parameters(
        scales, "global1", np.arange(count), 0, image_size=96, view_size=size, reference_size=224
    )


@pytest.mark.parametrize("size", [96, 33])
@pytest.mark.parametrize("order", [3, 5, 0])
def test_bias_field_is_torchios_for_the_same_coefficients(views: Tensor, order: int, size: int) -> None:
    part = views[:, :, :size, :size].contiguous()
    scales = AugmentationScales(bias_field_coefficients=0.5, bias_field_p=0.7, bias_field_order=order)
    params = draw(len(part), scales, size)
    result = part.clone()
    apply_bias_field(result, params)
    assert 0 < params.bias_field.sum() < len(part)
    for i, view in enumerate(part):
        if not params.bias_field[i]:
            assert torch.equal(result[i], view)
            continue
        expected = torchio.BiasField(volume_coefficients(params.bias_coefficients[i], order), order)(view[..., None])
        assert (result[i] - expected[..., 0]).abs().max() < 2e-5


def volume_coefficients(plane: np.ndarray, order: int) -> list[float]:
    """TorchIO also lists powers of z, which are 0 in a slice of depth 1: they get arbitrary numbers here."""
    remaining, coefficients = list(plane), []
    for i in range(order + 1):
        for j in range(order + 1 - i):
            coefficients += [remaining.pop(0), *[9.0] * (order - i - j)]
    return [float(c) for c in coefficients]


def test_bias_field_of_the_preset_is_as_strong_as_torchios(views: Tensor) -> None:
    ones = torch.ones(600, 3, 32, 32)
    params = draw(600, PRESETS["weak+med"].model_copy(update={"bias_field_p": 1.0}), 32)
    apply_bias_field(ones, params)
    torch.manual_seed(0)
    transform = torchio.RandomBiasField(coefficients=0.1, order=3)
    theirs = torch.stack([transform(torch.ones(1, 32, 32, 1))[0, :, :, 0] for _ in range(600)])
    for statistic in (lambda f: f.mean(), lambda f: f.std() / f.mean(), lambda f: f.max() / f.min()):
        ours = [float(statistic(field[0])) for field in ones]
        assert stats.ks_2samp(ours, [float(statistic(field)) for field in theirs]).pvalue > 1e-3


def test_noise_is_normal_with_the_drawn_sigma_and_independent(views: Tensor) -> None:
    params = draw(len(views), AugmentationScales(noise_std=0.2, noise_p=0.8))
    noisy = views.clone()
    add_noise(noisy, params)
    on = params.noise_sigma > 0
    assert 0 < on.sum() < len(views)
    assert torch.equal(noisy[~on], views[~on])
    standard = (noisy - views)[on].flatten(1).double().numpy() / params.noise_sigma[on, None]
    assert np.abs(standard.mean(axis=1)).max() < 0.03
    assert np.abs(standard.std(axis=1) - 1).max() < 0.02
    for row in standard[:, ::7]:
        assert stats.kstest(row, "norm").pvalue > 1e-4
    between_views = np.corrcoef(standard) - np.eye(len(standard))
    assert np.abs(between_views).max() < 0.03
    neighbours = [np.corrcoef(row[:-1], row[1:])[0, 1] for row in standard]
    assert np.abs(neighbours).max() < 0.03


def test_noise_levels_are_torchios(views: Tensor) -> None:
    transform = torchio.RandomNoise(std=0.1)
    torch.manual_seed(0)
    theirs = [float(transform(torch.zeros(1, 64, 64, 1)).std()) for _ in range(300)]
    zeros = torch.zeros(300, 3, 32, 32)
    add_noise(zeros, draw(300, AugmentationScales(noise_std=0.1, noise_p=1.0), 32))
    assert stats.ks_2samp(zeros.flatten(1).std(dim=1).tolist(), theirs).pvalue > 1e-3


def test_noise_of_large_views_fits_the_pool() -> None:
    view = torch.zeros(1, 3, 1300, 1300)
    add_noise(view, draw(1, AugmentationScales(noise_std=0.1, noise_p=1.0), 1300))
    assert 0.9 < view.std() / draw(1, AugmentationScales(noise_std=0.1, noise_p=1.0)).noise_sigma[0] < 1.1


def test_blur_is_torchios_for_the_same_sigmas(views: Tensor) -> None:
    params = draw(len(views), AugmentationScales(med_blur_std=3.0, med_blur_p=0.8))
    blurred = views.clone()
    med_blur(blurred, params)
    on = params.med_blur_sigma[:, 0] > 0
    assert 0 < on.sum() < len(views)
    for i, view in enumerate(views):
        if not on[i]:
            assert torch.equal(blurred[i], view)
            continue
        expected = torchio.Blur((*params.med_blur_sigma[i], 0))(view[..., None])[..., 0]
        assert (blurred[i] - expected).abs().max() < 1e-5


def test_the_presets_blur_changes_nothing_and_neither_does_torchios(views: Tensor) -> None:
    params = draw(len(views), AugmentationScales(med_blur_std=0.1, med_blur_p=1.0))
    assert params.med_blur_sigma.min() > 0
    blurred = views.clone()
    med_blur(blurred, params)
    assert torch.equal(blurred, views)
    assert torch.equal(torchio.RandomBlur(std=0.1)(views[0][..., None])[..., 0], views[0])
