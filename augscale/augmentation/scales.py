"""Augmentation scales: the distributions that the views of an image are drawn from, in one frozen type.

The presets are Table 2 of Cheng et al. (MIDL 2025, PMLR 301:214-225) over the augmentation of DINO (Caron et al.
2021, `DataAugmentationDINO`). Where the table is silent or ambiguous, these presets assume:

* jitter has p = 0.8 in every preset (the paper calls strong DINO's default set);
* saturation, hue, grayscale, solarization, flip and DINO's own blur are those of strong in every preset: the columns
  Blur, Noise and Bias field name the *added* TorchIO transforms only;
* the table's "scale" of the bias field is TorchIO's `coefficients`; the order of the polynomial stays 3;
* TorchIO's blur with std 0.1 has no effect: its kernel has radius 0 below a sigma of 0.125 px.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from augscale.errors import ConfigError
from augscale.settings import Settings, nearest, parse_settings, read_toml

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]

MED_BLUR_NO_OP_BELOW = 0.125
"""Pixels; the medical blur's kernel, cut at 4 sigma, has radius 0 below this sigma."""


class AugmentationScales(Settings):
    """Distributions of views. Defaults are those of `strong`, so a card names only the fields that differ."""

    global_crops_scale: Range = (0.4, 1.0)
    """Area of a global crop as a fraction of the image, low and high."""
    local_crops_scale: Range = (0.05, 0.4)
    """Area of a local crop as a fraction of the image, low and high."""
    aspect_ratio: Range = (3 / 4, 4 / 3)
    """Width over height of a crop, drawn log-uniformly."""
    horizontal_flip_p: Probability = 0.5
    vertical_flip_p: Probability = 0.0
    jitter_p: Probability = 0.8
    """Probability of brightness, contrast, saturation and hue together, in random order."""
    brightness: Annotated[float, Field(ge=0, le=2)] = 0.4
    """The factors of brightness, contrast and saturation are drawn from [max(0, 1 - x), 1 + x]."""
    contrast: Annotated[float, Field(ge=0, le=2)] = 0.4
    saturation: Annotated[float, Field(ge=0, le=2)] = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """The shift is drawn from [-x, x], in turns of the color circle."""
    grayscale_p: Probability = 0.2
    blur_p: tuple[Probability, Probability, Probability] = (1.0, 0.1, 0.5)
    """DINO's Gaussian blur: first global view, second global view, local views."""
    blur_sigma: Range = (0.1, 2.0)
    """Range of sigma, pixels, for global views of 224 px; smaller views get proportionally smaller sigmas."""
    solarize_p: tuple[Probability, Probability, Probability] = (0.0, 0.2, 0.0)
    """Inversion of values from 128/255 up: first global view, second global view, local views."""
    med_blur_std: Annotated[float, Field(ge=0, le=20)] = 0.0
    """Sigma of each axis, pixels of the view, is drawn from [0, x] (TorchIO RandomBlur). No effect below 0.125 px."""
    med_blur_p: Probability = 0.0
    noise_std: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Sigma, on values in [0, 1], is drawn from [0, x] (TorchIO RandomNoise)."""
    noise_p: Probability = 0.0
    bias_field_coefficients: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Each polynomial coefficient is drawn from [-x, x] (TorchIO RandomBiasField)."""
    bias_field_p: Probability = 0.0
    bias_field_order: Annotated[int, Field(ge=0, le=5)] = 3

    @field_validator("global_crops_scale", "local_crops_scale")
    @classmethod
    def _area(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1] <= 1:
            raise ValueError(f"{list(value)} is not a range of areas; expected 0 < low <= high <= 1")
        return value

    @field_validator("aspect_ratio")
    @classmethod
    def _ratio(cls, value: Range) -> Range:
        if not 0.1 <= value[0] <= value[1] <= 10:
            raise ValueError(f"{list(value)} is not a range of ratios; expected 0.1 <= low <= high <= 10")
        return value

    @field_validator("blur_sigma")
    @classmethod
    def _sigma(cls, value: Range) -> Range:
        if not 0 <= value[0] <= value[1] <= 20:
            raise ValueError(f"{list(value)} is not a range of sigmas; expected 0 <= low <= high <= 20 pixels")
        return value


STRONG = AugmentationScales()
NONE = AugmentationScales(
    global_crops_scale=(1.0, 1.0),
    local_crops_scale=(1.0, 1.0),
    aspect_ratio=(1.0, 1.0),
    horizontal_flip_p=0.0,
    jitter_p=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    grayscale_p=0.0,
    blur_p=(0.0, 0.0, 0.0),
    solarize_p=(0.0, 0.0, 0.0),
)
WEAK = AugmentationScales(global_crops_scale=(0.5, 1.0), local_crops_scale=(0.2, 0.5), brightness=0.2, contrast=0.2)
WEAK_MED = WEAK.model_copy(
    update={
        "med_blur_std": 0.1,
        "med_blur_p": 0.5,
        "noise_std": 0.1,
        "noise_p": 0.5,
        "bias_field_coefficients": 0.1,
        "bias_field_p": 0.5,
    }
)
CROPS = NONE.model_copy(
    update={name: getattr(STRONG, name) for name in ("global_crops_scale", "local_crops_scale", "aspect_ratio")}
)
PRESETS: dict[str, AugmentationScales] = {
    "none": NONE,
    "weak": WEAK,
    "strong": STRONG,
    "weak+med": WEAK_MED,
    "crops": CROPS,
    "official-dino": STRONG,
}
"""Scales by name. `official-dino` equals `strong`: the paper's strong set is DINO's default. `none` changes nothing.
`crops` has the crops of `strong` and nothing else, for panels (`probe.levels`)."""

_OPERATIONS: dict[str, tuple[str, ...]] = {
    "jitter_p": ("brightness", "contrast", "saturation", "hue"),
    "med_blur_p": ("med_blur_std",),
    "noise_p": ("noise_std",),
    "bias_field_p": ("bias_field_coefficients",),
}
"""Operations with a strength of their own: field of the probability, and fields of the strengths."""


def interpolate(a: AugmentationScales, b: AugmentationScales, t: float) -> AugmentationScales:
    """Scales part of the way from one to another.

    Every number moves linearly, the aspect ratio geometrically. An operation with a strength of its own (jitter and
    the medical transforms) that is off at one end fades through its strength and keeps the other end's probability:
    half of "jitter 0.4 at p 0.8" is "jitter 0.2 at p 0.8", not a rarer or a doubly weakened jitter. Operations
    without a strength (flips, grayscale, blur, solarization) fade through their probability.

    Args:
        a: the scales at t = 0.
        b: the scales at t = 1.
        t: in [0, 1].
    Raises:
        ConfigError: t is outside [0, 1].
    """
    if not 0 <= t <= 1:
        raise ConfigError(f"scales cannot be interpolated at {t}: expected a number from 0 to 1")
    if t in (0, 1):
        return b if t else a
    first, second = a.model_dump(), b.model_dump()
    low, high = _faded(first, second), _faded(second, first)
    values = {name: _mix(value, high[name], t, geometric=name == "aspect_ratio") for name, value in low.items()}
    return AugmentationScales.model_validate(values)


def _faded(values: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A copy in which operations that only the other scales use have strength 0 and the other's probability."""
    faded = dict(values)
    for p, strengths in _OPERATIONS.items():
        on_here, on_there = (x[p] > 0 and any(x[name] > 0 for name in strengths) for x in (values, other))
        if on_there and not on_here:
            faded |= dict.fromkeys(strengths, 0.0) | {p: other[p]}
    return faded


def _mix(x: Any, y: Any, t: float, *, geometric: bool) -> Any:
    if isinstance(x, tuple):
        return tuple(_mix(*pair, t, geometric=geometric) for pair in zip(x, y, strict=True))
    if x == y:
        return x
    if isinstance(x, int):
        return round(x + (y - x) * t)
    between = math.exp((1 - t) * math.log(x) + t * math.log(y)) if geometric else x + (y - x) * t
    return min(max(between, min(x, y)), max(x, y))


def load_scales(name_or_path: str | Path) -> AugmentationScales:
    """Finds scales by name or reads them from a card.

    Args:
        name_or_path: a preset ("weak"); a preset or card with "@T" ("strong@0.5": half way from `none` to `strong`);
            or a scale card, a TOML file with a `[scales]` table, in which fields not named are those of `strong`.
    Raises:
        ConfigError: no such preset or file, or a value in it is not accepted.
    """
    name = str(name_or_path)
    if name in PRESETS:
        return PRESETS[name]
    if name.endswith(".toml"):
        return _read_card(Path(name))
    base, at, fraction = name.rpartition("@")
    if at:
        try:
            t = float(fraction)
        except ValueError:
            t = math.nan
        if not 0 <= t <= 1:
            raise ConfigError(f"scales {name!r}: {fraction!r} after @ is not a number from 0 to 1")
        return interpolate(NONE, load_scales(base), t)
    raise ConfigError(
        f"unknown scales {name!r}{nearest(name, list(PRESETS))}; "
        f"expected {', '.join(PRESETS)}, NAME@T with T from 0 to 1, or a .toml card with a [scales] table"
    )


def _read_card(path: Path) -> AugmentationScales:
    if path.name == "best.toml" and not path.exists() and (path.parent / "study.toml").exists():
        raise ConfigError(
            f"{path}: does not exist, because its search has no answer yet; the same search command goes on"
        )
    values = read_toml(path)
    table = values.get("scales")
    if not isinstance(table, dict):
        hint = nearest("scales", list(values))
        raise ConfigError(f"{path}: has no [scales] table{hint}; expected one with the fields to set")
    return parse_settings(AugmentationScales, table, f"{path} [scales]")


def card_warning(name_or_path: str | Path) -> str | None:
    """A line about a card whose search has no answer, no verdict or not finished; None for other cards and for presets.

    Args:
        name_or_path: as for `load_scales`, which must be able to read it.
    """
    name = str(name_or_path)
    name = name if name.endswith(".toml") else name.rpartition("@")[0]
    card = read_toml(Path(name)).get("card") if name.endswith(".toml") else None
    if not isinstance(card, dict):
        return None
    headline, outcome = str(card.get("headline", "")), card.get("outcome")
    # Cards of earlier versions have no such outcome, but a headline that says so.
    if outcome in ("training taught nothing", "no searched scales") or headline.startswith("No answer"):
        why = "has no answer, so these scales are not shown to be good"
    elif outcome == "not finished":
        why = "has not finished, so its answer may change"
    elif outcome == "no verdict" or "allows no verdict" in headline:
        why = "has no verdict, so these scales are not shown to be good"
    else:
        return None
    return f"{name}: its search {why}. {headline}".strip()


def describe(scales: AugmentationScales, *, local_crops: bool = True) -> str:
    """The scales in words and numbers, crops in the first line and colors in the second.

    Args:
        scales: to describe.
        local_crops: False leaves out what only local crops depend on, for a training that draws none.
    """
    local = f" and local crops {_percent(scales.local_crops_scale)}" if local_crops else ""
    crops = [f"global crops {_percent(scales.global_crops_scale)}{local} of the image"]
    if scales.aspect_ratio != (1.0, 1.0):
        crops.append("aspect ratio {:.2f} to {:.2f}".format(*scales.aspect_ratio))
    crops += _flips(scales)
    colors = [*_jitter(scales), *_filters(scales, local_crops), *_medical(scales)]
    return "; ".join(crops) + "\n" + ("; ".join(colors) if colors else "no change of color")


def _percent(area: Range) -> str:
    low, high = (f"{100 * x:.3g}" for x in area)
    return f"{low} %" if low == high else f"{low} to {high} %"


def _flips(scales: AugmentationScales) -> list[str]:
    named = (("horizontal", scales.horizontal_flip_p), ("vertical", scales.vertical_flip_p))
    return [f"{name} flip p {p:.3g}" for name, p in named if p]


def _jitter(scales: AugmentationScales) -> list[str]:
    strengths = [
        f"{name} {value:.3g}"
        for name in _OPERATIONS["jitter_p"]
        if (value := getattr(scales, name)) and scales.jitter_p
    ]
    parts = [f"jitter p {scales.jitter_p:.3g} ({', '.join(strengths)})"] if strengths else []
    return parts + ([f"grayscale p {scales.grayscale_p:.3g}"] if scales.grayscale_p else [])


def _filters(scales: AugmentationScales, local_crops: bool) -> list[str]:
    views = ("global 1", "global 2", "local")[: 3 if local_crops else 2]
    blur, solarize = scales.blur_p[: len(views)], scales.solarize_p[: len(views)]
    parts = []
    if any(blur):
        sigma = "{:.3g} to {:.3g}".format(*scales.blur_sigma)
        parts.append(f"blur sigma {sigma} px at 224 px, p {_by_view(blur, views)}")
    if any(solarize):
        parts.append(f"solarize p {_by_view(solarize, views)}")
    return parts


def _by_view(p: tuple[float, ...], views: tuple[str, ...]) -> str:
    return f"{'/'.join(f'{value:.3g}' for value in p)} ({', '.join(views)})"


def _medical(scales: AugmentationScales) -> list[str]:
    parts = []
    if scales.med_blur_p and scales.med_blur_std:
        no_op = ", which has no effect" if scales.med_blur_std < MED_BLUR_NO_OP_BELOW else ""
        parts.append(f"medical blur up to {scales.med_blur_std:.3g} px p {scales.med_blur_p:.3g}{no_op}")
    if scales.noise_p and scales.noise_std:
        parts.append(f"noise SD up to {scales.noise_std:.3g} p {scales.noise_p:.3g}")
    if scales.bias_field_p and scales.bias_field_coefficients:
        strength, order = scales.bias_field_coefficients, scales.bias_field_order
        parts.append(f"bias field {strength:.3g} (order {order}) p {scales.bias_field_p:.3g}")
    return parts


def to_toml(scales: AugmentationScales) -> str:
    """The `[scales]` table of a card, from which `load_scales` reads exactly these scales."""
    lines = ["[scales]"]
    for name, value in scales.model_dump().items():
        text = f"[{', '.join(map(repr, value))}]" if isinstance(value, tuple) else repr(value)
        lines.append(f"{name} = {text}")
    return "\n".join(lines) + "\n"
