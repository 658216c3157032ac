"""The transforms of a view as ours does them on a batch and as torchvision does them image by image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from augscale.augmentation.draw import BRIGHTNESS, CONTRAST, HUE, SATURATION, ViewParameters, draw_view_parameters
from augscale.augmentation.medical import add_noise, apply_bias_field, med_blur
from augscale.augmentation.photometric import color_jitter, gaussian_blur, solarize, to_grayscale, update_rows
from augscale.augmentation.resample import crop_resize
from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD, apply_views, normalize
from benchmarks.official_recipe import GaussianBlur, Solarize

Action = Callable[[], object]
JITTERS = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": HUE}
CHAINS = ("strong", "weak", "weak+med")


@dataclass(frozen=True, kw_only=True)
class Contenders:
    """One transform of a whole batch, each call once; None where there is no such transform."""

    name: str
    ours: Action
    pil: Action | None = None
    v2: Action | None = None


def contenders(images: npt.NDArray[np.uint8], size: int, *, global_size: int, device: str = "cpu") -> list[Contenders]:
    """Every transform, then the chains.

    Args:
        images: uint8, shape (B, S, S, 3).
        size: of the views, pixels.
        global_size: of the run's global views, pixels; the others are drawn as local views.
        device: of our batch.
    """
    scales = load_scales("weak+med")
    local = size != global_size

    def draw(of: AugmentationScales) -> ViewParameters:
        role = "local0" if local else "global1"
        return draw_view_parameters(
            of, role, np.arange(len(images)), 0, image_size=images.shape[1], view_size=size, reference_size=global_size
        )

    batch = torch.from_numpy(images).to(device)
    always = draw(_always(scales))
    views = crop_resize(batch, always, size)
    return [
        Contenders(name="draw parameters", ours=lambda: draw(scales)),
        _crop(images, batch, always, scales, size, local=local),
        *_colour(views, always),
        *_medical(views, always),
        Contenders(name="to tensor and normalise", ours=lambda: normalize(views), **_normalise(views)),
        *(_chain(name, images, batch, draw, size, local=local) for name in CHAINS),
    ]


def _always(scales: AugmentationScales) -> AugmentationScales:
    """Every transform on every view, jitter as in `strong`."""
    strong = load_scales("strong")
    jitter = {name: getattr(strong, name) for name in JITTERS}
    certain = {"jitter_p": 1.0, "blur_p": (1.0, 1.0, 1.0), "solarize_p": (1.0, 1.0, 1.0)}
    medical = {"med_blur_p": 1.0, "noise_p": 1.0, "bias_field_p": 1.0}
    # The preset's own blur is so narrow that it does nothing; at a pixel it costs what a blur costs.
    return scales.model_copy(update=jitter | certain | medical | {"med_blur_std": 1.0})


def _crop(
    images: npt.NDArray[np.uint8],
    batch: torch.Tensor,
    params: ViewParameters,
    scales: AugmentationScales,
    size: int,
    *,
    local: bool,
) -> Contenders:
    area = scales.local_crops_scale if local else scales.global_crops_scale
    pil = transforms.Compose([_random_crop(transforms, size, area), transforms.RandomHorizontalFlip()])
    tensor = v2.Compose([_random_crop(v2, size, area), v2.RandomHorizontalFlip()])
    sources, tensors = _pil(images), _tensors(images)
    return Contenders(
        name="crop, resize, flip",
        ours=lambda: crop_resize(batch, params, size),
        pil=lambda: [pil(image) for image in sources],
        v2=lambda: [tensor(image) for image in tensors],
    )


def _colour(views: torch.Tensor, params: ViewParameters) -> list[Contenders]:
    found = [
        _beside(
            f"jitter: {name}", views, partial(_jitter_ours, params=_only(params, operation)), **_jitter({name: 0.2})
        )
        for name, operation in JITTERS.items()
    ]
    jitter = dict(zip(JITTERS, (0.4, 0.4, 0.2, 0.1), strict=True))
    everyone = np.ones(len(views), dtype=bool)
    return [
        *found,
        _beside("jitter: all four", views, lambda x: color_jitter(x, params), **_jitter(jitter)),
        _beside("grayscale", views, lambda x: to_grayscale(x, everyone), **_pair("Grayscale", num_output_channels=3)),
        _beside(
            "gaussian blur",
            views,
            lambda x: gaussian_blur(x, params.blur_sigma),
            pil=GaussianBlur(1.0),
            tensor=v2.GaussianBlur(_odd_kernel(params.blur_sigma, views.shape[-1]), (0.1, 2.0)),
        ),
        _beside(
            "solarise",
            views,
            lambda x: update_rows(x, everyone, lambda chosen, _: solarize(chosen)),
            pil=Solarize(1.0),
            tensor=v2.RandomSolarize(128, p=1.0),
        ),
    ]


def _medical(views: torch.Tensor, params: ViewParameters) -> list[Contenders]:
    return [
        _beside("noise", views, lambda x: add_noise(x, params)),
        _beside("bias field", views, lambda x: apply_bias_field(x, params)),
        _beside("med blur (sigma 0 to 1 px)", views, lambda x: med_blur(x, params)),
    ]


def _chain(
    name: str,
    images: npt.NDArray[np.uint8],
    batch: torch.Tensor,
    draw: Callable[[AugmentationScales], ViewParameters],
    size: int,
    *,
    local: bool,
) -> Contenders:
    """Drawing, all transforms with their probabilities, and normalising: a source image to what a network takes."""
    scales = load_scales(name)
    ours = Contenders(name=f"chain: {name}", ours=lambda: normalize(apply_views(batch, draw(scales), size)))
    if scales.noise_p or scales.bias_field_p:
        return ours
    kind = 2 if local else 0
    strengths = {jitter: getattr(scales, jitter) for jitter in JITTERS}
    blur = (scales.blur_p[kind], scales.solarize_p[kind])
    area = scales.local_crops_scale if local else scales.global_crops_scale
    kernel = _odd_kernel(np.array([scales.blur_sigma[1]]), size)

    def compose(module: Any, blur_and_solarise: list[Any], to_tensor: list[Any]) -> Any:
        return module.Compose(
            [
                _random_crop(module, size, area),
                module.RandomHorizontalFlip(scales.horizontal_flip_p),
                module.RandomApply([module.ColorJitter(**strengths)], p=scales.jitter_p),
                module.RandomGrayscale(scales.grayscale_p),
                *blur_and_solarise,
                *to_tensor,
                module.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    pil = compose(transforms, [GaussianBlur(blur[0]), Solarize(blur[1])], [transforms.ToTensor()])
    tensor = compose(
        v2,
        [v2.RandomApply([v2.GaussianBlur(kernel, scales.blur_sigma)], p=blur[0]), v2.RandomSolarize(128, p=blur[1])],
        [v2.ToDtype(torch.float32, scale=True)],
    )
    sources, tensors = _pil(images), _tensors(images)
    return replace(
        ours,
        pil=lambda: [pil(image) for image in sources],
        v2=lambda: [tensor(image) for image in tensors],
    )


def _beside(
    name: str,
    views: torch.Tensor,
    ours: Callable[[torch.Tensor], object],
    *,
    pil: Callable[[Image.Image], object] | None = None,
    tensor: Callable[[torch.Tensor], object] | None = None,
) -> Contenders:
    """Ours works in place: on a buffer that is filled anew each time, so its figure holds a copy of the views."""
    buffer = torch.empty_like(views)
    pixels = (views.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    sources, tensors = _pil(pixels), _tensors(pixels)
    return Contenders(
        name=name,
        ours=lambda: ours(buffer.copy_(views)),
        pil=None if pil is None else lambda: [pil(image) for image in sources],
        v2=None if tensor is None else lambda: [tensor(image) for image in tensors],
    )


def _normalise(views: torch.Tensor) -> dict[str, Action]:
    pixels = (views.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    sources, tensors = _pil(pixels), _tensors(pixels)
    pil = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    tensor = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    return {"pil": lambda: [pil(image) for image in sources], "v2": lambda: [tensor(image) for image in tensors]}


def _jitter_ours(views: torch.Tensor, params: ViewParameters) -> None:
    color_jitter(views, params)


def _only(params: ViewParameters, operation: int) -> ViewParameters:
    """One operation, first in every image; the others change nothing."""
    neutral = np.tile([1.0, 1.0, 1.0, 0.0], (len(params), 1))
    neutral[:, operation] = params.factors[:, operation]
    order = [operation, *(other for other in range(4) if other != operation)]
    return replace(params, factors=neutral, order=np.tile(np.array(order, dtype=np.int64), (len(params), 1)))


def _jitter(strengths: dict[str, float]) -> dict[str, Any]:
    return {"pil": transforms.ColorJitter(**strengths), "tensor": v2.ColorJitter(**strengths)}


def _pair(name: str, **options: Any) -> dict[str, Any]:
    return {"pil": getattr(transforms, name)(**options), "tensor": getattr(v2, name)(**options)}


def _random_crop(module: Any, size: int, area: tuple[float, float]) -> Any:
    bicubic = transforms.InterpolationMode.BICUBIC
    return module.RandomResizedCrop(size, scale=area, interpolation=bicubic, antialias=True)


def _odd_kernel(sigma: npt.NDArray[np.float64], size: int) -> int:
    """Kernel of v2's blur that holds 4 sigma, as ours does, as far as reflect padding allows."""
    return 2 * min(int(np.ceil(4 * sigma.max())), size - 1) + 1


def _pil(images: npt.NDArray[np.uint8]) -> list[Image.Image]:
    return [Image.fromarray(image) for image in images]


def _tensors(images: npt.NDArray[np.uint8]) -> list[torch.Tensor]:
    return [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in images]
