"""Exports: the torchvision code runs and does what the scales say; the others parse and use the documented names."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor
from torchvision import transforms

from augscale.augmentation.export_scales import export_scales
from augscale.augmentation.scales import PRESETS, AugmentationScales, load_scales
from augscale.errors import ConfigError

ODD = AugmentationScales(
    global_crops_scale=(0.3, 0.9), local_crops_scale=(0.1, 0.2), aspect_ratio=(0.5, 2.0), vertical_flip_p=0.25,
    horizontal_flip_p=0.4, jitter_p=0.7, brightness=0.3, contrast=0.35, saturation=0.15, hue=0.05, grayscale_p=0.11,
    blur_p=(0.9, 0.2, 0.3), blur_sigma=(0.5, 1.5), solarize_p=(0.01, 0.21, 0.02), noise_std=0.07, noise_p=0.6,
)  # fmt: skip

LIGHTLY_ARGUMENTS = {
    "global_crop_size", "global_crop_scale", "local_crop_size", "local_crop_scale", "n_local_views", "hf_prob",
    "vf_prob", "rr_prob", "rr_degrees", "cj_prob", "cj_strength", "cj_bright", "cj_contrast", "cj_sat", "cj_hue",
    "random_gray_scale", "gaussian_blur", "kernel_size", "kernel_scale", "sigmas", "solarization_prob", "normalize",
}  # fmt: skip
"""Of lightly's DINOTransform.__init__."""


def run_torchvision(scales: AugmentationScales) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(export_scales(scales, "torchvision"), names)
    return names


@pytest.mark.parametrize("name", [*PRESETS, "strong@0.5"])
def test_torchvision_code_runs(name: str, photographs: Tensor) -> None:
    names = run_torchvision(load_scales(name))
    image = Image.fromarray(photographs[0].numpy())
    for view, size in (("global1", 224), ("global2", 224), ("local", 96)):
        result = names[view](image)
        assert result.shape == (3, size, size)
        assert torch.isfinite(result).all()


def test_torchvision_code_has_every_number_of_the_scales() -> None:
    names = run_torchvision(ODD)
    for index, view in enumerate(("global1", "global2", "local")):
        crop, flip, vertical, jitter, gray, blur, solarize, _, noise, _ = names[view].transforms
        assert crop.scale == (ODD.local_crops_scale if view == "local" else ODD.global_crops_scale)
        assert crop.ratio == ODD.aspect_ratio
        assert crop.interpolation == transforms.InterpolationMode.BICUBIC
        assert (flip.p, vertical.p, jitter.p, gray.p) == (0.4, 0.25, 0.7, 0.11)
        assert jitter.transforms[0].brightness == (0.7, 1.3)
        assert jitter.transforms[0].contrast == (0.65, 1.35)
        assert jitter.transforms[0].saturation == (0.85, 1.15)
        assert jitter.transforms[0].hue == (-0.05, 0.05)
        assert (blur.p, solarize.p) == (ODD.blur_p[index], ODD.solarize_p[index])
        assert blur.transforms[0].sigma == ODD.blur_sigma
        assert noise.transform.std_range == (0, 0.07)
        assert noise.transform.probability == 0.6


def test_torchvision_code_of_none_returns_the_image(photographs: Tensor) -> None:
    image = Image.fromarray(photographs[0].numpy()).resize((224, 224))
    expected = transforms.functional.normalize(
        transforms.functional.to_tensor(image), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    assert torch.equal(run_torchvision(PRESETS["none"])["global1"](image), expected)


def test_torchvision_code_and_our_views_have_the_same_statistics(photographs: Tensor) -> None:
    """Mean colour and contrast of many views of one photograph, drawn by either pipeline."""
    from scipy import stats

    from augscale.augmentation.views import MultiCropViews
    from augscale.config import CropsConfig

    view = run_torchvision(PRESETS["strong"])["local"]
    torch.manual_seed(0)
    image = Image.fromarray(photographs[6].numpy())
    theirs = torch.stack([view(image) for _ in range(400)])
    crops = CropsConfig(global_size=224, n_local=1, local_size=96)
    ours = MultiCropViews(PRESETS["strong"], crops, 96, 0)
    local = ours._views(photographs[6:7].expand(400, -1, -1, -1), np.arange(400), ["local0"], 96, None)
    for statistic in (
        lambda x: x.mean(dim=(1, 2, 3)),
        lambda x: x.std(dim=(1, 2, 3)),
        lambda x: x[:, 0].mean(dim=(1, 2)),
    ):
        assert stats.ks_2samp(statistic(local), statistic(theirs)).pvalue > 1e-3


def test_dino_flags_are_main_dinos() -> None:
    flags, *notes = export_scales(PRESETS["weak"], "dino").splitlines()
    assert shlex.split(flags) == ["--global_crops_scale", "0.5", "1.0", "--local_crops_scale", "0.2", "0.5"]
    assert len(notes) == 2
    assert "ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)" in notes[1]
    assert "no line to change" in export_scales(PRESETS["strong"], "dino")


def test_dino_names_every_hard_coded_line_that_differs() -> None:
    text = export_scales(ODD, "dino")
    for part in (
        "RandomHorizontalFlip(p=0.5)  ->  transforms.RandomHorizontalFlip(p=0.4)",
        "hue=0.1)  ->  transforms.ColorJitter(brightness=0.3, contrast=0.35, saturation=0.15, hue=0.05)",
        "->  p=0.7",
        "RandomGrayscale(p=0.2)  ->  transforms.RandomGrayscale(p=0.11)",
        "GaussianBlur(1.0) of global_transfo1  ->  utils.GaussianBlur(0.9, radius_min=0.5, radius_max=1.5)",
        "GaussianBlur(0.1) of global_transfo2  ->  utils.GaussianBlur(0.2, radius_min=0.5, radius_max=1.5)",
        "GaussianBlur(p=0.5) of local_transfo  ->  utils.GaussianBlur(p=0.3, radius_min=0.5, radius_max=1.5)",
        "Solarization(0.2) of global_transfo2  ->  utils.Solarization(0.21)",
        "add ratio=(0.5, 2.0)",
        "add transforms.RandomVerticalFlip(p=0.25)",
        "utils.Solarization(0.01) to global_transfo1",
        "utils.Solarization(0.02) to local_transfo",
        "torchio.RandomNoise(std=0.07, p=0.6)",
    ):
        assert part in text
    assert all(line.startswith("#") for line in text.splitlines()[1:])


def test_lightly_arguments_are_dino_transforms() -> None:
    call = ast.parse(export_scales(ODD, "lightly")).body[-1].value  # type: ignore[attr-defined]
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert set(arguments) <= LIGHTLY_ARGUMENTS
    strength = arguments["cj_strength"]
    assert strength == 0.5
    jitter = [arguments[f"cj_{name}"] * strength for name in ("bright", "contrast", "sat", "hue")]
    assert jitter == pytest.approx([0.3, 0.35, 0.15, 0.05])
    assert arguments["global_crop_scale"] == (0.3, 0.9)
    assert arguments["local_crop_scale"] == (0.1, 0.2)
    assert (arguments["gaussian_blur"], arguments["sigmas"]) == ((0.9, 0.2, 0.3), (0.5, 1.5))
    assert (arguments["hf_prob"], arguments["vf_prob"], arguments["cj_prob"]) == (0.4, 0.25, 0.7)
    assert (arguments["random_gray_scale"], arguments["solarization_prob"]) == (0.11, 0.21)


def test_what_lightly_decides_beside_the_scales_is_said_with_its_own_defaults() -> None:
    transform = pytest.importorskip("lightly.transforms.dino_transform").DINOTransform
    defaults = inspect.signature(transform.__init__).parameters
    text = " ".join(export_scales(ODD, "lightly").replace("#", "").split())
    for name in ("global_crop_size", "local_crop_size", "n_local_views"):
        assert f"{name}={defaults[name].default}" in text
    assert defaults["normalize"].default["mean"] == [0.485, 0.456, 0.406], "ImageNet's, as the comment says"
    assert "ImageNet's mean and SD (normalize)" in text


def test_lightly_train_arguments_are_dino_transform_args() -> None:
    assignment = ast.parse(export_scales(ODD, "lightly-train")).body[-1]
    arguments = ast.literal_eval(assignment.value)  # type: ignore[attr-defined]
    assert arguments == {
        "random_resize": {"min_scale": 0.3, "max_scale": 0.9},
        "random_flip": {"horizontal_prob": 0.4, "vertical_prob": 0.25},
        "color_jitter": {
            "prob": 0.7, "strength": 1.0, "brightness": 0.3, "contrast": 0.35, "saturation": 0.15, "hue": 0.05,
        },
        "random_gray_scale": 0.11,
        "gaussian_blur": {"prob": 0.9, "sigmas": (0.5, 1.5), "blur_limit": 0},
        "global_view_1": {
            "gaussian_blur": {"prob": 0.2, "sigmas": (0.5, 1.5), "blur_limit": 0},
            "solarize": {"prob": 0.21, "threshold": 0.5},
        },
        "local_view": {
            "random_resize": {"min_scale": 0.1, "max_scale": 0.2},
            "gaussian_blur": {"prob": 0.3, "sigmas": (0.5, 1.5), "blur_limit": 0},
        },
    }  # fmt: skip


def test_solo_learn_list_is_its_augmentation_file() -> None:
    views = yaml.safe_load(export_scales(ODD, "solo-learn"))
    assert [view["num_crops"] for view in views] == [1, 1, 8]
    assert [view["crop_size"] for view in views] == [224, 224, 96]
    for index, view in enumerate(views):
        low, high = ODD.local_crops_scale if index == 2 else ODD.global_crops_scale
        assert view["rrc"] == {"enabled": True, "crop_min_scale": low, "crop_max_scale": high}
        jitter = {"prob": 0.7, "brightness": 0.3, "contrast": 0.35, "saturation": 0.15, "hue": 0.05}
        assert view["color_jitter"] == jitter
        assert view["grayscale"] == {"prob": 0.11}
        assert view["gaussian_blur"] == {"prob": ODD.blur_p[index]}
        assert view["solarization"] == {"prob": ODD.solarize_p[index]}
        assert view["equalization"] == {"prob": 0.0}
        assert view["horizontal_flip"] == {"prob": 0.4}


@pytest.mark.parametrize(
    ("target", "missing"),
    [
        ("lightly", ["aspect_ratio", "solarize p 0.01", "RandomNoise"]),
        ("lightly-train", ["aspect_ratio", "solarize p 0.01", "RandomNoise"]),
        ("solo-learn", ["aspect_ratio", "blur_sigma", "vertical_flip_p", "RandomNoise"]),
    ],
)
def test_what_a_library_cannot_express_is_said(target: str, missing: list[str]) -> None:
    said = [
        line for line in export_scales(ODD, target).splitlines() if line.startswith(f"# not expressible in {target}")
    ]
    assert len(said) == len(missing)
    for part in missing:
        assert any(part in line for line in said)
    assert "not expressible" not in export_scales(PRESETS["strong"], target)


@pytest.mark.parametrize("target", ["torchvision", "dino", "lightly", "lightly-train", "solo-learn"])
def test_every_export_of_every_preset_ends_in_one_newline(target: str) -> None:
    for scales in PRESETS.values():
        assert re.search(r"[^\n]\n\Z", export_scales(scales, target))


def test_unknown_library_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot be exported to 'torch-vision' \(did you mean torchvision\?\)"):
        export_scales(PRESETS["weak"], "torch-vision")
