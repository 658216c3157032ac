"""Colour, blur and solarise against torchvision's functional transforms, one image at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as tvf

from augscale.augmentation.draw import ViewParameters, draw_view_parameters
from augscale.augmentation.photometric import adjust_hue, gaussian_blur, photometric
from augscale.augmentation.scales import AugmentationScales

EVERYTHING = AugmentationScales(
    jitter_p=0.9,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.5,
    grayscale_p=0.2,
    blur_p=(0.7, 0.7, 0.7),
    solarize_p=(0.4, 0.4, 0.4),
)


@pytest.fixture
def views(photographs: Tensor) -> Tensor:
    """float32, shape (48, 3, 64, 64): patches of photographs, plus edge cases of colour."""
    patches = photographs.permute(0, 3, 1, 2).unfold(2, 64, 32).unfold(3, 64, 32).reshape(12, 3, -1, 64, 64)
    views = patches.transpose(1, 2).reshape(-1, 3, 64, 64)[:48].float().div(255)
    views[0] = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    views[1, :] = 0.0
    views[2, :] = 1.0
    views[3] = torch.randint(0, 2, (3, 64, 64), generator=torch.Generator().manual_seed(1)).float()
    return views.contiguous()


def draw(count: int, scales: AugmentationScales = EVERYTHING, seed: int = 0) -> ViewParameters:
    return draw_view_parameters(
        scales, "global1", np.arange(count), seed, image_size=96, view_size=64, reference_size=224
    )


def jitter_one(view: Tensor, params: ViewParameters, i: int) -> Tensor:
    adjust = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue)
    for operation in params.order[i]:
        view = adjust[operation](view, float(params.factors[i, operation]))
    return view


def blur_one(view: Tensor, sigma: float) -> Tensor:
    kernel = 2 * int(np.ceil(4 * sigma)) + 1
    return tvf.gaussian_blur(view, [kernel, kernel], [sigma, sigma])


def torchvision_chain(views: Tensor, params: ViewParameters, *, until_blur: bool = False) -> Tensor:
    results = []
    for i, view in enumerate(views):
        view = jitter_one(view, params, i) if params.jitter[i] else view
        view = tvf.rgb_to_grayscale(view, 3) if params.grayscale[i] else view
        view = blur_one(view, float(params.blur_sigma[i])) if params.blur_sigma[i] > 0 else view
        results.append(tvf.solarize(view, 128 / 255) if params.solarize[i] and not until_blur else view)
    return torch.stack(results)


@pytest.mark.parametrize("seed", range(4))
def test_full_chains_in_random_order_equal_torchvisions(views: Tensor, seed: int) -> None:
    params = draw(len(views), seed=seed)
    before_solarize = torchvision_chain(views, params, until_blur=True)
    expected = torchvision_chain(views, params)
    result = photometric(views.clone(), params)
    # Solarise is a jump at 128/255: within rounding of it, either side is right.
    at_the_jump = params.solarize[:, None, None, None] & ((before_solarize - 128 / 255).abs() < 1e-4).numpy()
    difference = np.where(at_the_jump, 0, (result - expected).abs().numpy())
    assert at_the_jump.mean() < 0.01
    assert difference.max() < 1e-4
    assert difference.mean() < 1e-6


@pytest.mark.parametrize("which", range(4))
def test_each_jitter_operation_equals_torchvisions(views: Tensor, which: int) -> None:
    names = ("brightness", "contrast", "saturation", "hue")
    off = dict.fromkeys(names, 0.0) | {names[which]: 0.5}
    only = {"grayscale_p": 0, "blur_p": (0, 0, 0), "solarize_p": (0, 0, 0), "jitter_p": 1.0}
    params = draw(len(views), AugmentationScales(**off, **only))
    result = photometric(views.clone(), params)
    expected = torch.stack([jitter_one(view, params, i) for i, view in enumerate(views)])
    assert (expected - views).abs().amax() > 0.1
    assert (result - expected).abs().max() < 1e-5


def test_hue_shift_by_a_whole_circle_and_by_nothing_is_the_identity(views: Tensor) -> None:
    for shift in (0.0, 1.0):
        assert (adjust_hue(views, torch.full((len(views),), shift)) - views).abs().max() < 2e-6


def test_a_third_of_a_turn_moves_red_to_green() -> None:
    red = torch.tensor([0.8, 0.2, 0.2])[None, :, None, None]
    green = adjust_hue(red, torch.tensor([1 / 3]))
    assert torch.allclose(green, torch.tensor([0.2, 0.8, 0.2])[None, :, None, None], atol=1e-6)


def test_unjittered_views_are_untouched_bit_for_bit(views: Tensor) -> None:
    off = AugmentationScales(jitter_p=0.5, grayscale_p=0, blur_p=(0.5, 0, 0), solarize_p=(0.3, 0, 0))
    params = draw(len(views), off)
    result = photometric(views.clone(), params)
    untouched = ~params.jitter & (params.blur_sigma == 0) & ~params.solarize
    assert 0 < untouched.sum() < len(views)
    assert torch.equal(result[untouched], views[untouched])


@pytest.mark.parametrize("size", [5, 32, 64])
def test_blur_equals_torchvisions_for_every_sigma(views: Tensor, size: int) -> None:
    part = views[:, :, :size, :size].contiguous()
    sigma = np.linspace(0, min(3.0, (size - 1) / 4), len(views))
    result = part.clone()
    gaussian_blur(result, sigma)
    expected = torch.stack([blur_one(view, s) if s > 0 else view for view, s in zip(part, sigma, strict=True)])
    assert (result - expected).abs().max() < 1e-5
    assert torch.equal(result[0], part[0])


def test_blur_wider_than_the_view_stays_defined() -> None:
    view = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    blurred = view.clone()
    gaussian_blur(blurred, np.array([20.0, 1.0]))
    assert blurred[0].std(dim=(1, 2)).max() < 0.2 * view[0].std()
    assert torch.isfinite(blurred).all()


def test_results_do_not_depend_on_the_neighbours_in_the_batch(views: Tensor) -> None:
    params = draw(len(views))
    together = photometric(views.clone(), params)
    for i in (0, 7, 30):
        alone = photometric(views[i : i + 1].clone(), params.rows(np.array([i])))
        assert (alone[0] - together[i]).abs().max() < 1e-5


def test_grayscale_is_torchvisions_luma(views: Tensor) -> None:
    params = replace(
        draw(len(views), AugmentationScales(jitter_p=0, blur_p=(0, 0, 0))), grayscale=np.arange(len(views)) % 2 == 0
    )
    result = photometric(views.clone(), params)
    assert (result[::2] - tvf.rgb_to_grayscale(views[::2], 3)).abs().max() < 1e-6
    assert torch.equal(result[1::2], views[1::2])
