"""The search space: augmentation scales from Optuna parameters, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optuna.distributions import FloatDistribution

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import SpaceConfig
from augscale.errors import ConfigError
from augscale.settings import nearest, parse_settings

SATURATION_RATIO = 0.5
HUE_RATIO = 0.25
"""DINO's jitter is brightness : contrast : saturation : hue = 1 : 1 : 1/2 : 1/4 (0.4, 0.4, 0.2, 0.1)."""

_OWN_PARAMETERS = ("global_crop_low", "local_crop_low", "local_crop_width", "jitter")


def check_space(space: SpaceConfig) -> None:
    """Checks that every freed field exists and that both ends of every range give valid scales.

    Raises:
        ConfigError: names the field, the range and what is accepted.
    """
    fields = {
        name
        for name, field in AugmentationScales.model_fields.items()
        if field.annotation is float or name in ("brightness", "contrast", "saturation", "hue")
    }
    for name in space.free:
        if name not in fields:
            hint = nearest(name, sorted(fields))
            raise ConfigError(f"space.free.{name}: no such scale{hint}; known: {', '.join(sorted(fields))}")
    for end in (0, 1):
        params = {name: bounds[end] for name, bounds in _ranges(space).items()}
        scales_from_params(space, params)


def distributions(space: SpaceConfig) -> dict[str, FloatDistribution]:
    """The Optuna distribution of every parameter that may vary; a range with low = high does not."""
    return {name: FloatDistribution(low, high) for name, (low, high) in _ranges(space).items() if low < high}


def scales_from_params(space: SpaceConfig, params: Mapping[str, float]) -> AugmentationScales:
    """The scales of a set of parameters.

    Args:
        space: names the base scales; parameters missing from `params` take their fixed value.
        params: by name, each inside its range.
    Raises:
        ConfigError: the values do not make valid scales.
    """
    values = {name: params.get(name, bounds[0]) for name, bounds in _ranges(space).items()}
    local_low, jitter = values["local_crop_low"], values["jitter"]
    fields = load_scales(space.base).model_dump() | {
        "global_crops_scale": (values["global_crop_low"], 1.0),
        "local_crops_scale": (local_low, min(1.0, local_low + values["local_crop_width"])),
        "brightness": jitter,
        "contrast": jitter,
        "saturation": SATURATION_RATIO * jitter,
        "hue": HUE_RATIO * jitter,
    }
    fields |= {name: values[name] for name in space.free}
    return parse_settings(AugmentationScales, fields, "space")


def params_from_scales(space: SpaceConfig, scales: AugmentationScales) -> dict[str, float] | None:
    """The parameters that give exactly these scales, or None where the scales lie outside the space."""
    local_low, local_high = scales.local_crops_scale
    values = {
        "global_crop_low": scales.global_crops_scale[0],
        "local_crop_low": local_low,
        "local_crop_width": local_high - local_low,
        "jitter": scales.brightness,
    } | {name: getattr(scales, name) for name in space.free}
    for name, (low, high) in _ranges(space).items():
        if not low - 1e-9 <= values[name] <= high + 1e-9:
            return None
        values[name] = min(max(values[name], low), high)
    rebuilt = scales_from_params(space, values)
    if not _same(rebuilt, scales):
        return None
    return {name: values[name] for name in distributions(space)}


def _ranges(space: SpaceConfig) -> dict[str, tuple[float, float]]:
    return {name: getattr(space, name) for name in _OWN_PARAMETERS} | dict(space.free)


def _same(a: AugmentationScales, b: AugmentationScales) -> bool:
    def flat(scales: AugmentationScales) -> list[float]:
        numbers: list[float] = []
        for value in scales.model_dump().values():
            numbers.extend(value if isinstance(value, (tuple, list)) else [value])
        return numbers

    return all(math.isclose(x, y, abs_tol=1e-9) for x, y in zip(flat(a), flat(b), strict=True))
