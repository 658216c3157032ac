"""Writes scales as code, flags or configuration of libraries for pre-training.

Argument names are those of torchvision's transforms v1; facebookresearch/dino `main_dino.py`; lightly
`DINOTransform`; lightly-train `DINOTransformArgs`; solo-learn `build_transform_pipeline` and its augmentation files.
Comments in the output name the settings that a library cannot express.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from augscale.augmentation.scales import STRONG, AugmentationScales
from augscale.errors import ConfigError
from augscale.settings import nearest

VIEWS = ("global1", "global2", "local")
_ALL_MEDICAL = (
    ("med_blur_p", "med_blur_std", "RandomBlur(std={strength}, p={p})"),
    ("noise_p", "noise_std", "RandomNoise(std={strength}, p={p})"),
    ("bias_field_p", "bias_field_coefficients", "RandomBiasField(coefficients={strength}, order={order}, p={p})"),
)


def export_scales(scales: AugmentationScales, to: str) -> str:
    """Writes the scales for another library.

    Args:
        scales: the scales to write.
        to: "torchvision" (runnable Python defining `global1`, `global2`, `local`), "dino" (flags of main_dino.py and
            the lines to change), "lightly" (a DINOTransform), "lightly-train" (transform_args of method="dino"),
            or "solo-learn" (an augmentation YAML list).
    Returns:
        Text in the language of the library, with a newline at the end.
    Raises:
        ConfigError: unknown library.
    """
    if to not in _EXPORTERS:
        hint = nearest(to, list(_EXPORTERS))
        raise ConfigError(f"scales cannot be exported to {to!r}{hint}; expected {', '.join(_EXPORTERS)}")
    return _EXPORTERS[to](scales)


def _medical(scales: AugmentationScales) -> list[str]:
    """The medical transforms that are on, as TorchIO calls."""
    calls = []
    for p, strength, call in _ALL_MEDICAL:
        values = {"p": getattr(scales, p), "strength": getattr(scales, strength), "order": scales.bias_field_order}
        if values["p"] > 0 and values["strength"] > 0:
            calls.append(call.format(**values))
    return calls


def _not_expressed(scales: AugmentationScales, fields: tuple[str, ...], library: str) -> list[str]:
    """Comment lines for fields that differ from the library's fixed behavior."""
    fixed = {"aspect_ratio": STRONG.aspect_ratio, "blur_sigma": STRONG.blur_sigma, "vertical_flip_p": 0.0}
    begin = f"# not expressible in {library}:"
    lines = [
        f"{begin} {name} = {_plain(value)} ({library} uses {_plain(fixed[name])})"
        for name in fields
        if (value := getattr(scales, name)) != fixed[name]
    ]
    return lines + [f"{begin} torchio {call}" for call in _medical(scales)]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _torchvision(scales: AugmentationScales) -> str:
    medical = _medical(scales)
    lines = [
        "# PIL image in, normalized float tensor out. Blur sigmas are meant for global views of 224 px.",
        "import random",
        "",
        *(["import torchio"] if medical else []),
        "from PIL import ImageFilter, ImageOps",
        "from torchvision import transforms",
        "",
        "",
        "class Blur:",
        "    def __init__(self, sigma):",
        "        self.sigma = sigma",
        "",
        "    def __call__(self, image):",
        "        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(*self.sigma)))",
        "",
        "",
        "class Solarize:",
        "    def __call__(self, image):",
        "        return ImageOps.solarize(image)",
        "",
        "",
        *(_TORCHIO_CLASS if medical else []),
        "def view(size, scale, blur_p, solarize_p):",
        "    return transforms.Compose(",
        "        [",
        *(f"            {line}" for line in _torchvision_steps(scales, medical)),
        "        ]",
        "    )",
        "",
        "",
    ]
    for index, name in enumerate(VIEWS):
        area = scales.local_crops_scale if name == "local" else scales.global_crops_scale
        size = 96 if name == "local" else 224
        p = f"blur_p={scales.blur_p[index]!r}, solarize_p={scales.solarize_p[index]!r}"
        lines.append(f"{name} = view({size}, {area!r}, {p})")
    return "\n".join(lines) + "\n"


_TORCHIO_CLASS = [
    "class Medical:",
    "    def __init__(self, transform):",
    "        self.transform = transform",
    "",
    "    def __call__(self, image):  # a slice of depth 1; an image has no values beyond its range",
    "        return self.transform(image[..., None])[..., 0].clamp(0, 1)",
    "",
    "",
]


def _torchvision_steps(scales: AugmentationScales, medical: list[str]) -> list[str]:
    return [
        "transforms.RandomResizedCrop(",
        f"    size, scale=scale, ratio={scales.aspect_ratio!r},",
        "    interpolation=transforms.InterpolationMode.BICUBIC,",
        "),",
        f"transforms.RandomHorizontalFlip(p={scales.horizontal_flip_p!r}),",
        f"transforms.RandomVerticalFlip(p={scales.vertical_flip_p!r}),",
        f"transforms.RandomApply([transforms.ColorJitter({_jitter_arguments(scales)})], p={scales.jitter_p!r}),",
        f"transforms.RandomGrayscale(p={scales.grayscale_p!r}),",
        f"transforms.RandomApply([Blur({scales.blur_sigma!r})], p=blur_p),",
        "transforms.RandomApply([Solarize()], p=solarize_p),",
        "transforms.ToTensor(),",
        *(f"Medical(torchio.{call})," for call in medical),
        "transforms.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),",
    ]


def _dino(scales: AugmentationScales) -> str:
    flags = " ".join(
        f"{flag} {low!r} {high!r}"
        for flag, (low, high) in (
            ("--global_crops_scale", scales.global_crops_scale),
            ("--local_crops_scale", scales.local_crops_scale),
        )
    )
    changes = [f"#   {line}" for line in (*_dino_replacements(scales), *_dino_additions(scales))]
    note = "# main_dino.py hard-codes the rest in class DataAugmentationDINO"
    note += "; change there:" if changes else ": no line to change."
    return "\n".join([flags, note, *changes]) + "\n"


def _dino_lines(scales: AugmentationScales) -> list[str]:
    """The lines of DataAugmentationDINO that depend on the scales, with these scales' numbers."""
    low, high = scales.blur_sigma
    sigma = "" if scales.blur_sigma == STRONG.blur_sigma else f", radius_min={low!r}, radius_max={high!r}"
    return [
        f"transforms.RandomHorizontalFlip(p={scales.horizontal_flip_p!r})",
        f"transforms.ColorJitter({_jitter_arguments(scales)})",
        f"p={scales.jitter_p!r} of the RandomApply around ColorJitter",
        f"transforms.RandomGrayscale(p={scales.grayscale_p!r})",
        f"utils.GaussianBlur({scales.blur_p[0]!r}{sigma}) of global_transfo1",
        f"utils.GaussianBlur({scales.blur_p[1]!r}{sigma}) of global_transfo2",
        f"utils.GaussianBlur(p={scales.blur_p[2]!r}{sigma}) of local_transfo",
        f"utils.Solarization({scales.solarize_p[1]!r}) of global_transfo2",
    ]


def _dino_replacements(scales: AugmentationScales) -> list[str]:
    """Lines to replace; `strong` is DINO's default, so its lines are the official ones."""
    pairs = zip(_dino_lines(STRONG), _dino_lines(scales), strict=True)
    return [f"{official}  ->  {wanted.partition(' of ')[0]}" for official, wanted in pairs if official != wanted]


def _dino_additions(scales: AugmentationScales) -> list[str]:
    lines = []
    if scales.aspect_ratio != STRONG.aspect_ratio:
        lines.append(f"add ratio={scales.aspect_ratio!r} to each RandomResizedCrop")
    if scales.vertical_flip_p:
        lines.append(f"add transforms.RandomVerticalFlip(p={scales.vertical_flip_p!r})")
    for index, name in ((0, "global_transfo1"), (2, "local_transfo")):
        if scales.solarize_p[index]:
            lines.append(f"add utils.Solarization({scales.solarize_p[index]!r}) to {name}")
    medical = "add between ToTensor and Normalize, on image[..., None]: torchio."
    return lines + [medical + call for call in _medical(scales)]


def _jitter_arguments(scales: AugmentationScales) -> str:
    return ", ".join(f"{name}={getattr(scales, name)!r}" for name in ("brightness", "contrast", "saturation", "hue"))


def _lightly(scales: AugmentationScales) -> str:
    # lightly 1.x does not pass cj_strength to its second global view, which then uses 0.5: only that value is safe.
    strength = 0.5
    arguments = {
        "global_crop_scale": scales.global_crops_scale,
        "local_crop_scale": scales.local_crops_scale,
        "hf_prob": scales.horizontal_flip_p,
        "vf_prob": scales.vertical_flip_p,
        "cj_prob": scales.jitter_p,
        "cj_strength": strength,
        "cj_bright": scales.brightness / strength,
        "cj_contrast": scales.contrast / strength,
        "cj_sat": scales.saturation / strength,
        "cj_hue": scales.hue / strength,
        "random_gray_scale": scales.grayscale_p,
        "gaussian_blur": scales.blur_p,
        "sigmas": scales.blur_sigma,
        "solarization_prob": scales.solarize_p[1],
    }
    lines = [
        "from lightly.transforms.dino_transform import DINOTransform",
        "",
        *_not_expressed(scales, ("aspect_ratio",), "lightly"),
        *_solarize_elsewhere(scales, "lightly"),
        "# cj_bright, cj_contrast, cj_sat and cj_hue are multiplied by cj_strength.",
        "# Sizes, number of local views and normalization are no scales; lightly's defaults are global_crop_size=224,",
        "# local_crop_size=96, n_local_views=6 and ImageNet's mean and SD (normalize). Give those of your training.",
        "transform = DINOTransform(",
        *(f"    {name}={value!r}," for name, value in arguments.items()),
        ")",
    ]
    return "\n".join(lines) + "\n"


def _solarize_elsewhere(scales: AugmentationScales, library: str) -> list[str]:
    first, _, local = scales.solarize_p
    if not (first or local):
        return []
    return [
        f"# not expressible in {library}: solarize p {first!r} on the first global view and {local!r} on local views"
    ]


def _lightly_train(scales: AugmentationScales) -> str:
    def blur(index: int) -> dict[str, Any]:
        return {"prob": scales.blur_p[index], "sigmas": scales.blur_sigma, "blur_limit": 0}

    def area(scale: tuple[float, float]) -> dict[str, float]:
        return {"min_scale": scale[0], "max_scale": scale[1]}

    arguments: dict[str, Any] = {
        "random_resize": area(scales.global_crops_scale),
        "random_flip": {"horizontal_prob": scales.horizontal_flip_p, "vertical_prob": scales.vertical_flip_p},
        "color_jitter": {
            "prob": scales.jitter_p,
            "strength": 1.0,
            "brightness": scales.brightness,
            "contrast": scales.contrast,
            "saturation": scales.saturation,
            "hue": scales.hue,
        },
        "random_gray_scale": scales.grayscale_p,
        "gaussian_blur": blur(0),
        "global_view_1": {
            "gaussian_blur": blur(1),
            "solarize": {"prob": scales.solarize_p[1], "threshold": 0.5},
        },
        "local_view": {"random_resize": area(scales.local_crops_scale), "gaussian_blur": blur(2)},
    }
    lines = [
        '# for lightly_train.pretrain(..., method="dino", transform_args=transform_args)',
        "# lightly-train's own defaults differ from DINO's: global crops 0.14 to 1, local crops 0.05 to 0.14.",
        *_not_expressed(scales, ("aspect_ratio",), "lightly-train"),
        *_solarize_elsewhere(scales, "lightly-train"),
        "transform_args = {",
        *(f"    {json.dumps(name)}: {value!r}," for name, value in arguments.items()),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _solo_learn(scales: AugmentationScales) -> str:
    lines = [
        "# the augmentations list of solo-learn; num_crops of the local views is DINO's 8",
        *_not_expressed(scales, ("aspect_ratio", "blur_sigma", "vertical_flip_p"), "solo-learn"),
    ]
    for index, name in enumerate(VIEWS):
        area = scales.local_crops_scale if name == "local" else scales.global_crops_scale
        settings: dict[str, dict[str, Any]] = {
            "rrc": {"enabled": True, "crop_min_scale": area[0], "crop_max_scale": area[1]},
            "color_jitter": {
                "prob": scales.jitter_p,
                "brightness": scales.brightness,
                "contrast": scales.contrast,
                "saturation": scales.saturation,
                "hue": scales.hue,
            },
            "grayscale": {"prob": scales.grayscale_p},
            "gaussian_blur": {"prob": scales.blur_p[index]},
            "solarization": {"prob": scales.solarize_p[index]},
            "equalization": {"prob": 0.0},
            "horizontal_flip": {"prob": scales.horizontal_flip_p},
        }
        block = [f"# {name}"]
        for key, values in settings.items():
            block.append(f"{key}:")
            block += [f"  {field}: {value}" for field, value in values.items()]
        block += [f"crop_size: {96 if name == 'local' else 224}", f"num_crops: {8 if name == 'local' else 1}"]
        lines += [block[0], f"- {block[1]}", *(f"  {line}" for line in block[2:])]
    return "\n".join(lines) + "\n"


_EXPORTERS: dict[str, Callable[[AugmentationScales], str]] = {
    "torchvision": _torchvision,
    "dino": _dino,
    "lightly": _lightly,
    "lightly-train": _lightly_train,
    "solo-learn": _solo_learn,
}
